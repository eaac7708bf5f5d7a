from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.quota import Plan, Stored, plan

OLD, MIDDLE, NEW = Stored("old", 10, 1.0), Stored("middle", 20, 2.0), Stored("new", 30, 3.0)
ALL = [NEW, OLD, MIDDLE]


@pytest.mark.parametrize(
    ("stored", "quota", "incoming", "expected"),
    [
        ([], 0, 0, Plan()),
        (ALL, 60, 0, Plan()),
        (ALL, 60, 1, Plan(("old",), 10)),
        (ALL, 60, 11, Plan(("old", "middle"), 30)),
        (ALL, 0, 0, Plan(("old", "middle", "new"), 60)),
        (ALL, 60, 61, Plan(short=1)),
        ([Stored("pinned", 10, 0.0, pinned=True), *ALL], 60, 0, Plan(("old",), 10)),
        ([Stored("leased", 10, 0.0, leased=True), *ALL], 5, 0, Plan(short=5)),
        ([Stored("empty", 0, 0.0), *ALL], 59, 0, Plan(("old",), 10)),
        ([Stored("b", 5, 1.0), Stored("a", 5, 1.0)], 5, 0, Plan(("a",), 5)),
    ],
)
def test_the_least_recently_used_go_first(
    stored: list[Stored], quota: int, incoming: int, expected: Plan
) -> None:
    """As many as are needed and no more; none where it would not help."""
    assert plan(stored, quota=quota, incoming=incoming) == expected


things = st.builds(
    Stored,
    name=st.text(min_size=1),
    size=st.integers(0, 100),
    last_used=st.floats(0, 10),
    pinned=st.booleans(),
    leased=st.booleans(),
)


@given(st.lists(things, unique_by=lambda each: each.name), st.integers(0, 500), st.integers(0, 200))
def test_it_fits_afterwards_or_cannot(stored: list[Stored], quota: int, incoming: int) -> None:
    """What is pinned or leased stays; without the last eviction it would not fit; nothing older is left behind."""
    made = plan(stored, quota=quota, incoming=incoming)
    gone = {each.name: each for each in stored if each.name in made.evict}
    assert not any(each.pinned or each.leased for each in gone.values())
    assert made.freed == sum(each.size for each in gone.values())
    left = sum(each.size for each in stored) - made.freed + incoming
    if made.short:
        assert not gone
        movable = sum(each.size for each in stored if not (each.pinned or each.leased))
        assert left - movable - quota == made.short
        return
    assert left <= quota
    if gone:
        newest = gone[made.evict[-1]]
        assert left + newest.size > quota
        kept = [each for each in stored if each.name not in gone and each.size]
        assert all(each.pinned or each.leased or each.last_used >= newest.last_used for each in kept)
