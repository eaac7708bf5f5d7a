"""Patience: what ends a record, and what costs nothing (invariant 5)."""

from __future__ import annotations

import pytest

from bgfetch.core.model import Fault
from bgfetch.core.patience import LONGEST_OFFLINE_WAIT, Patience
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
        (Patience(POLICY).progressed(1), CONNECT, None, [0.25, 0.5, 1.0, 2.0]),
        (Patience(POLICY).progressed(1), PORTAL, None, [0.25, 0.5, 1.0, 2.0]),
    ],
)
def test_waits_and_their_end(
    patience: Patience, fault: Fault, asked: float | None, expected: list[float]
) -> None:
    """Failures end a record soon where nobody answered, later where somebody did, last where the network went."""
    assert waits(patience, fault, asked=asked) == expected


def test_nobody_waits_long_for_a_network_that_is_back() -> None:
    """However long it was away, the next look comes within seconds."""
    away = Patience(Policy(), served=True, offline_waits=1000)
    assert away.after(CONNECT, asked=None, chance=0.9, progressed=False)[1] == LONGEST_OFFLINE_WAIT


def test_a_connection_that_brought_something_is_replaced_at_once() -> None:
    """The first failure after progress costs no time and no budget; a second one does."""
    fresh = Patience(POLICY).progressed(10)
    later, delay = fresh.after(RESET, asked=None, chance=0.0, progressed=True)
    assert (later, delay) == (fresh, 0.0)
    worn, _ = fresh.after(RESET, asked=None, chance=0.0, progressed=False)
    assert worn.after(RESET, asked=None, chance=0.0, progressed=True)[1] == 0.5


def test_only_more_than_was_ever_held_is_progress() -> None:
    """A server that always breaks at the same byte and cannot resume is not asked for ever."""
    worn, _ = Patience(POLICY).progressed(10).after(RESET, asked=None, chance=0.0, progressed=False)
    assert worn.progressed(10) is worn
    assert worn.progressed(11).failures == 0


def test_bytes_given_up_on_purpose_may_come_again_as_progress() -> None:
    """A repair counts from what it left, another version from nothing."""
    assert Patience(POLICY).progressed(10).measured_from(4).progressed(5).most == 5
    assert Patience(POLICY).progressed(10).changed().progressed(1).most == 1


def test_progress_renews_everything_but_the_count_of_versions() -> None:
    """A body that changes again and again is unstable however many bytes came in between."""
    worn = Patience(POLICY).heard().changed().resolved().changed()
    assert not worn.unstable
    renewed = worn.progressed(5)
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
