"""How fast, and over how many connections: numbers in, numbers out.

The rule kept here: goodput decides, not a fixed count. A connection that adds nothing is given back, and a server
that refuses is asked for less. The constants were measured over emulated long lines; where they are somebody else's,
it says so.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from statistics import median
from typing import TypeVar, assert_never

__all__ = ["ConnectionPacer", "RateMeter", "TokenBucket", "laggards", "share"]

WINDOW = 5.0  # s; a shown speed reaches 0 this long after the last byte
SLOT = 0.2  # s; bytes closer together than this are counted as one arrival

SHORTEST_TICK = 0.2  # s
RTTS_A_TICK = 2.5  # fewer round trips would judge a connection by its slow start
GROWTH = 1.10  # goodput that counts as more
ALIKE = 0.92  # goodput that counts as no less
FLAT_TICKS = 2  # the first tick after a change is still ramping up
HOLD = 8.0  # s
LONGEST_HOLD = 64.0  # s; a line that never changes is hardly ever disturbed
REFUSED_FOR = 60.0  # s
SAME_REFUSAL = 1.0  # s; connections opened together are refused together

LAGGARD_AGE = 5.0  # s
LAGGARD_SHARE = 0.2
LAGGARD_SIBLINGS = 3

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """A limit on speed that lets `burst` bytes through at once. It is told of bytes that came, and owes a pause.

    Args:
        rate: Bytes a second, > 0.
        burst: Bytes that may come without a pause, >= 0.
        spent: Bytes not paid off yet, >= 0.
        at: Instant of `spent`, seconds of any clock that `now` is read from.
    """

    rate: float
    burst: float
    spent: float = 0.0
    at: float = 0.0

    def spend(self, n: int, now: float) -> TokenBucket:
        """The bucket after `n` more bytes."""
        return replace(self, spent=self._left(now) + n, at=now)

    def delay(self, now: float) -> float:
        """Seconds to pause, 0 when more may come at once."""
        return max(0.0, (self._left(now) - self.burst) / self.rate)

    def _left(self, now: float) -> float:
        return max(0.0, self.spent - self.rate * max(0.0, now - self.at))  # a clock may be set back


@dataclass(frozen=True, slots=True)
class RateMeter:
    """Bytes a second over the last 5 seconds; exactly 0 once nothing came for that long.

    A window and not a weighted mean: it forgets completely, so that a stalled transfer never shows a speed.

    Args:
        started: Instant the first bytes could have come, seconds of any clock that `now` is read from.
        arrivals: (instant, bytes), oldest first; at most one in 0.2 s.
    """

    started: float
    arrivals: tuple[tuple[float, int], ...] = ()

    def add(self, n: int, now: float) -> RateMeter:
        """The meter after `n` more bytes."""
        kept = tuple(arrival for arrival in self.arrivals if arrival[0] > now - WINDOW)
        if kept and now - kept[-1][0] < SLOT:
            return replace(self, arrivals=(*kept[:-1], (kept[-1][0], kept[-1][1] + n)))
        return replace(self, arrivals=(*kept, (now, n)))

    def rate(self, now: float) -> float:
        """Bytes a second lately; within 5 % for a steady stream. The first second counts as a whole one."""
        lately = sum(n for at, n in self.arrivals if at > now - WINDOW)
        return lately / min(WINDOW, max(1.0, now - self.started))

    def eta(self, remaining: int, now: float) -> float | None:
        """Seconds until `remaining` more bytes are here at this rate, or None while nothing comes."""
        rate = self.rate(now)
        return remaining / rate if rate else None


class _Phase(Enum):
    GROW = auto()  # more connections, as long as each step pays
    CHECK = auto()  # the fewest that seemed to do, until they have shown it
    HOLD = auto()  # this many, for a while
    SHRINK = auto()  # fewer connections, as long as no step costs


@dataclass(slots=True)
class ConnectionPacer:
    """How many connections to keep open to one host, found by trying.

    It doubles while goodput grows by a tenth; after two flat ticks it steps back to the fewest that were within 8 %
    of the best. Where those bring less now than more did a moment ago, what they had brought was a slow start's or a
    server's first burst, and it goes on upward. Otherwise it holds 8 s, and then tries a quarter more or, in turn, a quarter fewer: more may have become
    possible, and what looked like the merit of a connection may have been a slow start. A trial that changes nothing
    doubles the next hold (64 s at most). Only `tick` and `refused` change it, and only by their arguments.

    Args:
        start: Connections to begin with, and the fewest it gives back down to, >= 1.
        cap: Most connections the host may get, >= 1; may be changed at any time.
        rtt: Round-trip time to the host, seconds, 0 = not known; may be changed at any time.

    Source: the doubling and its numbers were measured against settle-then-measure, which was 10-60 % slower;
    halving on refusal and creeping up is TCP's AIMD (Chiu and Jain, 1989).
    """

    start: int = 4
    cap: int = 16
    rtt: float = 0.0
    _target: int = field(init=False, default=0)
    _phase: _Phase = field(init=False, default=_Phase.GROW)
    _seen: dict[int, float] = field(
        init=False, default_factory=dict
    )  # best goodput of this trial, by connections
    _flat: int = field(init=False, default=0)
    _last: float = field(init=False, default=0.0)  # goodput of the tick before
    _more: tuple[int, float] = field(init=False, default=(0, 0.0))  # connections before a check, and goodput
    _measured: tuple[float, int] | None = field(init=False, default=None)  # instant, bytes
    _steady: float = field(init=False, default=0.0)  # goodput while holding, smoothed
    _held: int = field(init=False, default=0)  # connections before this trial
    _hold: float = field(init=False, default=HOLD)
    _until: float = field(init=False, default=0.0)
    _upward: bool = field(init=False, default=True)
    _ceiling: int = field(init=False, default=0)
    _refused_at: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._target = min(self.start, self.cap)

    @property
    def target(self) -> int:
        """Connections to keep open, 1 to `cap`."""
        return self._target

    @property
    def interval(self) -> float:
        """Seconds between two measurements; calling `tick` more often changes nothing."""
        return max(SHORTEST_TICK, RTTS_A_TICK * self.rtt)

    def tick(self, now: float, bytes_so_far: int, connections_open: int) -> int:
        """The number of connections to keep open from now on, 1 to `cap`.

        Args:
            now: Seconds of a clock that never goes back.
            bytes_so_far: Bytes received from this host in all; may fall when a record restarts.
            connections_open: Transfers open now. While it is far from the target nothing is learnt.
        """
        self._target = min(self._target, self._limit(now))
        # Connections that are not open (or closed) yet say nothing, nor does an interval in which some were not.
        if abs(connections_open - self._target) * 4 > self._target:
            self._measured = (now, bytes_so_far)
            return self._target
        goodput = self._goodput(now, bytes_so_far)
        if goodput > 0:
            self._learn(now, goodput)
            self._last = goodput
        return self._target

    def refused(self, now: float) -> None:
        """The host refused (429, 503, connection refused): halve, and stay below that for a minute.

        Refusals within a second are one: connections opened together are refused together.
        """
        if self._refused_at is not None and now - self._refused_at < SAME_REFUSAL:
            return
        self._ceiling = max(1, min(self._target, self._limit(now)) // 2)
        self._refused_at = now
        self._target = self._ceiling
        self._hold = HOLD
        self._settle(now)

    def _limit(self, now: float) -> int:
        punished = self._refused_at is not None and now - self._refused_at < REFUSED_FOR
        return min(self.cap, self._ceiling) if punished else self.cap

    def _goodput(self, now: float, bytes_so_far: int) -> float:
        """Bytes a second since the last measurement, 0 when it is too early for another."""
        if self._measured is None:
            self._measured = (now, bytes_so_far)
            return 0.0
        then, before = self._measured
        if now - then < self.interval:
            return 0.0
        self._measured = (now, bytes_so_far)
        return (bytes_so_far - before) / (now - then)

    def _learn(self, now: float, goodput: float) -> None:
        match self._phase:
            case _Phase.GROW:
                self._grow(now, goodput)
            case _Phase.CHECK:
                self._check(now, goodput)
            case _Phase.HOLD:
                self._keep(now, goodput)
            case _Phase.SHRINK:
                self._shrink(now, goodput)
            case _:
                assert_never(self._phase)

    def _grow(self, now: float, goodput: float) -> None:
        # Against the best of this trial, not the tick before: a recovery from a dip is no growth.
        grew = goodput >= GROWTH * max(self._seen.values(), default=0.0)
        self._note(goodput)
        if grew:
            self._flat = 0
            self._target = min(self._limit(now), self._target * 2)
        elif self._flat >= FLAT_TICKS:
            self._step_back(now, goodput)

    def _step_back(self, now: float, goodput: float) -> None:
        fewest = self._fewest(now)
        if fewest == self._target:
            self._conclude(now)
            return
        self._more = (self._target, min(goodput, self._last))
        self._phase, self._target, self._flat = _Phase.CHECK, fewest, 0
        self._seen = {}

    def _check(self, now: float, goodput: float) -> None:
        self._note(goodput)
        if self._flat < FLAT_TICKS:
            return
        more, brought = self._more
        if self._seen[self._target] >= ALIKE * brought:
            self._conclude(now)
            return
        self._seen[more], self._flat, self._phase = brought, 0, _Phase.GROW
        self._target = min(self._limit(now), more * 2)

    def _keep(self, now: float, goodput: float) -> None:
        # Three parts old to one part new, as Android's DownloadManager smooths.
        self._steady = 0.75 * self._steady + 0.25 * goodput if self._steady else goodput
        if now >= self._until:
            self._try(self._limit(now))

    def _try(self, limit: int) -> None:
        """Begin a trial, upward and downward in turn where both are possible."""
        step = max(1, self._target // 4)
        upward, downward = self._target < limit, self._target > self.start
        self._upward = upward and (self._upward or not downward)
        if upward or downward:
            self._seen, self._flat, self._held = {self._target: self._steady}, 0, self._target
            self._phase = _Phase.GROW if self._upward else _Phase.SHRINK
            self._target = (
                min(limit, self._target + step) if self._upward else max(self.start, self._target - step)
            )
            self._upward = not self._upward

    def _shrink(self, now: float, goodput: float) -> None:
        self._note(goodput)
        if self._flat < FLAT_TICKS:
            return
        alike = self._seen[self._target] >= ALIKE * max(self._seen.values())
        if alike and self._target > self.start:
            self._target = max(self.start, self._target - max(1, self._target // 4))
            self._flat = 0
        else:
            self._conclude(now)

    def _note(self, goodput: float) -> None:
        self._seen[self._target] = max(goodput, self._seen.get(self._target, 0.0))
        self._flat += 1

    def _conclude(self, now: float) -> None:
        """End a trial with the fewest connections that were nearly as good as the best."""
        self._target = self._fewest(now)
        self._hold = min(LONGEST_HOLD, self._hold * 2) if self._target == self._held else HOLD
        self._settle(now)

    def _fewest(self, now: float) -> int:
        enough = ALIKE * max(self._seen.values())
        fewest = min(n for n, goodput in self._seen.items() if goodput >= enough)
        return min(fewest, self._limit(now))  # the cap may have come down during the trial

    def _settle(self, now: float) -> None:
        self._phase, self._steady, self._until = _Phase.HOLD, 0.0, now + self._hold


def laggards(rates: Mapping[int, float], ages: Mapping[int, float]) -> list[int]:
    """The connection to replace because it is far slower than its siblings: none or one.

    Only connections older than 5 s are judged or compared with, and at least 3 siblings are needed. One at a time:
    the next look has new medians. Where all are slow none is at fault.

    Args:
        rates: Bytes a second lately, by connection.
        ages: Seconds since each began to receive; a connection without an age is too young.

    Source: Ollama's transfer client (ends a stream under 10 % of the median after 5 s); 20 % is ours.
    """
    settled = [one for one in rates if ages.get(one, 0.0) > LAGGARD_AGE]
    if len(settled) <= LAGGARD_SIBLINGS:
        return []
    slowest = min(settled, key=lambda one: (rates[one], one))
    usual = median(rates[one] for one in settled if one != slowest)
    return [slowest] if rates[slowest] < LAGGARD_SHARE * usual else []


def share(cap: int, wants: Mapping[Key, int]) -> dict[Key, int]:
    """A fair division of `cap` connections: one each in order while they last, then another round.

    Nobody gets more than it wants. For a cap per host besides one in all, share among the records of each host
    first and pass what they got as the wants of the whole.

    Args:
        cap: Connections to give away, >= 0.
        wants: Connections each could use, in order of priority.

    Source: max-min fairness (Bertsekas and Gallager, Data Networks, section 6.5.2).
    """
    given = dict.fromkeys(wants, 0)
    hungry = [key for key, want in wants.items() if want > 0]
    while cap > 0 and hungry:
        served = hungry[:cap]
        for key in served:
            given[key] += 1
        cap -= len(served)
        hungry = [key for key in hungry if given[key] < wants[key]]
    return given
