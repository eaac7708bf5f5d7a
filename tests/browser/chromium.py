"""Chromium over the DevTools protocol: its new headless mode, the only one in which Background Fetch starts.

Playwright is not used for it: its download folder takes the partial files of a background fetch away at each end.
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import time
from pathlib import Path
from typing import Any

from tests.browser.browsers import PATIENCE, BrowserError, PageError, Process, expression, outcome
from tests.browser.wire import Message, Wire

__all__ = ["Chromium", "ChromiumTab", "program"]

_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
    "--ignore-certificate-errors",  # those of the tests vouch for themselves
)


def program() -> str | None:
    """Where it is, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Chromium:
    """A `Browser`.

    Args:
        profile: Folder of its own; made if needed, kept for the next launch.
        native: Whether it has Background Fetch; without it, pages and workers see none of its names.
        flags: Added to the command line.
    """

    name = "chromium"
    keeps = True

    def __init__(self, profile: Path, *, native: bool = True, flags: tuple[str, ...] = ()) -> None:
        self.profile = profile
        self.native = native
        self._flags = (*_FLAGS, *flags, *(() if native else ("--disable-blink-features=BackgroundFetch",)))
        self.launch()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.alive

    def launch(self) -> None:
        """Start with the profile, and connect."""
        self.profile.mkdir(parents=True, exist_ok=True)
        told = self.profile / "DevToolsActivePort"
        told.unlink(missing_ok=True)
        for lock in self.profile.glob("Singleton*"):  # left by one that was killed
            lock.unlink()
        command = [str(program()), *self._flags, f"--user-data-dir={self.profile}", "about:blank"]
        self.process = Process(
            command, environ={"DBUS_SESSION_BUS_ADDRESS": ""}, log=self.profile / "browser.log"
        )
        port, path = _told(self.process, told)
        self.wire = Wire(f"ws://127.0.0.1:{port}{path}")

    def open(self, url: str = "about:blank") -> ChromiumTab:
        """A new tab."""
        target = self.wire.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        tab = ChromiumTab(self.wire, target)
        if url != "about:blank":
            tab.goto(url)
        return tab

    def open_private(self) -> ChromiumTab:
        """A new tab in a private window of its own."""
        context = self.wire.call("Target.createBrowserContext")["browserContextId"]
        asked = {"url": "about:blank", "browserContextId": context}
        return ChromiumTab(self.wire, self.wire.call("Target.createTarget", asked)["targetId"])

    def close(self) -> None:
        """Quit."""
        if self.alive:
            with contextlib.suppress(BrowserError):
                self.wire.call("Browser.close", within=10)
            self.process.wait(15)
        self.kill()

    def kill(self) -> None:
        """End it and its children at once."""
        self.process.kill()
        self.wire.close()

    def permit_fetches(self) -> None:
        """Let every native fetch begin without a click, and keep its partial files where they belong."""
        self.wire.call("Browser.setDownloadBehavior", {"behavior": "default", "eventsEnabled": True})


class ChromiumTab:
    """A `Tab`."""

    def __init__(self, wire: Wire, target: str) -> None:
        self._wire = wire
        self._target = target
        self._session = wire.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        self.call("Page.enable")

    def call(self, method: str, params: Message | None = None, *, within: float = PATIENCE) -> Any:
        """The result of a command of the DevTools protocol, given to this page."""
        return self._wire.call(method, params, within=within, sessionId=self._session)

    def goto(self, url: str) -> None:
        """Go there."""
        self._wire.forget()
        said = self.call("Page.navigate", {"url": url}).get("errorText")
        if said:
            raise BrowserError(f"{url}: {said}")
        self._loaded()

    def reload(self) -> None:
        """Load the page again."""
        self._wire.forget()
        self.call("Page.reload")
        self._loaded()

    def run(self, body: str, *, within: float = PATIENCE, **values: Any) -> Any:
        """What the body of an async function returns."""
        asked = {
            "expression": expression(body, values),
            "awaitPromise": True,
            "returnByValue": True,
            "allowUnsafeEvalBlockedByCSP": True,
        }
        said = self.call("Runtime.evaluate", asked, within=within)
        if thrown := said.get("exceptionDetails"):
            about = thrown.get("exception", {}).get("description") or thrown["text"]
            raise PageError(str(about).partition(":")[0], str(about))
        return outcome(said["result"].get("value"))

    def evaluate(self, expression: str, *, within: float = PATIENCE, **values: Any) -> Any:
        """What an expression gives."""
        return self.run(f"return ({expression})", within=within, **values)

    def click(self, selector: str) -> None:
        """Click the middle of an element."""
        self.call("Page.bringToFront")
        x, y = self.run(MIDDLE, selector=selector)
        mouse = {"x": x, "y": y, "button": "left", "clickCount": 1}
        for type_ in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", {"type": type_, **mouse})

    def press(self, key: str) -> None:
        """Press a key."""
        text = {"Enter": "\r", "Tab": ""}.get(key, key if len(key) == 1 else "")
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, " ": 32}
        named = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key.upper()[0]))}
        self.call("Page.bringToFront")
        self.call("Input.dispatchKeyEvent", {"type": "keyDown", **named, **({"text": text} if text else {})})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", **named})

    def screenshot(self) -> bytes:
        """As PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", {"format": "png"})["data"])

    def close(self) -> None:
        """Close it."""
        self._wire.call("Target.closeTarget", {"targetId": self._target})

    def _loaded(self) -> None:
        self._wire.expect(
            lambda event: (
                event["method"] == "Page.loadEventFired" and event.get("sessionId") == self._session
            ),
            what="the page's load event",
        )


MIDDLE = """
    const element = document.querySelector(selector)
    if (!element) throw new Error(`there is no ${selector}`)
    element.scrollIntoView({block: "center", inline: "center", behavior: "instant"})
    const {x, y, width, height} = element.getBoundingClientRect()
    return [Math.round(x + width / 2), Math.round(y + height / 2)]
"""
"""Where to click on the first element of `selector`."""


def _told(process: Process, file: Path) -> tuple[int, str]:
    """Port and path of the DevTools, which it writes down once it listens."""
    end = time.monotonic() + 60
    while time.monotonic() < end and process.alive:
        with contextlib.suppress(FileNotFoundError, ValueError):
            port, path = file.read_text().split("\n")
            return int(port), path
        time.sleep(0.02)
    raise BrowserError(f"Chromium did not start:\n{process.tail()}")
