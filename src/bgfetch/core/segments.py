"""Which bytes to ask for next, and how to share the last ones out.

The unit on disk is the piece: `PIECE` bytes with a checksum of its own, held always as a prefix from its start.
So a segment may start anywhere a gap starts, but ends on a piece boundary or at the end of the body. Only where a
slow line leaves connections idle the rest of a piece is shared too: the later part waits in memory for the earlier.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bgfetch.core.spans import Span, Spans

__all__ = ["FIRST_SEGMENT", "PIECE", "Flight", "plan", "segment_size", "shorten", "useful"]

PIECE = 1 << 20
"""Bytes of a piece: large enough that a write per piece costs nothing, small enough to lose at a kill."""

FIRST_SEGMENT = 8 * PIECE
"""What the first request asks for: a small model whole, and of a large one the total and its validators."""

LARGEST_SEGMENT = 16 * PIECE
_LARGEST_AT_FIRST = 4 * PIECE

CRUMB = PIECE // 16
"""Bytes that a piece under way is split at in multiples of: a few round trips' worth on a slow line."""

WORTH = 1.0  # s; a flight that needs less is left alone: another one needs two round trips to begin
KNOWN_AFTER = 0.5  # s; a younger flight's rate is that of its slow start


@dataclass(frozen=True, slots=True)
class Flight:
    """A segment being transferred.

    Args:
        start: Where it began.
        stop: Where it ends; None while the length is unknown.
        position: How far its bytes are stored, offset in the body.
        rate: Bytes a second lately.
        age: Seconds since it was asked for.
    """

    start: int
    stop: int | None
    position: int
    rate: float = 0.0
    age: float = 0.0

    @property
    def left(self) -> int:
        """Bytes to come, 0 while that is unknown."""
        return 0 if self.stop is None else max(0, self.stop - self.position)

    @property
    def seconds(self) -> float:
        """How long the rest takes; without an end while nothing comes."""
        return self.left / self.rate if self.rate > 0 else float("inf")


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


def segment_size(remaining: int, streams: int, *, held: int) -> int:
    """Bytes for the next segments: half a fair share of what remains, whole pieces, 1 to 16 MiB.

    Shrinking segments keep every connection busy to the end without dropping any (guided self-scheduling,
    Polychronopoulos and Kuck 1987); the upper end keeps the contiguous front moving for the hasher. It is 4 MiB in
    the first 64 MiB and grows with what is held: before the pacer has found how many connections help, a few would
    get large ones, and take them to the end where a server slows each connection down. Large ones cost less where
    it is fast (measured: 8 % of the wall time of 1 GiB over loopback).

    Args:
        remaining: Bytes to come.
        streams: Connections there are.
        held: Bytes here.
    """
    share = remaining // (2 * max(1, streams))
    most = min(LARGEST_SEGMENT, max(_LARGEST_AT_FIRST, held // 16))
    return min(most, max(PIECE, share)) // PIECE * PIECE


def shorten(flights: Mapping[int, Flight]) -> tuple[int, int] | None:
    """Whose tail an idle connection should take: (flight, its new stop), or None where it does not pay.

    The flight that needs longest gives the later half, cut on a piece boundary where there is one, else within the
    piece. It loses its connection at the cut, so one that needs less than a second more is left alone.
    """
    slowest: tuple[float, int, int] | None = None
    for key, flight in flights.items():
        cut = _cut(flight)
        if cut is not None and flight.seconds > WORTH and (slowest is None or flight.seconds > slowest[0]):
            slowest = (flight.seconds, key, cut)
    return None if slowest is None else slowest[1:]


def _cut(flight: Flight) -> int | None:
    """Where a flight would be cut, or None where it cannot be."""
    middle = flight.position + flight.left // 2
    for unit in (PIECE, CRUMB):
        cut = (middle + unit - 1) // unit * unit
        if flight.position < cut < flight.position + flight.left:
            return cut if unit == PIECE or _is_slow(flight) else None
    return None


def _is_slow(flight: Flight) -> bool:
    """Whether a flight is known to be so slow that the rest of one piece is worth another connection."""
    return flight.age >= KNOWN_AFTER and flight.rate > 0 and flight.seconds > WORTH


def useful(flights: Iterable[Flight]) -> int:
    """How many connections could share what is under way: one for each second that a slow flight still needs."""
    return sum(
        max(1, int(min(each.seconds, each.left // CRUMB))) if _is_slow(each) else 1 for each in flights
    )
