"""The digests of one file in one reading: of the whole, and of each segment that a client may ask for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from bgfetch.vfs import Vfs

__all__ = ["Digests", "digests_of", "segment_size"]

_SMALLEST = 8 << 20
_LARGEST = 64 << 20
_MOST_SEGMENTS = 4096
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Digests:
    """What a file hashes to.

    Args:
        sha256: Of the whole, hex.
        segment_size: Bytes; a power of two times 16 KiB, segments begin at its multiples.
        segments: sha256 of each segment, hex; none of an empty file.
    """

    sha256: str
    segment_size: int
    segments: tuple[str, ...]

    def segment(self, start: int, stop: int, size: int) -> str:
        """The digest of these bytes, if they are exactly one segment of a file of `size` bytes, or ""."""
        index, rest = divmod(start, self.segment_size)
        whole = rest == 0 and stop == min(start + self.segment_size, size)
        return self.segments[index] if whole and index < len(self.segments) else ""


def segment_size(size: int) -> int:
    """Bytes of a segment: 8 MiB, doubled while there would be more than 4096 of them, 64 MiB at most."""
    segment = _SMALLEST
    while segment < _LARGEST and size > segment * _MOST_SEGMENTS:
        segment *= 2
    return segment


def digests_of(vfs: Vfs, fd: int, size: int, advance: Callable[[int], bool]) -> Digests | None:
    """The digests of the first `size` bytes of an open file; None where it is shorter or somebody said stop.

    Args:
        vfs: What reads.
        fd: Read by position.
        size: Bytes.
        advance: Is told of bytes read, at most a mebibyte at a time; False stops.
    """
    whole, buffer = hashlib.sha256(), memoryview(bytearray(_BLOCK))
    each, segments = segment_size(size), []
    for start in range(0, size, each):
        segment = hashlib.sha256()
        for at in range(start, min(start + each, size), _BLOCK):
            block = buffer[: min(_BLOCK, size - at)]
            if vfs.pread_into(fd, block, at) < len(block) or not advance(len(block)):
                return None
            whole.update(block)
            segment.update(block)
        segments.append(segment.hexdigest())
    return Digests(whole.hexdigest(), each, tuple(segments))
