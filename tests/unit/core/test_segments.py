"""Planning: what is asked for is missing, nobody asks for it twice, and connections stay busy to the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.segments import (
    CRUMB,
    LARGEST_SEGMENT,
    PIECE,
    Flight,
    plan,
    segment_size,
    shorten,
    useful,
)
from bgfetch.core.spans import Span, Spans

HALF = PIECE // 2


@pytest.mark.parametrize(
    ("held", "flying", "total", "size", "streams", "planned"),
    [
        ([], [], 3 * PIECE, PIECE, 2, [(0, PIECE), (PIECE, 2 * PIECE)]),
        ([], [], 3 * PIECE, 2 * PIECE, 4, [(0, 2 * PIECE), (2 * PIECE, 3 * PIECE)]),
        ([(0, PIECE)], [], 2 * PIECE + 5, 8 * PIECE, 1, [(PIECE, 2 * PIECE + 5)]),
        # a piece of which a part is held is gone on with, up to the piece's end
        ([(0, HALF)], [], 2 * PIECE, PIECE, 1, [(HALF, PIECE)]),
        # connections in use count
        ([], [(0, PIECE)], 3 * PIECE, PIECE, 2, [(PIECE, 2 * PIECE)]),
        ([], [(0, PIECE), (PIECE, 2 * PIECE)], 3 * PIECE, PIECE, 2, []),
        ([], [(0, PIECE), (PIECE, 2 * PIECE)], 3 * PIECE, PIECE, 1, []),
        # a piece whose beginning is on its way has one writer already; the next piece is free
        ([], [(0, HALF)], 3 * PIECE, PIECE, 4, [(PIECE, 2 * PIECE), (2 * PIECE, 3 * PIECE)]),
        ([], [(0, HALF)], PIECE, PIECE, 4, []),
        ([(0, HALF)], [(HALF, HALF + 9)], 2 * PIECE, PIECE, 4, [(PIECE, 2 * PIECE)]),
        ([(0, 10)], [], 10, PIECE, 4, []),
        ([], [], 0, PIECE, 4, []),
    ],
)
def test_plan(
    held: list[tuple[int, int]],
    flying: list[tuple[int, int]],
    total: int,
    size: int,
    streams: int,
    planned: list[tuple[int, int]],
) -> None:
    """The lowest missing bytes first, at most `size` of them, ending where pieces end."""
    flights = [Span(*span) for span in flying]
    assert plan(Spans.of(held), flights, total=total, size=size, streams=streams) == planned


pieces = st.integers(0, 12)
offsets = st.integers(0, 12 * PIECE)


@given(
    st.lists(st.tuples(pieces, offsets), max_size=5),
    st.lists(st.tuples(offsets, offsets), max_size=3),
    offsets,
    st.sampled_from([1, 4]),
)
def test_what_is_planned_is_missing_and_wanted_once(
    prefixes: list[tuple[int, int]], flying: list[tuple[int, int]], total: int, streams: int
) -> None:
    """Planned spans overlap nothing held, nothing flying and not each other; where nothing flies one is planned."""
    held = Spans.of((index * PIECE, min(index * PIECE + length, total)) for index, length in prefixes)
    flights = [Span(*span) for span in flying]
    spans = plan(held, flights, total=total, size=2 * PIECE, streams=streams)
    seen = held.union(flights)
    for span in spans:
        assert 0 < span.length <= 2 * PIECE
        assert span.stop <= total
        assert seen.remove(span) == seen
        assert span.start % PIECE == 0 or held.ends_at(span.start)
        seen = seen.add(span)
    assert len(spans) <= max(0, streams - len(flights))
    assert spans or flights or not held.gaps(total)


@pytest.mark.parametrize(
    ("remaining", "streams", "held", "size"),
    [
        (0, 1, 0, PIECE),
        (PIECE, 4, 0, PIECE),
        (16 * PIECE, 4, 0, 2 * PIECE),
        (17 * PIECE + 3, 4, 1 << 40, 2 * PIECE),
        (8 * PIECE, 0, 0, 4 * PIECE),
        (1 << 40, 16, 0, 4 * PIECE),
        (1 << 40, 16, 64 * PIECE, 4 * PIECE),
        (1 << 40, 16, 96 * PIECE - 1, 5 * PIECE),
        (1 << 40, 16, 128 * PIECE, 8 * PIECE),
        (1 << 40, 16, 1 << 40, LARGEST_SEGMENT),
    ],
)
def test_segments_grow_at_the_beginning_and_shrink_towards_the_end(
    remaining: int, streams: int, held: int, size: int
) -> None:
    """Half a fair share, in whole pieces, 1 to 16 MiB, and no more than a sixteenth of what is held but 4 MiB."""
    assert segment_size(remaining, streams, held=held) == size


@pytest.mark.parametrize(
    ("flights", "cut"),
    [
        ({}, None),
        ({1: Flight(0, None, 0)}, None),  # nobody knows where it ends
        ({1: Flight(0, PIECE, 0)}, None),  # one piece is not shared
        ({1: Flight(0, 2 * PIECE, 0)}, (1, PIECE)),
        ({1: Flight(0, 8 * PIECE, 2 * PIECE)}, (1, 5 * PIECE)),
        ({1: Flight(0, 2 * PIECE, PIECE + 1)}, None),  # the rest of it lies in one piece
        # less than a second more: left alone
        ({1: Flight(0, 8 * PIECE, 0, 9.0 * PIECE)}, None),
        # the one that needs longest gives
        (
            {1: Flight(0, 8 * PIECE, 0, PIECE), 2: Flight(8 * PIECE, 12 * PIECE, 8 * PIECE, PIECE / 4)},
            (2, 10 * PIECE),
        ),
        (
            {1: Flight(0, 8 * PIECE, 0, PIECE), 2: Flight(8 * PIECE, 12 * PIECE, 8 * PIECE, PIECE)},
            (1, 4 * PIECE),
        ),
        ({1: Flight(0, 8 * PIECE, 0, PIECE), 2: Flight(8 * PIECE, 12 * PIECE, 8 * PIECE)}, (2, 10 * PIECE)),
        # one piece is shared when its flight is known to be slow: neither a young one nor one that rests
        ({1: Flight(0, PIECE, 0, CRUMB, 0.4)}, None),
        ({1: Flight(0, PIECE, 0, 0.0, 9.0)}, None),
        ({1: Flight(0, PIECE, 0, CRUMB, 0.5)}, (1, 8 * CRUMB)),
        ({1: Flight(0, PIECE, 2, CRUMB, 0.5)}, (1, 9 * CRUMB)),
        ({1: Flight(0, PIECE, 14 * CRUMB + 1, CRUMB, 9.0)}, (1, 15 * CRUMB)),
        ({1: Flight(0, PIECE, 15 * CRUMB - 1, CRUMB, 9.0)}, None),  # a cut would leave less than a crumb
        ({1: Flight(0, PIECE, 0, PIECE, 9.0)}, None),  # a second more
    ],
)
def test_an_idle_connection_takes_half_of_what_would_take_longest(
    flights: dict[int, Flight], cut: tuple[int, int] | None
) -> None:
    """The later half of the slowest flight, cut between pieces, where that saves more than it costs."""
    assert shorten(flights) == cut


@given(
    st.integers(0, 4 * PIECE), st.integers(1, 4 * PIECE), st.floats(0, 2 * PIECE), st.floats(0, 2), st.data()
)
def test_a_cut_leaves_something_to_both_and_only_within_one_piece_off_its_boundary(
    start: int, length: int, rate: float, age: float, data: st.DataObject
) -> None:
    """What begins within a piece ends within it too: the part before it can only come from its own giver."""
    stop = start + length
    position = data.draw(st.integers(start, stop))
    cut = shorten({7: Flight(start, stop, position, rate, age)})
    if cut is not None:
        assert cut[0] == 7
        assert position < cut[1] < stop
        assert cut[1] % PIECE == 0 or (cut[1] % CRUMB == 0 and (stop - 1) // PIECE == cut[1] // PIECE)


@pytest.mark.parametrize(
    ("flights", "connections"),
    [
        ([], 0),
        ([Flight(0, None, 0, 1.0, 9.0)], 1),
        ([Flight(0, PIECE, 0, PIECE / 5, 9.0)], 5),
        ([Flight(0, PIECE, 0, 1.0, 9.0)], 16),  # no part is smaller than a crumb
        ([Flight(0, PIECE, PIECE - 9, 1.0, 9.0)], 1),
        ([Flight(0, PIECE, 0, PIECE / 5, 0.1)], 1),  # its slow start
        ([Flight(0, PIECE, 0, PIECE / 2.5, 1.0), Flight(PIECE, 2 * PIECE, PIECE, 9.0 * PIECE, 1.0)], 3),
    ],
)
def test_a_slow_flight_has_work_for_others(flights: list[Flight], connections: int) -> None:
    """For one connection in each second that it still needs."""
    assert useful(flights) == connections
