"""WebKitGTK's MiniBrowser on a display of its own, told what to do through its inspector.

Not through WebKitWebDriver: automation forgets all storage at the end, and what outlives a browser is what is tested here.
The inspector gives user activation, but no mouse and no keys.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import shutil
import signal
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.browser.browsers import PATIENCE, BrowserError, PageError, Process, expression, outcome
from tests.browser.wire import Message, Wire

__all__ = ["WebKit", "WebKitTab", "program"]

_PLACES = ("/usr/lib/*/webkit2gtk-4.1/MiniBrowser", "/usr/libexec/webkit2gtk-4.1/MiniBrowser")
_TARGET = re.compile(r"/socket/\d+/\d+/WebPage")
_STEP = 0.05


def program() -> str | None:
    """Where MiniBrowser is, or None; without a virtual display it is of no use."""
    found = next((each for place in _PLACES for each in Path("/").glob(place[1:])), None)
    return str(found) if found and shutil.which("Xvfb") else None


class WebKit:
    """A `Browser`.

    Args:
        profile: Folder of its own; made if needed, kept for the next launch.
    """

    name = "webkit"
    native = False
    keeps = True

    def __init__(self, profile: Path) -> None:
        self.profile = profile
        self.launch()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.alive

    def launch(self) -> None:
        """Start with the profile on a new display, and connect."""
        homes = {"HOME": ".", "XDG_DATA_HOME": "data", "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config"}
        environ = {name: str(self.profile / folder) for name, folder in homes.items()}
        runtime = self.profile / "run"
        runtime.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._display, number = _display(self.profile)
        self._inspector = f"127.0.0.1:{_free_port()}"
        environ |= {
            "DISPLAY": f":{number}",
            "XDG_RUNTIME_DIR": str(runtime),
            "WEBKIT_INSPECTOR_HTTP_SERVER": self._inspector,
            "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1",  # CI runs as root, and in containers
            "DBUS_SESSION_BUS_ADDRESS": "disabled:",
            "NO_AT_BRIDGE": "1",
        }
        self.process = Process(
            [str(program()), "--ignore-tls-errors", "about:blank"],
            environ=environ,
            log=self.profile / "browser.log",
        )
        self._wires: dict[str, Wire] = {}
        self._root = WebKitTab(self._next_wire())

    def open(self, url: str = "about:blank") -> WebKitTab:
        """A new window."""
        self._root.gesture("open('about:blank')")
        tab = WebKitTab(self._next_wire())
        if url != "about:blank":
            tab.goto(url)
        return tab

    def close(self) -> None:
        """Quit."""
        if self.alive:
            self.process.signal(signal.SIGTERM)
            self.process.wait(10)
        self.kill()

    def kill(self) -> None:
        """End it and its children at once, and its display."""
        self.process.kill()
        self._display.kill()
        for wire in self._wires.values():
            wire.close()

    def _next_wire(self) -> Wire:
        """The connection to a page that has none yet, once the inspector lists it."""
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.alive:
            with contextlib.suppress(OSError), _list(self._inspector) as answer:
                listed = set(_TARGET.findall(answer.read().decode("utf-8", errors="replace")))
                if new := sorted(listed - set(self._wires)):
                    self._wires[new[-1]] = Wire(f"ws://{self._inspector}{new[-1]}")
                    return self._wires[new[-1]]
            time.sleep(_STEP)
        raise BrowserError(f"WebKit shows no new page:\n{self.process.tail()}")


class WebKitTab:
    """A `Tab`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._numbers = itertools.count(1)
        created = wire.expect(lambda event: event["method"] == "Target.targetCreated", what="the page")
        self._target: str = created["params"]["targetInfo"]["targetId"]

    def call(self, method: str, params: Message | None = None, *, within: float = PATIENCE) -> Any:
        """The result of a command of WebKit's inspector, given to this page."""
        self._follow()
        target = self._target
        number = next(self._numbers)
        told = json.dumps({"id": number, "method": method, "params": params or {}})
        self._wire.send("Target.sendMessageToTarget", {"targetId": target, "message": told})
        answer = self._answer(number, target, within, method)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error'].get('message')}")
        return answer.get("result", {})

    def goto(self, url: str) -> None:
        """Go there."""
        self._leave("Page.navigate", {"url": url})

    def reload(self) -> None:
        """Load the page again."""
        self._leave("Page.reload", {})

    def run(self, body: str, *, within: float = PATIENCE, **values: Any) -> Any:
        """What the body of an async function returns."""
        said = self._evaluated({"expression": expression(body, values)})
        awaited = {"promiseObjectId": said["objectId"], "returnByValue": True}
        return outcome(self.call("Runtime.awaitPromise", awaited, within=within)["result"].get("value"))

    def evaluate(self, expression: str, *, within: float = PATIENCE, **values: Any) -> Any:
        """What an expression gives."""
        return self.run(f"return ({expression})", within=within, **values)

    def click(self, selector: str) -> None:
        """Click an element by script, with the activation that a person's click gives."""
        self.gesture(f"document.querySelector({json.dumps(selector)}).click()")

    def gesture(self, expression: str) -> None:
        """Evaluate an expression as if a person had just clicked."""
        self._evaluated({"expression": expression, "emulateUserGesture": True})

    def press(self, key: str) -> None:
        """There are no keys here.

        Raises:
            BrowserError: Always.
        """
        raise BrowserError(f"WebKit cannot press {key!r} here: ask Chromium and Firefox")

    def screenshot(self) -> bytes:
        """As PNG."""
        width, height = self.evaluate("[innerWidth, innerHeight]")
        area = {"x": 0, "y": 0, "width": width, "height": height, "coordinateSystem": "Viewport"}
        url: str = self.call("Page.snapshotRect", area)["dataURL"]
        return base64.b64decode(url.partition(",")[2])

    def close(self) -> None:
        """Close it."""
        self.gesture("close()")
        self._wire.close()

    def _evaluated(self, asked: Message) -> Message:
        said = self.call("Runtime.evaluate", asked)
        if said.get("wasThrown"):
            about = str(said["result"].get("description"))
            raise PageError(about.partition(":")[0], about)
        result: Message = said["result"]
        return result

    def _leave(self, method: str, params: Message) -> None:
        """Do what ends this document, and wait until the next one has loaded; it may have another process."""
        self.run("globalThis.isLeft = true")
        self.call(method, params)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(BrowserError, PageError):
                asked = {"expression": "!globalThis.isLeft && document.readyState", "returnByValue": True}
                if self.call("Runtime.evaluate", asked, within=5)["result"].get("value") == "complete":
                    return
            time.sleep(_STEP)
        raise BrowserError(f"{method} {params}: not loaded within 60 s")

    def _answer(self, number: int, target: str, within: float, method: str) -> Message:
        """What the page says to a command, unless its process goes away first."""
        found: Message = {}

        def ends(event: Message) -> bool:
            params = event.get("params", {})
            if event["method"] == "Target.dispatchMessageFromTarget":
                said = json.loads(params["message"])
                if said.get("id") == number:
                    found.update(said)
                    return True
            if event["method"] == "Target.targetDestroyed":
                return bool(params["targetId"] == target)
            return bool(event["method"] == "Target.didCommitProvisionalTarget")

        self._wire.forget()
        self._wire.expect(ends, within=within, what=method)
        self._follow()
        if not found:
            raise BrowserError(f"{method}: the page's process was replaced")
        return found

    def _follow(self) -> None:
        """Be the target that has taken the place of ours, if one has."""
        for event in self._wire.heard():
            if event["method"] == "Target.didCommitProvisionalTarget":
                self._target = event["params"]["newTargetId"]


def _display(profile: Path) -> tuple[Process, int]:
    """An X server on a number of its own choice."""
    told = profile / "display"
    told.unlink(missing_ok=True)
    told.touch()
    command = f'exec Xvfb -displayfd 3 -screen 0 1280x900x24 -nolisten tcp 3>"{told}"'
    server = Process(["sh", "-c", command], environ={}, log=profile / "display.log")
    end = time.monotonic() + 20
    while time.monotonic() < end and server.alive:
        if (number := told.read_text()).endswith("\n"):
            return server, int(number)
        time.sleep(0.02)
    raise BrowserError(f"Xvfb did not start:\n{server.tail()}")


def _list(inspector: str) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(f"http://{inspector}/", timeout=5)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
