"""Which hosts are away, and who looks whether one is back: one cheap attempt a host in a while, for all that wait.

The rules kept: something waits for a host, so somebody looks for it at least every `EVERY` seconds; however many
records wait, only one of them does so; however many hosts are away, no more than `PACE` looks a second go out.
"""

from __future__ import annotations

__all__ = ["EVERY", "PACE", "Outages"]

EVERY = 3.0
"""Seconds between the starts of two looks for one host: with the time a look takes, its return shows within 5 s."""

PACE = 10.0
"""Looks a second over all hosts: a cache of ten thousand names must not become a scan when the network goes."""


class Outages:
    """The hosts that could not be reached. Instants are seconds on any one clock that never goes back.

    Args:
        scale: Factor on the delays.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self._every, self._between = EVERY * scale, scale / PACE
        self._next: dict[str, float] = {}  # host: instant of its next look
        self._free = 0.0  # instant from which another look fits the pace

    def away(self, host: str) -> bool:
        """Whether its last attempt did not reach it."""
        return host in self._next

    def failed(self, host: str, now: float) -> None:
        """An attempt did not reach it; whoever waits least looks first."""
        self._next.setdefault(host, now)

    def answered(self, host: str) -> bool:
        """It has answered; whether it was away, so that whoever waits for it is to be woken."""
        return self._next.pop(host, None) is not None

    def look(self, host: str, now: float) -> float | None:
        """None: go and look now. Otherwise the instant to ask again: somebody else looks, or too many do."""
        due = max(self._next.get(host, now), self._free)
        if due > now:
            return due
        self._next[host] = now + self._every
        self._free = now + self._between
        return None

    def hasten(self, now: float) -> None:
        """One host is back, so the others may be: look for them all, as fast as the pace allows."""
        self._next = dict.fromkeys(self._next, now)

    def forget(self) -> None:
        """The network is another one: what could not be reached before says nothing."""
        self._next.clear()
        self._free = 0.0
