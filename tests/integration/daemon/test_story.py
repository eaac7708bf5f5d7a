"""The whole promise in real processes and real networks: who asked is gone, what fetches dies, the network goes.

Each story runs in a network of its own, as a program: this module, with the story's name.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final

import pytest
from tests.daemons import DaemonProcess
from tests.waiting import has_ended, lasts

from bgfetch.core.model import State
from bgfetch.registrations.port import EventType
from bgfetch.testing import OriginServer

NAMESPACE = pytest.mark.skipif(
    sys.platform != "linux"
    or os.geteuid() != 0
    or not all(map(shutil.which, ("unshare", "nsenter", "ip", "iptables"))),
    reason="a network of our own needs root, unshare, nsenter, ip and iptables",
)

_ROOT: Final = Path(__file__).resolve().parents[3]
_EXAMPLES: Final = _ROOT / "examples"
_SIZE: Final = 12 << 20
_RATE: Final = 250_000.0  # bytes a second on each connection: time enough for all that is to happen
_OUTAGE: Final = 3.0  # s without a network
_SOON: Final = 5.0  # s within which it goes on after a return
_INNER, _OUTER = "10.77.0.2", "10.77.0.1"


def sh(command: str) -> None:
    """Run it, and fail with it."""
    subprocess.run(command.split(), check=True)


def told(story: str, setup: str = "ip link set lo up; ") -> dict[str, Any]:
    """The figures of a story that ran to its end, in a network whose resolver is at 127.0.0.1."""
    shell = (
        "echo nameserver 127.0.0.1 >/dev/shm/$$; mount --bind /dev/shm/$$ /etc/resolv.conf; "
        f'rm /dev/shm/$$; {setup} exec "$0" -m tests.integration.daemon.test_story "$1"'
    )
    done = subprocess.run(
        ["unshare", "-n", "-m", "--propagation", "private", "sh", "-c", shell, sys.executable, story],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT / "src"), *sys.path])},
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=70,
        check=False,
    )
    if done.returncode and "Operation not permitted" in done.stderr:
        pytest.skip("this kernel lets nobody make a network of their own")
    assert done.returncode == 0, done.stderr + done.stdout
    print(done.stdout)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(figures, dict)
    return figures


@NAMESPACE
@pytest.mark.slow
@pytest.mark.timeout(80)
def test_the_app_is_gone_the_daemon_is_killed_the_network_goes_and_the_model_arrives() -> None:
    """Verified, in the cache, stored once; the handler has run as often as it acknowledged; little came twice."""
    figures = told("three_kills_and_an_outage")
    assert figures["runs"] == figures["acknowledged"] == 1
    assert figures["copies"] == 1
    ends = 5  # for each: what was in flight, or not in a whole piece yet
    assert figures["sent"] < _SIZE + ends * (2 << 20)
    assert figures["after_the_return"] < _SOON
    assert figures["killed_offline_after_the_return"] < _SOON


@NAMESPACE
@pytest.mark.slow
@pytest.mark.timeout(80)
@pytest.mark.parametrize("away", ["dropped", "refused", "no_name", "no_resolver"])
def test_what_is_away_when_it_is_asked_for(away: str) -> None:
    """The server's packets vanish or are refused, the resolver is silent or away: it begins within 5 s of the return."""
    figures = told(away)
    assert figures["began_after"] < _SOON
    assert figures["result"] == "success"


# From here on: what runs inside a network of its own.


