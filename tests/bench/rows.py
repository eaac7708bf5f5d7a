"""What is measured: each row asks one question, has its candidates, and the goals the issue sets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial as bind
from pathlib import Path

from tests.bench import line, peers
from tests.bench.lab import Candidate, Goal, Lab, Row
from tests.bench.measure import BenchError, clean_environment
from tests.bench.server import Nginx
from tests.bench.serving import SERVING

__all__ = ["ROWS"]

MIB = 1 << 20
_LIST_RUNS = 20  # short commands: many runs, for the 95th percentile


def _bgfetch(lab: Lab, url: str, *words: str) -> Candidate:
    def job(place: Path) -> peers.Job:
        return peers.bgfetch(place, "get", url, "-q", "-o", str(place / "out.bin"), *words, ca=lab.ca)

    return Candidate("bgfetch", job)


def _peers(lab: Lab, url: str) -> list[Candidate]:
    tools = {"curl": peers.curl, "wget": peers.wget, "aria2c": peers.aria2c}
    return [Candidate(name, bind(tool, url=url, ca=lab.ca)) for name, tool in tools.items()]


def https(lab: Lab, reps: int) -> Row:
    """One large file over TLS, with nothing known of it."""
    row = Row("https", f"{lab.size / MIB:g} MiB over TLS to disk, no digest given")
    url = f"{lab.nginx.tls}/model.bin"
    hub = Candidate("huggingface_hub", bind(peers.huggingface_hub, endpoint=lab.nginx.tls, ca=lab.ca))
    lab.race(row, [_bgfetch(lab, url), *_peers(lab, url), hub], source=lab.files / "model.bin", reps=reps)
    row.goals += [
        Goal(1.0, against="curl"),
        Goal(1.2, "cpu", against="curl"),
        Goal(0.35, against="huggingface_hub"),
    ]
    return row


def http(lab: Lab, reps: int) -> Row:
    """The same without TLS."""
    row = Row("http", f"{lab.size / MIB:g} MiB over plain HTTP to disk, no digest given")
    url = f"{lab.nginx.plain}/model.bin"
    lab.race(row, [_bgfetch(lab, url), *_peers(lab, url)], source=lab.files / "model.bin", reps=reps)
    row.goals += [Goal(0.85, against="curl"), Goal(1.2, "cpu", against="curl")]
    return row


def verified(lab: Lab, reps: int) -> Row:
    """One large file over TLS whose sha256 is known."""
    row = Row("verified", f"{lab.size / MIB:g} MiB over TLS to disk, sha256 given and checked")
    url = f"{lab.nginx.tls}/model.bin"
    candidates = [
        _bgfetch(lab, url, "--sha256", lab.sha256),
        Candidate("curl && sha256sum", bind(peers.curl, url=url, ca=lab.ca, then_sha256=True)),
        Candidate("aria2c --checksum", bind(peers.aria2c, url=url, ca=lab.ca, sha256=lab.sha256)),
    ]
    lab.race(row, candidates, source=lab.files / "model.bin", reps=reps)
    row.goals += [Goal(0.65, against="curl && sha256sum"), Goal(0.5, against="aria2c --checksum")]
    return row


def throttled(lab: Lab, reps: int) -> Row:
    """A server that gives each connection 5 MB/s."""
    size = min(lab.size, 256 * MIB)
    row = Row("throttled", f"{size / MIB:g} MiB, 5 MB/s for each connection")
    name = lab.part(size)
    url = f"{lab.nginx.throttled}/{name}"
    aria2c = Candidate("aria2c", bind(peers.aria2c, url=url, ca=lab.ca))
    lab.race(row, [_bgfetch(lab, url), aria2c], source=lab.files / name, reps=reps)
    row.goals.append(Goal(0.7, against="aria2c"))
    return row


def lossy(lab: Lab, reps: int) -> Row:
    """A long line that loses packets."""
    size = min(lab.size, 64 * MIB)
    row = Row("lossy", f"{size / MIB:g} MiB at 200 Mbit/s, 100 ms round trip, 0.5 % of packets lost")
    row.goals.append(Goal(0.8, against="aria2c"))
    row.skipped = line.why_no_line()
    if row.skipped:
        return row
    name = lab.part(size)
    long_line = line.Line()
    try:
        row.title += f", TCP {long_line.congestion}"
        nginx = Nginx(
            lab.folder,
            sha256=lab.sha256,
            name="far",
            address=line.SERVER,
            within=long_line.at_server,
            ports=(80, 443, 8443, 8080),
        )
        try:
            nginx.wait(long_line.at_client)
            _race_on_line(lab, row, f"{nginx.plain}/{name}", long_line, [*nginx.pids, long_line.relay], reps)
        finally:
            nginx.close()
    finally:
        long_line.close()
    return row


def _race_on_line(lab: Lab, row: Row, url: str, long_line: line.Line, server: list[int], reps: int) -> None:
    def far(candidate: Candidate) -> Candidate:
        def job(place: Path) -> peers.Job:
            near = candidate.job(place)
            return peers.Job([*long_line.at_client, *near.argv], near.output, near.env)

        return Candidate(candidate.name, job)

    aria2c = Candidate("aria2c", bind(peers.aria2c, url=url, ca=lab.ca))
    candidates = [far(_bgfetch(lab, url)), far(aria2c)]
    lab.race(row, candidates, source=lab.files / url.rpartition("/")[2], reps=reps, server=server)


def many(lab: Lab, reps: int) -> Row:
    """Many small files in one call."""
    folder = lab.many()
    names = sorted(path.name for path in folder.iterdir())
    row = Row("many", f"{len(names)} files of 64 KiB over TLS (the server speaks HTTP/2) in one call")
    urls = lab.folder / "urls.txt"
    urls.write_text("".join(f"{lab.nginx.http2}/many/{name}\n" for name in names), "ascii")

    def mine(place: Path) -> peers.Job:
        out = place / "out"
        out.mkdir()
        return peers.bgfetch(place, "get", "-q", "-i", str(urls), "-o", str(out), ca=lab.ca)

    candidates = [
        Candidate("bgfetch", mine),
        Candidate("aria2c -j16", bind(peers.aria2c_list, urls=urls, ca=lab.ca)),
        Candidate("curl -Z", bind(peers.curl_list, urls=urls, ca=lab.ca)),
    ]
    lab.race(row, candidates, source=folder, reps=reps)
    row.goals.append(Goal(1.0, against="aria2c -j16"))
    return row


def memory(lab: Lab, _reps: int) -> Row:
    """A file four times as large must take no more memory."""
    row = Row(
        "memory", f"{4 * lab.size / MIB:g} MiB over plain HTTP, one run: memory does not grow with the file"
    )
    name = lab.repeated(4)
    try:
        url = f"{lab.nginx.plain}/{name}"
        lab.race(row, [_bgfetch(lab, url)], source=lab.files / name, reps=1)
    finally:
        (lab.files / name).unlink()
    row.goals.append(Goal(80.0, "rss_mib", statistic="max"))
    return row


def cached(lab: Lab, _reps: int) -> Row:
    """A file that is here already."""
    row = Row("cached", f"`get` of a cached file of 64 MiB, {_LIST_RUNS} runs")
    lab.warm = 0
    name = lab.part(min(lab.size, 64 * MIB))
    url = f"{lab.nginx.plain}/{name}"
    home = lab.folder / "cached-home"
    job = peers.bgfetch(lab.folder, "get", "-q", url, ca=lab.ca, home=home)
    lab.run(job, source=lab.files / name)
    lab.race(row, [Candidate("bgfetch", lambda _place: job)], source=lab.files / name, reps=_LIST_RUNS)
    row.goals.append(Goal(0.150, "cpu"))
    return row


_FILL = """
import sys, time
from pathlib import Path
from bgfetch.config import load
from bgfetch.core.identity import request_key
from bgfetch.core.model import Request
from bgfetch.wiring import Wiring

