from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.room import reserve_of, shortage

GIB = 1 << 30
SIZES = st.integers(0, 1 << 50)


@pytest.mark.parametrize(
    ("said", "disk", "reserve"),
    [
        (None, 8 * 1024 * GIB, GIB),
        (None, 50 * GIB, GIB),
        (None, 25 * GIB, GIB // 2),
        (None, 0, 0),
        (0, 50 * GIB, 0),
        (10 * GIB, 50 * GIB, 10 * GIB),
    ],
)
def test_the_reserve_follows_the_disk_unless_a_person_said_something(
    said: int | None, disk: int, reserve: int
) -> None:
    """A fiftieth, 1 GiB at the most; what was said is taken as it is."""
    assert reserve_of(said, disk) == reserve


@pytest.mark.parametrize(
    ("needed", "free", "reserve", "words"),
    [
        (0, 0, 0, ""),
        (10, 10, 0, ""),
        (10, 20, 10, ""),
        (11, 20, 10, "11 bytes are needed and 10 are free, 10 more are kept in reserve"),
        (11, 10, 0, "11 bytes are needed and 10 are free"),
        (1, 5, 10, "1 bytes are needed and 0 are free, 10 more are kept in reserve"),
    ],
)
def test_words_say_what_is_needed_and_what_there_is(needed: int, free: int, reserve: int, words: str) -> None:
    """Nothing is said where there is room, to the byte."""
    assert shortage(needed, free=free, reserve=reserve) == words


@given(needed=SIZES, free=SIZES, reserve=SIZES)
def test_what_is_let_through_leaves_the_reserve(needed: int, free: int, reserve: int) -> None:
    """After bytes that have room the reserve is still free."""
    if needed and not shortage(needed, free=free, reserve=reserve):
        assert free - needed >= reserve