class Machine:
    """A machine with one link, to the network this process is in: its address is 10.77.0.2, ours 10.77.0.1.

    Its files are ours, so that its daemon's socket can be asked from here.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "echo; exec sleep 120"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._enter = ["nsenter", "-t", str(self._process.pid), "-n"]
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"\n"  # from within
        sh("ip link add out0 type veth peer name in0")
        sh(f"ip link set in0 netns {self._process.pid}")
        sh(f"ip addr add {_OUTER}/24 dev out0")
        sh("ip link set out0 up")
        self.sh(f"ip addr add {_INNER}/24 dev in0")
        self.link("up")
        # the origin listens on loopback only
        Path("/proc/sys/net/ipv4/conf/out0/route_localnet").write_text("1")
        sh(f"iptables -t nat -A PREROUTING -d {_OUTER} -p tcp -j DNAT --to-destination 127.0.0.1")

    def command(self, command: list[str]) -> list[str]:
        """As it is to be run so that it runs there."""
        return [*self._enter, *command]

    def sh(self, command: str) -> None:
        """Run it there, and fail with it."""
        subprocess.run(self.command(command.split()), check=True)

    def link(self, state: str) -> None:
        """Take its only link "up" or "down"."""
        self.sh(f"ip link set in0 {state}")

    def close(self) -> None:
        """End it; its links go with it."""
        self._process.kill()
        self._process.communicate()


class Home(DaemonProcess):
    """A home whose settings are the defaults, and whatever daemon serves it.

    Args:
        path: BGFETCH_HOME.
        prefix: What runs a command where the daemon is to live.
    """

    def __init__(self, path: Path, prefix: Callable[[list[str]], list[str]] = list) -> None:
        super().__init__(path)
        self.settings = {"BGFETCH_HOME": str(path)}
        self._prefix = prefix

    def say(self, *args: str) -> str:
        """What a command of the CLI prints there."""
        command = self._prefix([sys.executable, "-m", "bgfetch", *args])
        done = subprocess.run(
            command, env=self.environ, capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def row(self) -> dict[str, Any]:
        """The only registration, as the daemon tells it."""
        (row,) = self.call("GET", "/v1/registrations")["registrations"]
        assert isinstance(row, dict)
        return row

    def held(self, count: int) -> None:
        """Wait until so many bytes have come."""
        self.holds(self.row()["uid"], count, within=30.0)

    def kill_daemon(self) -> None:
        """As the machine's power does, for this process."""
        pid = self.connection.hello().pid
        os.kill(pid, signal.SIGKILL)
        assert has_ended(pid)

    def leave(self) -> None:
        """End its daemon, and wait for that."""
        self.say("daemon", "stop")


