"""Steering: what holds a registration, and which rates follow from what is set."""

from __future__ import annotations

import time

import pytest

from bgfetch.core.model import State
from bgfetch.core.networks import Network
from bgfetch.core.timetable import Timetable
from bgfetch.engine.steering import Gate, Steering
from bgfetch.registrations.port import RegistrationOptions

NOON = time.mktime((2026, 6, 3, 12, 0, 20, 0, 0, -1))  # a Wednesday, by this machine's clock
PLAIN = RegistrationOptions()
PHONE = Network(metered=True, names=frozenset({"phone"}))


class Rates:
    """Remembers what was set."""

    def __init__(self) -> None:
        self.every: list[float | None] = []
        self.lanes: list[tuple[int, float | None]] = []

    def set_limit(self, rate: float | None) -> None:
        """For all."""
        self.every.append(rate)

    def set_lane_limit(self, lane: int, rate: float | None) -> None:
        """For one."""
        self.lanes.append((lane, rate))


@pytest.mark.parametrize(
    ("table", "options", "expected"),
    [
        ("", PLAIN, None),
        ("08:00,1M", PLAIN, None),
        ("08:00,pause", PLAIN, Gate(State.PAUSED_SCHEDULE, None, "the timetable says pause")),
        (
            "08:00,pause 12:30,off",
            PLAIN,
            Gate(State.PAUSED_SCHEDULE, NOON - 20 + 1800, "the timetable says pause"),
        ),
        (
            "",
            RegistrationOptions(schedule="Wed-12:00,pause Wed-12:01,off"),
            Gate(State.PAUSED_SCHEDULE, NOON + 40, "the timetable says pause"),
        ),
        ("", RegistrationOptions(schedule="nonsense"), None),
        ("", RegistrationOptions(networks="phone"), None),
        (
            "",
            RegistrationOptions(networks="unmetered"),
            Gate(State.PAUSED_METERED, None, "the network phone is metered"),
        ),
    ],
)
def test_what_holds_a_registration(table: str, options: RegistrationOptions, expected: Gate | None) -> None:
    """The timetable of all, its own, and the network; until when, and why."""
    steering = Steering(None)
    steering.table = Timetable.parse(table)
    steering.network = PHONE
    assert steering.gate(options, NOON) == expected


def test_nothing_comes_over_a_network_nobody_has_looked_at() -> None:
    """Whoever said "unmetered" does not pay for the seconds before it is known."""
    steering, chosen = Steering(None), RegistrationOptions(networks="unmetered")
    gate = steering.gate(chosen, NOON)
    assert gate is not None
    assert gate.state is State.PAUSED_METERED
    assert steering.gate(PLAIN, NOON) is None
    assert steering.chooses_networks({1: PLAIN, 2: chosen})
    steering.network = Network()
    assert steering.gate(chosen, NOON) is None
    assert not steering.chooses_networks({1: PLAIN})
    assert steering.network is None


def test_a_person_may_pause_everything() -> None:
    """And lets it go on."""
    steering = Steering(None)
    steering.paused = True
    assert steering.gate(PLAIN, NOON) == Gate(State.PAUSED, None, "everything is paused")
    steering.paused = False
    assert steering.gate(PLAIN, NOON) is None


def test_the_lowest_rate_holds() -> None:
    """Of the limit and the timetable, for all and for each; nothing is set twice, and nothing stays behind."""
    rates = Rates()
    steering = Steering(rates)
    steering.govern({1: PLAIN}, NOON)
    assert (rates.every, rates.lanes) == ([], [])
    steering.rate = 5000
    steering.table = Timetable.parse("08:00,2k 12:01,off")
    slow = RegistrationOptions(limit_rate=100, schedule="10B")
    for _ in range(2):
        steering.govern({1: slow, 2: RegistrationOptions(limit_rate=7)}, NOON)
    steering.govern({2: RegistrationOptions(limit_rate=8)}, NOON + 60)
    steering.forget(2)
    steering.rate = 0
    steering.govern({}, NOON + 60)
    assert rates.every == [2048.0, 5000.0, None]
    assert rates.lanes == [(1, 10.0), (2, 7.0), (2, 8.0), (1, None), (2, None)]


def test_a_limit_of_any_size_is_a_limit() -> None:
    """An app may say any whole number; one that no float holds is as good as none."""
    rates = Rates()
    steering = Steering(rates)
    steering.govern({1: RegistrationOptions(limit_rate=10**400)}, NOON)
    assert rates.lanes == [(1, float(1 << 62))]
