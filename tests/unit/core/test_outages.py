"""Outages: one record looks for all that wait, and never many at once."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.outages import EVERY, PACE, Outages


def test_one_of_many_looks() -> None:
    """A thousand records of a host make one attempt between them, and the next when it is due."""
    outages = Outages()
    outages.failed("a", 100.0)
    assert outages.look("a", 100.5) is None
    assert outages.look("a", 101.0) == 100.5 + EVERY
    now = 100.5 + EVERY
    answers = [outages.look("a", now) for _ in range(1000)]
    assert answers[0] is None
    assert set(answers[1:]) == {now + EVERY}


def test_a_second_failure_moves_nothing() -> None:
    """Attempts that fail one after the other do not put the next look off for ever."""
    outages = Outages()
    outages.look("a", 100.0)
    for second in range(4):
        outages.failed("a", 100.0 + second)
    assert outages.look("a", 99.9 + EVERY) == 100.0 + EVERY
    assert outages.look("a", 100.0 + EVERY) is None


def test_who_answers_is_away_no_more() -> None:
    """Its first answer wakes the others, later ones do not."""
    outages = Outages()
    outages.failed("a", 0.0)
    assert outages.away("a")
    assert (outages.answered("a"), outages.answered("a"), outages.away("a")) == (True, False, False)


def test_one_return_hastens_the_others() -> None:
    """A network that is back for one host is looked for at once for the rest."""
    outages = Outages()
    outages.look("a", 0.0)
    outages.hasten(1.0)
    assert outages.look("a", 1.0) is None


def test_another_network_is_a_new_beginning() -> None:
    """Nothing is known of who can be reached from there."""
    outages = Outages()
    assert outages.look("a", 0.0) is None
    outages.forget()
    assert not outages.away("a")
    assert outages.look("a", 0.0) is None


@given(st.integers(1, 60), st.lists(st.floats(0.0, 0.3), min_size=50, max_size=200))
def test_the_pace_is_kept_and_nobody_starves(hosts: int, steps: list[float]) -> None:
    """At most `PACE` looks a second; with few hosts each is looked for every `EVERY` seconds, give or take a turn."""
    outages, now = Outages(), 0.0
    looks: dict[str, list[float]] = {f"h{number}": [] for number in range(hosts)}
    for host in looks:
        outages.failed(host, now)
    for step in steps:
        now += step
        for host, seen in looks.items():
            if outages.look(host, now) is None:
                seen.append(now)
    assert sum(map(len, looks.values())) <= now * PACE + 1
    for seen in looks.values():
        assert all(later - earlier >= EVERY for earlier, later in pairwise(seen))
        if hosts == 1 and now > EVERY + 0.3:
            assert seen
