"""What there is to give out under a path: a file's bytes, a manifest, or words that say why not.

Blocking: it looks at the disk and is called off the event loop, once for a request.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from bgfetch.core.ranges import is_strong
from bgfetch.core.spans import Span
from bgfetch.web.asked import Asked, Reply, refused
from bgfetch.web.conditions import Representation, decide
from bgfetch.web.digesting import Digests
from bgfetch.web.fields import Fields, Resource, file_fields, range_fields, text_fields
from bgfetch.web.folder import Note, Stamp, grain, stamp_of
from bgfetch.web.hashing import Hashing, Wanted
from bgfetch.web.manifest import hashing_json, manifest_json
from bgfetch.web.paths import Parts, parts_of

__all__ = ["MANIFEST", "Library", "Models", "Opened"]

MANIFEST: Final = "manifest.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HASHED_A_SECOND = 500e6  # bytes by one core, both digests: how long a client is told to wait
_LONGEST_WAIT = 30  # s


class Models(Protocol):
    """Where files are: a folder, or the cache."""

    def open(self, parts: Parts) -> int:
        """A descriptor for the caller to close; FileNotFoundError where there is none."""

    def files(self, parts: Parts = ()) -> Sequence[tuple[Parts, Stamp]]:
        """All files below a folder, sorted; FileNotFoundError where there is no such folder."""

    def path(self, parts: Parts) -> Path:
        """What a file's digests are remembered under."""

    def note(self, parts: Parts) -> Note:
        """What is known of a file that `open` gives."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer whose body is bytes of an open file, which whoever sends it closes."""

    status: int
    fields: Fields
    fd: int
    span: Span
    stamp: Stamp


class Library:
    """Looks requests up.

    Args:
        models: Where files are.
        hashing: Their digests.
    """

    def __init__(self, models: Models, hashing: Hashing) -> None:
        self._models = models
        self._hashing = hashing

    def look(self, request: Asked) -> Opened | Reply:
        """The answer to a GET or HEAD.

        Raises:
            FileNotFoundError: There is nothing under this path.
            OSError: The disk refused.
        """
        parts = parts_of(request.path)
        if parts is None:
            raise FileNotFoundError(request.path)
        if "manifest" in request.query and not request.path.endswith("/"):
            return self._manifest(request, parts[:-1], [self._one(parts)])
        if "manifest" in request.query or (parts[-1:] == (MANIFEST,) and "sha256" not in request.query):
            folder = parts if "manifest" in request.query else parts[:-1]
            return self._manifest(request, folder, self._all(folder))
        if not parts or request.path.endswith("/"):
            raise FileNotFoundError(request.path)
        return self._file(request, parts)

    def hash_all(self) -> list[Wanted]:
        """Have everything hashed that is not, after what is asked for; everything there is."""
        try:
            every = self._all(())
        except FileNotFoundError:
            return []
        self._hashing.want(every, first=False)
        return every

    def folders(self) -> list[Parts]:
        """The outermost folders; () too where files lie in none."""
        try:
            files = self._models.files(())
        except FileNotFoundError:
            return []
        return sorted({parts[:1] if len(parts) > 1 else () for parts, _stamp in files})

    def _one(self, parts: Parts) -> Wanted:
        fd = self._models.open(parts) if parts else -1
        if fd < 0:
            raise FileNotFoundError(MANIFEST)
        try:
            return Wanted(parts, stamp_of(fd), self._models.path(parts))
        finally:
            os.close(fd)

    def _all(self, folder: Parts) -> list[Wanted]:
        return [Wanted(parts, stamp, self._models.path(parts)) for parts, stamp in self._models.files(folder)]

    def _file(self, request: Asked, parts: Parts) -> Opened | Reply:
        fd = self._models.open(parts)
        try:
            answer = self._of_open(request, parts, fd)
        except BaseException:
            os.close(fd)
            raise
        if isinstance(answer, Reply):
            os.close(fd)
        return answer

    def _of_open(self, request: Asked, parts: Parts, fd: int) -> Opened | Reply:
        stamp, note = stamp_of(fd), self._models.note(parts)
        wanted = Wanted(parts, stamp, self._models.path(parts))
        digests = self._hashing.known(wanted)
        sha256 = digests.sha256 if digests is not None else note.sha256
        version = request.query.get("sha256")
        if not sha256 or version is not None:
            refusal = self._of_version(wanted, sha256, version)
            if refusal is not None:
                return refusal
        return _answer(
            request, parts[-1], fd, stamp, Note(sha256, note.etag), digests, versioned=version is not None
        )

    def _of_version(self, wanted: Wanted, sha256: str, version: str | None) -> Reply | None:
        """Why this version is not to be had (yet), or None when it is, or none was asked for."""
        if version is not None and not _SHA256.fullmatch(version):
            return refused(404, "a version is named by 64 lower-case hex digits: ?sha256=...")
        if not sha256:
            self._hashing.want([wanted])
            return None if version is None else self._wait([wanted])
        if version in (None, sha256):
            return None
        return refused(404, f"this is another version: the file here now has sha256 {sha256}")

    def _manifest(self, request: Asked, base: Parts, files: list[Wanted]) -> Reply:
        """Of all these files, or 503 until all are hashed.

        A file that was found changing is left out until it has been hashed: one that grows must not hide the others for as long
        as it does. Where there would be nothing else, it is waited for.
        """
        known = [(each, self._hashing.known(each)) for each in files]
        whole = [
            (each.name[len(base) :], each.stamp.size, digests)
            for each, digests in known
            if digests is not None
        ]
        missing = [each for each, digests in known if digests is None]
        if missing:
            self._hashing.want(missing)
            if not whole or not all(self._hashing.is_changing(each.name) for each in missing):
                return self._wait(files)
        body = manifest_json(whole)
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        answer = decide("HEAD", request.headers, Representation(len(body), (etag,), None), now=time.time())
        fields: Fields = [("etag", etag), ("cache-control", "no-cache, no-transform")]
        if answer.status != 200:
            return Reply(answer.status, fields)
        return Reply(200, [*text_fields(body, "application/json"), *fields], body)

    def _wait(self, files: Sequence[Wanted]) -> Reply:
        """503 with how far hashing is, and when to ask again."""
        progress = self._hashing.progress(files)
        body = hashing_json(progress.done, progress.total)
        seconds = 1 + int((progress.total - progress.done) / _HASHED_A_SECOND)
        again = str(min(_LONGEST_WAIT, seconds))
        return Reply(
            503,
            [*text_fields(body, "application/json"), ("cache-control", "no-store"), ("retry-after", again)],
            body,
        )


