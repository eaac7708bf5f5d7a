"""Starts a handler in a process of its own, reads what it says, and ends it with all that it has started.

A handler has a time limit and a limit to what it may say; a group of processes is ended as one, also after it ended well, for
a handler's work is over when its event is.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from bgfetch.environment import harmless
from bgfetch.worker.workers import Handler, Kind

__all__ = ["Ended", "Launcher"]

MOST_OUTPUT: Final = 1 << 20
"""Bytes of stdout and stderr that are kept of one event."""

# The order brings the paths, so that the interpreter finds what the app found when it registered, bgfetch too.
_BOOT: Final = """\
import json, sys
order = json.loads(sys.stdin.buffer.readline() or sys.exit(1))
sys.path[:] = order["path"]
from importlib import import_module
sys.exit(import_module(order["main"]).main(order))
"""
_MAIN: Final = {Kind.ENTRY_POINT: "bgfetch.handling", Kind.ARGV: "bgfetch.worker.child"}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a handler ended.

    Args:
        exit_code: Its own; below 0 the signal that ended it; None where we ended it, or it never began.
        detail: What went wrong in words, or "".
        output: What it said, the first mebibyte.
        seconds: How long it took.
        stopped: It was ended because the launcher is, not for anything it did.
    """

    exit_code: int | None
    detail: str
    output: bytes
    seconds: float
    stopped: bool = False

    @property
    def well(self) -> bool:
        """Whether it did its work."""
        return self.exit_code == 0


class Launcher:
    """Runs handlers, any number at once, each call blocking its own thread.

    Args:
        root: BGFETCH_HOME, which handlers find in their environment.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(self, handler: Handler, event: Mapping[str, Any]) -> Ended:
        """Have the handler handle this event, given as what JSON can say."""
        began = time.monotonic()
        try:
            process = self._start(handler)
        except OSError as error:
            what = f"{error.filename or handler.python}: {error.strerror}"
            return Ended(None, f"it could not be started: {what}", b"", 0.0)
        if process is None:
            return Ended(None, "stopped", b"", 0.0, stopped=True)
        output = _Output(process)
        order = {
            "main": _MAIN[handler.kind],
            "path": handler.path if handler.kind is Kind.ENTRY_POINT else sys.path,
            "target": handler.target,
            "event": event,
        }
        timer = threading.Timer(handler.time_limit, self._kill, (process,))
        timer.daemon = True
        timer.start()
        _hand_over(process, order)
        timer.cancel()
        self._bury(process)
        seconds = time.monotonic() - began
        late = process.returncode != 0 and seconds >= handler.time_limit
        code = None if late else process.returncode
        return Ended(
            code, _why(code, handler.time_limit), output.all(), seconds, stopped=self._stopped and code != 0
        )

    def stop(self) -> None:
        """End all that runs, and run nothing any more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill_group(process)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            if process in self._running:
                _kill_group(process)

    def _bury(self, process: subprocess.Popen[bytes]) -> None:
        """End what is left of its group while its number still belongs to it, and only then give the number back."""
        with self._lock:
            _kill_group(process)
            self._running.discard(process)
        process.wait()

    def _start(self, handler: Handler) -> subprocess.Popen[bytes] | None:
        python = handler.python if handler.kind is Kind.ENTRY_POINT else sys.executable
        # -I: neither the directory it runs in nor variables decide what is imported. -S: a command needs no packages.
        flags = ["-I"] if handler.kind is Kind.ENTRY_POINT else ["-I", "-S"]
        directory = Path(handler.directory)
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(
                [python, *flags, "-c", _BOOT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=directory if directory.is_dir() else self._root,
                env={**harmless(os.environ), "BGFETCH_HOME": str(self._root), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
            self._running.add(process)
            return process


class _Output:
    """What a process says, read to the end so that it never waits, kept up to a limit."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        self._kept = bytearray()
        self._lost = 0
        self._thread = threading.Thread(
            target=self._read, args=(process.stdout,), name="worker-output", daemon=True
        )
        self._thread.start()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe, contextlib.suppress(OSError, ValueError):
            while chunk := os.read(pipe.fileno(), 1 << 16):
                room = MOST_OUTPUT - len(self._kept)
                self._kept += chunk[:room]
                self._lost += max(0, len(chunk) - room)

    def all(self) -> bytes:
        """What was kept. Who left the group of the process may still hold the pipe: it is not waited for."""
        self._thread.join(1.0)
        note = f"\n[{self._lost} more bytes were not kept]\n".encode() if self._lost else b""
        return bytes(self._kept) + note


def _hand_over(process: subprocess.Popen[bytes], order: Mapping[str, Any]) -> None:
    """Tell it what to do, and wait until it has ended. Its stdin stays open: see `worker/child.py`."""
    assert process.stdin is not None  # noqa: S101 - a pipe was asked for
    with contextlib.suppress(OSError):  # it ended before it heard what to do; its exit code says why
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:  # pragma: no cover - macOS of old, Windows
        process.wait()
    with contextlib.suppress(OSError):
        process.stdin.close()


def _why(code: int | None, limit: float) -> str:
    """What went wrong, or ""."""
    if code is None:
        return f"it was not done after {limit:g} s, and was ended"
    if code < 0:
        return f"ended by signal {-code}"
    return f"exit code {code}" if code else ""


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:  # pragma: no cover - Windows
        process.kill()
