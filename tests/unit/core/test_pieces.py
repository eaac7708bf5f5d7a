"""The table of pieces: what it claims after any end of a process is there and right."""

from __future__ import annotations

import struct

import google_crc32c
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bgfetch.core.pieces import (
    SLOT_BYTES,
    Slot,
    decode_slots,
    encode_slot,
    held_in,
    piece_span,
    unproven,
)
from bgfetch.core.segments import PIECE
from bgfetch.core.spans import Spans


@pytest.mark.parametrize(
    "slot",
    [Slot(0, 0), Slot(1, 5), Slot(PIECE, 0xFFFFFFFF), Slot(PIECE, 7, synced=True), Slot(3, 0, synced=True)],
)
def test_a_slot_reads_as_it_was_written(slot: Slot) -> None:
    """Eight bytes hold length, checksum and whether it was synced."""
    assert decode_slots(encode_slot(slot)) == [slot]
    assert len(encode_slot(slot)) == SLOT_BYTES


@pytest.mark.parametrize(
    ("table", "slots"),
    [
        (b"", []),
        (b"\0" * 7, []),  # torn
        (struct.pack("<II", 5, 9) + b"\1\2\3", [Slot(5, 9)]),
        (struct.pack("<II", PIECE + 1, 9), [Slot(0, 0)]),
        (struct.pack("<II", (PIECE + 1) | 1 << 31, 9), [Slot(0, 0)]),
        (struct.pack("<II", 0xFFFFFFFF, 9), [Slot(0, 0)]),
        (struct.pack("<II", 1 << 31, 9), [Slot(0, 0)]),  # nothing, synced
        (struct.pack("<II", 0, 9), [Slot(0, 0)]),
        (struct.pack("<II", 5 | 1 << 31, 9), [Slot(5, 9, synced=True)]),
    ],
)
def test_a_damaged_table_claims_nothing(table: bytes, slots: list[Slot]) -> None:
    """What cannot have been written is read as nothing held."""
    assert decode_slots(table) == slots


def test_held_in_is_each_prefix() -> None:
    """Pieces are held from their starts; full ones join."""
    slots = [Slot(PIECE, 1), Slot(10, 2), Slot(0, 0), Slot(7, 3, synced=True)]
    assert held_in(slots) == Spans.of([(0, PIECE + 10), (3 * PIECE, 3 * PIECE + 7)])
    assert piece_span(3, 7) == (3 * PIECE, 3 * PIECE + 7)
    assert piece_span(2) == (2 * PIECE, 3 * PIECE)


def test_what_was_not_synced_is_to_be_proved() -> None:
    """A synced slot needs no reading; an empty one has nothing to read."""
    assert unproven([Slot(PIECE, 1), Slot(0, 0), Slot(5, 1, synced=True), Slot(9, 4)]) == [0, 3]


def test_slots_of_the_same_bytes() -> None:
    """A sync changes what is known of the bytes, not the bytes."""
    assert Slot(5, 1).same_bytes(Slot(5, 1, synced=True))
    assert not Slot(5, 1).same_bytes(Slot(6, 1))
    assert not Slot(5, 1).same_bytes(Slot(5, 2))


COUNT, BLOCKS = 3, 4
BLOCK = PIECE // BLOCKS
RIGHT = [bytes([65 + index]) * BLOCKS for index in range(COUNT)]  # a byte stands for a block
GARBAGE = b"\0"


def crc(blocks: bytes) -> int:
    """The checksum of these blocks."""
    return int(google_crc32c.value(blocks))


class Disk(RuleBasedStateMachine):
    """A partial on a disk that may lose any write that was not synced, and keep any other."""

    def __init__(self) -> None:
        super().__init__()
        self.safe = [bytearray(GARBAGE * BLOCKS) for _ in range(COUNT)]  # what a power cut leaves for certain
        self.writes: list[tuple[int, int]] = []  # blocks written and not synced
        self.table = [Slot(0, 0)] * COUNT
        self.kept_table = [Slot(0, 0)] * COUNT
        self.slot_writes: list[tuple[int, Slot]] = []

    def put_slot(self, index: int, slot: Slot) -> None:
        """Write a slot, not synced."""
        self.table[index] = slot
        self.slot_writes.append((index, slot))

    @rule(index=st.integers(0, COUNT - 1), count=st.integers(1, BLOCKS))
    def grow(self, index: int, count: int) -> None:
        """A transfer brings the next blocks of a piece: first the bytes, then the slot."""
        start = self.table[index].length // BLOCK
        stop = min(BLOCKS, start + count)
        self.writes += [(index, block) for block in range(start, stop)]
        self.put_slot(index, Slot(stop * BLOCK, crc(RIGHT[index][:stop])))

    @rule(index=st.integers(0, COUNT - 1))
    def kill_between(self, index: int) -> None:
        """The process dies after the bytes and before the slot: nothing claims them."""
        self.writes += [(index, block) for block in range(self.table[index].length // BLOCK, BLOCKS)]

    @rule(index=st.integers(0, COUNT - 1))
    def forget(self, index: int) -> None:
        """A piece is to be fetched again."""
        self.put_slot(index, Slot(0, 0))

    @rule()
    def sync(self) -> None:
        """The bytes are made durable, then their slots say so."""
        for index, block in self.writes:
            self.safe[index][block] = RIGHT[index][block]
        self.writes.clear()
        for index, slot in enumerate(self.table):
            if slot.length:
                self.put_slot(index, slot._replace(synced=True))

    @rule()
    def sync_table(self) -> None:
        """The table is made durable."""
        self.kept_table, self.slot_writes = list(self.table), []

    @rule(choices=st.data())
    def power_cut(self, choices: st.DataObject) -> None:
        """Any unsynced write may have reached the disk; then a process comes back and proves what it believes."""
        for index, block in self.writes:
            if choices.draw(st.booleans()):
                self.safe[index][block] = RIGHT[index][block]
        table = list(self.kept_table)
        for index, slot in self.slot_writes:
            if choices.draw(st.booleans()):
                table[index] = slot
        raw = b"".join(map(encode_slot, table))
        used = max((index + 1 for index, slot in enumerate(self.kept_table) if slot.length), default=0)
        torn = raw[: choices.draw(st.integers(used * SLOT_BYTES, len(raw)))]
        self.recover(decode_slots(torn))

    def recover(self, slots: list[Slot]) -> None:
        """What a restart does."""
        for index in unproven(slots):
            length, expected, _ = slots[index]
            if crc(bytes(self.safe[index][: length // BLOCK])) != expected:
                slots[index] = Slot(0, 0)
        self.table = slots + [Slot(0, 0)] * (COUNT - len(slots))
        self.kept_table, self.slot_writes, self.writes = list(self.table), [], []
        for span in held_in(slots):
            for offset in range(span.start, span.stop, BLOCK):
                index, block = offset // PIECE, offset % PIECE // BLOCK
                assert self.safe[index][block] == RIGHT[index][block], "a claim that is wrong"

    @invariant()
    def synced_bytes_are_safe(self) -> None:
        """What a slot calls synced would survive a power cut now."""
        for index, slot in enumerate(self.table):
            if slot.synced:
                held = slot.length // BLOCK
                assert self.safe[index][:held] == RIGHT[index][:held]


TestDisk = Disk.TestCase
TestDisk.settings = settings(
    derandomize=True, max_examples=60, stateful_step_count=25, deadline=None, database=None
)
