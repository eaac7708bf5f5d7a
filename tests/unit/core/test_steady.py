"""The steady clock: nobody waits longer because somebody set the clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.steady import SteadyTime


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([(100.0, 5.0), (101.0, 6.0)], [100.0, 101.0]),
        ([(100.0, 5.0), (40.0, 6.0), (41.0, 7.0)], [100.0, 101.0, 102.0]),  # set back by a minute
        ([(100.0, 5.0), (40.0, 6.0), (200.0, 7.0)], [100.0, 101.0, 200.0]),
        ([(100.0, 5.0), (4000.0, 6.0)], [100.0, 4000.0]),  # slept for an hour
        ([(100.0, 5.0), (100.0, 4.0)], [100.0, 100.0]),
    ],
)
def test_it_goes_on_and_forwards(readings: list[tuple[float, float]], expected: list[float]) -> None:
    """Seconds pass as the monotonic clock counts them; only forwards does it jump."""
    clock = SteadyTime()
    assert [clock.at(*reading) for reading in readings] == expected


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e3)), min_size=1))
def test_it_never_goes_back_and_never_stands_still(steps: list[tuple[float, float]]) -> None:
    """Whatever is done to the wall clock, what was to come in n seconds comes in at most n seconds."""
    clock, monotonic = SteadyTime(), 0.0
    before = clock.at(1e9, 0.0)
    for wall, passed in steps:
        monotonic += passed
        now = clock.at(1e9 + wall, monotonic)
        assert now - before >= passed - 1e-6
        before = now
