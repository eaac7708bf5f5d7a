"""What an origin serves: bytes or a file, with the validators it is served under."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import cached_property
from pathlib import Path

__all__ = ["CHUNK", "Chunk", "Content"]

Chunk = bytes | memoryview

CHUNK = 1 << 20  # one sendall of 1 MiB: large enough that Python costs nothing beside the copy
BORN = 1_767_225_600  # bytes in memory have no mtime; a fixed instant keeps replies the same in every run


@dataclass(frozen=True, eq=False)
class Content:
    """One version of a body.

    Args:
        data: The bytes; a file is mapped, not read, and must not shrink while it is served.
        etag: Value of ETag with its quotes, or "" to send none.
        modified: Value of Last-Modified, or "" to send none.
        mask: Each byte is served xor this; another mask is another version of the same length.
        media_type: Value of Content-Type.
    """

    data: memoryview
    etag: str = ""
    modified: str = ""
    mask: int = 0
    media_type: str = "application/octet-stream"

    @classmethod
    def of(cls, data: bytes | Path) -> Content:
        """The content of these bytes, or of this file, under a strong ETag."""
        if isinstance(data, Path):
            return cls._of_file(data)
        etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        return cls(memoryview(data), etag=etag, modified=formatdate(BORN, usegmt=True))

    @classmethod
    def _of_file(cls, path: Path) -> Content:
        status = path.stat()
        view = memoryview(b"")
        if status.st_size:  # an empty file cannot be mapped
            with path.open("rb") as file:
                view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        etag = f'"{status.st_size:x}-{status.st_mtime_ns:x}"'  # as nginx: hashing 100 GB is no way to start
        return cls(view, etag=etag, modified=formatdate(status.st_mtime, usegmt=True))

    @property
    def length(self) -> int:
        """Bytes in it."""
        return len(self.data)

    @cached_property
    def sha256(self) -> str:
        """Its digest, 64 hex digits; computed when first asked for."""
        digest = hashlib.sha256()
        for chunk in self.chunks(0, self.length):
            digest.update(chunk)
        return digest.hexdigest()

    def chunks(self, start: int, stop: int, *, size: int = CHUNK) -> Iterator[Chunk]:
        """The bytes from `start` up to but not including `stop`, at most `size` at a time, without a copy."""
        table = bytes(byte ^ self.mask for byte in range(256)) if self.mask else b""
        for at in range(start, min(stop, self.length), size):
            view = self.data[at : min(at + size, stop)]
            yield bytes(view).translate(table) if table else view

    def read(self) -> bytes:
        """All of it, copied."""
        return b"".join(self.chunks(0, self.length))

    def changed(self) -> Content:
        """Another version: same length, every byte different, other validators (none where there were none)."""
        return replace(
            self,
            mask=self.mask ^ 0x5A,
            etag=self.etag[:-1] + '-old"' if self.etag else "",
            modified=formatdate(BORN - 86_400, usegmt=True) if self.modified else "",
        )

    def under(self, *, etag: str, modified: str | None = None) -> Content:
        """The same bytes under this ETag, and under this Last-Modified unless it is None."""
        return replace(self, etag=etag, modified=self.modified if modified is None else modified)
