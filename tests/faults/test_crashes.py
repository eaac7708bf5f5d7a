"""Processes that are killed and machines that lose their power, at any instant and again while they come back.

The rule: never a wrong file under a final name, never a lost registration, every download finishes. What a piece's slot
or the database claims is on disk. A kill costs seconds of bytes, also between the last byte and the settlement.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

import pytest
from tests.faults.test_disk import ROOT, finals
from tests.lab import Lab, asking

from bgfetch.core.machine import Policy
from bgfetch.core.model import Result
from bgfetch.core.pieces import decode_slots, held_in
from bgfetch.testing import FaultServer, ForgetfulVfs, OriginServer, fates
from bgfetch.vfs import Vfs

MIB = 1 << 20
QUICKLY = Policy(attempts=8, retry_scale=0.01, disk_poll=0.01)
SMALL = random.Random(21).randbytes(9 * MIB + 12_345)
OTHER = random.Random(22).randbytes(9 * MIB + 54_321)
LARGE = random.Random(23).randbytes(24 * MIB + 777)

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="a life costs a fork")

# What is true at every instant.


def check_claims(home: Path, *bodies: bytes) -> None:
    """What a table of pieces claims is in the file beside it; what has a final name is right."""
    for table in (home / "partials").glob("*/pieces"):
        data = (table.parent / "data").read_bytes() if (table.parent / "data").exists() else b""
        held = held_in(decode_slots(table.read_bytes()))
        right = [all(data[it.start : it.stop] == body[it.start : it.stop] for it in held) for body in bodies]
        assert any(right) or not data, f"{table} claims {held}"
    check_finals(home, *bodies)


def check_finals(home: Path, *bodies: bytes) -> None:
    """What has a final name is one of these bodies."""
    wrong = [path for path in finals(home) if path.read_bytes() not in bodies]
    assert not wrong, wrong


# Kills. A server process with everything imported forks a child for each life, so that a life costs milliseconds.

FORKER = """
import errno, json, os, signal, sys
from pathlib import Path
from tests.lab import Lab
from tests.faults.test_crashes import QUICKLY
from bgfetch.testing import FailingVfs
from bgfetch.transports.base import Deadlines

def live(home, nth):
    vfs = FailingVfs(errno.EIO, nth, refused=lambda operation: os.kill(os.getpid(), signal.SIGKILL))
    lab = Lab(Path(home), policy=QUICKLY, vfs=vfs, deadlines=Deadlines())
    active = [row.uid for row in lab.store.listing(active=True)]
    for uid in active:
        lab.resume(uid)
    for uid in active:
        lab.wait(60)
    lab.close()
    return 0

for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if not child:
        code = 1
        try:
            code = live(order["home"], order["nth"])
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(code)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Forker:
    """Runs lives of the engine in processes that may be killed."""

    def __init__(self, script: Path) -> None:
        script.write_text(FORKER)
        paths = [str(ROOT), *(path for path in sys.path if path)]
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import sys; sys.path[:0] = {paths!r}; exec(open({str(script)!r}).read())",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders: IO[str] = self._process.stdin
        self._answers: IO[str] = self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._orders.close()
        self._process.wait(30)
        self._answers.close()

    def live(self, home: Path, *, seconds: float, nth: int) -> bool:
        """One life, ended after so many seconds or at the Nth operation of the disk (0: at none); whether it
        got to its own end.
        """
        print(json.dumps({"home": str(home), "nth": nth}), file=self._orders, flush=True)
        child = int(self._answers.readline())
        timer = subprocess.Popen(["sh", "-c", f"sleep {seconds:.3f}; kill -9 {child} 2>/dev/null"])
        code = int(self._answers.readline())
        timer.kill()
        timer.wait()
        assert code in (0, -9), f"a life ended with {code}"
        return code == 0


@dataclass
class Toll:
    """What kills cost."""

    kills: int = 0
    downloads: int = 0
    again: int = 0
    connections: int = 0
    worst: float = 0.0
    lives: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        each = self.again / max(1, self.connections) / MIB
        return (
            f"{self.kills} kills over {self.downloads} downloads: 0 wrong files, 0 lost registrations, "
            f"{self.again / MIB:.1f} MiB fetched again, {each:.2f} MiB a connection and kill, "
            f"at most {self.worst:.2f} in one download"
        )


