"""A long, lossy line between two network namespaces: every packet goes through this program.

A relay of TCP streams cannot lose a packet: the kernels on both sides would mend it. So two TUN devices stand in two
namespaces, and a process carries packets from one to the other: it delays each, lets them leave no faster than the
line, drops what does not fit into the line's queue, and drops some by chance. It needs root, /dev/net/tun and `ip`.

Run by `Line` as: python tests/bench/line.py SERVER_PID CLIENT_PID
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # it is also run as a program

from tests.bench.measure import BenchError

__all__ = ["CLIENT", "CONGESTION", "DELAY", "LOSS", "RATE", "SERVER", "Line", "why_no_line"]

DELAY = 0.050  # s, each way
RATE = 200e6 / 8  # bytes a second, each way
LOSS = 0.005  # share of packets, each way
CONGESTION = ("cubic", "reno")  # what most servers use, and the nearest that every namespace may use
SERVER, CLIENT = "10.91.0.1", "10.91.0.2"

_QUEUE = 0.100  # s a packet waits at most for its turn: one round trip, the classic size of a router's buffer
_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x1001
_MTU = 1500
_CONGESTION = "/proc/sys/net/ipv4/tcp_congestion_control"  # of the namespace it is opened in
_READY = b"ready "


def why_no_line() -> str:
    """Why there can be no such line here, or "" when there can."""
    if os.geteuid() != 0:
        return "needs root"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    missing = [tool for tool in ("ip", "unshare", "nsenter") if shutil.which(tool) is None]
    return f"there is no {missing[0]}" if missing else ""


class Line:
    """The line, up; the server's end is SERVER, the client's CLIENT."""

    def __init__(self) -> None:
        with contextlib.ExitStack() as stack:
            self._ends = [stack.enter_context(_namespace()) for _ in range(2)]
            pids = [str(end.pid) for end in self._ends]
            relay = subprocess.Popen([sys.executable, __file__, *pids], stdout=subprocess.PIPE)
            stack.callback(relay.wait)
            stack.callback(relay.terminate)
            assert relay.stdout is not None
            answer = relay.stdout.readline()
            if not answer.startswith(_READY):
                raise BenchError("the line could not be made")
            self.relay = relay.pid
            self.congestion = answer.removeprefix(_READY).decode().strip()
            self._stack = stack.pop_all()

    @property
    def at_server(self) -> list[str]:
        """The command that runs what follows it at the server's end."""
        return _entering(self._ends[0].pid)

    @property
    def at_client(self) -> list[str]:
        """The command that runs what follows it at the client's end."""
        return _entering(self._ends[1].pid)

    def close(self) -> None:
        """Take it down; the namespaces end with their processes."""
        self._stack.close()


def _entering(pid: int) -> list[str]:
    return ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]


@contextlib.contextmanager
def _namespace():  # type: ignore[no-untyped-def]  # noqa: ANN202 - a private context manager
    """A process that keeps a network namespace alive."""
    process = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    try:
        ours = Path("/proc/self/ns/net").readlink()
        until = time.monotonic() + 5
        while time.monotonic() < until and Path(f"/proc/{process.pid}/ns/net").readlink() == ours:
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


@dataclass(slots=True)
class _Way:
    """One direction of the line."""

    source: int
    target: int
    chance: random.Random
    free_at: float = 0.0
    flying: collections.deque[tuple[float, bytes]] = field(default_factory=collections.deque)

    def take(self) -> None:
        """Let in what the sender has ready."""
        for _ in range(64):  # then the other direction has its turn
            try:
                packet = os.read(self.source, 65536)
            except BlockingIOError:
                return
            now = time.monotonic()
            start = max(now, self.free_at)
            if start - now > _QUEUE or self.chance.random() < LOSS:
                continue
            self.free_at = start + len(packet) / RATE
            self.flying.append((self.free_at + DELAY, packet))

    def deliver(self) -> None:
        """Let out what has arrived."""
        now = time.monotonic()
        while self.flying and self.flying[0][0] <= now:
            with contextlib.suppress(OSError):  # a receiver without room loses packets, as anywhere
                os.write(self.target, self.flying.popleft()[1])


def _device(name: str, namespace: int, address: str, peer: str) -> int:
    """A TUN device in the namespace of the process `namespace`; its descriptor here."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN_NO_PI))
    _ip("link", "set", "dev", name, "netns", str(namespace))
    inside = _entering(namespace)
    for command in (
        f"link set dev {name} mtu {_MTU} txqueuelen 10000",
        "link set dev lo up",
        f"addr add {address} peer {peer} dev {name}",
        f"link set dev {name} up",
    ):
        subprocess.run([*inside, "ip", *command.split()], check=True)
    return fd


def _control_congestion(namespace: int) -> str:
    """Choose the namespace's own congestion control, and no other's; the name of what is used there then.

    A namespace may use only what its host allows all users. The host's setting is not ours to change.
    """
    for name in CONGESTION:
        command = f"echo {name} > {_CONGESTION}"
        done = subprocess.run(
            [*_entering(namespace), "sh", "-c", command], check=False, stderr=subprocess.DEVNULL
        )
        if done.returncode == 0:
            return name
    read = subprocess.run(
        [*_entering(namespace), "cat", _CONGESTION], check=True, capture_output=True, text=True
    )
    return read.stdout.strip()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _relay(server_pid: int, client_pid: int) -> None:
    mine = os.getpid()
    server = _device(f"bgs{mine}", server_pid, SERVER, CLIENT)
    client = _device(f"bgc{mine}", client_pid, CLIENT, SERVER)
    used = [_control_congestion(pid) for pid in (server_pid, client_pid)]
    ways = [
        _Way(server, client, random.Random(1)),
        _Way(client, server, random.Random(2)),
    ]
    sys.stdout.buffer.write(_READY + used[0].encode() + b"\n")
    sys.stdout.buffer.flush()
    while True:
        due = min((way.flying[0][0] for way in ways if way.flying), default=None)
        wait = None if due is None else max(0.0, due - time.monotonic())
        ready, _, _ = select.select([server, client], [], [], wait)
        for way in ways:
            if way.source in ready:
                way.take()
            way.deliver()


if __name__ == "__main__":
    os.nice(-10)  # a busy machine must not make the line longer than it says
    with contextlib.suppress(KeyboardInterrupt):
        _relay(int(sys.argv[1]), int(sys.argv[2]))
