"""Half-open byte intervals, and sets of them.

A `Spans` is what is held of a body: sorted, disjoint, never touching, never empty spans. It is a value: every
operation returns a new one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

__all__ = ["Span", "Spans"]


class Span(NamedTuple):
    """Bytes `start` up to but not including `stop`; 0 <= start <= stop."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """Bytes in it."""
        return self.stop - self.start


_start, _stop = itemgetter(0), itemgetter(1)


@dataclass(frozen=True, slots=True)
class Spans:
    """A set of bytes. Build it with `Spans.of`; `items` is sorted, disjoint and never touching."""

    items: tuple[Span, ...] = ()

    @classmethod
    def of(cls, spans: Iterable[tuple[int, int]]) -> Spans:
        """The union of spans given in any order, overlapping or not; empty ones vanish."""
        merged: list[Span] = []
        for start, stop in sorted(spans):
            if start >= stop:
                continue
            if merged and start <= merged[-1].stop:
                merged[-1] = Span(merged[-1].start, max(merged[-1].stop, stop))
            else:
                merged.append(Span(start, stop))
        return cls(tuple(merged))

    def __iter__(self) -> Iterator[Span]:
        return iter(self.items)

    def __bool__(self) -> bool:
        return bool(self.items)

    @property
    def length(self) -> int:
        """Bytes in the set."""
        return sum(span.stop - span.start for span in self.items)

    @property
    def front(self) -> int:
        """How far the bytes reach from offset 0 without a gap."""
        return self.items[0].stop if self.items and self.items[0].start == 0 else 0

    def add(self, span: tuple[int, int]) -> Spans:
        """The set with this span as well."""
        start, stop = span
        if start >= stop:
            return self
        items = self.items
        first = bisect_left(items, start, key=_stop)  # the spans that it touches are merged with it
        after = bisect_right(items, stop, key=_start)
        if first < after:
            start, stop = min(start, items[first].start), max(stop, items[after - 1].stop)
        return Spans((*items[:first], Span(start, stop), *items[after:]))

    def union(self, other: Iterable[tuple[int, int]]) -> Spans:
        """The set with all of those as well."""
        return Spans.of((*self.items, *other))

    def remove(self, span: tuple[int, int]) -> Spans:
        """The set without this span."""
        start, stop = span
        items = self.items
        first = bisect_right(items, start, key=_stop)
        after = bisect_left(items, stop, key=_start)
        if start >= stop or first >= after:
            return self
        ends = (Span(items[first].start, start), Span(stop, items[after - 1].stop))
        return Spans((*items[:first], *(end for end in ends if end.length > 0), *items[after:]))

    def without(self, other: Iterable[tuple[int, int]]) -> Spans:
        """The set without any of those."""
        left = self
        for span in other:
            left = left.remove(span)
        return left

    def gaps(self, total: int) -> Spans:
        """What is missing of `[0, total)`."""
        starts = (0, *map(_stop, self.items))
        stops = (*map(_start, self.items), total)
        missing = (Span(start, min(stop, total)) for start, stop in zip(starts, stops, strict=True))
        return Spans(tuple(gap for gap in missing if gap.length > 0))

    def ends_at(self, offset: int) -> bool:
        """Whether one of its spans ends there."""
        return any(item.stop == offset for item in self.items)

    def covers(self, span: tuple[int, int]) -> bool:
        """Whether every byte of the span is in the set."""
        start, stop = span
        return start >= stop or any(item.start <= start and stop <= item.stop for item in self.items)
