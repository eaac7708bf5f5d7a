"""Another user of this machine: reads nothing of a home, and nothing that they planted is followed or believed."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command import Command

from bgfetch.testing import OriginServer

BODY = bytes(range(256)) * 8192 * 2
OTHER = 54_321
"""A user id that nobody has."""

needs_root = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="acting as another user needs root and setpriv",
)


@pytest.fixture
def server() -> Iterator[OriginServer]:
    """A correct origin."""
    with OriginServer(BODY) as server:
        yield server


def made(home: Path) -> list[Path]:
    """Everything below the home, by its name there, what is above first."""
    return sorted(path.relative_to(home) for path in home.rglob("*"))


def as_user(uid: int) -> list[str]:
    """What to put before a command."""
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


def open_to_others(folder: Path) -> None:
    """Let others pass through pytest's own folders, so that only the home keeps them out."""
    for each in (folder, *folder.parents):
        if each.name.startswith(("pytest-", folder.name)):
            each.chmod(0o755)


def test_only_the_owner_enters(tmp_path: Path, server: OriginServer) -> None:
    """Every directory is 0700 and no file can be written or read by others, but for blobs behind those directories."""
    command = Command(tmp_path / "a" / "home")
    former = os.umask(0)
    try:
        assert command("get", server.url).code == 0
        command("get", server.url, "--id", "x", "-H", "X-A: b", "--timeout", "0.01s")
    finally:
        os.umask(former)
    for path in (command.home, *command.home.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir():
            assert mode == 0o700, path
        elif path.relative_to(command.home).parts[0] not in ("blobs", "names", "CACHEDIR.TAG"):
            assert not mode & 0o077, path
        assert not mode & 0o022, path


@needs_root
def test_another_user_reads_nothing(tmp_path: Path, server: OriginServer) -> None:
    """Neither lists the home nor opens what they know the name of."""
    open_to_others(tmp_path)
    command = Command(tmp_path / "home")
    path = Path(command("get", server.url).out.strip())
    for target in (command.home / "state" / "bgfetch.sqlite3", path):
        said = subprocess.run(
            [*as_user(OTHER), "cat", str(target)],
            capture_output=True,
            check=False,
            timeout=10,
        )
        assert (said.returncode, said.stdout) == (1, b"")
        assert b"denied" in said.stderr


@needs_root
def test_no_planted_link_is_followed(tmp_path: Path, server: OriginServer) -> None:
    """A link of another user's at any path that a download makes: nothing is written or deleted where it leads."""
    first = Command(tmp_path / "first")
    assert first("get", server.url).code == 0
    followed = []
    for number, name in enumerate(made(first.home)):
        command, outside = Command(tmp_path / f"home{number}"), tmp_path / f"outside{number}"
        planted = command.home / name
        planted.parent.mkdir(parents=True, mode=0o700)
        if (first.home / name).is_dir():
            outside.mkdir()
        else:
            outside.write_bytes(b"precious")
        planted.symlink_to(outside)
        os.lchown(planted, OTHER, OTHER)
        command("get", server.url)
        harmed = list(outside.iterdir()) if outside.is_dir() else outside.read_bytes() != b"precious"
        if harmed or not outside.exists():
            followed.append(str(name))
    assert followed == []


@needs_root
@pytest.mark.parametrize("linked", [False, True])
def test_a_home_of_another_user_is_refused(tmp_path: Path, *, linked: bool) -> None:
    """A directory, or a link to one, that somebody else put in the place of the home: said, and nothing is written."""
    open_to_others(tmp_path)
    command, elsewhere = Command(tmp_path / "home"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    if linked:
        command.home.symlink_to(elsewhere)
        os.lchown(command.home, OTHER, OTHER)
    else:
        command.home.mkdir()
        os.chown(command.home, OTHER, OTHER)
    for each in (command.home, elsewhere):
        each.chmod(0o777)
    command.settings["PYTHONPATH"] = os.pathsep.join(["src", *filter(None, sys.path)])
    said = subprocess.run(
        [*as_user(OTHER + 1), sys.executable, "-m", "bgfetch", "ls"],
        env={**os.environ, **command.settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=15,
    )
    if "Permission denied" in said.stderr or "No module" in said.stderr:
        pytest.skip("the interpreter or its packages cannot be read by other users here")
    assert (said.returncode, "another user" in said.stderr) == (7, True), said.stderr
    assert not list(elsewhere.iterdir())
    assert not list(command.home.iterdir())


def test_a_link_of_ones_own_is_fine(tmp_path: Path, server: OriginServer) -> None:
    """People put homes on larger disks."""
    (tmp_path / "large").mkdir(mode=0o700)
    command = Command(tmp_path / "home")
    command.home.symlink_to(tmp_path / "large")
    assert command("get", server.url).code == 0
