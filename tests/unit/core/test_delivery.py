"""Growing delays between deliveries, and an end to them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.delivery import MOST_DELIVERIES, PARKED, next_delivery


@pytest.mark.parametrize(
    ("begun", "chance", "delay"),
    [(1, 0.0, 0.8), (1, 0.5, 1.0), (2, 0.5, 5.0), (3, 0.5, 30.0), (7, 0.5, 3600.0), (8, 0.5, math.inf)],
)
def test_delays(begun: int, chance: float, delay: float) -> None:
    """Each delivery waits longer than the one before; after the eighth nothing is tried."""
    assert next_delivery(begun, now=1000.0, chance=chance) == pytest.approx(1000.0 + delay)


@given(st.integers(1, MOST_DELIVERIES - 2), st.floats(0, 0.999), st.floats(0, 0.999))
def test_each_delay_is_longer_whatever_chance_says(begun: int, one: float, other: float) -> None:
    """No draw makes a later delay shorter than an earlier one."""
    assert next_delivery(begun, now=0.0, chance=one) < next_delivery(begun + 1, now=0.0, chance=other)


@given(st.integers(MOST_DELIVERIES, 10**6))
def test_parked_for_good(begun: int) -> None:
    """However often it was begun, it does not come back by itself."""
    assert next_delivery(begun, now=5.0, chance=0.0) == PARKED
