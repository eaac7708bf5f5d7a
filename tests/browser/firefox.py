"""Firefox over WebDriver BiDi, which it speaks by itself: no geckodriver is needed."""

from __future__ import annotations

import base64
import contextlib
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.browser.browsers import PATIENCE, BrowserError, PageError, Process, expression, outcome
from tests.browser.chromium import MIDDLE
from tests.browser.wire import Message, Wire

__all__ = ["Firefox", "FirefoxTab", "program"]

_PREFERENCES = {
    "app.update.enabled": False,
    "browser.sessionstore.resume_from_crash": False,  # a page that comes back by itself would download twice
    "browser.shell.checkDefaultBrowser": False,
    "browser.tabs.warnOnClose": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 0,
    "toolkit.startup.max_resumed_crashes": -1,  # tests kill it many times
}
_KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", " ": " "}
_LISTENS = re.compile(r"WebDriver BiDi listening on (ws://\S+)")


def program() -> str | None:
    """Where it is, or None."""
    return next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)


class Firefox:
    """A `Browser`.

    Args:
        profile: Folder of its own; made if needed, kept for the next launch.
        preferences: Added to those of the tests.
    """

    name = "firefox"
    native = False
    keeps = True

    def __init__(self, profile: Path, *, preferences: Mapping[str, bool | int | str] | None = None) -> None:
        self.profile = profile
        self._preferences = {**_PREFERENCES, **(preferences or {})}
        self.launch()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.alive

    def launch(self) -> None:
        """Start with the profile, and connect."""
        self.profile.mkdir(parents=True, exist_ok=True)
        lines = (f'user_pref("{name}", {_literal(value)});\n' for name, value in self._preferences.items())
        (self.profile / "user.js").write_text("".join(lines))
        log = self.profile / "browser.log"
        log.unlink(missing_ok=True)
        command = [str(program()), "-headless", "-no-remote", "-profile", str(self.profile)]
        self.process = Process(
            [*command, "--remote-debugging-port", "0"], environ={"MOZ_CRASHREPORTER_DISABLE": "1"}, log=log
        )
        self.wire = Wire(_address(self.process) + "/session")
        self.wire.call("session.new", {"capabilities": {"alwaysMatch": {"acceptInsecureCerts": True}}})

    def open(self, url: str = "about:blank") -> FirefoxTab:
        """A new tab."""
        context = self.wire.call("browsingContext.create", {"type": "tab", "background": False})["context"]
        tab = FirefoxTab(self.wire, context)
        if url != "about:blank":
            tab.goto(url)
        return tab

    def close(self) -> None:
        """Quit."""
        if self.alive:
            with contextlib.suppress(BrowserError):
                self.wire.call("browser.close", within=10)
            self.process.wait(20)
        self.kill()

    def kill(self) -> None:
        """End it and its children at once."""
        self.process.kill()
        self.wire.close()


class FirefoxTab:
    """A `Tab`."""

    def __init__(self, wire: Wire, context: str) -> None:
        self._wire = wire
        self._context = context

    def call(self, method: str, params: Message | None = None, *, within: float = PATIENCE) -> Any:
        """The result of a command of WebDriver BiDi that is about this page."""
        return self._wire.call(method, {"context": self._context, **(params or {})}, within=within)

    def goto(self, url: str) -> None:
        """Go there."""
        self.call("browsingContext.navigate", {"url": url, "wait": "complete"})

    def reload(self) -> None:
        """Load the page again."""
        self.call("browsingContext.reload", {"wait": "complete"})

    def run(self, body: str, *, within: float = PATIENCE, **values: Any) -> Any:
        """What the body of an async function returns."""
        asked = {
            "expression": expression(body, values),
            "target": {"context": self._context},
            "awaitPromise": True,
        }
        said = self._wire.call("script.evaluate", asked, within=within)
        if said["type"] != "success":
            about = said["exceptionDetails"]["text"]
            raise PageError(str(about).partition(":")[0], str(about))
        return outcome(said["result"].get("value"))

    def evaluate(self, expression: str, *, within: float = PATIENCE, **values: Any) -> Any:
        """What an expression gives."""
        return self.run(f"return ({expression})", within=within, **values)

    def click(self, selector: str) -> None:
        """Click the middle of an element."""
        self.call("browsingContext.activate")
        x, y = self.run(MIDDLE, selector=selector)
        steps = [
            {"type": "pointerMove", "x": x, "y": y},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self._perform({"type": "pointer", "id": "mouse", "actions": steps})

    def press(self, key: str) -> None:
        """Press a key."""
        value = _KEYS.get(key, key)
        self.call("browsingContext.activate")
        steps = [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
        self._perform({"type": "key", "id": "keys", "actions": steps})

    def screenshot(self) -> bytes:
        """As PNG."""
        return base64.b64decode(self.call("browsingContext.captureScreenshot")["data"])

    def close(self) -> None:
        """Close it."""
        self.call("browsingContext.close")

    def _perform(self, actions: Message) -> None:
        self.call("input.performActions", {"actions": [actions]})


def _literal(value: bool | int | str) -> str:  # noqa: FBT001 - a value of a preference
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


def _address(process: Process) -> str:
    end = time.monotonic() + 90
    while time.monotonic() < end and process.alive:
        if found := _LISTENS.search(process.log.read_text("utf-8", errors="replace")):
            return found[1]
        time.sleep(0.05)
    raise BrowserError(f"Firefox did not start:\n{process.tail()}")
