"""How a daemon begins and ends: exactly one, at once, and nothing lost by any end."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from tests.daemons import DaemonProcess
from tests.waiting import has_ended, looked_for

from bgfetch.core.model import State
from bgfetch.errors import CacheError
from bgfetch.testing import OriginServer

_AT_ONCE = 12  # processes; fifty of them are begun by the test of the instance, which is cheaper


def test_exactly_one_of_many(idle: DaemonProcess) -> None:
    """Of many that are started at once one runs, and the others say which."""
    started = [idle.start(wait=False) for _ in range(_AT_ONCE)]
    try:
        said = {it: it.stderr.readline() for it in started if it.stderr is not None}
        (winner,) = [it for it, line in said.items() if b" answers; " in line]
        idle.process = winner
        assert idle.connection.hello().pid == winner.pid
        assert {it.wait(10) for it in started if it is not winner} == {2}
        assert all(
            str(winner.pid).encode() in line or b"just beginning" in line
            for line in said.values()
            if line != said[winner]
        )
    finally:
        for each in started:
            if each is not idle.process:
                each.kill()
                each.communicate()


def test_commands(idle: DaemonProcess) -> None:
    """It is started, looked at, restarted and stopped by commands that say so."""
    assert idle.command("daemon", "status").returncode == 9
    first = idle.command("daemon", "start", "--json")
    assert first.returncode == 0
    assert idle.command("daemon", "start", "--json").stdout == first.stdout
    assert "nothing" in idle.command("daemon", "status").stdout
    again = idle.command("daemon", "restart", "--json")
    assert again.returncode == 0
    assert again.stdout != first.stdout
    assert idle.command("daemon", "stop").returncode == 0
    assert idle.command("daemon", "stop").returncode == 0
    assert idle.command("daemon", "status").returncode == 9
    assert not idle.address.facts.exists()


def test_nobody_else_may_come_in(daemon: DaemonProcess) -> None:
    """Everything below its folder is its owner's alone."""
    for path in (daemon.address.folder, *daemon.address.folder.rglob("*")):
        assert not stat.S_IMODE(path.lstat().st_mode) & 0o077, path
    assert daemon.address.facts.is_file()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may become somebody else"
)
def test_another_user_is_refused() -> None:
    """Another user is not served, not even where every mode would let them in."""
    home = Path("/tmp") / f"bgfetch-test-{os.getpid()}"  # noqa: S108 - tmp_path is closed to others
    daemon = DaemonProcess(home)
    try:
        daemon.start()
        for path, mode in (
            (home, 0o755),
            (daemon.address.folder, 0o755),
            (daemon.address.folder / "socket", 0o666),
        ):
            path.chmod(mode)
        ask = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b'GET /v1/ HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(9))"
        other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        said = subprocess.run(
            [*other, "/usr/bin/python3", "-c", ask, str(daemon.address.folder / "socket")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "HTTP" not in said.stdout
        assert daemon.answers() is not None
    finally:
        daemon.close()
        subprocess.run(["rm", "-rf", str(home)], check=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_at_once_and_goes_on(daemon: DaemonProcess, server: OriginServer, number: int) -> None:
    """A signal ends it within two seconds, and the next one goes on from the byte."""
    server.rate = 1_000_000.0
    uid = daemon.fetch(server.url)
    daemon.holds(uid, 500_001)
    began = time.monotonic()
    daemon.signal(number)
    assert daemon.ended() == 0
    assert time.monotonic() - began < 2.0
    with daemon.store() as store:
        row = store.get(uid)
        assert row is not None
        held = row.downloaded
    assert held > 500_000
    server.rate = 0.0
    daemon.start()
    assert daemon.settled(uid)["result"] == "success"
    assert server.bytes_sent < (3 << 20) + (1 << 20)


def test_killed_three_times(daemon: DaemonProcess, server: OriginServer) -> None:
    """Whatever kills it, the next one goes on with what is unfinished, and little is fetched twice."""
    server.rate = 700_000.0
    digest = hashlib.sha256(server.content.data).hexdigest()
    request = {"url": server.url, "integrity": f"sha256:{digest}"}
    uid = daemon.call("POST", "/v1/registrations", {"scope": "app", "id": "x", "requests": [request]})["uid"]
    for count in (600_000, 1_200_000, 1_800_000):
        daemon.holds(uid, count)
        daemon.kill()
        daemon.start()
    assert daemon.settled(uid)["result"] == "success"


def test_ends_when_nobody_needs_it(tmp_path: Path, server: OriginServer) -> None:
    """With nothing to do and nobody connected it ends by itself, but not before."""
    daemon = DaemonProcess(tmp_path / "home", {"BGFETCH_DAEMON_LINGER": "1s"})
    try:
        server.rate = 1_000_000.0
        process = daemon.start()
        uid = daemon.fetch(server.url)
        assert daemon.settled(uid)["result"] == "success"
        with daemon.events(client="app", scope="app"):
            assert not has_ended(process.pid, within=2.0)
        assert daemon.ended() == 0
        assert "nobody needs it" in daemon.log()
    finally:
        daemon.close()


@pytest.mark.parametrize("at_work", [False, True])
def test_ends_when_its_home_is_deleted(tmp_path: Path, server: OriginServer, *, at_work: bool) -> None:
    """It does not go on unseen, and leaves the folder deleted, also when it was fetching into it."""
    daemon = DaemonProcess(tmp_path / "home", {"BGFETCH_DAEMON_LINGER": "4s"})  # looks each second
    try:
        daemon.start()
        if at_work:
            server.rate = 50_000.0
            uid = daemon.fetch(server.url)
            daemon.holds(uid)
        shutil.rmtree(daemon.home)
        assert daemon.ended(within=15.0) == 0
        assert not daemon.home.exists()
    finally:
        daemon.close()


def test_ends_when_its_database_is_deleted(tmp_path: Path) -> None:
    """It says why, and the next one begins anew."""
    daemon = DaemonProcess(tmp_path / "home", {"BGFETCH_DAEMON_LINGER": "4s"})
    try:
        daemon.start()
        for path in (daemon.home / "state").glob("bgfetch.sqlite3*"):
            path.unlink()
        assert daemon.ended(within=15.0) == 0
        assert not (daemon.home / "state" / "bgfetch.sqlite3").exists()
        assert "bgfetch.sqlite3 is gone" in daemon.log()
        daemon.start()
        assert daemon.answers()
    finally:
        daemon.close()


def test_settings_are_read_again(daemon: DaemonProcess) -> None:
    """SIGHUP takes over what the file says now; a mistake in it changes nothing."""
    (daemon.home / "config.toml").write_text("limit_rate = 5000\n")
    daemon.signal(signal.SIGHUP)
    untold = "a signal is answered in the log only"
    looked_for(lambda: daemon.call("GET", "/v1/settings")["limit_rate"] == 5000, because=untold)
    (daemon.home / "config.toml").write_text("limit_rate = much\n")
    daemon.signal(signal.SIGHUP)
    looked_for(lambda: "stay as they are" in daemon.log(), because=untold)
    assert daemon.call("GET", "/v1/settings")["limit_rate"] == 5000


def test_long_paths(tmp_path: Path) -> None:
    """A home too far down for a socket has it elsewhere, in a folder of its own, and is found there."""
    with tempfile.TemporaryDirectory() as runtime:  # that of a test may have too long a path for a socket
        daemon = DaemonProcess(tmp_path / ("x" * 60) / ("y" * 60), {"XDG_RUNTIME_DIR": runtime})
        try:
            daemon.start()
            assert daemon.answers()
            assert [it.name for it in Path(runtime).rglob("socket")] == ["socket"]
        finally:
            daemon.close()


def test_stale_socket(idle: DaemonProcess) -> None:
    """A socket that nobody answers at is taken over."""
    idle.address.folder.mkdir(parents=True, mode=0o700)
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(idle.address.folder / "socket"))
    left.close()
    idle.start()
    assert idle.answers()


@pytest.mark.parametrize("name", ["daemon", "daemon/log", "daemon/lock", "daemon/log/daemon.log"])
def test_planted_links_are_not_followed(idle: DaemonProcess, tmp_path: Path, name: str) -> None:
    """A link in the place of what it makes ends the attempt, and nothing appears where it leads."""
    elsewhere = tmp_path / "elsewhere"
    path = idle.home / name
    path.parent.mkdir(parents=True, mode=0o700)
    if name.endswith(("log/daemon.log", "lock")):
        path.symlink_to(elsewhere)
    else:
        elsewhere.mkdir()
        path.symlink_to(elsewhere)
    process = idle.start(wait=False)
    process.communicate(timeout=10)
    assert process.returncode != 0
    assert not elsewhere.exists() or not list(elsewhere.iterdir())
    if name == "daemon":
        with pytest.raises(CacheError):
            idle.connection.hello()


def test_canary_secrets_are_nowhere(daemon: DaemonProcess, server: OriginServer) -> None:
    """Secrets given to it are found in no file of its home and in nothing it says."""
    canary = "canary-7f3a9"
    server.rate = 300_000.0
    request = {
        "url": f"{server.url}?sig={canary}-query",
        "headers": [["Authorization", f"Bearer {canary}-field"], ["Cookie", f"a={canary}-cookie"]],
    }
    asked = {
        "scope": "app",
        "id": "x",
        "requests": [request],
        "environment": {"HF_TOKEN": f"{canary}-variable"},
    }
    uid = daemon.call("POST", "/v1/registrations", asked)["uid"]
    daemon.holds(uid)
    assert daemon.connection.hello().restart_loses == ["the secrets of 'x'"]
    told = [daemon.call("GET", path) for path in ("/v1/registrations", f"/v1/registrations/{uid}/records")]
    assert canary not in str(told)
    daemon.signal(signal.SIGTERM)
    daemon.ended()
    found = {
        path.relative_to(daemon.home).as_posix(): path.read_bytes()
        for path in daemon.home.rglob("*")
        if path.is_file() and not path.name.startswith("data")
    }
    for part in ("field", "cookie", "variable"):
        assert [name for name, text in found.items() if f"{canary}-{part}".encode() in text] == []
    assert canary.encode() not in b"".join(text for name, text in found.items() if "log" in name)


def test_without_its_secrets_it_rests(daemon: DaemonProcess, server: OriginServer) -> None:
    """What was asked for with a secret is not tried without it: it rests, says why, and goes on when it is said again."""
    server.rate = 300_000.0
    request = {"url": server.url, "headers": [["authorization", "Bearer abc"]]}
    uid = daemon.call("POST", "/v1/registrations", {"scope": "app", "id": "x", "requests": [request]})["uid"]
    path = f"/v1/registrations/{uid}"
    daemon.holds(uid)
    daemon.kill()
    before = len(server.requests)
    daemon.start()
    daemon.is_in(uid, State.PAUSED)
    with daemon.store() as store:
        assert "authorization" in store.events(uid)[-1].detail
    assert len(server.requests) == before
    assert daemon.call("POST", f"{path}/run", {}) == {"running": True}
    server.rate = 0.0
    assert daemon.call("POST", f"{path}/run", {"requests": [request]}) == {"running": True}
    assert daemon.settled(uid)["result"] == "success"


def test_slow_loris(daemon: DaemonProcess) -> None:
    """Five hundred connections that say nothing keep nobody else waiting."""
    idle = [socket.socket(socket.AF_UNIX) for _ in range(500)]
    try:
        for each in idle:
            each.settimeout(5.0)
            each.connect(str(daemon.address.folder / "socket"))
        began = time.monotonic()
        assert daemon.answers()
        assert daemon.command("daemon", "status").returncode == 0
        assert time.monotonic() - began < 1.5
    finally:
        for each in idle:
            each.close()
