"""How fast downloads may be at which time of the week, written as rclone's `--bwlimit` writes it.

    "10M"                                       always 10 MiB a second
    "08:00,512k 12:00,10M 18:00,30M 23:00,off"  each entry holds until the next one, every day
    "Mon-00:00,512 Fri-23:59,10M Sat-10:00,off" the same over a week
    "08:00,512k:10M"                            up:down pairs; what is received is what counts here

`off` is no limit. `pause` (or "0:00", a rate of 0) is ours: nothing is fetched then. A bare number is KiB a second,
as there; B, k, M, G, T and P are powers of 1024.

Source: rclone, "--bwlimit BwTimetable" and fs/bwtimetable.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bgfetch.errors import InvalidRequest

__all__ = ["Allowed", "Timetable"]

_DAY: Final = 24 * 60
_WEEK: Final = 7 * _DAY
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ENTRY: Final = re.compile(r"(?:([a-z]+)-)?(\d{1,2}):(\d{2}),(\S+)", re.ASCII | re.IGNORECASE)
_TIME: Final = re.compile(r"\d{1,2}:\d{2}", re.ASCII)  # not a pair of rates: an entry that was cut
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)([bkmgtp]?)(?:i?b?)", re.ASCII | re.IGNORECASE)
_POWERS: Final = {"b": 0, "": 1, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_LONGEST: Final = 1000  # characters; no person writes more, and a text from elsewhere may be anything


@dataclass(frozen=True, slots=True)
class Allowed:
    """What holds at a moment.

    Args:
        rate: Most bytes a second, > 0; None for no limit.
        paused: Whether nothing is fetched.
        minutes: Until something else holds, > 0; None when that is never.
    """

    rate: float | None = None
    paused: bool = False
    minutes: int | None = None


@dataclass(frozen=True, slots=True)
class Timetable:
    """What holds when.

    Args:
        entries: (minute of the week from Monday 0:00, bytes a second; None = no limit, 0 = nothing), sorted, each
            minute once. None at all is no limit ever.
    """

    entries: tuple[tuple[int, float | None], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Timetable:
        """The table a text means; "" is no limit ever.

        Raises:
            InvalidRequest: It is no timetable; with the entry that is wrong.
        """
        words = text.split()
        if len(text) > _LONGEST:
            raise InvalidRequest(f"a timetable of {len(text)} characters; {_LONGEST} are enough for anyone")
        if len(words) == 1 and "," not in text and not _TIME.fullmatch(words[0]):
            return cls(((0, _rate(words[0])),))
        times: dict[int, float | None] = {}
        for word in words:
            for minute, rate in _times(word):
                if minute in times:
                    raise InvalidRequest(f"timetable: {word!r} says again what holds at that time")
                times[minute] = rate
        return cls(tuple(sorted(times.items(), key=_minute)))

    def at(self, weekday: int, minute: int) -> Allowed:
        """What holds at a time, and for how long.

        Args:
            weekday: 0 (Monday) to 6.
            minute: Of the day, 0 to 1439, in the person's own time zone.
        """
        if not self.entries:
            return Allowed()
        here = weekday * _DAY + minute
        place = next((at for at in reversed(range(len(self.entries))) if self.entries[at][0] <= here), -1)
        rate = self.entries[place][1]
        waits = ((start - here - 1) % _WEEK + 1 for start, other in self.entries if other != rate)
        change = min(waits, default=None)
        return Allowed(rate or None, paused=rate == 0, minutes=change)


def _minute(entry: tuple[int, float | None]) -> int:
    return entry[0]


def _times(word: str) -> Iterable[tuple[int, float | None]]:
    """The minutes of the week at which an entry begins to hold: one, or one each day."""
    match = _ENTRY.fullmatch(word)
    if match is None:
        raise InvalidRequest(f"timetable: {word[:40]!r} is not like 08:00,512k or Mon-08:00,512k")
    day, hour, minute = match[1], int(match[2]), int(match[3])
    if hour > 23 or minute > 59:
        raise InvalidRequest(f"timetable: there is no {hour:02}:{minute:02} in {word[:40]!r}")
    days = range(7) if day is None else (_weekday(day, word),)
    rate = _rate(match[4])
    return [(each * _DAY + hour * 60 + minute, rate) for each in days]


def _weekday(name: str, word: str) -> int:
    short = name.lower()[:3]
    full = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    if short not in _DAYS or name.lower() not in (short, full[_DAYS.index(short)]):
        raise InvalidRequest(
            f"timetable: {word[:40]!r} names no day; write Mon, Tue, Wed, Thu, Fri, Sat or Sun"
        )
    return _DAYS.index(short)


def _rate(text: str) -> float | None:
    """Bytes a second of "512k", "off", "pause", or the second half of "1M:512k"."""
    down = text.rpartition(":")[2]
    for half in text.split(":", 1):
        if half.lower() not in ("off", "pause") and _RATE.fullmatch(half) is None:
            raise InvalidRequest(f"timetable: {text[:40]!r} is no rate; write 512k, 10M, off or pause")
    if down.lower() == "off":
        return None
    match = _RATE.fullmatch(down)
    return 0.0 if match is None else float(match[1]) * 1024.0 ** _POWERS[match[2].lower()]