def hand_over(home: Home, machine: Machine, url: str, sha256: str) -> None:
    """An app asks in a shell of its own and ends; then its shell is closed."""
    line = f'"$0" {_EXAMPLES / "03_app.py"} {url} {sha256}; echo done; exec sleep 60'
    shell = subprocess.Popen(
        machine.command(["sh", "-c", line, sys.executable]),
        env=home.environ,
        cwd=_EXAMPLES,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert shell.stdout is not None
    assert "is on its way" in shell.stdout.readline()
    assert shell.stdout.readline() == "done\n"
    os.killpg(shell.pid, signal.SIGHUP)
    shell.wait(5.0)
    shell.stdout.close()


def three_kills_and_an_outage(folder: Path) -> dict[str, Any]:
    """The story of issue 3; what it cost."""
    machine = Machine()
    home = Home(folder / "home", machine.command)
    body = random.Random(8).randbytes(_SIZE)
    began = time.monotonic()
    try:
        with OriginServer({"/model.gguf": body}, rate=_RATE) as origin:
            url = origin.url_of("/model.gguf", host=_OUTER)
            hand_over(home, machine, url, origin.sha256)
            for part in (1, 2):
                home.held(part * _SIZE // 8)
                home.kill_daemon()
                home.say("daemon", "start")
            home.held(3 * _SIZE // 8)
            after = outage(home, machine)
            home.held(5 * _SIZE // 8)
            offline = outage(home, machine, kill=True)
            over = home.settled(home.row()["uid"], within=40.0)
            assert over["result"] == "success", over
            handled(home)
            figures = {
                "after_the_return": after,
                "killed_offline_after_the_return": offline,
                "sent": origin.bytes_sent,
                "seconds": time.monotonic() - began,
                "waste": origin.bytes_sent / _SIZE - 1,
            }
            path = Path(home.say("cache", "path", "--scope", "example-app", url).strip())
        home.leave()
        return {**figures, **stored(home, path, body)}
    finally:
        try:
            home.leave()
        finally:
            machine.close()


def handled(home: Home) -> None:
    """Wait until the event is acknowledged."""
    try:
        home.logged("acknowledged", within=20.0)
    except AssertionError as error:
        log = home.address.worker_log("example-app")
        told = [home.say("events"), home.log(), log.read_text("utf-8") if log.exists() else "no handler ran"]
        raise AssertionError("\n".join(told)) from error


def outage(home: Home, machine: Machine, *, kill: bool = False) -> float:
    """Take the network away for a while; how long after its return the next byte had come, in seconds."""
    machine.link("down")
    back_at = time.monotonic() + _OUTAGE
    if kill:
        home.kill_daemon()
        home.say("daemon", "start")
    lasts(max(0.0, back_at - time.monotonic()))
    row = home.row()
    machine.link("up")
    returned = time.monotonic()
    home.holds(row["uid"], row["downloaded"] + 1)
    return time.monotonic() - returned


def stored(home: Home, path: Path, body: bytes) -> dict[str, Any]:
    """What is on the disk when all is over, told without bgfetch."""
    assert path.read_bytes() == body
    files = [it.lstat() for it in home.home.rglob("*")]
    inodes = {
        (it.st_dev, it.st_ino): it.st_size for it in files if S_ISREG(it.st_mode) and it.st_size > 1 << 20
    }
    log = (home.home / "daemon/log/workers/example-app.log").read_text("utf-8")
    with home.store() as store:
        names = [line.name for line in store.events()]
        assert store.pending(now=time.time() + 1e9) == []
    assert names.count(EventType.SUCCESS.value) == 1
    return {
        "runs": log.count("bytes are in the cache"),
        "acknowledged": names.count("acknowledged"),
        "copies": len(inodes),
        "bytes_on_disk": sum(inodes.values()),
        "digest": hashlib.sha256(path.read_bytes()).hexdigest()[:12],
    }


@contextmanager
def rule(text: str) -> Iterator[Callable[[], None]]:
    """A rule of the firewall, and what takes it away again."""
    sh(f"iptables -A {text}")
    yield lambda: sh(f"iptables -D {text}")


def dropped(folder: Path) -> dict[str, Any]:
    """Packets to the server vanish."""
    return away(folder, "INPUT -i lo -p tcp --dport {port} -j DROP", "127.0.0.1")


def refused(folder: Path) -> dict[str, Any]:
    """The server's machine says that nobody listens."""
    return away(folder, "INPUT -i lo -p tcp --dport {port} -j REJECT --reject-with tcp-reset", "127.0.0.1")


def no_name(folder: Path) -> dict[str, Any]:
    """The resolver is silent."""
    return away(folder, "INPUT -i lo -p udp --dport 53 -j DROP", "model.example")


def no_resolver(folder: Path) -> dict[str, Any]:
    """Nobody listens where the resolver should be."""
    return away(folder, "INPUT -i lo -p udp --dport 53 -j REJECT", "model.example")


def away(folder: Path, text: str, host: str) -> dict[str, Any]:
    """A fetch that is asked for while something is away, through a daemon; how long after the return it began."""
    threading.Thread(target=answer_names, daemon=True).start()
    home = Home(folder / "home")
    with OriginServer({"/model.gguf": b"x" * 100_000}) as origin, rule(text.format(port=origin.port)) as end:
        try:
            home.say("get", origin.url_of("/model.gguf", host=host), "--detach", "--id", "m")
            home.is_in(home.row()["uid"], State.WAITING_NETWORK, within=30.0)
            lasts(2.0)  # into the pauses between its looks
            end()
            returned = time.monotonic()
            assert origin.wait_for(lambda: origin.requests, 20.0)
            began = time.monotonic() - returned
            return {"began_after": began, "result": home.settled(home.row()["uid"])["result"]}
        finally:
            home.leave()


def answer_names() -> None:
    """Be a resolver that knows one address for every name."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    while True:
        asked, who = server.recvfrom(512)
        end = asked.index(b"\0", 12) + 5
        found = asked[end - 4 : end - 2] == b"\0\1"  # A; nothing for AAAA
        head = asked[:2] + b"\x81\x80" + b"\0\1" + (b"\0\1" if found else b"\0\0") + bytes(4)
        address = b"\xc0\x0c\0\1\0\1" + bytes(4) + b"\0\4\x7f\0\0\1" if found else b""
        server.sendto(head + asked[12:end] + address, who)


_STORIES: Final = {
    it.__name__: it for it in (three_kills_and_an_outage, dropped, refused, no_name, no_resolver)
}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="bgfetch-story-") as scratch:
        print(json.dumps(_STORIES[sys.argv[1]](Path(scratch))))
