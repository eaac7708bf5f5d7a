"""Repair: a wrong digest is narrowed down to the wrong pieces, and ends."""

from __future__ import annotations

import pytest

from bgfetch.core.repair import Repair
from bgfetch.core.segments import PIECE
from bgfetch.core.spans import Span, Spans

TOTAL = 3 * PIECE + 7
ALL = Spans.of([(0, TOTAL)])
NONE = Spans()


def after(repair: Repair | None) -> Repair:
    """The next round, which must exist."""
    assert repair is not None
    return repair


def compared(repair: Repair, *differing: int) -> Repair:
    """The repair after every doubtful piece came again, these differently."""
    for index in range(4):
        span = Span(index * PIECE, min(TOTAL, (index + 1) * PIECE))
        if repair.doubtful.covers(span):
            repair = repair.stored(span, differs=index in differing)
    return repair


def test_pieces_that_the_disk_changed_are_all_that_is_missing() -> None:
    """Damage on this disk says where it is; nothing else is fetched again."""
    repair = after(Repair().next_round(Spans.of([(0, PIECE)]), TOTAL))
    assert (repair.rounds, repair.doubtful) == (1, NONE)


def test_without_damage_everything_is_compared_and_then_what_differed() -> None:
    """Two copies that differ: one of them is right, so these pieces and no others are fetched a third time."""
    first = after(Repair().next_round(NONE, TOTAL))
    assert first.doubtful == ALL
    second = after(compared(first, 1, 3).next_round(NONE, TOTAL))
    assert second.rounds == 2
    assert second.doubtful == Spans.of([(PIECE, 2 * PIECE), (3 * PIECE, TOTAL)])
    third = after(compared(second, 3).next_round(NONE, TOTAL))
    assert third.doubtful == Spans.of([(3 * PIECE, TOTAL)])


def test_the_same_bytes_twice_cannot_be_repaired() -> None:
    """A server that sends the same wrong bytes again has no others."""
    first = after(Repair().next_round(NONE, TOTAL))
    assert compared(first).next_round(NONE, TOTAL) is None


@pytest.mark.parametrize(("pieces", "sampled"), [(1, 1), (64, 64), (65, 64), (100_000, 64)])
def test_a_sample_is_spread_over_the_body(pieces: int, sampled: int) -> None:
    """So many pieces, the first and the last among them, none far from its neighbours; all of a small body."""
    total = pieces * PIECE - 7
    repair = after(Repair().next_round(NONE, total, sample=True))
    assert repair.sampled == (sampled < pieces)
    assert repair.doubtful.covers((0, 1))
    assert repair.doubtful.covers((total - 1, total))
    assert -(-repair.doubtful.length // PIECE) == sampled
    gaps = [span.length for span in repair.doubtful.gaps(total)]
    assert not gaps or max(gaps) - min(gaps) <= PIECE
    same = repair
    for span in repair.doubtful:
        same = same.stored(span, differs=False)
    assert same.next_round(NONE, total, sample=True) is None


def test_a_piece_of_the_sample_that_differs_leads_to_all() -> None:
    """Then bytes did change somewhere, and nobody knows where else."""
    total = 200 * PIECE
    repair = after(Repair().next_round(NONE, total, sample=True))
    for number, span in enumerate(repair.doubtful):
        repair = repair.stored(span, differs=number == 5)
    again = after(repair.next_round(NONE, total, sample=True))
    assert (again.doubtful, again.sampled) == (Spans.of([(0, total)]), False)


def test_damage_between_comparisons_does_not_end_the_search() -> None:
    """A disk fault found first is no sign that the server's bytes were compared."""
    damaged = after(Repair().next_round(Spans.of([(0, PIECE)]), TOTAL))
    assert after(damaged.next_round(NONE, TOTAL)).doubtful == ALL
    searching = compared(after(Repair().next_round(NONE, TOTAL)), 2)
    again = after(searching.next_round(Spans.of([(0, PIECE)]), TOTAL))
    assert after(again.next_round(NONE, TOTAL)).doubtful == Spans.of([(2 * PIECE, 3 * PIECE)])


def test_only_whole_pieces_are_asked_for_again() -> None:
    """A part of a piece that differed makes the piece doubtful: its checksum is of the whole."""
    searching = after(Repair().next_round(NONE, TOTAL)).stored(Span(PIECE + 5, PIECE + 9), differs=True)
    searching = searching.stored(Span(0, TOTAL), differs=False)
    assert after(searching.next_round(NONE, TOTAL)).doubtful == Spans.of([(PIECE, 2 * PIECE)])


def test_bytes_that_come_in_peace_are_no_repair() -> None:
    """Outside a repair nothing is noted."""
    assert Repair().stored(Span(0, 5), differs=True) == Repair()


def test_what_was_thrown_away_needs_no_repair_but_counts() -> None:
    """Another version is compared afresh, and the rounds stay bounded."""
    assert after(Repair().next_round(NONE, TOTAL)).given_up() == Repair(1)
