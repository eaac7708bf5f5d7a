"""A real browser, as the tests see it: tabs that are opened, told things and clicked, and an end, gentle or not.

Imported by tests as `tests.browser.browsers`. The fixtures in conftest.py give `browser`, `tab` and `site`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

__all__ = ["PATIENCE", "Browser", "BrowserError", "PageError", "Process", "Tab", "expression", "outcome"]

PATIENCE = 120.0
"""Seconds to wait for what is to come; longer than the kit waits before it gives up a native fetch (60 s) or a connection (30 s)."""


class BrowserError(Exception):
    """The browser or its driver did not do what it was told; the test's own fault or the machine's."""


class PageError(Exception):
    """A script in the page threw.

    Args:
        name: The error's name, such as "TypeError" or "InvalidStateError".
        message: Its message, in the browser's own words.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


class Tab(Protocol):
    """A page in a tab of its own."""

    def goto(self, url: str) -> None:
        """Go there, and wait until the page has loaded."""

    def reload(self) -> None:
        """Load the page again, and wait until it has loaded."""

    def run(self, body: str, *, within: float = PATIENCE, **values: Any) -> Any:
        """What the body of an async function returns, as JSON; `values` are its constants.

        Raises:
            PageError: It threw.
        """

    def evaluate(self, expression: str, *, within: float = PATIENCE, **values: Any) -> Any:
        """What an expression gives, which may use `await`, as JSON; otherwise as `run`."""

    def click(self, selector: str) -> None:
        """Press and release the mouse over the first element of a CSS selector: real input, which gives user activation."""

    def press(self, key: str) -> None:
        """Press and release a key by its name in UI Events: "Tab", "Enter", " ", "a"."""

    def screenshot(self) -> bytes:
        """What is to be seen, as PNG."""

    def close(self) -> None:
        """Close the tab, as a person does."""


class Browser(Protocol):
    """One browser with a profile, running from the moment it is made.

    `name` is "chromium", "firefox" or "webkit"; `native` whether it has Background Fetch of its own;
    `keeps` whether what pages store is there again after the next `launch`.
    """

    name: str
    native: bool
    keeps: bool

    @property
    def process(self) -> Process:
        """The one that runs now."""

    @property
    def alive(self) -> bool:
        """Whether it still runs."""

    def open(self, url: str = "about:blank") -> Tab:
        """A new tab, in front of the others, once its page has loaded."""

    def launch(self) -> None:
        """Start again with the same profile, after `close` or `kill`."""

    def close(self) -> None:
        """Quit, as a person does; it may tidy up first. Nothing happens when it does not run."""

    def kill(self) -> None:
        """SIGKILL to it and all its children at once."""


def expression(body: str, values: Mapping[str, Any]) -> str:
    """A JavaScript expression: a promise of the text of `{value}` or `{error}`, which `outcome` reads."""
    given = json.dumps(dict(values))
    return f"""(async given => {{
        try {{ return JSON.stringify({{value: (await (async ({{{", ".join(values)}}}) => {{{body}
}})(given)) ?? null}}) }}
        catch (error) {{ return JSON.stringify({{error: [String(error?.name), String(error?.message ?? error)]}}) }}
    }})({given})"""


def outcome(text: object) -> Any:
    """The value of an `expression`.

    Raises:
        PageError: It threw.
        BrowserError: It was cut off, as by the page's going away.
    """
    if not isinstance(text, str):
        raise BrowserError(f"the page went away while it was asked: {text!r}")
    found = json.loads(text)
    if "error" in found:
        raise PageError(*found["error"])
    return found["value"]


class Process:
    """A program with all its children, in a process group of its own that dies with the tests.

    Args:
        command: Program and arguments.
        environ: Added to the environment.
        log: Where its output goes, so that it never waits for a reader.
    """

    def __init__(self, command: Sequence[str], *, environ: Mapping[str, str], log: Path) -> None:
        guard = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        self.log = log
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                [*guard, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **environ},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the program, and of the group."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether the program itself still runs."""
        return self._popen.poll() is None

    def wait(self, within: float) -> bool:
        """Whether it has ended within so many seconds."""
        try:
            self._popen.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    def signal(self, number: int) -> None:
        """Send a signal to the program alone."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to the whole group, and wait until the program is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def tail(self, lines: int = 15) -> str:
        """The last lines it has written."""
        return "\n".join(self.log.read_text("utf-8", errors="replace").splitlines()[-lines:])
