"""Tells the system to start the daemon, and takes that back."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bgfetch.daemon.units import LABEL, launchd_agent, systemd_unit, windows_task
from bgfetch.errors import DaemonError
from bgfetch.vfs import Vfs
from bgfetch.wire import Json

__all__ = ["Installed", "installed", "uninstalled"]

_UNIT = "bgfetch.service"


@dataclass(slots=True)
class Installed:
    """What was done, or would be.

    Args:
        path: The file that was written or removed.
        lines: For a person, as a result.
        hints: What else is worth knowing.
        ok: Whether the system took it.
    """

    path: Path
    lines: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    ok: bool = True

    def facts(self) -> Json:
        """As JSON."""
        return {"path": str(self.path), "done": self.ok, "hints": self.hints}


def installed(home: Path, *, dry_run: bool = False, environ: Mapping[str, str] | None = None) -> Installed:
    """Have the daemon of this home start at logon, and start it.

    Args:
        home: BGFETCH_HOME.
        dry_run: Only show the text.
        environ: The process's own when None.

    Raises:
        DaemonError: This Python does not know its own path.
    """
    env = os.environ if environ is None else environ
    if not sys.executable:
        raise DaemonError("this Python does not know its own path; nothing was done")
    command = [sys.executable, "-P", "-m", "bgfetch", "--home", str(home), "daemon", "run", "--service"]
    path = _place(env)
    text = _text(command, home, path)
    if dry_run:
        return Installed(path, [text.rstrip("\n")], [f"this would be written to {path}"])
    path.parent.mkdir(parents=True, exist_ok=True)
    Vfs().replace(path, text.encode("utf-16" if os.name == "nt" else "utf-8"), durable=False)
    done = Installed(path, [str(path)])
    for step in _steps_to_install(path):
        _take(done, step)
    if sys.platform == "linux":
        done.hints.append("`loginctl enable-linger` lets it run while you are not logged in")
    return done


def uninstalled(*, dry_run: bool = False, environ: Mapping[str, str] | None = None) -> Installed:
    """Have nothing start it any more; what is unfinished stays."""
    path = _place(os.environ if environ is None else environ)
    if dry_run:
        return Installed(
            path, [str(path)], [f"{path} would be removed" if path.exists() else "it is not installed"]
        )
    done = Installed(path, [str(path)])
    if not path.exists():
        done.hints.append("it was not installed")
        return done
    for step in _steps_to_uninstall(path):
        _take(done, step)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    return done


def _place(env: Mapping[str, str]) -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    if os.name == "nt":
        return Path(env.get("LOCALAPPDATA") or Path.home()) / "bgfetch" / "task.xml"
    return Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user" / _UNIT


def _text(command: Sequence[str], home: Path, path: Path) -> str:
    environment = {"BGFETCH_HOME": str(home)}
    try:
        if sys.platform == "darwin":
            return launchd_agent(command, environment, str(home / "daemon" / "log" / "launchd.log"))
        if os.name == "nt":
            return windows_task(command)
        return systemd_unit(command, environment)
    except ValueError as error:
        raise DaemonError(f"{path}: {error}; nothing was done") from error


def _steps_to_install(path: Path) -> list[list[str]]:
    if sys.platform == "darwin":
        return [["launchctl", "load", "-w", str(path)]]
    if os.name == "nt":
        return [["schtasks", "/Create", "/F", "/TN", "bgfetch", "/XML", str(path)]]
    return [["systemctl", "--user", "daemon-reload"], ["systemctl", "--user", "enable", "--now", _UNIT]]


def _steps_to_uninstall(path: Path) -> list[list[str]]:
    if sys.platform == "darwin":
        return [["launchctl", "unload", "-w", str(path)]]
    if os.name == "nt":
        return [["schtasks", "/Delete", "/F", "/TN", "bgfetch"]]
    return [["systemctl", "--user", "disable", "--now", _UNIT]]


def _take(done: Installed, step: Sequence[str]) -> None:
    """One step; what does not work here is told, with the words to say by hand."""
    try:
        ended = subprocess.run(step, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        words = str(error)
    else:
        if ended.returncode == 0:
            return
        words = ended.stderr.strip() or f"exit code {ended.returncode}"
    done.ok = False
    done.hints.append(
        f"`{' '.join(step)}` did not work ({words}): say it where your session has a service manager"
    )
