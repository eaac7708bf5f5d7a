"""When a registration may use the network and how fast: limits, timetables and allowed networks, changed at any time.

It decides nothing about records: a registration that it holds is paused as a person would pause it, and shows why.
Everything is decided anew from what is set now, so that no order of changes leaves a remainder.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from bgfetch.core.model import State
from bgfetch.core.networks import Network, objection
from bgfetch.core.timetable import Allowed, Timetable
from bgfetch.errors import InvalidRequest
from bgfetch.registrations.port import RegistrationOptions
from bgfetch.transports.base import Limits

__all__ = ["Gate", "Steering"]

_ANY = ("any", "")
_MOST: Final = 1 << 62  # bytes a second; an app may say any whole number, and a float has an end


@dataclass(frozen=True, slots=True)
class Gate:
    """Why a registration may not use the network now.

    Args:
        state: `PAUSED_SCHEDULE`, `PAUSED_METERED`, or `PAUSED` where a person has paused everything.
        until: Instant it ends by itself, seconds since the epoch, or None when that cannot be said.
        why: In words.
    """

    state: State
    until: float | None
    why: str


class Steering:
    """What is set now for all registrations together, and what follows for each.

    Args:
        limits: Where rates are set, if anywhere.
    """

    def __init__(self, limits: Limits | None) -> None:
        self._limits = limits
        self._lanes: dict[int, float] = {}
        self._all: float | None = None
        self.rate = 0
        self.table = Timetable()
        self.paused = False
        self.network: Network | None = None  # nobody has looked yet

    def gate(self, options: RegistrationOptions, now: float) -> Gate | None:
        """What holds a registration with these options, or None.

        Args:
            options: Its own.
            now: Seconds since the epoch; the timetable counts in this machine's time zone.
        """
        for allowed in (_at(self.table, now), _at(_table(options.schedule), now)):
            if allowed.paused:
                return Gate(State.PAUSED_SCHEDULE, _until(allowed, now), "the timetable says pause")
        if self.paused:
            return Gate(State.PAUSED, None, "everything is paused")
        if options.networks in _ANY:
            return None
        unknown = "nobody knows yet which network this is"
        words = unknown if self.network is None else objection(options.networks, self.network)
        return Gate(State.PAUSED_METERED, None, words) if words else None

    def chooses_networks(self, registrations: Mapping[int, RegistrationOptions]) -> bool:
        """Whether it matters to any of these which network is in use; where it does not, nobody looks."""
        chooses = any(options.networks not in _ANY for options in registrations.values())
        self.network = self.network if chooses else None
        return chooses

    def govern(self, registrations: Mapping[int, RegistrationOptions], now: float) -> None:
        """Set the rates that hold now, for all together and for each of these."""
        if self._limits is None:
            return
        every = _lowest(self.rate, _at(self.table, now).rate)
        if every != self._all:
            self._all = every
            self._limits.set_limit(every)
        for uid, options in registrations.items():
            self._set_lane(uid, _lowest(options.limit_rate, _at(_table(options.schedule), now).rate))
        for uid in self._lanes.keys() - registrations.keys():
            self._set_lane(uid, None)

    def forget(self, uid: int) -> None:
        """It is over, and its limit with it."""
        self._set_lane(uid, None)

    def _set_lane(self, uid: int, rate: float | None) -> None:
        if self._limits is None or rate == self._lanes.get(uid):
            return
        self._limits.set_lane_limit(uid, rate)
        if rate is None:
            del self._lanes[uid]
        else:
            self._lanes[uid] = rate


def _lowest(rate: int, scheduled: float | None) -> float | None:
    given = [float(min(rate, _MOST))] if rate > 0 else []
    return min([*given, *([] if scheduled is None else [scheduled])], default=None)


@lru_cache(maxsize=256)
def _table(text: str) -> Timetable:
    """An option's timetable; one that cannot be read was refused where it was asked for, and holds nothing up."""
    try:
        return Timetable.parse(text)
    except InvalidRequest:
        return Timetable()


def _at(table: Timetable, now: float) -> Allowed:
    if not table.entries:
        return Allowed()
    local = time.localtime(now)
    return table.at(local.tm_wday, local.tm_hour * 60 + local.tm_min)


def _until(allowed: Allowed, now: float) -> float | None:
    """The instant of the next change, to the second, so that it stays the same however often it is asked for."""
    if allowed.minutes is None:
        return None
    return float(int(now) - time.localtime(now).tm_sec + 60 * allowed.minutes)
