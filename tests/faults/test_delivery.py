"""Handlers, what delivers to them, or both, killed at any instant around settlement.

The rule: every event is seen at least once, none is acknowledged twice, and whoever tells repetitions by the event's
number has every effect once.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import pytest
from tests.faults.test_disk import ROOT

from bgfetch.config import load
from bgfetch.core.delivery import PARKED
from bgfetch.core.model import Request
from bgfetch.wiring import Wiring
from bgfetch.worker.workers import Handler, Kind

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="a life costs a fork")

# A process with everything imported forks a child for each life. The delays between deliveries are cut short.
FORKER = """
import os, queue, sys, time
import bgfetch.worker.delivery
from bgfetch.config import load
from bgfetch.core.model import Result
from bgfetch.errors import InvalidState
from bgfetch.wiring import Wiring
import bgfetch.worker.scopes, bgfetch.worker.launcher, bgfetch.worker.workers, bgfetch.registrations.sqlite
import bgfetch.cache.entries, bgfetch.cache.blobs, bgfetch.cache.partials, filelock, subprocess

bgfetch.worker.delivery.next_delivery = lambda begun, *, now, chance: now + 0.02 * chance

def live(home):
    wiring = Wiring(load({"home": home, "in_process": True}, {}))
    store = wiring.registrations
    handled = queue.SimpleQueue()
    wiring.worker.start(lambda row, type_: handled.put(row.uid))
    for row in reversed(store.listing(active=True)):
        store.settle(row.uid, store.claim(row.uid, "life"), Result.SUCCESS, now=time.time())
        wiring.worker.wake()
    while store.pending(now=float("inf")):
        handled.get()
    wiring.close()

for line in sys.stdin:
    child = os.fork()
    if not child:
        code = 1
        try:
            live(line.strip())
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(code)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""

# Seen before anything is done, the effect done once for each event, both before it is acknowledged.
HANDLER = """
read -r line
id=${line#*'"event_id": '}; id=${id%%,*}
echo $$ > running
echo $id >> seen
sleep 0.01
mkdir effects/$id 2>/dev/null && echo $id >> done
exit 0
"""


class Forker:
    """Runs lives that deliver what is owed."""

    def __init__(self, script: Path) -> None:
        script.write_text(FORKER, "utf-8")
        paths = [str(ROOT), *(path for path in sys.path if path)]
        start = f"import sys; sys.path[:0] = {paths!r}; exec(open({str(script)!r}).read())"
        self._process = subprocess.Popen(
            [sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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

    def begin(self, home: Path) -> int:
        """A life; its process."""
        print(home, file=self._orders, flush=True)
        return int(self._answers.readline())

    def ends_within(self, seconds: float) -> bool:
        """Whether the life ends so soon."""
        return bool(select.select([self._answers], [], [], seconds)[0])

    def ended(self) -> int:
        """How the life ended."""
        return int(self._answers.readline())


@dataclass
class Toll:
    """What was killed, and what that cost."""

    lives: int = 0
    handlers: int = 0
    events: int = 0
    deliveries: int = 0

    @property
    def kills(self) -> int:
        """Of both."""
        return self.lives + self.handlers

    def __str__(self) -> str:
        return (
            f"{self.kills} kills ({self.lives} of the deliverer, {self.handlers} of handlers) around {self.events} "
            f"settlements: every event seen ({self.deliveries} deliveries), every effect once, each acknowledged once"
        )


def prepare(home: Path, folder: Path, scopes: int, each: int) -> None:
    """Registrations that are about to settle, in scopes with workers of their own."""
    (folder / "effects").mkdir(parents=True)
    wiring = Wiring(load({"home": str(home), "in_process": True}, {}))
    for number in range(scopes):
        worker = Handler(Kind.ARGV, ("sh", "-c", HANDLER), "", (), str(folder))
        wiring.scopes.register(f"scope{number}", worker)
        for index in range(each):
            request = Request(f"https://host/{index}")
            wiring.registrations.add(f"scope{number}", f"id{index}", [(request, "ab" * 32)], now=1.0)
    wiring.close()


def kill_handler(folder: Path) -> bool:
    """Kill the handler that began last, with its group; whether there was one."""
    with contextlib.suppress(OSError, ValueError):
        os.killpg(os.getpgid(int((folder / "running").read_text())), signal.SIGKILL)
        return True
    return False


def check(home: Path, folder: Path, count: int) -> int:
    """What must be true at the end; how many deliveries there were."""
    wiring = Wiring(load({"home": str(home), "in_process": True}, {}))
    store = wiring.registrations
    rows = store.listing()
    assert len(rows) == count
    assert store.pending(now=PARKED) == []
    events = {row[0]: row[1] for row in wiring.database.rows("SELECT event_id, uid FROM outbox")}
    assert len(events) == count
    for uid in events.values():
        names = Counter(line.name for line in store.events(uid))
        assert names["acknowledged"] == 1, names
        assert names["backgroundfetchsuccess"] == 1, names
    assert all(not row.records_available for row in rows)
    wiring.close()
    seen = Counter((folder / "seen").read_text().split())
    done = Counter((folder / "done").read_text().split())
    assert {int(each) for each in seen} == set(events)
    assert {int(each.name) for each in (folder / "effects").iterdir()} == set(events)
    assert set(done.values()) == {1}
    return sum(seen.values())


def kill_often(tmp_path: Path, *, kills: int, seed: int) -> Toll:
    """Rounds of settlements, each delivered through as many kills as it takes."""
    toll, chance = Toll(), random.Random(seed)
    with Forker(tmp_path / "forker.py") as forker:
        while toll.kills < kills:
            home, folder = tmp_path / f"home{toll.events}", tmp_path / f"app{toll.events}"
            prepare(home, folder, scopes=3, each=3)
            code = -9
            while code == -9:
                child = forker.begin(home)
                forker.ends_within(
                    chance.expovariate(1 / 0.06)
                )  # no wait: the moment of the kill is the fault
                what = chance.random()
                if what < 0.6:
                    toll.handlers += kill_handler(folder)
                if what > 0.4 or toll.kills >= kills:
                    with contextlib.suppress(ProcessLookupError):
                        if toll.kills < kills:
                            os.kill(child, signal.SIGKILL)
                code = forker.ended()
                toll.lives += code == -9
            assert code == 0
            toll.deliveries += check(home, folder, 9)
            toll.events += 9
    print(f"\n{toll}")
    return toll


@needs_fork
def test_survives_kills(tmp_path: Path) -> None:
    """A sample of the thousand below."""
    assert kill_often(tmp_path, kills=25, seed=1).events > 0


@needs_fork
@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_survives_a_thousand_kills(tmp_path: Path) -> None:
    """Every event seen at least once, none acknowledged twice, every effect once."""
    assert kill_often(tmp_path, kills=1000, seed=2).kills >= 1000