def download(
    forker: Forker, home: Path, server: OriginServer, chance: random.Random, toll: Toll, life: float
) -> None:
    """A download through as many kills as it takes."""
    known = chance.random() < 0.5
    request = asking(server.url, sha256=server.sha256 if known else "")
    with Lab(home) as lab:
        uid = lab.store.add("default", "x", [(request, "ab" * 32)], now=time.time()).uid
    sent, kills, connections = server.bytes_sent, 0, 0
    while True:
        opened = server.connections
        nth = chance.randrange(1, 90) if chance.random() < 0.4 else 0
        over = forker.live(home, seconds=60.0 if nth else chance.expovariate(1 / life), nth=nth)
        check_claims(home, LARGE)
        if over:
            break
        kills += 1
        connections += server.connections - opened
    with Lab(home) as lab:
        row = lab.store.get(uid)
        assert row is not None
        assert row.result is Result.SUCCESS, lab.lines()
        (record,) = lab.store.records(uid)
        assert lab.stores.blobs.path(record.blob).read_bytes() == LARGE
        assert [event.uid for event in lab.store.pending(now=time.time())] == [uid]
    again = server.bytes_sent - sent - len(LARGE)
    toll.kills, toll.downloads, toll.again = (
        toll.kills + kills,
        toll.downloads + 1,
        toll.again + max(0, again),
    )
    toll.connections += connections
    if connections:
        toll.worst = max(toll.worst, again / connections / MIB)
    shutil.rmtree(home)


def kill_often(tmp_path: Path, *, kills: int, life: float, rate: float, faulty: bool, seed: int) -> Toll:
    """Downloads until so many kills were suffered."""
    toll, chance = Toll(), random.Random(seed)
    make: Callable[[], OriginServer] = (
        (lambda: FaultServer(LARGE, "drop-rst")) if faulty else (lambda: OriginServer(LARGE, rate=rate))
    )
    with Forker(tmp_path / "forker.py") as forker:
        while toll.kills < kills:
            with make() as server:
                server.rate = rate
                download(forker, tmp_path / f"home{toll.downloads}", server, chance, toll, life)
    print(f"\n{'dropping' if faulty else 'plain'} server: {toll}")
    return toll


@needs_fork
@pytest.mark.parametrize("faulty", [False, True], ids=["plain", "dropping"])
def test_survives_kills(tmp_path: Path, *, faulty: bool) -> None:
    """Killed again and again: everything finishes right, and a kill costs at most 2 MiB a connection."""
    toll = kill_often(tmp_path, kills=35, life=0.25, rate=8 * MIB, faulty=faulty, seed=5)
    assert faulty or toll.worst <= 2.0


@needs_fork
@pytest.mark.faults
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("faulty", [False, True], ids=["plain", "dropping"])
def test_survives_thousands_of_kills(tmp_path: Path, *, faulty: bool) -> None:
    """The same, 3,000 times."""
    toll = kill_often(tmp_path, kills=1500, life=0.12, rate=12 * MIB, faulty=faulty, seed=6)
    assert faulty or toll.worst <= 2.0


# Power cuts.


