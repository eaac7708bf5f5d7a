"""The files of a scope that are here, under their own names, and whether they are what is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bgfetch.core.digests import Digest, digest_prefix_from_name, matches_prefix, new_hasher
from bgfetch.core.identity import request_key
from bgfetch.core.model import ReplyHead, Request, Verified
from bgfetch.core.names import name_from_content_disposition, name_from_url
from bgfetch.core.urls import redacted
from bgfetch.errors import IntegrityError
from bgfetch.wiring import Wiring

if TYPE_CHECKING:
    from bgfetch.cache.entries import Entry
    from bgfetch.registrations.port import RecordRow

__all__ = ["Got", "Shelf"]

_BLOCK: Final = 4 << 20
_CACHE: Final = "downloads"  # where the built-in worker puts what it is given


@dataclass(frozen=True, slots=True)
class Got:
    """A file that is here.

    Args:
        path: Where it is: under its own name, unless only the blob was wanted.
        name: Its own name.
        url: What it was asked for by.
        size: Bytes.
        verified: How it was checked.
        digest: "ALG:HEX", or "" where none is known.
    """

    path: Path
    name: str
    url: str
    size: int
    verified: Verified
    digest: str


class Shelf:
    """Looks for finished files.

    Args:
        wiring: The home.
        scope: Namespace of caches.
        by_name: Whether a file's sha256 must begin with the digits in its name, as torch.hub writes them.
        named: Whether files are wanted under their own names; where they go elsewhere anyway the blob will do.
    """

    def __init__(self, wiring: Wiring, scope: str, *, by_name: bool = False, named: bool = True) -> None:
        self._wiring = wiring
        self._scope = scope
        self._by_name = by_name
        self._names = named

    def cached(self, request: Request) -> Got | None:
        """The file, if it is here and is what is asked for; imports and touches as little as can be."""
        entry = self._entry(request)
        if entry is None or not self._wiring.blobs.intact(entry.blob, entry.size):
            return None
        entry = self._hashed(entry, request)
        if not self._fits(self._wiring.blobs.path(entry.blob), entry.size, entry.digest, request):
            return None
        return self._named(entry.blob, entry.reply, entry.size, entry.verified, entry.digest, request)

    def fetched(self, record: RecordRow, request: Request) -> Got | None:
        """The file of a record that is over, or None where it failed.

        Raises:
            IntegrityError: It is not what was asked for; it was taken away.
        """
        if not record.blob:
            return None
        path = self._wiring.blobs.path(record.blob)
        if not self._fits(path, record.total or 0, record.digest, request):
            raise self._refused(request, record.digest or f"sha256:{_digest_of(path, 'sha256').hex()}")
        reply = record.reply or ReplyHead(request.url, 200, type(request.headers)())
        return self._named(
            record.blob, reply, record.total or 0, record.verified, record.digest, record.request
        )

    def _entry(self, request: Request) -> Entry | None:
        """The cache entry of this very request: one made with other header fields is another."""
        if not request.resumable:
            return None
        entry = self._wiring.entries.by_url(self._scope, request.url)
        if entry is not None and request_key(entry.request) != request_key(request):
            entry = self._wiring.entries.find(self._wiring.entries.open_cache(self._scope, _CACHE), request)
        return entry if entry is not None and request_key(entry.request) == request_key(request) else None

    def _hashed(self, entry: Entry, request: Request) -> Entry:
        """The entry with its sha256 where the name is to be checked: noted, so that the file is read once."""
        if entry.digest.startswith("sha256:") or not self._prefix(request):
            return entry
        value = _digest_of(self._wiring.blobs.path(entry.blob), "sha256")
        known = replace(entry, digest=f"sha256:{value.hex()}")
        return self._wiring.entries.put(self._wiring.entries.open_cache(self._scope, _CACHE), known)[0]

    def _prefix(self, request: Request) -> str:
        return (digest_prefix_from_name(name_from_url(request.url)) or "") if self._by_name else ""

    def _fits(self, path: Path, size: int, digest: str, request: Request) -> bool:
        if request.expected_size not in (None, size):
            return False
        prefix = self._prefix(request)
        if prefix and not matches_prefix(_digest(path, digest, "sha256"), prefix):
            return False
        if not request.integrity:
            return True
        wanted = Digest.parse(request.integrity)
        return _digest(path, digest, wanted.algorithm) == wanted

    def _named(
        self, blob: str, reply: ReplyHead, size: int, verified: Verified, digest: str, request: Request
    ) -> Got:
        path, name = self._wiring.blobs.path(blob), _name(reply, request.url)
        if self._names:
            path = self._wiring.links.publish(path, request_key(request), name)
        return Got(path, name, request.url, size, verified, digest)

    def _refused(self, request: Request, found: str) -> IntegrityError:
        entry = self._entry(request)
        if entry is not None:
            self._wiring.entries.remove(entry.entry_id)
        self._wiring.links.remove(request_key(request))
        promised = request.integrity or (
            f"a sha256 that begins with {self._prefix(request)}"
            if self._prefix(request)
            else f"{request.expected_size} bytes"
        )
        return IntegrityError(
            f"{redacted(request.url)} should have {promised}, but what came is {found}; it is not given out. "
            "Ask whoever publishes it",
            url=redacted(request.url),
        )


def _name(reply: ReplyHead, url: str) -> str:
    disposition = reply.headers.get("content-disposition", "")
    return (name_from_content_disposition(disposition) if disposition else None) or name_from_url(url)


def _digest(path: Path, known: str, algorithm: str) -> Digest:
    """The file's digest, computed where it is not known."""
    if known.startswith(f"{algorithm}:"):
        return Digest.parse(known)
    return Digest(algorithm, _digest_of(path, algorithm))


def _digest_of(path: Path, algorithm: str) -> bytes:
    hasher = new_hasher(algorithm)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
    return hasher.digest()
