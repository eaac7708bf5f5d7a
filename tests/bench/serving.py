"""How much processor a server of models takes for what it sends, beside nginx: the clients are curl, to nowhere.

Here the processor time is the server's, and the clients' is noise. Over loopback a server also pays for much of what a
network card would do; how much of that is charged to it and how much to its clients varies from run to run, so
candidates run by turns and medians are compared.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.lab import Goal, Lab, Row, say
from tests.bench.measure import BenchError, busy_machine, busy_processes, clean_environment

__all__ = ["SERVING"]

MIB = 1 << 20
_SEGMENT = 8 * MIB  # what the kit asks for at once
_MOST_CPU = 1 / 0.7  # x nginx's: 0.7 of its throughput for each second of processor
_CLIENTS = 16

_PLAIN = """
import socket, sys, uvicorn
from bgfetch.web import ModelServer
listening = socket.create_server(("127.0.0.1", 0))
listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as where uvicorn makes the socket itself
print(f"http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
uvicorn.Server(uvicorn.Config(ModelServer(sys.argv[1]), access_log=False, log_level="critical")).run(sockets=[listening])
"""

Work = Callable[[str], Sequence[tuple[Sequence[str], str]]]
"""The commands that ask for a URL, all at once, and what each reads from its standard input."""


@dataclass(frozen=True, slots=True)
class _Server:
    """A running one.

    Args:
        name: As the table shows it.
        url: Of the file.
        pids: Of its processes.
    """

    name: str
    url: str
    pids: list[int]


def serve_whole(lab: Lab, reps: int) -> Row:
    """A large file, whole, to one client."""
    row = Row(
        "serve-whole",
        f"a server sends {lab.size / MIB:g} MiB over loopback to one client; CPU is the server's",
    )
    return _measured(lab, row, reps, lambda url: [(_curl(url), "")], lab.size)


def serve_ranges(lab: Lab, reps: int) -> Row:
    """The same in ranges, one after the other, as the kit asks."""
    title = f"a server sends {lab.size / MIB:g} MiB in ranges of 8 MiB to one client; CPU is the server's"
    return _measured(lab, Row("serve-ranges", title), reps, lambda url: [_ranges(url, 0, lab.size)], lab.size)


def serve_16(lab: Lab, reps: int) -> Row:
    """Sixteen clients at once."""
    share = lab.size // 4
    title = f"a server sends {share / MIB:g} MiB to each of 16 clients at once; CPU is the server's"

    def work(url: str) -> Sequence[tuple[Sequence[str], str]]:
        starts = [number * (lab.size - share) // _CLIENTS for number in range(_CLIENTS)]
        return [(_curl(url, "-r", f"{start}-{start + share - 1}"), "") for start in starts]

    return _measured(lab, Row("serve-16", title), reps, work, share * _CLIENTS)


def serve_16_ranges(lab: Lab, reps: int) -> Row:
    """Sixteen clients at once, each in ranges."""
    share = lab.size // _CLIENTS
    title = f"a server sends {share / MIB:g} MiB in ranges of 8 MiB to each of 16 clients at once; CPU is the server's"

    def work(url: str) -> Sequence[tuple[Sequence[str], str]]:
        return [_ranges(url, number * share, share) for number in range(_CLIENTS)]

    return _measured(lab, Row("serve-16-ranges", title), reps, work, share * _CLIENTS)


SERVING: dict[str, Callable[[Lab, int], Row]] = {
    "serve-whole": serve_whole,
    "serve-ranges": serve_ranges,
    "serve-16": serve_16,
    "serve-16-ranges": serve_16_ranges,
}


def _curl(url: str, *words: str) -> list[str]:
    return [
        "curl",
        "-q",
        "-sSf",
        "--noproxy",
        "*",
        "-o",
        "/dev/null",
        "-w",
        "%{size_download}\n",
        *words,
        url,
    ]


def _ranges(url: str, start: int, length: int) -> tuple[Sequence[str], str]:
    """One client that asks for segment after segment over one connection."""
    spans = [(at, min(at + _SEGMENT, start + length) - 1) for at in range(start, start + length, _SEGMENT)]
    lines = [f'url = "{url}"\nrange = "{first}-{last}"\noutput = "/dev/null"' for first, last in spans]
    return ["curl", "-q", "-sSf", "--noproxy", "*", "-w", "%{size_download}\n", "-K", "-"], "\n".join(lines)


def _measured(lab: Lab, row: Row, reps: int, work: Work, expected: int) -> Row:
    row.goals.append(Goal(_MOST_CPU, "cpu", against="nginx"))
    with _running(lab, "bgfetch") as mine, _running(lab, "ModelServer in uvicorn") as plain:
        servers = [mine, plain, _Server("nginx", f"{lab.nginx.plain}/model.bin", lab.nginx.pids)]
        for rep in range(reps):
            first = rep % len(servers)
            for server in servers[first:] + servers[:first]:
                _run(row, server, work(server.url), expected)
    return row


def _run(row: Row, server: _Server, work: Sequence[tuple[Sequence[str], str]], expected: int) -> None:
    machine, cpu, began = busy_machine(), busy_processes(server.pids), time.perf_counter()
    clients = [
        subprocess.Popen(
            argv,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for argv, _ in work
    ]
    for client, (_, told) in zip(clients, work, strict=True):
        assert client.stdin is not None
        client.stdin.write(told)
        client.stdin.close()
        client.stdin = None
    ended = [client.communicate() for client in clients]
    wall, taken = time.perf_counter() - began, busy_processes(server.pids) - cpu
    got = sum(int(count) for said, _ in ended for count in said.split())
    if any(client.returncode for client in clients) or got != expected:
        raise BenchError(f"{server.name} gave {got} of {expected} bytes: {ended[0][1][-300:]}")
    noise = max(0.0, (busy_machine() - machine - taken) / wall)
    row.add(server.name, wall=wall, cpu=taken, rss_mib=_resident_mib(server.pids), noise=noise)
    say(f"  {row.name}: {server.name} {wall:.2f} s, {taken:.2f} s CPU of the server")


@contextmanager
def _running(lab: Lab, name: str) -> Iterator[_Server]:
    """A server of ours over the lab's files, once everything there is hashed."""
    plain = name != "bgfetch"
    command = (
        ["-c", _PLAIN, str(lab.files)] if plain else ["-m", "bgfetch", "serve", str(lab.files), "-p", "0"]
    )
    home = lab.folder / f"serve-home-{'plain' if plain else 'own'}"
    env = clean_environment(BGFETCH_HOME=str(home))
    process = subprocess.Popen(
        [sys.executable, *command], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        base = process.stdout.readline().strip()
        if not base:
            raise BenchError(f"{name} does not begin to serve")
        url = f"{base}model.bin" if plain else f"{base}models/model.bin"
        _wait_hashed(f"{url}?manifest", name)
        yield _Server(name, url, [process.pid])
    finally:
        process.terminate()
        process.wait()


def _wait_hashed(url: str, name: str) -> None:
    ask = ["curl", "-q", "-sf", "--noproxy", "*", "-o", "/dev/null", url]
    until = time.monotonic() + 120
    while subprocess.run(ask, check=False).returncode != 0:
        if time.monotonic() > until:
            raise BenchError(f"{name} does not end hashing")
        time.sleep(0.2)


def _resident_mib(pids: Sequence[int]) -> float:
    """Largest resident memory of any of these so far."""
    peaks = [Path(f"/proc/{pid}/status").read_text("ascii").partition("VmHWM:")[2].split()[0] for pid in pids]
    return max(map(int, peaks)) / 1024