@dataclass
class Cuts:
    """Cuts the power at operations of a run, and lets each state that this can leave come back.

    Args:
        tmp: Where states are put.
        server: Whose body the survivors fetch.
        bodies: What may have a final name.
        step: Cut at each operation whose number is a multiple.
        seed: Of the fates.
        again: Whether the power is cut once more while the state comes back.
    """

    tmp: Path
    server: OriginServer
    bodies: tuple[bytes, ...]
    step: int = 1
    seed: int = 0
    again: bool = False
    states: int = 0
    wrong: list[str] = field(default_factory=list)
    at: dict[int, Callable[[], None]] = field(default_factory=dict)

    def run(self, home: Path, sha256: str) -> None:
        """A download with the power cut at its operations; it goes on meanwhile as if nothing had been."""
        home.mkdir()
        vfs = ForgetfulVfs(home, before=lambda nth: self._before(vfs, nth))
        with Lab(home, policy=QUICKLY, vfs=vfs) as lab:
            ended = lab.fetch(asking(self.server.url, sha256=sha256), timeout=600)
            assert ended.row.result is Result.SUCCESS, lab.lines()
            assert ended.body in self.bodies  # the older one, where all of it was under way when it changed
        assert not self.wrong, "\n".join(self.wrong)

    def _before(self, vfs: ForgetfulVfs, nth: int) -> None:
        if nth in self.at:
            self.at[nth]()
        if nth % self.step:
            return
        try:
            self._survive(vfs, f"{nth}", depth=1)
        except Exception as error:  # noqa: BLE001 - told by the test's own thread, with the number that repeats it
            self.wrong.append(f"operation {nth}: {type(error).__name__}: {str(error)[:2000]}")

    def _survive(self, vfs: ForgetfulVfs, name: str, *, depth: int) -> None:
        home = self.tmp / f"cut-{name}"
        chance = random.Random(f"{self.seed}-{name}")
        vfs.crash(home, fates(chance.getrandbits(32)))
        _copy_database(vfs.root, home)
        self.states += 1
        check_finals(home, *self.bodies)
        if not self.at:
            check_journal(home, self.server.body)
        if self.again and depth == 1:
            second = chance.randrange(1, 30)
            inner = ForgetfulVfs(
                home,
                before=lambda nth: self._survive(inner, f"{name}-{nth}", depth=2) if nth == second else None,
            )
            self._come_back(home, inner)
        else:
            self._come_back(home, Vfs())
        shutil.rmtree(home)

    def _come_back(self, home: Path, vfs: Vfs) -> None:
        with Lab(home, policy=QUICKLY, vfs=vfs) as lab:
            (row,) = lab.store.listing()
            if not row.result:
                lab.resume(row.uid)
                lab.wait(60)
            (record,) = lab.store.records(row.uid)
            assert record.result is Result.SUCCESS, lab.lines()
            assert lab.stores.blobs.path(record.blob).read_bytes() in self.bodies
        check_finals(home, *self.bodies)


def check_journal(home: Path, body: bytes) -> None:
    """The spans in the database are on disk: in the partial, or in the blob that it has become."""
    found = [path.read_bytes() for path in [*(home / "partials").glob("*/data"), *finals(home)]]
    with Lab(home) as lab:
        for row in lab.store.listing():
            for record in lab.store.records(row.uid):
                for it in record.spans:
                    here = any(data[it.start : it.stop] == body[it.start : it.stop] for data in found)
                    assert here, f"{it} is not on disk"


def _copy_database(home: Path, into: Path) -> None:
    """What was committed: SQLite makes that durable by itself."""
    (into / "state").mkdir(mode=0o700)
    source = sqlite3.connect(home / "state" / "bgfetch.sqlite3")
    target = sqlite3.connect(into / "state" / "bgfetch.sqlite3")
    try:
        source.backup(target)
    finally:
        source.close()
        target.close()


@pytest.fixture
def eager_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is recorded many times in a run that takes less than a second."""
    monkeypatch.setattr("bgfetch.engine.driver._JOURNAL_EVERY", 0.02)
    monkeypatch.setattr("bgfetch.engine.driver._TICK", 0.02)


@pytest.mark.usefixtures("eager_journal")
@pytest.mark.parametrize("digest", [False, True], ids=["no-digest", "digest"])
def test_survives_power_cuts(tmp_path: Path, *, digest: bool) -> None:
    """Every sixth operation: whatever the disk forgot, the download finishes right."""
    with OriginServer(SMALL) as server:
        cuts = Cuts(tmp_path, server, (SMALL,), step=6, seed=1)
        cuts.run(tmp_path / "home", server.sha256 if digest else "")
    assert cuts.states > 5


@pytest.mark.usefixtures("eager_journal")
def test_survives_power_cuts_while_the_file_changes(tmp_path: Path) -> None:
    """Bytes of two versions are never mixed, whichever names and writes of both survive."""
    with OriginServer(SMALL) as server:
        cuts = Cuts(tmp_path, server, (SMALL, OTHER), step=6, seed=2)
        cuts.at[24] = lambda: server.replace(OTHER)
        cuts.run(tmp_path / "home", "")
    assert cuts.states > 5


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("eager_journal")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["no-digest", "digest", "changing"])
def test_survives_a_power_cut_at_every_operation(tmp_path: Path, kind: str, seed: int) -> None:
    """Every operation, and once more while it comes back."""
    with OriginServer(SMALL) as server:
        cuts = Cuts(
            tmp_path, server, (SMALL, OTHER) if kind == "changing" else (SMALL,), seed=seed, again=True
        )
        if kind == "changing":
            cuts.at[10 + 8 * seed] = lambda: server.replace(OTHER)
        cuts.run(tmp_path / "home", server.sha256 if kind == "digest" else "")
    print(f"\n{kind}, seed {seed}: {cuts.states} states after power cuts, all finished right")
