"""The table that moves, on a terminal that is one."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from tests.daemons import DaemonProcess

from bgfetch.testing import OriginServer

pty = pytest.importorskip("pty", reason="a pseudo-terminal is POSIX")
termios = pytest.importorskip("termios")

# A terminal sends Ctrl-C to whom it controls.
_CONTROLLED = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "bgfetch", *sys.argv[1:]])
"""
_HIDES, _SHOWS = b"\x1b[?25l", b"\x1b[?25h"
_COLOUR = re.compile(rb"\x1b\[([0-9;]*)m")


class Terminal:
    """A command of the CLI on a pseudo-terminal of 24 lines and 100 columns.

    Args:
        home: Where it works.
        arguments: Of the command.
    """

    def __init__(self, home: DaemonProcess, *arguments: str) -> None:
        self._ours, self._theirs = pty.openpty()
        termios.tcsetwinsize(self._theirs, (24, 100))
        self.modes = termios.tcgetattr(self._theirs)
        self.seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CONTROLLED, *arguments],
            env={**home.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
            stdin=self._theirs, stdout=self._theirs, stderr=self._theirs, start_new_session=True,
        )  # fmt: skip

    def read_until(self, said: bytes, *, within: float = 10.0) -> None:
        """Take what is drawn until this is."""
        end = time.monotonic() + within
        while said not in self.seen:
            assert self._read(end), self.seen

    def read_more(self) -> None:
        """Take what is drawn next."""
        assert self._read(time.monotonic() + 10.0), self.seen

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._ours, keys)

    def end(self) -> int:
        """Take the rest; the exit code. A terminal whose only user is this test tells no end."""
        end = time.monotonic() + 10.0
        lives = os.pidfd_open(self.process.pid)
        while self._read(end, lives):
            pass
        os.close(lives)
        return self.process.wait(0)

    def _read(self, until: float, *others: int) -> bool:
        """Take what is drawn next; False when nothing is in time, or something else comes first."""
        ready, _, _ = select.select([self._ours, *others], [], [], max(0.0, until - time.monotonic()))
        if self._ours in ready:
            self.seen += os.read(self._ours, 65536)
        return self._ours in ready

    @property
    def is_whole(self) -> bool:
        """Whether it is as a shell wants it: modes as before, the cursor there and at the start of a line, no colour left."""
        colours = _COLOUR.findall(self.seen)
        return (
            termios.tcgetattr(self._theirs) == self.modes
            and self.seen.rfind(_SHOWS) >= self.seen.rfind(_HIDES)
            and (not colours or colours[-1] in (b"", b"0"))
            and re.sub(rb"\x1b\[[?0-9;]*[A-Za-z]", b"", self.seen).endswith(b"\n")
        )

    def close(self) -> None:
        """Give it back."""
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture
def terminal(daemon: DaemonProcess, server: OriginServer) -> Iterator[Terminal]:
    """`bgfetch watch` of one download that is under way."""
    server.rate = 100_000.0
    daemon.fetch(server.url, title="Gemma")
    made = Terminal(daemon, "watch")
    yield made
    made.close()


def test_ctrl_c_leaves_the_terminal_whole(
    terminal: Terminal, daemon: DaemonProcess, server: OriginServer
) -> None:
    """The table is drawn and drawn again in its place; Ctrl-C ends the looking only."""
    terminal.read_until(b"Gemma")
    while len(set(re.findall(rb"([0-9.]+ .?i?B)/3.0 MiB", terminal.seen))) < 3:
        terminal.read_more()
    terminal.type(b"\x03")
    assert terminal.end() == 130
    assert terminal.is_whole, terminal.seen
    assert b"Traceback" not in terminal.seen
    (row,) = daemon.call("GET", "/v1/registrations")["registrations"]
    assert row["state"] == "running"
    server.rate = 0.0
    daemon.settled(row["uid"])


def test_it_ends_with_the_last(terminal: Terminal, server: OriginServer) -> None:
    """When all are over the table stays as it was last, and the exit code says that all is well."""
    terminal.read_until(b"Gemma")
    server.rate = 0.0
    assert terminal.end() == 0
    assert b"3.0 MiB/3.0 MiB" in terminal.seen
    assert terminal.is_whole, terminal.seen


def test_a_table_is_one_line_for_each(daemon: DaemonProcess, server: OriginServer) -> None:
    """Drawn again in place, not below: between two of its pictures the cursor goes up."""
    server.rate = 300_000.0
    names = ("one", "two", "three")
    for name in names:
        daemon.fetch(f"{server.url}?{name}", id=name)
    made = Terminal(daemon, "watch")
    try:
        for name in names:
            made.read_until(name.encode())
        made.read_until(b"\x1b[1A")
        made.type(b"\x03")
        assert made.end() == 130
        assert made.is_whole, made.seen
    finally:
        made.close()
    daemon.call("PATCH", "/v1/registrations", {"wish": "abort"})
