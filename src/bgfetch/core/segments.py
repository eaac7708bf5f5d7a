"""Which bytes to ask for next, and how to share the last ones out.

The unit on disk is the piece: `PIECE` bytes with a checksum of its own, held always as a prefix from its start.
So a segment may start anywhere a gap starts, but ends on a piece boundary or at the end of the body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bgfetch.core.spans import Span, Spans

__all__ = ["FIRST_SEGMENT", "PIECE", "Flight", "plan", "segment_size", "shorten"]

PIECE = 1 << 20
"""Bytes of a piece: large enough that a write per piece costs nothing, small enough to lose at a kill."""

FIRST_SEGMENT = 8 * PIECE
"""What the first request asks for: a small model whole, and of a large one the total and its validators."""

LARGEST_SEGMENT = 16 * PIECE


@dataclass(frozen=True, slots=True)
class Flight:
    """A segment being transferred.

    Args:
        start: Where it began.
        stop: Where it ends; None while the length is unknown.
        position: How far its bytes are stored, offset in the body.
        rate: Bytes a second lately.
    """

    start: int
    stop: int | None
    position: int
    rate: float = 0.0


def plan(held: Spans, flying: Sequence[Span], *, total: int, size: int, streams: int) -> list[Span]:
    """The spans to ask for next, lowest offsets first.

    Args:
        held: Spans stored; byte offsets in the response body.
        flying: Spans asked for and not settled.
        total: Length of the body, bytes.
        size: Longest span to ask for, bytes, >= PIECE.
        streams: Most spans in flight at once.

    Returns:
        0 to `streams - len(flying)` spans of 1 to `size` bytes, none held or flying; each begins where its piece
        is held up to there and ends on a piece boundary, at the end of a gap or at `total`. At least one where
        nothing flies and something is missing.

    Source: Background Fetch, "complete a record", range start; many spans are our extension.
    """
    free = streams - len(flying)
    chosen: list[Span] = []
    for gap in held.union(flying).gaps(total):
        start = gap.start
        if start % PIECE and not held.ends_at(start):
            # A flight brings this piece's beginning, and a piece has one writer.
            start = (start // PIECE + 1) * PIECE
        while start < gap.stop and len(chosen) < free:
            boundary = (start + size) // PIECE * PIECE
            stop = min(gap.stop, boundary)
            chosen.append(Span(start, stop))
            start = stop
    return chosen


def segment_size(remaining: int, streams: int) -> int:
    """Bytes for the next segments: half a fair share of what remains, whole pieces, 1 to 16 MiB.

    Shrinking segments keep every connection busy to the end without dropping any (guided self-scheduling,
    Polychronopoulos and Kuck 1987); the upper end keeps the contiguous front moving for the hasher.
    """
    share = remaining // (2 * max(1, streams))
    return min(LARGEST_SEGMENT, max(PIECE, share // PIECE * PIECE))


def shorten(flights: Mapping[int, Flight]) -> tuple[int, int] | None:
    """Whose tail an idle connection should take: (flight, its new stop), or None where it does not pay.

    The flight that needs longest gives the later half, cut on a piece boundary. It loses its connection at the
    cut, so one that needs less than a second more is left alone.
    """
    slowest: tuple[float, int, int] | None = None
    for key, flight in flights.items():
        if flight.stop is None:
            continue
        left = flight.stop - flight.position
        cut = (flight.position + left // 2 + PIECE - 1) // PIECE * PIECE
        if not flight.position < cut < flight.stop:
            continue
        seconds = left / flight.rate if flight.rate > 0 else float("inf")
        if seconds > 1 and (slowest is None or seconds > slowest[0]):
            slowest = (seconds, key, cut)
    return None if slowest is None else slowest[1:]
