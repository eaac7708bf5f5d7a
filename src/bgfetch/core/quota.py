"""What to evict so that a quota holds: the least recently used first, and nothing that anybody needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Plan", "Stored", "plan"]


@dataclass(frozen=True, slots=True)
class Stored:
    """Something on the disk that counts.

    Args:
        name: Tells it from all others.
        size: Bytes that evicting it frees, >= 0.
        last_used: Seconds since the epoch.
        pinned: A person wants it to stay.
        leased: Somebody needs it now: reads it, writes it, or will be told of it.
    """

    name: str
    size: int
    last_used: float
    pinned: bool = False
    leased: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about a quota.

    Args:
        evict: Names, in this order.
        freed: Bytes of these.
        short: Bytes that do not fit however much is evicted; then nothing is to be evicted for them.
    """

    evict: tuple[str, ...] = ()
    freed: int = 0
    short: int = 0


def plan(stored: Iterable[Stored], *, quota: int, incoming: int = 0) -> Plan:
    """The fewest evictions, in order of last use, after which all that is stored and what comes fit the quota.

    Args:
        stored: Everything that counts, in any order.
        quota: Most bytes of all together, >= 0.
        incoming: Bytes that come in addition, >= 0.
    """
    everything = list(stored)
    excess = sum(each.size for each in everything) + incoming - quota
    free = [each for each in everything if each.size and not (each.pinned or each.leased)]
    possible = sum(each.size for each in free)
    if excess > possible:
        return Plan(short=excess - possible)
    evict: list[str] = []
    freed = 0
    for each in sorted(free, key=lambda each: (each.last_used, each.name)):
        if freed >= excess:
            break
        evict.append(each.name)
        freed += each.size
    return Plan(tuple(evict), freed)
