"""Desktop notifications, on a session bus of the test's own with a notification service of its own."""

from __future__ import annotations

import asyncio
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bgfetch.config import load
from bgfetch.core.model import FailureReason, Icon, Request, Result
from bgfetch.registrations.port import EventType, RegistrationRow
from bgfetch.wiring import Wiring
from bgfetch.worker.notices import Notices, has_desktop

pytest.importorskip("dbus_fast", reason="the extra `desktop` is not installed")

from dbus_fast import BusType
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, dbus_method, dbus_signal

needs_bus = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="there is no dbus-daemon")

# The annotations of dbus-fast are signatures of D-Bus.
# mypy: disable-error-code="no-untyped-def,valid-type,name-defined,misc,untyped-decorator"
# ruff: noqa: ANN001, ANN201, F722, F821, N802, UP037


class Service(ServiceInterface):
    """org.freedesktop.Notifications as a desktop has it."""

    def __init__(self, shown: queue.SimpleQueue[dict[str, Any]]) -> None:
        super().__init__("org.freedesktop.Notifications")
        self._shown = shown

    @dbus_method()
    def GetCapabilities(self) -> "as":
        """What it can do: `actions` makes a notification something to click on."""
        return ["body", "body-markup", "actions"]

    @dbus_method()
    def GetServerInformation(self) -> "ssss":
        """Who it is."""
        return ["stub", "test", "1", "1.2"]

    @dbus_method()
    def Notify(
        self,
        app_name: "s",
        replaces: "u",
        icon: "s",
        summary: "s",
        body: "s",
        actions: "as",
        hints: "a{sv}",
        timeout: "i",
    ) -> "u":
        """Show one."""
        self._shown.put({"app": app_name, "icon": icon, "title": summary, "body": body, "actions": actions})
        return 7

    @dbus_method()
    def CloseNotification(self, number: "u"):
        """Show it no longer."""

    @dbus_signal()
    def ActionInvoked(self, number, action) -> "us":
        """A person clicked."""
        return [number, action]


@dataclass
class Desktop:
    """The bus, and what was shown on it."""

    address: str
    shown: queue.SimpleQueue[dict[str, Any]] = field(default_factory=queue.SimpleQueue)
    click: Callable[[], None] = lambda: None


@pytest.fixture
def desktop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    """A private session bus with the service on it."""
    bus = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address=1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert bus.stdout is not None
    found = Desktop(bus.stdout.readline().strip())
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", found.address)
    loop = asyncio.new_event_loop()
    ready, leave = threading.Event(), asyncio.Event()

    async def serve() -> None:
        connected = await MessageBus(found.address, bus_type=BusType.SESSION).connect()
        service = Service(found.shown)

        def click() -> None:
            loop.call_soon_threadsafe(service.ActionInvoked, 7, "default")

        connected.export("/org/freedesktop/Notifications", service)
        await connected.request_name("org.freedesktop.Notifications")
        found.click = click
        ready.set()
        await leave.wait()
        connected.disconnect()
        await asyncio.sleep(0)

    def run() -> None:
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    yield found
    loop.call_soon_threadsafe(leave.set)
    thread.join(10)
    bus.terminate()
    bus.wait(10)
    bus.stdout.close()


@pytest.fixture
def wiring(tmp_path: Path) -> Iterator[Wiring]:
    """A home in which nothing is fetched."""
    made = Wiring(load({"home": str(tmp_path / "home"), "in_process": True}, {}))
    yield made
    made.close()


def settled(wiring: Wiring, *, title: str, icon: str = "", reason: FailureReason) -> RegistrationRow:
    """A registration that has settled."""
    store = wiring.registrations
    icons = [Icon("https://host/elsewhere.png"), Icon(icon)] if icon else []
    uid = store.add(
        "app", "id", [(Request("https://host/x"), "ab" * 32)], title=title, icons=icons, now=1.0
    ).uid
    result = Result.FAILURE if reason else Result.SUCCESS
    store.settle(uid, store.claim(uid, "test"), result, reason, now=1.0)
    row = store.get(uid)
    assert row is not None
    return row


@needs_bus
def test_a_notification_has_title_icon_and_result_and_a_click_runs_the_click_event(
    desktop: Desktop, wiring: Wiring, tmp_path: Path
) -> None:
    """What the app called it, and how it ended; a click is an event that is owed to the worker."""
    icon = tmp_path / "icon.png"
    icon.write_bytes(b"")
    clicked: queue.SimpleQueue[int] = queue.SimpleQueue()

    def click(uid: int) -> None:
        wiring.registrations.click(uid, now=2.0)
        clicked.put(uid)

    notices = Notices(click)
    row = settled(wiring, title="Gemma <b>2B</b>\x1b[31m", icon=str(icon), reason=FailureReason.NONE)
    notices.told(row, EventType.SUCCESS)
    shown = desktop.shown.get(timeout=10)
    assert shown["title"].startswith("Gemma <b>2B</b>")
    assert "\x1b" not in shown["title"]
    assert (shown["app"], shown["body"]) == ("bgfetch", "Download complete")
    assert shown["icon"] == icon.as_uri()
    assert shown["actions"] == ["default", ""]
    assert _clicked(desktop, clicked) == row.uid
    types = [event.type for event in wiring.registrations.pending("app", now=3.0)]
    assert types == [EventType.SUCCESS, EventType.CLICK]
    notices.close()


def _clicked(desktop: Desktop, clicked: queue.SimpleQueue[int]) -> int:
    """What came of clicking, as soon as the notifier knows the number of what it has shown."""
    for _ in range(100):
        desktop.click()
        try:
            return clicked.get(timeout=0.1)
        except queue.Empty:
            continue
    raise AssertionError("no click arrived")


@needs_bus
def test_a_failure_is_shown_and_an_abort_is_not(desktop: Desktop, wiring: Wiring) -> None:
    """Who aborts knows it; a failure is said in words, without anything from a server."""
    notices = Notices(lambda _uid: None)
    row = settled(wiring, title="", reason=FailureReason.BAD_STATUS)
    notices.told(row, EventType.ABORT)
    notices.told(row, EventType.CLICK)
    notices.told(row, EventType.FAIL)
    shown = desktop.shown.get(timeout=10)
    assert (shown["title"], shown["body"]) == (
        "id",
        "Download failed: the server does not have it, or refuses",
    )
    assert desktop.shown.empty()
    notices.close()


def test_without_a_desktop_there_are_none() -> None:
    """A server has nobody to show anything to."""
    assert not has_desktop({})
    assert has_desktop({"DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/bus"})


def test_a_desktop_that_does_not_answer_harms_nothing(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bus that is gone is a line in the log."""
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus")
    notices = Notices(lambda _uid: None)
    notices.told(settled(wiring, title="x", reason=FailureReason.NONE), EventType.SUCCESS)
    for _ in range(500):
        if caplog.records:
            break
        threading.Event().wait(0.01)
    assert caplog.records
    notices.close()