def _answer(
    request: Asked, name: str, fd: int, stamp: Stamp, note: Note, digests: Digests | None, *, versioned: bool
) -> Opened | Reply:
    modified = stamp.mtime_ns // 1_000_000_000
    answer = decide(
        request.method,
        request.headers,
        Representation(stamp.size, _etags(stamp, note), modified),
        now=time.time(),
    )
    dated = time.time() - modified > max(1.0, grain(stamp))  # as a tag, else two versions could have one
    file = Resource(name, stamp.size, modified if dated else None, note.sha256, versioned)
    fields = file_fields(file, answer.etag, refused=answer.status in (412, 416))
    match answer.status:
        case 304 | 412:
            return Reply(answer.status, fields)
        case 416:
            body = b"the file has no such bytes\n"
            return Reply(
                416, [*fields, *text_fields(body)[:2], ("content-range", f"bytes */{stamp.size}")], body
            )
    segment = "" if digests is None else digests.segment(answer.span.start, answer.span.stop, stamp.size)
    fields += range_fields(file, answer.status, answer.span, segment)
    if request.method == "HEAD" or not answer.span.length:
        return Reply(answer.status, fields)
    return Opened(answer.status, fields, fd, answer.span, stamp)


def _etags(stamp: Stamp, note: Note) -> tuple[str, ...]:
    """Every tag of this state of the file: its digest, the one it had before it was hashed, the one it came with."""
    early = f'"{stamp.size:x}-{stamp.mtime_ns:x}-{stamp.ctime_ns:x}-{stamp.inode:x}"'
    old_enough = time.time() - stamp.mtime_ns / 1e9 > grain(
        stamp
    )  # else the next state could have the very same one
    every = (
        f'"{note.sha256}"' if note.sha256 else "",
        early if old_enough else "",
        note.etag if is_strong(note.etag) else "",
    )
    return tuple(tag for tag in every if tag)
