"""The first thing in a process that handles one event: it ends with whoever started it, and runs a command.

`launcher.py` starts it as `python -c BOOT` and writes the order, a line of JSON, to its stdin, which it then keeps open:
a pipe that ends early means that the starter was killed, and then nothing of this process goes on, so that the
event, delivered again, does not meet its former self. Nothing of an event is ever in a command line or in
the environment, where other users could read it. Only the standard library is imported: a command starts at once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any, Final

__all__ = ["UNUSABLE", "kill_group", "main", "watch"]

UNUSABLE: Final = 2
"""Exit code of an entry point that is none; why, in words, is all it says."""


def main(order: dict[str, Any]) -> int:
    """Run the command of an order with the event on its stdin; its exit code."""
    watch()
    try:
        command = subprocess.Popen(order["target"], stdin=subprocess.PIPE)
    except OSError as error:
        print(f"bgfetch: {order['target'][0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 - it is its log
        return 127
    try:
        command.communicate(json.dumps(order["event"]).encode() + b"\n")
    except BrokenPipeError:
        command.wait()  # it does not want to know
    return command.returncode if command.returncode >= 0 else 128 - command.returncode


def watch() -> None:
    """From now on this process, and all that it starts, ends when its stdin does; for a handler that is empty."""
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def wait() -> None:
        if not os.read(lifeline, 1):
            kill_group()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def kill_group() -> None:
    """End this process and all that belongs to it, now."""
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)  # Windows
