"""Patience: what ends a record, and what costs nothing (invariant 5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.model import Fault
from bgfetch.core.patience import LEAST_PROGRESS, LONGEST_OFFLINE_WAIT, Patience, awaits_network
from bgfetch.core.policy import Policy

POLICY = Policy(attempts=3, first_attempts=2, server_waits=2, offline_waits=4, restarts=2, retry_scale=0.5)
RESET = Fault("reset", "broke", transient=True)
CONNECT = Fault("connect", "no connection", transient=True)
PORTAL = Fault("not-the-file", "a page", transient=True)
CERTIFICATE = Fault("certificate", "not valid")


def waits(patience: Patience, fault: Fault, *, asked: float | None = None) -> list[float]:
    """Each wait until it gives up."""
    found: list[float] = []
    while len(found) < 50:
        patience, delay = patience.after(fault, asked=asked, chance=0.0, progressed=False)
        if delay is None:
            break
        found.append(delay)
    return found


@pytest.mark.parametrize(
    ("patience", "fault", "asked", "expected"),
    [
        (Patience(POLICY), RESET, None, [0.25]),  # a mistyped host is told soon
        (Patience(POLICY), CONNECT, None, [0.25]),
        (Patience(POLICY).heard(), RESET, None, [0.25, 0.5]),
        (Patience(POLICY).heard(), CONNECT, None, [0.25, 0.5]),
        (Patience(POLICY).heard(), RESET, 60.0, [60.0, 60.0]),
        (Patience(POLICY).progressed(1), RESET, None, [0.25, 0.5]),
        # the network is away, and was there before
        (Patience(POLICY).progressed(1), CONNECT, None, [0.25, 0.5, 1.0, 1.5]),
        (Patience(POLICY).progressed(1), PORTAL, None, [0.25, 0.5, 1.0, 1.5]),
    ],
)
def test_waits_and_their_end(
    patience: Patience, fault: Fault, asked: float | None, expected: list[float]
) -> None:
    """Failures end a record soon where nobody answered, later where somebody did, last where the network went."""
    assert waits(patience, fault, asked=asked) == expected


def test_descriptors_that_others_hold_cost_no_attempt() -> None:
    """This process ran out of them and nobody was asked: it waits, though not for ever."""
    patience = Patience(POLICY)
    few = Fault("resources", "too many open files", transient=True)
    assert waits(patience, few) == [0.25, 0.5, 1.0, 1.5]
    later, _ = patience.after(few, asked=None, chance=0.0, progressed=False)
    assert waits(later, RESET) == waits(patience, RESET)


def test_nobody_waits_long_for_a_network_that_is_back() -> None:
    """However long it was away, the next look comes within seconds."""
    away = Patience(Policy(), served=True, offline_waits=1000)
    assert away.after(CONNECT, asked=None, chance=0.9, progressed=False)[1] == LONGEST_OFFLINE_WAIT


def test_a_connection_that_brought_something_is_replaced_at_once() -> None:
    """The first failure after progress costs no time and no budget; a second one does."""
    fresh = Patience(POLICY).progressed(LEAST_PROGRESS)
    later, delay = fresh.after(RESET, asked=None, chance=0.0, progressed=True)
    assert (later, delay) == (fresh, 0.0)
    worn, _ = fresh.after(RESET, asked=None, chance=0.0, progressed=False)
    assert worn.after(RESET, asked=None, chance=0.0, progressed=True)[1] == 0.5


def test_only_more_than_was_ever_held_is_progress() -> None:
    """A server that always breaks at the same byte and cannot resume is not asked for ever."""
    held = LEAST_PROGRESS
    worn, _ = Patience(POLICY).progressed(held).after(RESET, asked=None, chance=0.0, progressed=False)
    assert worn.progressed(held) is worn
    assert worn.progressed(held + LEAST_PROGRESS - 1) is worn
    assert worn.progressed(held + LEAST_PROGRESS).failures == 0


def test_bytes_given_up_on_purpose_may_come_again_as_progress() -> None:
    """A repair counts from what it left, another version from nothing."""
    step = LEAST_PROGRESS
    assert Patience(POLICY).progressed(10 * step).measured_from(4).progressed(5 + step).most == 5 + step
    assert Patience(POLICY).progressed(10 * step).changed().progressed(step).most == step


def test_progress_renews_everything_but_the_count_of_versions() -> None:
    """A body that changes again and again is unstable however many bytes came in between."""
    worn = Patience(POLICY).heard().changed().resolved().changed()
    assert not worn.unstable
    renewed = worn.progressed(LEAST_PROGRESS)
    assert (renewed.resolves, renewed.changes) == (0, 2)
    assert renewed.changed().unstable


@pytest.mark.parametrize(
    ("patience", "fault", "bears"),
    [
        (Patience(POLICY), RESET, True),
        (Patience(POLICY), CERTIFICATE, False),
        (Patience(POLICY).heard(), CERTIFICATE, False),
        (Patience(POLICY).progressed(1), CERTIFICATE, True),  # a café's portal, not this server
        (Patience(POLICY).progressed(1), Fault("encoded", "gzip"), False),
    ],
)
def test_what_another_attempt_may_help_against(patience: Patience, fault: Fault, bears: bool) -> None:  # noqa: FBT001 - a table
    """A network that wants a login first is waited for, if the server itself was seen before."""
    assert patience.bears(fault) == bears


def test_a_second_reply_changes_nothing() -> None:
    """Having been heard is said once."""
    heard = Patience(POLICY).heard()
    assert heard.heard() is heard


@pytest.mark.parametrize("fault", [CONNECT, Fault("dns", "no name", transient=True)])
def test_the_patient_wait_without_end_for_who_never_answered(fault: Fault) -> None:
    """A fetch that was made offline costs no retries; where somebody waits, a mistyped host is told soon."""
    patient = Patience(Policy(first_attempts=2, offline_waits=4, patient=True))
    assert patient.bears(fault)
    assert len(waits(patient, fault)) == 50
    assert len(waits(Patience(Policy(first_attempts=2)), fault)) == 1


def test_the_patient_give_people_an_hour_to_sign_in() -> None:
    """A page in place of a file that never came at all may be a portal, or the wrong URL: it is asked less and less."""
    patient = Patience(Policy(patient=True)).heard()
    found: list[float] = []
    delay: float | None = 0.0
    while delay is not None:
        found.append(delay)
        patient, delay = patient.after(PORTAL, asked=None, chance=0.5, progressed=False)
    assert (len(found), found[-1]) == (60, 45.0)
    assert 2400 < sum(found) < 3600


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("dns", True), ("connect", True), ("not-the-file", True), ("status-511", True), ("reset", False)],
)
def test_what_is_waiting_for_a_network(kind: str, expected: bool) -> None:  # noqa: FBT001 - a table
    """It is shown as such: a machine that is away, and a network that wants a login first."""
    assert awaits_network(kind) == expected


@given(st.lists(st.integers(1, 3 * LEAST_PROGRESS), max_size=200), st.integers(1, 12))
def test_attempts_are_bounded_by_what_they_bring(steps: list[int], attempts: int) -> None:
    """However little each attempt brings, there are at most `attempts` for each `LEAST_PROGRESS` bytes of the body."""
    patience, held, asked = Patience(Policy(attempts=attempts)), 0, 0
    for step in steps:
        held += step
        patience = patience.progressed(held)
        patience, delay = patience.after(RESET, asked=None, chance=0.0, progressed=False)
        asked += 1
        if delay is None:
            break
    assert asked <= attempts * (held // LEAST_PROGRESS + 1)
