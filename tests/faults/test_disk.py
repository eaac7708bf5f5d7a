"""A disk that refuses the Nth operation, for N = 1, 2, 3 ... until a run never gets that far; and disks that are full.

The rule: nothing wrong ever has a final name, nothing hangs, no thread dies, no descriptor is lost; once the disk is
well again the download finishes with the right bytes, and it never needs a person where the disk was only full.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.lab import Lab, asking

from bgfetch.core.machine import Policy
from bgfetch.core.model import Result
from bgfetch.testing import FailingVfs, OriginServer

ROOT = Path(__file__).resolve().parents[2]
BODY = random.Random(8).randbytes((9 << 20) + 12_345)  # a first segment, then another one, and an odd end
QUICKLY = Policy(attempts=8, retry_scale=0.001, disk_poll=0.005)
SICK_FOR = 5  # refusals of a sticky error before the disk is well again: less than the attempts above

ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EMFILE": errno.EMFILE}


class Watched(FailingVfs):
    """A failing disk that looks at each body the moment it gets a final name."""

    wrong: str = ""

    def rename(self, source: Path, target: Path) -> None:
        """Rename, and compare."""
        super().rename(source, target)
        if source.name == "data" and target.read_bytes() != BODY:
            self.wrong = f"{target} was wrong"

    def _step(self, operation: str) -> None:
        try:
            super()._step(operation)
        except OSError:
            if self.failures >= SICK_FOR:
                self.heal()
            raise


def finals(home: Path) -> list[Path]:
    """What has a final name."""
    blobs = home / "blobs"
    return [path for path in blobs.rglob("*") if path.is_file() and not path.suffix and path.parent != blobs]


def descriptors() -> int:
    """How many are open; always 0 where the system does not list them."""
    return len(os.listdir("/dev/fd")) if os.path.isdir("/dev/fd") else 0  # noqa: PTH112, PTH208


def run(home: Path, vfs: Watched, url: str, sha256: str) -> None:
    """A download on this disk; begun a second time if the first time ended in a named error."""
    request = asking(url, sha256=sha256)
    with Lab(home, policy=QUICKLY, vfs=vfs) as lab:
        ended = lab.fetch(request)
        if ended.row.result is Result.FAILURE and vfs.failures > 1:
            assert ended.records[0].failure_detail
            ended = lab.fetch(request)
        assert ended.row.result is Result.SUCCESS, lab.lines()
        assert ended.body == BODY
    assert not vfs.wrong
    assert [path.read_bytes() == BODY for path in finals(home)] == [True]
    assert not list(
        (home / "partials").rglob("data")
    )  # an empty directory whose deletion was refused may be left


class Case(NamedTuple):
    """Which error, how often, and whether the body's digest is known."""

    error: str
    sticky: bool
    digest: bool


def refuse_all(home: Path, case: Case, *, start: int, step: int) -> int:
    """A run for each N from `start`, `step` apart, that is reached; how many there were."""
    runs = 0
    with OriginServer(BODY) as server:
        for nth in range(start, 10_000, step):
            vfs = Watched(ERRORS[case.error], nth, sticky=case.sticky)
            before = descriptors()
            run(home / str(nth), vfs, server.url, server.sha256 if case.digest else "")
            assert descriptors() <= before + 2  # a connection or two of the server's
            if not vfs.reached:
                break
            runs += 1
    return runs


MATRIX = [
    Case(name, sticky, digest) for name in ERRORS for sticky in (False, True) for digest in (False, True)
]
every_case = pytest.mark.parametrize(
    "case",
    MATRIX,
    ids=lambda case: (
        f"{case.error}-{'sticky' if case.sticky else 'once'}-{'digest' if case.digest else 'none'}"
    ),
)


@every_case
def test_finishes_after_some_operations_were_refused(tmp_path: Path, case: Case) -> None:
    """Every thirteenth operation refused in turn: the download finishes, right, without help."""
    assert refuse_all(tmp_path, case, start=1 + 3 * case.sticky + 2 * case.digest, step=13) > 0


@pytest.mark.faults
@pytest.mark.timeout(300)
@every_case
def test_finishes_after_any_operation_was_refused(tmp_path: Path, case: Case) -> None:
    """Every operation refused in turn: the download finishes, right, without help."""
    runs = refuse_all(tmp_path, case, start=1, step=1)
    print(f"{case}: {runs} operations refused")
    assert runs > 5


# A real file system without room: in a mount namespace of its own, so that nothing is left behind.

FULL = """
import os, queue, sys
from pathlib import Path
from tests.lab import Lab, asking
from tests.faults.test_disk import BODY
from bgfetch.core.machine import Policy
from bgfetch.core.model import Result, State

url, sha256, disk = sys.argv[1], sys.argv[2], Path(sys.argv[3])
hog = disk / "hog"
free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
with hog.open("wb") as file:
    os.posix_fallocate(file.fileno(), 0, max(0, free - (4 << 20)))
with Lab(disk / "home", policy=Policy(disk_poll=1.2)) as lab:
    told = queue.SimpleQueue()
    lab.driver.bulletin.listen(lab.begin(asking(url, sha256=sha256)), told.put)
    while (progress := told.get(timeout=10)).state is not State.PAUSED_DISK:
        assert not progress.result, (progress, lab.lines())
    assert progress.until is not None
    left = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    assert left > 1 << 20, f"it filled the disk to {left} bytes"
    hog.unlink()
    ended = lab.wait()
    assert ended.row.result is Result.SUCCESS, lab.lines()
    assert ended.body == BODY
print("went on by itself")
"""


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="mounting a small disk needs root and unshare",
)
@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_a_full_disk_pauses_and_goes_on_by_itself(tmp_path: Path, kind: str) -> None:
    """ENOSPC from a real file system is a state with words; room that comes back is noticed; no disk is filled up."""
    disk = tmp_path / "disk"
    disk.mkdir()
    image = tmp_path / "image"
    mounting = {
        "tmpfs": f"mount -t tmpfs -o size=32m none {disk}",
        "ext4": f"truncate -s 48M {image} && mkfs.ext4 -q -O ^has_journal {image} && mount -o loop {image} {disk}",
    }[kind]
    with OriginServer(BODY) as server:
        script = tmp_path / "full.py"
        script.write_text(FULL)
        inner = f"{mounting} || exit 77; exec {sys.executable} {script} {server.url} {server.sha256} {disk}"
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", inner],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path for path in [str(ROOT), *sys.path] if path),
            },
        )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no {kind} can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert "went on by itself" in done.stdout
