"""Spans are a set of bytes: every operation agrees with Python's own sets, and the form is always the normal one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.spans import Span, Spans

offsets = st.integers(0, 24)
spans = st.tuples(offsets, offsets)
many = st.lists(spans, max_size=8)


def members(items: Spans | list[tuple[int, int]]) -> set[int]:
    """The offsets in it, one by one."""
    return {offset for start, stop in items for offset in range(start, stop)}


def assert_normal(held: Spans) -> None:
    """Sorted, disjoint, never touching, never empty."""
    assert all(span.start < span.stop for span in held)
    assert all(before.stop < after.start for before, after in pairwise(held))


@given(many)
def test_any_spans_become_sorted_disjoint_and_never_touching(items: list[tuple[int, int]]) -> None:
    """However spans are given, there is one way to write the set."""
    held = Spans.of(items)
    assert_normal(held)
    assert members(held) == members(items)
    assert held.length == len(members(items))
    assert bool(held) == bool(members(items))


@given(many, spans)
def test_adding_and_removing_one_span(items: list[tuple[int, int]], one: tuple[int, int]) -> None:
    """What is added is in, what is removed is out, the rest stays."""
    held = Spans.of(items)
    added, removed = held.add(one), held.remove(one)
    assert_normal(added)
    assert_normal(removed)
    assert members(added) == members(held) | members([one])
    assert members(removed) == members(held) - members([one])


@given(many, many)
def test_union_and_difference(items: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    """The set operations are those of sets."""
    held = Spans.of(items)
    assert members(held.union(others)) == members(held) | members(others)
    assert members(held.without(others)) == members(held) - members(others)


@given(many, offsets)
def test_gaps_and_what_is_held_make_the_whole(items: list[tuple[int, int]], total: int) -> None:
    """Nothing is missing twice and nothing is forgotten."""
    held = Spans.of(items)
    assert_normal(held.gaps(total))
    assert members(held.gaps(total)) == set(range(total)) - members(held)


@given(many, spans)
def test_covers_and_front(items: list[tuple[int, int]], one: tuple[int, int]) -> None:
    """A span is covered when each of its bytes is held; the front is the first byte that is not."""
    held = Spans.of(items)
    assert held.covers(one) == (members([one]) <= members(held))
    assert held.front == next(offset for offset in range(30) if offset not in members(held))


@pytest.mark.parametrize(
    ("held", "offset", "ends"),
    [
        ([], 0, False),
        ([(0, 4)], 4, True),
        ([(0, 4)], 3, False),
        ([(0, 4), (6, 9)], 9, True),
        ([(0, 4), (6, 9)], 6, False),
    ],
)
def test_ends_at(held: list[tuple[int, int]], offset: int, ends: bool) -> None:  # noqa: FBT001 - a table
    """Whether bytes are held right up to an offset and none from there."""
    assert Spans.of(held).ends_at(offset) == ends


def test_a_span_has_a_length() -> None:
    """Half-open: the stop is not in it."""
    assert Span(3, 8).length == 5
    assert Span(3, 3).length == 0
