"""Pacing: limits hold, a shown speed is honest, and connections go where goodput is."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.pacing import ConnectionPacer, RateMeter, TokenBucket, laggards, share

MIB = 2**20


# --- TokenBucket ---------------------------------------------------------------------------------------------------


def test_a_bucket_lets_the_burst_through_and_then_makes_one_pay() -> None:
    """Up to `burst` costs nothing, each byte over it costs 1/rate seconds, and time pays."""
    bucket = TokenBucket(rate=100, burst=50).spend(50, 0.0)
    assert bucket.delay(0.0) == 0.0
    bucket = bucket.spend(200, 0.0)
    assert bucket.delay(0.0) == 2.0
    assert bucket.delay(1.5) == 0.5
    assert bucket.delay(9.0) == 0.0


def test_an_idle_bucket_saves_no_more_than_the_burst() -> None:
    """A night without traffic does not allow a morning without limit."""
    bucket = TokenBucket(rate=100, burst=50).spend(10, 0.0)
    assert bucket.spend(150, 1e6).delay(1e6) == 1.0


def test_a_clock_set_back_forgives_nothing_and_adds_nothing() -> None:
    """The pause stays what was owed."""
    assert TokenBucket(rate=100, burst=0).spend(100, 50.0).delay(10.0) == 1.0


@given(
    st.floats(min_value=1, max_value=1e9),
    st.floats(min_value=0, max_value=1e7),
    st.lists(st.integers(min_value=0, max_value=MIB), min_size=1, max_size=30),
)
def test_who_pauses_as_told_never_exceeds_the_limit(rate: float, burst: float, sizes: list[int]) -> None:
    """Over any run, bytes <= burst + rate * time, counted when the pause is over."""
    bucket, now = TokenBucket(rate, burst), 0.0
    for size in sizes:
        bucket = bucket.spend(size, now)
        now += bucket.delay(now)
    assert sum(sizes) <= (burst + rate * now) * (1 + 1e-6) + 1


# --- RateMeter -----------------------------------------------------------------------------------------------------


def test_a_steady_stream_is_shown_within_five_percent() -> None:
    """1 MB/s in 10 ms steps reads as 0.95 to 1.05 MB/s from the first second on, and keeps few samples."""
    meter = RateMeter(started=100.0)
    for step in range(1, 2000):
        now = 100.0 + step / 100
        meter = meter.add(10_000, now)
        if step >= 100:
            assert 0.95e6 <= meter.rate(now) <= 1.05e6
    assert len(meter.arrivals) <= 26


def test_a_shown_speed_falls_to_zero_when_bytes_stop() -> None:
    """It falls steadily and is exactly 0 after 5 s; there is no ETA then."""
    meter = RateMeter(started=0.0)
    for second in range(10):
        meter = meter.add(MIB, float(second))
    shown = [meter.rate(9.0 + silence) for silence in range(6)]
    assert shown == sorted(shown, reverse=True)
    assert shown[0] > 0
    assert shown[-1] == 0.0
    assert meter.eta(MIB, 14.0) is None


def test_the_first_bytes_are_no_record_speed() -> None:
    """One MiB after a millisecond is shown as 1 MiB/s, not 1000."""
    assert RateMeter(started=0.0).add(MIB, 0.001).rate(0.001) == MIB


def test_eta_is_what_is_left_at_this_rate() -> None:
    """10 MiB at 1 MiB/s take 10 s."""
    assert RateMeter(started=0.0).add(MIB, 0.5).eta(10 * MIB, 1.0) == 10.0
    assert RateMeter(started=0.0).eta(MIB, 1.0) is None


# --- ConnectionPacer -----------------------------------------------------------------------------------------------


class Line:
    """A line in simulation: connections follow the target at once and need `warm` seconds to reach full speed."""

    def __init__(
        self, pacer: ConnectionPacer, goodput: Callable[[float], float], *, warm: float = 0.1
    ) -> None:
        self.pacer, self.goodput, self.warm = pacer, goodput, warm
        self.now = self.received = 0.0
        self.opened: list[float] = []
        self.targets: list[int] = []

    def run(self, seconds: float, *, step: float = 0.05) -> int:
        """The target after this long."""
        until = self.now + seconds
        while self.now < until:
            target = self.pacer.tick(self.now, int(self.received), len(self.opened))
            self.opened = (self.opened + [self.now] * target)[:target]
            self.now += step
            strength = sum(min(1.0, (self.now - opened) / self.warm) for opened in self.opened)
            self.received += self.goodput(strength) * step
            self.targets.append(target)
        return self.pacer.target


class Reno:
    """TCP Reno connections of 100 ms round trip that lose packets by chance, over a line of 25 MB/s; seeded.

    The line has a queue of one round trip; what is more than that is lost, and everybody halves.

    Each begins with a slow start of ten packets, two round trips after it was opened, and halves at a loss.
    """

    RTT, PACKET, MOST = 0.1, 1448, 25e6

    def __init__(self, seed: int, loss: float) -> None:
        self.chance, self.loss = random.Random(seed), loss
        self.windows: list[float] = []
        self.slow: list[bool] = []
        self.now = self.received = 0.0
        self.counts: list[int] = []

    def run(self, pacer: ConnectionPacer, seconds: float) -> None:
        """Round trip by round trip; the pacer is asked once in each."""
        until = self.now + seconds
        while self.now < until:
            target = pacer.tick(self.now, int(self.received), len(self.windows))
            self._open(target)
            self.now += self.RTT
            sent = [max(0.0, window) for window in self.windows]
            fits = self.MOST * self.RTT
            self.received += min(fits, sum(sent) * self.PACKET)
            for one, packets in enumerate(sent):
                lost = sum(sent) * self.PACKET > 2 * fits or self.chance.random() > (1 - self.loss) ** packets
                self._acknowledge(one, lost=lost and packets > 0)
            self.counts.append(target)

    def _open(self, target: int) -> None:
        fresh = max(0, target - len(self.windows))
        self.windows = (self.windows + [-1.0] * fresh)[:target]
        self.slow = (self.slow + [True] * fresh)[:target]

    def _acknowledge(self, one: int, *, lost: bool) -> None:
        window = self.windows[one]
        if window <= 0:
            self.windows[one] = 10.0 if window == 0 else 0.0
        elif lost:
            self.windows[one], self.slow[one] = max(2.0, window / 2), False
        else:
            self.windows[one] = window * 2 if self.slow[one] else window + 1


def throttled(most: float) -> Callable[[float], float]:
    """Each connection gets 5 MB/s, up to `most` of them."""
    return lambda n: 5e6 * min(n, most)


def fixed(n: float) -> float:
    """25 MB/s however many share it."""
    return 25e6 * min(1.0, n)


def lossy(seed: int) -> Callable[[float], float]:
    """0.5 % loss at 100 ms holds a connection to 0.25 MB/s of a 25 MB/s line, give or take a quarter."""
    chance = random.Random(seed)
    return lambda n: min(25e6, 0.25e6 * n) * chance.uniform(0.75, 1.25)


@pytest.mark.parametrize(("cap", "end"), [(16, 16), (32, 32), (64, 32), (12, 12), (3, 3), (1, 1)])
def test_a_line_throttled_per_connection_gets_many(cap: int, end: int) -> None:
    """Where each of up to 32 connections adds, it opens them all (within the cap) in 2 s, and keeps to it."""
    line = Line(ConnectionPacer(cap=cap), throttled(32))
    assert line.run(2.0) == end
    assert line.run(120.0) == end
    assert max(line.targets) <= cap


def test_the_cap_is_reached_within_a_second() -> None:
    """4, 8, 16: the first doubling is not waited for longer than it takes to see it."""
    line = Line(ConnectionPacer(), throttled(32))
    line.run(1.0)
    assert list(dict.fromkeys(line.targets)) == [4, 8, 16]


def test_a_line_of_fixed_capacity_keeps_few() -> None:
    """Where more connections add nothing it goes back to its start, and stays polite."""
    line = Line(ConnectionPacer(), fixed)
    assert line.run(2.0) == 4
    assert line.run(120.0) == 4
    assert max(line.targets) == 8
    assert sum(line.targets) / len(line.targets) < 4.1


def test_a_slow_start_is_not_credited_to_connections_for_good() -> None:
    """A fixed line whose speed rises by itself gets 16 connections at first, and gives them back after the hold."""
    line = Line(ConnectionPacer(), fixed)
    line.goodput = lambda n: fixed(n) * min(1.0, line.now**2)
    assert line.run(2.0) == 16
    assert line.run(30.0) <= 5


@pytest.mark.parametrize("seed", range(5))
def test_a_lossy_line_gets_all_it_may(seed: int) -> None:
    """Where loss holds each connection down only their number helps; noise does not talk it out of that."""
    line = Line(ConnectionPacer(rtt=0.1, cap=32), lossy(seed), warm=0.5)
    line.run(60.0)
    late = line.targets[len(line.targets) // 2 :]
    assert sum(late) / len(late) > 24
    assert line.received > 0.75 * 0.25e6 * 32 * 60


@pytest.mark.parametrize("seed", range(20))
def test_the_first_slow_starts_on_a_lossy_line_do_not_deceive(seed: int) -> None:
    """0.5 % loss, 100 ms: within 8 s there are at least 24 connections, and there they stay."""
    line, pacer = Reno(seed, 0.005), ConnectionPacer(rtt=0.1, cap=32)
    line.run(pacer, 8.0)
    reached = line.counts[-1]
    line.run(pacer, 40.0)
    assert reached >= 24
    assert sum(line.counts[80:]) / len(line.counts[80:]) > 24


@pytest.mark.parametrize(("loss", "most"), [(0.0, 12), (0.0001, 20)])
def test_connections_that_only_share_a_line_are_given_back(loss: float, most: int) -> None:
    """Where the line itself is the limit what slow start opened goes again, and the line stays full."""
    line, pacer = Reno(1, loss), ConnectionPacer(rtt=0.1, cap=32)
    line.run(pacer, 120.0)
    late = line.counts[600:]
    assert sum(late) / len(late) < most
    assert line.received > 0.9 * Reno.MOST * 120


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_line_of_fixed_capacity_does_not_drift_to_the_cap(seed: int) -> None:
    """What noise adds is given back: over minutes the mean stays small."""
    chance = random.Random(seed)
    line = Line(ConnectionPacer(), lambda n: fixed(n) * chance.uniform(0.8, 1.2))
    line.run(300.0)
    assert sum(line.targets) / len(line.targets) < 8


def test_a_line_that_gets_better_is_noticed() -> None:
    """After the hold it tries a quarter more, and doubles again when that pays."""
    line = Line(ConnectionPacer(), fixed)
    assert line.run(5.0) == 4
    line.goodput = throttled(32)
    assert line.run(20.0) == 16


@pytest.mark.parametrize("burst", [1.0, 4.0, 16.0])
def test_a_servers_first_burst_is_not_credited_to_few_connections(burst: float) -> None:
    """Where a server sends the first MiB of each connection at once, later ones are compared with what comes then."""
    line = Line(ConnectionPacer(), throttled(32))
    line.goodput = lambda n: throttled(32)(n) * (burst if line.now < 0.5 else 1.0)
    assert line.run(4.0) == 16


def test_a_trial_of_fewer_stops_where_it_costs() -> None:
    """On a line that 8 connections fill, the 16 of a slow start become 8 or 9."""
    line = Line(ConnectionPacer(), throttled(8))
    line.goodput = lambda n: throttled(8)(n) * min(1.0, line.now**2)
    line.run(2.0)
    line.run(60.0)
    assert 7 <= line.pacer.target <= 10


def test_trials_without_result_become_rare() -> None:
    """The hold doubles from 8 to 64 s, so a line that never changes is left alone."""
    line = Line(ConnectionPacer(), fixed)
    line.run(600.0)
    trials = sum(
        before == 4 and after != 4 for before, after in zip(line.targets, line.targets[1:], strict=False)
    )
    assert 6 <= trials <= 14


def test_a_refusal_halves_and_lasts_a_minute() -> None:
    """429, 503 or a refused connection: half as many, no trial over that for 60 s, then upward again."""
    line = Line(ConnectionPacer(), throttled(32))
    assert line.run(5.0) == 16
    line.pacer.refused(line.now)
    assert line.run(59.0) == 8
    assert max(line.targets[-1000:]) == 8
    assert line.run(90.0) == 16


def test_refusals_of_connections_opened_together_are_one() -> None:
    """Sixteen 429s in a second halve once; those of the next second halve again, down to 1 and no further."""
    line = Line(ConnectionPacer(), throttled(32))
    line.run(5.0)
    targets = []
    for second in range(6):
        for nth in range(16):
            line.pacer.refused(100.0 + second + nth / 100)
        targets.append(line.pacer.tick(100.5 + second, 0, 1))
    assert targets == [8, 4, 2, 1, 1, 1]


@pytest.mark.parametrize("cap", [1, 2])
def test_a_cap_below_the_start_is_kept(cap: int) -> None:
    """It begins with no more than the cap, and has nothing to try."""
    line = Line(ConnectionPacer(cap=cap), throttled(32))
    line.run(40.0)
    assert set(line.targets) == {cap}


def test_a_cap_that_comes_down_is_kept_at_once() -> None:
    """Whatever it was just trying, and also when its start is over the new cap."""
    for seconds in (0.3, 0.5, 1.0, 5.0, 9.0, 9.4, 9.8, 20.0):
        line = Line(ConnectionPacer(), throttled(12))
        line.run(seconds)
        line.pacer.cap = 3
        before = len(line.targets)
        line.run(30.0)
        assert max(line.targets[before:]) <= 3


def test_nothing_is_learnt_from_silence_restarts_or_connections_not_open_yet() -> None:
    """No bytes, fewer bytes than before, or half the connections missing: the target stays."""
    pacer = ConnectionPacer()
    assert [pacer.tick(now, 0, 4) for now in (0.0, 1.0, 2.0, 3.0)] == [4] * 4
    assert pacer.tick(4.0, 10 * MIB, 2) == 4
    assert pacer.tick(5.0, 5 * MIB, 4) == 4
    assert pacer.tick(6.0, 10 * MIB, 4) == 8


@pytest.mark.parametrize(("rtt", "interval"), [(0.0, 0.2), (0.08, 0.2), (0.1, 0.25), (0.6, 1.5)])
def test_a_tick_lasts_a_few_round_trips(rtt: float, interval: float) -> None:
    """max(0.2 s, 2.5 round trips); earlier calls change nothing."""
    pacer = ConnectionPacer(rtt=rtt)
    assert pacer.interval == interval
    pacer.tick(0.0, 0, 4)
    assert pacer.tick(interval * 0.9, MIB, 4) == 4
    assert pacer.tick(interval, MIB, 4) == 8


@given(
    st.lists(
        st.tuples(
            st.floats(min_value=0, max_value=20),
            st.integers(min_value=-MIB, max_value=64 * MIB),
            st.integers(min_value=-4, max_value=4),
            st.sampled_from(["", "", "", "refused", "cap"]),
            st.integers(min_value=1, max_value=40),
        ),
        max_size=60,
    ),
    st.integers(min_value=1, max_value=20),
    st.integers(min_value=1, max_value=40),
)
def test_the_target_is_always_between_one_and_the_cap(
    story: list[tuple[float, int, int, str, int]], start: int, cap: int
) -> None:
    """Whatever a server does and whenever the cap changes."""
    pacer, now, received = ConnectionPacer(start=start, cap=cap), 0.0, 0
    for wait, got, missing, happens, new_cap in story:
        now, received = now + wait, received + got
        if happens == "refused":
            pacer.refused(now)
        if happens == "cap":
            pacer.cap = new_cap
        target = pacer.tick(now, received, pacer.target + missing)
        assert 1 <= target <= pacer.cap
        assert target == pacer.target


# --- laggards ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rates", "ages", "expected"),
    [
        ({1: 1.0, 2: 10.0, 3: 10.0, 4: 10.0}, {1: 9, 2: 9, 3: 9, 4: 9}, [1]),
        ({1: 2.0, 2: 10.0, 3: 10.0, 4: 10.0}, {1: 9, 2: 9, 3: 9, 4: 9}, []),
        ({1: 0.0, 2: 1.0, 3: 10.0, 4: 10.0, 5: 10.0}, {1: 9, 2: 9, 3: 9, 4: 9, 5: 9}, [1]),
        ({1: 1.0, 2: 10.0, 3: 10.0}, {1: 9, 2: 9, 3: 9}, []),
        ({1: 1.0, 2: 10.0, 3: 10.0, 4: 10.0}, {1: 5, 2: 9, 3: 9, 4: 9}, []),
        ({1: 1.0, 2: 10.0, 3: 10.0, 4: 10.0}, {1: 9, 2: 9, 3: 9}, []),
        ({1: 0.0, 2: 0.0, 3: 0.0, 4: 0.0}, {1: 9, 2: 9, 3: 9, 4: 9}, []),
        ({}, {}, []),
    ],
)
def test_one_connection_far_below_its_siblings_is_replaced(
    rates: dict[int, float], ages: dict[int, float], expected: list[int]
) -> None:
    """Under 20 % of the median of at least 3 siblings, all older than 5 s; the slowest only; never when all stall."""
    assert laggards(rates, ages) == expected


@given(st.dictionaries(st.integers(0, 30), st.floats(min_value=0, max_value=1e9), max_size=20))
def test_at_most_one_laggard_and_none_slower(rates: dict[int, float]) -> None:
    """Replacing one at a time cannot close a whole download."""
    found = laggards(rates, dict.fromkeys(rates, 60.0))
    assert len(found) <= 1
    assert all(rates[one] == min(rates.values()) for one in found)


# --- share ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cap", "wants", "given_"),
    [
        (16, {"a": 16, "b": 16}, {"a": 8, "b": 8}),
        (16, {"a": 16, "b": 2}, {"a": 14, "b": 2}),
        (5, {"a": 9, "b": 9, "c": 9}, {"a": 2, "b": 2, "c": 1}),
        (2, {"a": 9, "b": 9, "c": 9}, {"a": 1, "b": 1, "c": 0}),
        (9, {"a": 0, "b": 3}, {"a": 0, "b": 3}),
        (0, {"a": 1}, {"a": 0}),
        (4, {}, {}),
    ],
)
def test_connections_are_shared_fairly_in_order(
    cap: int, wants: dict[str, int], given_: dict[str, int]
) -> None:
    """One each in order of priority while they last, then another round; what one does not want others get."""
    assert share(cap, wants) == given_


@given(st.integers(0, 60), st.dictionaries(st.text(max_size=3), st.integers(0, 20), max_size=15))
def test_sharing_wastes_nothing_and_nobody_can_complain(cap: int, wants: dict[str, int]) -> None:
    """All is given that is wanted and there, and who got less than another plus one wanted no more."""
    got = share(cap, wants)
    assert sum(got.values()) == min(cap, sum(wants.values()))
    assert all(0 <= got[key] <= wants[key] for key in wants)
    top = max(got.values(), default=0)
    assert all(got[key] >= top - 1 or got[key] == wants[key] for key in wants)


def test_a_cap_per_host_is_shared_first_and_the_whole_after() -> None:
    """Sharing what each host's records got obeys both caps and keeps the order."""
    hosts = ({"a1": 8, "a2": 8}, {"b1": 8})
    wants = {key: got for host in hosts for key, got in share(6, host).items()}
    assert wants == {"a1": 3, "a2": 3, "b1": 6}
    assert share(8, wants) == {"a1": 3, "a2": 3, "b1": 2}
