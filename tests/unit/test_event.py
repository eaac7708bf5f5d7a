"""Events as a worker gets them: when they are over, and what may be done until then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from bgfetch.caches import CacheStorage
from bgfetch.core.model import Icon
from bgfetch.errors import InvalidRequest, InvalidState, NotFound
from bgfetch.event import (
    BackgroundFetchEvent,
    BackgroundFetchUpdateUIEvent,
    ExtendableEvent,
    Surroundings,
    dispatch,
)
from bgfetch.registration import BackgroundFetchRegistration
from bgfetch.worker.clients import MAILBOX, Clients
from bgfetch.worker.handlers import Listeners

Shown = list[tuple[int, str | None, Sequence[Icon] | None]]


class Registration:
    """All that an event asks of one."""

    uid = 7


class Switchboard:
    """Apps that are connected, and what they were told; those that have gone do not say so."""

    def __init__(self, *clients: str, gone: bool = False) -> None:
        self.connected = list(clients)
        self.told: list[tuple[str, object]] = []
        self.gone = gone

    def clients(self, scope: str) -> list[str]:
        """Who is connected."""
        return self.connected

    def post(self, scope: str, client: str, data: object) -> None:
        """Tell one of them."""
        if self.gone:
            raise NotFound("gone")
        self.told.append((client, data))


def around(shown: Shown | None = None, clients: Clients | None = None) -> Surroundings:
    """What an event that bgfetch made has around it."""
    told = shown if shown is not None else []
    return Surroundings(
        "app",
        cast("CacheStorage", None),
        clients or Clients("app", Switchboard()),
        lambda uid, title, icons: told.append((uid, title, icons)),
    )


def success(shown: Shown | None = None, *, trusted: bool = True) -> BackgroundFetchUpdateUIEvent:
    """A success event."""
    return BackgroundFetchUpdateUIEvent(
        "backgroundfetchsuccess",
        registration=cast("BackgroundFetchRegistration", Registration()),
        around=around(shown) if trusted else None,
    )


def handled(event: ExtendableEvent, *listeners: Any) -> None:
    """Have it handled."""
    asyncio.run(dispatch(event, listeners))


def test_update_ui_once() -> None:
    """The first call changes what is given, the second is InvalidStateError."""
    shown: Shown = []

    async def handler(event: BackgroundFetchUpdateUIEvent) -> None:
        await event.update_ui(title="new")
        with pytest.raises(InvalidState, match="before"):
            await event.update_ui(icons=[])

    handled(success(shown), handler)
    assert shown == [(7, "new", None)]


def test_update_ui_with_nothing_uses_up_the_call() -> None:
    """`updateUI({})` resolves, changes nothing, and was the one call."""
    shown: Shown = []

    async def handler(event: BackgroundFetchUpdateUIEvent) -> None:
        await event.update_ui()
        with pytest.raises(InvalidState):
            await event.update_ui(title="new")

    handled(success(shown), handler)
    assert shown == []


def test_an_event_that_a_program_made_changes_nothing() -> None:
    """Not trusted: neither updateUI nor waitUntil nor anything around it."""

    async def story() -> None:
        event = success(trusted=False)
        assert not event.is_trusted
        with pytest.raises(InvalidState, match="not made by bgfetch"):
            await event.update_ui(title="new")
        with pytest.raises(InvalidState):
            event.wait_until(asyncio.sleep(0))
        with pytest.raises(InvalidState):
            _ = event.clients

    asyncio.run(story())


def test_what_nothing_covers_comes_too_late() -> None:
    """A task that the handler left behind finds the event over."""

    async def story() -> None:
        left: list[asyncio.Task[None]] = []
        go = asyncio.Event()

        async def late(event: BackgroundFetchUpdateUIEvent) -> None:
            await go.wait()
            with pytest.raises(InvalidState, match="over"):
                await event.update_ui(title="late")
            with pytest.raises(InvalidState, match="over"):
                event.wait_until(asyncio.sleep(0))

        event = success()
        await dispatch(event, [lambda event: left.append(asyncio.ensure_future(late(event)))])
        go.set()
        await left[0]

    asyncio.run(story())


def test_wait_until_keeps_it_active() -> None:
    """What a handler that is no coroutine covers may update, and may cover more."""
    shown: Shown = []

    async def last(event: BackgroundFetchUpdateUIEvent) -> None:
        await asyncio.sleep(0)
        await event.update_ui(title="last")

    async def first(event: BackgroundFetchUpdateUIEvent) -> None:
        await asyncio.sleep(0)
        event.wait_until(last(event))

    handled(success(shown), lambda event: event.wait_until(first(event)))
    assert shown == [(7, "last", None)]


def test_one_listener_that_fails_does_not_silence_the_others() -> None:
    """Every listener is called and everything awaited; then all that went wrong is raised."""
    called: list[str] = []

    def bad(_event: ExtendableEvent) -> None:
        called.append("bad")
        raise ValueError("one")

    async def worse(_event: ExtendableEvent) -> None:
        called.append("worse")
        raise OSError("two")

    async def good(_event: ExtendableEvent) -> None:
        await asyncio.sleep(0)
        called.append("good")

    with pytest.raises(BaseExceptionGroup) as caught:
        handled(success(), bad, worse, good)
    assert called == ["bad", "worse", "good"]
    assert {type(error) for error in caught.value.exceptions} == {ValueError, OSError}


def test_aborts_and_clicks_have_nothing_to_update() -> None:
    """`updateUI` is of success and failure only."""
    assert not hasattr(BackgroundFetchEvent, "update_ui")


def test_only_events_that_exist_can_be_listened_to() -> None:
    """A name that is misspelt is found when the module is imported, not when the event is missed."""
    listeners = Listeners()
    assert not listeners

    @listeners.on("install")
    def one(event: ExtendableEvent) -> None: ...

    assert listeners.of("install") == [one]
    assert listeners.of("activate") == []
    with pytest.raises(InvalidRequest, match="no event 'backgroundfetchsucess'"):
        listeners.on("backgroundfetchsucess")


@pytest.mark.parametrize("mailbox", [True, False])
def test_clients(mailbox: bool) -> None:  # noqa: FBT001 - a parameter of the table
    """Who is connected gets messages; where nobody is the mailbox does, if there is one."""
    kept: list[object] = []
    keep = kept.append if mailbox else None

    async def story() -> None:
        here = Switchboard("one", "two")
        for client in await Clients("app", here, keep).match_all():
            await client.post_message({"to": client.id})
        assert here.told == [("one", {"to": "one"}), ("two", {"to": "two"})]
        gone = Switchboard("one", gone=True)
        for client in await Clients("app", gone, keep).match_all():
            await client.post_message("too late")
        nobody = await Clients("app", Switchboard(), keep).match_all()
        assert [client.id for client in nobody] == ([MAILBOX] if mailbox else [])
        for client in nobody:
            await client.post_message("later")
        assert await Clients("app", here).get("three") is None

    asyncio.run(story())
    assert kept == (["too late", "later"] if mailbox else [])