wiring = Wiring(load({"home": Path(sys.argv[1]), "in_process": True}))
for number in range(int(sys.argv[2])):
    request = Request(f"https://models.example/{number}/model.bin")
    wiring.registrations.add("default", f"model-{number}", [(request, request_key(request))], now=time.time())
wiring.close()
"""


def listing(lab: Lab, _reps: int) -> Row:
    """`ls` when much is registered."""
    count = 10_000
    row = Row("ls", f"`ls` with {count} registrations, {_LIST_RUNS} runs, from process start")
    row.goals.append(Goal(0.100, statistic="p95"))
    lab.warm = 0
    home = lab.folder / "listing-home"
    env = clean_environment()
    fill = [sys.executable, "-c", _FILL, str(home), str(count)]
    done = subprocess.run(fill, env=env, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        row.skipped = f"the store could not be filled: {done.stderr.strip().splitlines()[-1]}"
        return row
    job = peers.bgfetch(lab.folder, "ls", ca=lab.ca, home=home)
    known = subprocess.run(
        [sys.executable, "-m", "bgfetch", "ls", "--help"], env=env, check=False, capture_output=True
    )
    if known.returncode != 0:
        row.skipped = "there is no `bgfetch ls` yet"
        return row
    lab.race(row, [Candidate("bgfetch", lambda _place: job)], source=home, reps=_LIST_RUNS)
    return row


def resume(lab: Lab, reps: int) -> Row:
    """SIGKILL in the middle, then the same command again."""
    size = min(lab.size, 256 * MIB)
    row = Row(
        "resume", f"{size / MIB:g} MiB at 5 MB/s for each connection: SIGKILL at half, the same command again"
    )
    name = lab.part(size)
    for _ in range(reps):
        with lab.place() as place:
            out = place / "out.bin"
            url = f"{lab.nginx.throttled}/{name}"
            job = peers.bgfetch(place, "get", "-q", url, "-o", str(out), ca=lab.ca)
            lab.nginx.forget_requests()
            _kill_at(lab, job, size // 2)
            before = len(lab.nginx.requests())
            began = time.time()
            sample = lab.run(job, source=lab.files / name)
            served = lab.nginx.requests()
            first = min(request.began for request in served[before:]) - began
            again = (sum(request.sent for request in served) - size) / MIB
            row.add("bgfetch", wall=sample.wall, cpu=sample.cpu, first_request=first, again_mib=again)
    row.goals += [Goal(2.0, "first_request", statistic="max"), Goal(256.0, "again_mib", statistic="max")]
    return row


def _kill_at(lab: Lab, job: peers.Job, sent: int) -> None:
    """Run the job until the server has sent this much, then SIGKILL; return when the server has noticed."""
    process = subprocess.Popen(job.argv, env=clean_environment(**job.env), stdout=subprocess.DEVNULL)
    while sum(request.sent for request in lab.nginx.requests()) < sent:
        if process.poll() is not None:
            raise BenchError(f"{' '.join(job.argv)} ended before it could be killed")
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    count, quiet_since = len(lab.nginx.requests()), time.monotonic()
    while time.monotonic() - quiet_since < 1.0:  # nginx writes a broken request down when it next sends
        time.sleep(0.05)
        if len(lab.nginx.requests()) != count:
            count, quiet_since = len(lab.nginx.requests()), time.monotonic()


ROWS: dict[str, Callable[[Lab, int], Row]] = {
    "https": https,
    "http": http,
    "verified": verified,
    "throttled": throttled,
    "lossy": lossy,
    "many": many,
    "memory": memory,
    "cached": cached,
    "ls": listing,
    "resume": resume,
    **SERVING,
}
