"""How much one client may take: places and pace, with made-up clocks."""

from __future__ import annotations

import contextlib

import pytest

from bgfetch.web.limits import Busy, Clients, Limits, Pace


def test_places() -> None:
    """So many for one address, so many for all; a place is free again when its block ends, however it ends."""
    clients = Clients(Limits(per_client=2, total=3), lambda: 0.0)
    with contextlib.ExitStack() as held:
        held.enter_context(clients.place("a"))
        held.enter_context(clients.place("a"))
        with pytest.raises(Busy) as own, clients.place("a"):
            pass
        held.enter_context(clients.place("b"))
        with pytest.raises(Busy) as full, clients.place("c"):
            pass
    assert (own.value.status, full.value.status) == (429, 503)
    assert min(own.value.retry_after, full.value.retry_after) > 0
    with pytest.raises(KeyError), clients.place("a"):
        raise KeyError
    with clients.place("a"), clients.place("a"):
        pass


@pytest.mark.parametrize(
    ("sent", "delays"),
    [
        ([(100, 0.0)], [0.0]),
        ([(100, 0.0), (100, 0.0), (100, 0.0)], [0.0, 0.0, 1.0]),
        ([(100, 0.0), (100, 1.0), (100, 2.0)], [0.0, 0.0, 0.0]),
        ([(1000, 0.0), (1, 0.0), (1, 20.0)], [0.0, 9.0, 0.0]),
    ],
)
def test_pace(sent: list[tuple[int, float]], delays: list[float]) -> None:
    """100 bytes a second, and what was not used in the last second on top of it."""
    pace = Pace(100)
    assert [pace.delay(count, 1000.0 + now) for count, now in sent] == pytest.approx(delays)


def test_a_pace_outlives_an_answer() -> None:
    """Who asks for part after part begins none of them with a full bucket; who is long gone is forgotten."""
    now = [0.0]
    clients = Clients(Limits(rate=100), lambda: now[0])
    with clients.place("a") as first:
        assert first is not None
        first.delay(1000, 0.0)
    with clients.place("a") as second:
        assert second is not None
        assert second.delay(1, 0.0) > 5
    now[0] = 1000.0
    for number in range(5000):
        with clients.place(str(number)):
            pass
    assert len(clients._paces) <= 4097


def test_without_a_rate_nobody_is_paced() -> None:
    """The default is no limit."""
    with Clients(Limits(), lambda: 0.0).place("a") as pace:
        assert pace is None
