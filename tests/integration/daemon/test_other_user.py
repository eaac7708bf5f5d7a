"""Another user of this machine: not served, reads nothing the daemon keeps, and nothing they put in its place is used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.attacks import Target, target
from tests.daemons import DaemonProcess

from bgfetch.errors import CacheError

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
pytestmark = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="acting as another user needs root and setpriv",
)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may pass through and write to, as /tmp is."""
    with tempfile.TemporaryDirectory(prefix="bgfetch-test-") as name:
        Path(name).chmod(0o1777)
        yield Path(name)


@pytest.fixture
def prey(shared: Path) -> Iterator[Target]:
    """A daemon whose home others know."""
    with target(shared / "home") as found:
        yield found


def nobody(*command: str) -> subprocess.CompletedProcess[bytes]:
    """What another user gets."""
    return subprocess.run([*AS_NOBODY, *command], capture_output=True, check=False, timeout=10)


def test_nothing_is_read(prey: Target) -> None:
    """Token, facts, log, database: no file below the home opens, and no folder lists."""
    home = prey.daemon.home
    for path in (home, *home.rglob("*")):
        said = nobody("ls", str(path)) if path.is_dir() else nobody("cat", str(path))
        assert said.returncode != 0, path
        assert said.stdout == b"", path


def test_the_port_wants_the_token(prey: Target) -> None:
    """Everybody reaches a port of loopback; without the token that they cannot read nobody is served."""
    ask = ("curl", "-s", "-o", "-", "-w", "%{http_code}", f"http://127.0.0.1:{prey.port}/v1/registrations")
    said = nobody(*ask)
    assert said.stdout.endswith(b"401")
    assert prey.told_nothing(said.stdout)


def test_environ_and_memory_are_closed(prey: Target) -> None:
    """What the daemon holds in memory, and the environment it was started with, is not read by others."""
    assert prey.daemon.process is not None
    for name in ("environ", "mem", "maps"):
        assert nobody("cat", f"/proc/{prey.daemon.process.pid}/{name}").returncode != 0


@pytest.mark.parametrize("planted", ["folder", "link", "socket"])
def test_a_socket_of_theirs_is_not_used(shared: Path, planted: str) -> None:
    """In the temporary folder, where sockets of long homes lie: a folder, a link or a socket of another user's is refused by name."""
    home = shared / ("x" * 60) / ("y" * 60)
    daemon = DaemonProcess(home, {"XDG_RUNTIME_DIR": "", "TMPDIR": str(shared)})
    former, tempfile.tempdir = tempfile.tempdir, str(shared)
    try:
        folder = daemon.address.preferred_socket({}).parent
        assert folder.parent == shared
        _plant(folder, planted)
        with pytest.raises(CacheError, match=r"belongs to another user|is a link"):
            daemon.connection.address.socket({})
    finally:
        tempfile.tempdir = former
    process = daemon.start(wait=False)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 7
    assert b"belongs to another user" in said or b"is a link" in said
    assert [each.name for each in folder.iterdir()] == (["socket"] if planted == "socket" else [])


def _plant(folder: Path, planted: str) -> None:
    if planted == "link":
        assert nobody("mkdir", f"{folder}-elsewhere").returncode == 0
        assert nobody("ln", "-s", f"{folder}-elsewhere", str(folder)).returncode == 0
        return
    assert nobody("mkdir", "-m", "0777", str(folder)).returncode == 0
    if planted == "socket":
        bind = f"import socket; socket.socket(socket.AF_UNIX).bind({str(folder / 'socket')!r})"
        python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
        said = nobody(python, "-c", bind)
        if said.returncode:
            pytest.skip("other users can run no Python here")
