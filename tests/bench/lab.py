"""The place where it is measured: files on the real disk, servers, and the runs themselves.

A row's candidates run by turns, another one first in each round, so that a machine that slows down slows all of
them. Nothing is thrown away. Every output is compared with its source, byte by byte, outside the measured time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.bench.measure import BenchError, Sample, clean_environment, measured
from tests.bench.peers import Job
from tests.bench.server import Nginx, make_certificate

__all__ = ["Candidate", "Goal", "Lab", "Row", "say"]

_BLOCK = 1 << 20
_SMALL_COUNT, _SMALL_SIZE = 1000, 64 << 10

Metric = Literal["wall", "cpu", "rss_mib", "first_request", "again_mib"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tool that takes part in a row.

    Args:
        name: As the table shows it.
        job: Makes what is run, given an empty folder on the disk under test.
    """

    name: str
    job: Callable[[Path], Job]


@dataclass(frozen=True, slots=True)
class Goal:
    """What bgfetch wants to reach in a row.

    Args:
        most: Largest good value: a ratio of medians where there is `against`, else an amount.
        metric: Of what: seconds, MiB.
        against: The candidate compared with, or "" for an amount.
        statistic: Of the amounts of all runs.
    """

    most: float
    metric: Metric = "wall"
    against: str = ""
    statistic: Literal["median", "p95", "max"] = "median"


@dataclass(slots=True)
class Row:
    """One question and its figures.

    Args:
        name: For --rows.
        title: What is measured.
        figures: By candidate, by metric: one value a run.
        skipped: Why there are none.
    """

    name: str
    title: str
    goals: list[Goal] = field(default_factory=list)
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    skipped: str = ""

    def add(self, candidate: str, **values: float) -> None:
        """One more run."""
        table = self.figures.setdefault(candidate, {})
        for metric, value in values.items():
            table.setdefault(metric, []).append(value)

    def reached(self, goal: Goal) -> float | None:
        """The value to hold against the goal; None where it was not measured."""
        mine = self.figures.get("bgfetch", {}).get(goal.metric)
        if not mine:
            return None
        if goal.against:
            theirs = self.figures.get(goal.against, {}).get(goal.metric)
            return statistics.median(mine) / statistics.median(theirs) if theirs else None
        match goal.statistic:
            case "median":
                return statistics.median(mine)
            case "max":
                return max(mine)
            case "p95":
                return sorted(mine)[min(len(mine) - 1, int(0.95 * len(mine)))]


class Lab:
    """Files, servers and runs in one temporary folder.

    Args:
        parent: Where the folder is made; its file system is the one under test.
        size: Bytes of the large file.
    """

    def __init__(self, parent: Path, size: int) -> None:
        self.size = size
        self.warm = size + size // 4  # bytes of memory
        self.folder = Path(tempfile.mkdtemp(prefix="bgfetch-bench-", dir=parent))
        self.folder.chmod(0o755)  # nginx serves it as a user of its own
        self.files = self.folder / "files"
        self.ca = self.folder / "ca.pem"
        self._stack = contextlib.ExitStack()
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        (self.folder / "temp").mkdir()
        self.files.mkdir()
        self.sha256 = _random_file(self.files / "model.bin", size)
        make_certificate(self.folder)
        self.nginx = Nginx(self.folder, sha256=self.sha256)
        self._stack.callback(self.nginx.close)
        self.nginx.wait()

    def close(self) -> None:
        """Stop the servers and remove all files."""
        self._stack.close()

    def part(self, size: int) -> str:
        """The name of a served file of this size."""
        path = self.files / f"{size}.bin"
        if not path.exists():
            _random_file(path, size)
        return path.name

    def repeated(self, times: int) -> str:
        """The name of a served file `times` as large as the large one; no two copies have the same order of blocks."""
        path = self.files / "repeated.bin"
        blocks = max(1, self.size // _BLOCK)
        with path.open("wb") as target, (self.files / "model.bin").open("rb") as source:
            for turn in range(times):
                for number in range(blocks):
                    source.seek((number + 7 * turn) % blocks * _BLOCK)
                    target.write(source.read(_BLOCK))
        return path.name

    def many(self) -> Path:
        """The folder of 1,000 small served files."""
        folder = self.files / "many"
        if not folder.exists():
            folder.mkdir()
            for number in range(_SMALL_COUNT):
                (folder / f"{number:04}.bin").write_bytes(os.urandom(_SMALL_SIZE))
        return folder

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """An empty folder for one run, on a disk with nothing left to write."""
        place = self.folder / "run"
        place.mkdir()
        os.sync()
        self._warm_memory(place / "warm")
        try:
            yield place
        finally:
            shutil.rmtree(place)

    def _warm_memory(self, path: Path) -> None:
        """Let every run find memory that was in use a moment ago.

        A virtual machine gives memory it has not used for 2 s back to its host (free page reporting); the next to
        touch it pays up to 1.3 s for a GiB where it is 0.15 s otherwise (measured). Without this, the order decides.
        """
        block = bytes(_BLOCK)
        with path.open("wb") as file:
            for _ in range(self.warm // _BLOCK):
                file.write(block)
        path.unlink()

    def run(self, job: Job, *, source: Path, server: list[int] | None = None, compare: bool = True) -> Sample:
        """Run a job once and compare what it brought with `source`."""
        env = clean_environment(**job.env)
        printed = self.folder / "stdout"
        pids = self.nginx.pids if server is None else server
        sample = measured(job.argv, env=env, output=printed, server=pids)
        if compare and job.output is not None:
            compare_exactly(job.output, source)
        return sample

    def race(
        self,
        row: Row,
        candidates: list[Candidate],
        *,
        source: Path,
        reps: int,
        server: list[int] | None = None,
    ) -> None:
        """Run all candidates by turns."""
        for rep in range(reps):
            first = rep % len(candidates)
            for candidate in candidates[first:] + candidates[:first]:
                with self.place() as place:
                    sample = self.run(candidate.job(place), source=source, server=server)
                row.add(
                    candidate.name,
                    wall=sample.wall,
                    cpu=sample.cpu,
                    rss_mib=sample.rss_mib,
                    noise=sample.noise,
                )
                say(f"  {row.name}: {candidate.name} {sample.wall:.2f} s, {sample.cpu:.2f} s CPU")


def say(text: str) -> None:
    """Tell whoever waits."""
    print(text, file=sys.stderr, flush=True)


def compare_exactly(output: Path, source: Path) -> None:
    """Raise BenchError unless both hold the same bytes: files, or folders of the same names."""
    command = ["diff", "-rq"] if source.is_dir() else ["cmp"]
    done = subprocess.run([*command, str(output), str(source)], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchError(f"{output} is not what was asked for: {done.stdout}{done.stderr}")


def _random_file(path: Path, size: int) -> str:
    """Write random bytes; their sha256."""
    hasher = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, _BLOCK):
            block = os.urandom(min(_BLOCK, size - start))
            hasher.update(block)
            file.write(block)
    return hasher.hexdigest()
