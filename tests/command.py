"""The command line as tests call it: in this process for speed, or as a process of its own.

Imported by tests as `tests.command`: pytest is run as `python -m pytest` from the root.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bgfetch.cli.main import run

__all__ = ["Command", "Said"]

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Said:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Of stdout."""
        return self.out.splitlines()

    @property
    def objects(self) -> list[Any]:
        """The JSON objects on stdout, one a line."""
        return [json.loads(line) for line in self.lines]


class Command:
    """`bgfetch` with a home of its own that gives up soon.

    Args:
        home: BGFETCH_HOME.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings = {
            "BGFETCH_HOME": str(home),
            "BGFETCH_RETRY_SCALE": "0.01",
            "BGFETCH_ATTEMPTS": "3",
            "BGFETCH_CONNECT_TIMEOUT": "2s",
            "BGFETCH_HEAD_TIMEOUT": "5s",
            "NO_PROXY": "127.0.0.1",
        }

    def __call__(self, *args: str | Path) -> Said:
        """Run it in this process."""
        out, err = io.StringIO(), io.StringIO()
        former = dict(os.environ)
        os.environ.update(self.settings)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = run([str(arg) for arg in args])
        finally:
            os.environ.clear()
            os.environ.update(former)
        return Said(int(code), out.getvalue(), err.getvalue())

    def start(self, *args: str | Path, python: tuple[str, ...] = ("-m", "bgfetch")) -> subprocess.Popen[str]:
        """Run it as a process of its own."""
        paths = [str(_ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
        return subprocess.Popen(
            [sys.executable, *python, *map(str, args)],
            env={**os.environ, **self.settings, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def process(self, *args: str | Path, python: tuple[str, ...] = ("-m", "bgfetch")) -> Said:
        """Run it as a process of its own, to its end."""
        with self.start(*args, python=python) as process:
            out, err = process.communicate(timeout=15)
        return Said(process.returncode, out, err)
