"""One segment under way, as the machine keeps it, and where segments are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bgfetch.core.model import Headers
from bgfetch.core.segments import Flight
from bgfetch.core.urls import Hop
from bgfetch.core.verdicts import Ask

__all__ = ["Address", "Leg"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a request goes.

    Args:
        url: Absolute URL.
        headers: Header fields that may go there.
        resolved: Whether it is the remembered end of a redirect, not the source itself.
    """

    url: str
    headers: Headers
    resolved: bool = False


@dataclass(slots=True)
class Leg:
    """A flight and where it stands.

    Args:
        ask: The request it is.
        start: Offset its first byte has.
        stop: Offset it ends at, or None for the end of the body.
        headers: Header fields granted to this hop.
        hops: Redirects followed to get here.
        rate: Bytes a second lately, as the driver measured.
        age: Seconds since it was asked for, as the driver measured.
        gathered: Bytes that came behind `position` and are not stored yet, as the driver measured.
        waiting: Whether all came, to be stored when the bytes before them are: no connection is in use any more.
        fresh: Whether it brought bytes that were never held before.
        position: How far its bytes are stored.
    """

    ask: Ask
    start: int
    stop: int | None
    headers: Headers
    hops: int = 0
    rate: float = 0.0
    age: float = 0.0
    gathered: int = 0
    waiting: bool = False
    fresh: bool = False
    position: int = field(init=False)

    def __post_init__(self) -> None:
        self.position = self.start

    @property
    def flight(self) -> Flight:
        """What the planner looks at."""
        return Flight(self.start, self.stop, self.position + self.gathered, self.rate, self.age)

    @property
    def address(self) -> Address:
        """Where it was answered."""
        return Address(self.ask.url, self.headers, self.ask.resolved)

    def moved_to(self, hop: Hop) -> Leg:
        """The same segment, as far as it is still this flight's, asked for at the redirect's target."""
        ask = replace(self.ask, url=hop.url, resolved=True, stop=self.stop)
        return Leg(ask, self.start, self.stop, headers=hop.headers, hops=self.hops + 1)
