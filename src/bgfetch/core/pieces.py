"""The table of pieces: how much of each piece is held, and the checksum of that.

One fixed-size slot a piece, rewritten as the piece grows, so the table can be written without reading it. A slot is
written after its bytes; the disk may still lose either in a power cut, so a slot is a claim that its checksum
proves. What the registrations' spans say was synced first and needs no proof.

Format: slot i at offset 8*i, little-endian `uint32 length, uint32 crc32c` of bytes [i*PIECE, i*PIECE + length);
length 0 means nothing is held. Source of the checksum: RFC 3720 appendix B.4 (Castagnoli).
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
    "durable_prefix",
    "encode_slot",
    "held_in",
    "piece_span",
    "unproven",
]

_SLOT = struct.Struct("<II")
SLOT_BYTES = _SLOT.size


class Slot(NamedTuple):
    """`length` bytes from the start of a piece have checksum `crc` (crc32c)."""

    length: int
    crc: int


def encode_slot(slot: Slot) -> bytes:
    """The 8 bytes that stand in the table."""
    return _SLOT.pack(*slot)


def decode_slots(table: bytes) -> list[Slot]:
    """Every slot of a table; a torn last one and impossible lengths read as nothing held."""
    whole = len(table) // SLOT_BYTES * SLOT_BYTES
    slots = [Slot(*pair) for pair in _SLOT.iter_unpack(table[:whole])]
    return [slot if slot.length <= PIECE else Slot(0, 0) for slot in slots]


def piece_span(index: int, length: int = PIECE) -> Span:
    """The bytes of the body that the first `length` bytes of a piece are."""
    return Span(index * PIECE, index * PIECE + length)


def held_in(slots: Sequence[Slot]) -> Spans:
    """What a table claims."""
    return Spans.of(piece_span(index, slot.length) for index, slot in enumerate(slots) if slot.length)


def unproven(slots: Sequence[Slot], durable: Spans) -> list[int]:
    """Pieces whose slot and durable bytes disagree, in order: read them before believing either.

    A slot that claims more than was synced may have outlived its bytes; one that claims less lost its last update.
    """
    doubtful: list[int] = []
    count = max(len(slots), (durable.items[-1].stop + PIECE - 1) // PIECE if durable else 0)
    for index in range(count):
        claimed = slots[index].length if index < len(slots) else 0
        if claimed != durable_prefix(durable, index):
            doubtful.append(index)
    return doubtful


def durable_prefix(durable: Spans, index: int) -> int:
    """How many bytes from the start of this piece are in the set."""
    start, stop = piece_span(index)
    for span in durable:
        if span.start <= start < span.stop:
            return min(span.stop, stop) - start
    return 0
