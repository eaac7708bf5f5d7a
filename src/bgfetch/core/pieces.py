"""The table of pieces: how much of each piece is held, the checksum of that, and whether it was synced.

One fixed-size slot a piece, rewritten as the piece grows, so the table can be written without reading it. A slot is
written after its bytes; the disk may still lose either in a power cut, so a slot is a claim that its checksum
proves. Once the bytes were synced the slot says so, and then needs no proof: a restart reads back what the last
second brought and nothing else, whatever else (a database, another version's table) was lost or is out of date.

Format: slot i at offset 8*i, little-endian `uint32 length, uint32 crc32c` of bytes [i*PIECE, i*PIECE + length);
length 0 means nothing is held; bit 31 of the length means that these bytes were synced before the slot was written.
Source of the checksum: RFC 3720 appendix B.4 (Castagnoli).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from bgfetch.core.segments import PIECE
from bgfetch.core.spans import Span, Spans

__all__ = [
    "SLOT_BYTES",
    "Slot",
    "decode_slots",
    "encode_slot",
    "held_in",
    "piece_span",
    "unproven",
]

_SLOT = struct.Struct("<II")
_SYNCED = 1 << 31
SLOT_BYTES = _SLOT.size


class Slot(NamedTuple):
    """`length` bytes from the start of a piece have checksum `crc` (crc32c); `synced`: they survived any power cut."""

    length: int
    crc: int
    synced: bool = False

    def same_bytes(self, other: Slot) -> bool:
        """Whether both claim the same bytes."""
        return self.length == other.length and self.crc == other.crc


def encode_slot(slot: Slot) -> bytes:
    """The 8 bytes that stand in the table."""
    return _SLOT.pack(slot.length | _SYNCED if slot.synced else slot.length, slot.crc)


def decode_slots(table: bytes) -> list[Slot]:
    """Every slot of a table; a torn last one and impossible lengths read as nothing held."""
    whole = len(table) // SLOT_BYTES * SLOT_BYTES
    return [_decoded(word, crc) for word, crc in _SLOT.iter_unpack(table[:whole])]


def _decoded(word: int, crc: int) -> Slot:
    length = word & ~_SYNCED
    return Slot(length, crc, bool(word & _SYNCED)) if 0 < length <= PIECE else Slot(0, 0)


def piece_span(index: int, length: int = PIECE) -> Span:
    """The bytes of the body that the first `length` bytes of a piece are."""
    return Span(index * PIECE, index * PIECE + length)


def held_in(slots: Sequence[Slot]) -> Spans:
    """What a table claims."""
    return Spans.of(piece_span(index, slot.length) for index, slot in enumerate(slots) if slot.length)


def unproven(slots: Sequence[Slot]) -> list[int]:
    """Pieces whose slot may have outlived its bytes, in order: read them before believing it."""
    return [index for index, slot in enumerate(slots) if slot.length and not slot.synced]
