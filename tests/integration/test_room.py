"""Room on the disk: asked for before the bytes are, waited for with words, and never more of it taken than there is."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command import Command
from tests.integration.test_engine import SOON, shows
from tests.lab import Lab, asking

from bgfetch.cache.room import OverQuota, Room
from bgfetch.core.model import FailureReason, State
from bgfetch.testing import Exchange, Handler, OriginServer, Reply, plain
from bgfetch.vfs import Vfs

BODY = random.Random(11).randbytes((24 << 20) + 5)
MIB = 1 << 20


class SmallDisk(Vfs):
    """A disk that says it has so much room."""

    def __init__(self, free: int) -> None:
        super().__init__()
        self.free = free
        self.looks = 0
        self.looked_often = threading.Event()

    def space(self, path: Path) -> tuple[int, int]:
        """What was said, and a disk of 1 TiB."""
        self.looks += 1
        if self.looks > 3:
            self.looked_often.set()
        return self.free, 1 << 40


def named(lab: Lab, name: str) -> list[str]:
    """Details of the lines of this name in the log."""
    return [line.detail for line in lab.store.events() if line.name == name]


def test_a_reserve_is_not_eaten(tmp_path: Path) -> None:
    """It waits before the first byte, says what it needs, asks no server meanwhile, and goes on by itself."""
    disk = SmallDisk(30 * MIB)
    with (
        OriginServer(BODY) as server,
        Lab(tmp_path, room=Room(tmp_path, disk, reserve=10 * MIB)) as lab,
    ):
        uid = lab.begin(asking(server.url))
        assert disk.looked_often.wait(SOON)
        full = shows(lab, uid, lambda progress: progress.state is State.PAUSED_DISK)
        assert full.wait(SOON)
        assert len(server.requests) == 1
        disk.free = 40 * MIB
        ended = lab.wait()
        assert ended.body == BODY
        (words,) = named(lab, "paused-disk")
        assert words.startswith(f"the disk is full ({len(BODY)} bytes are needed and {20 * MIB} are free, ")
        assert named(lab, "disk-has-room") == [""]


def test_the_default_reserve_leaves_what_others_need(tmp_path: Path) -> None:
    """Without a word from anybody 1 GiB of a large disk stays."""
    disk = SmallDisk((1 << 30) + len(BODY))
    with (
        OriginServer({"/a": BODY, "/b": BODY}) as server,
        Lab(tmp_path, room=Room(tmp_path, disk, reserve=None)) as lab,
    ):
        assert lab.fetch(asking(server.url_of("/a"))).body == BODY
        disk.free -= 1
        uid = lab.begin(asking(server.url_of("/b")), id="y")
        full = shows(lab, uid, lambda progress: progress.state is State.PAUSED_DISK)
        assert full.wait(SOON)


def unknown_length(exchange: Exchange) -> None:
    """The whole body in chunks, its length unsaid."""
    assert exchange.content is not None
    exchange.send_chunked(Reply(200, exchange.content, ((0, exchange.content.length),)))


def test_a_body_of_unknown_length_stops_at_the_reserve(tmp_path: Path) -> None:
    """It cannot be asked for at once, so it is asked for as it grows."""
    disk = SmallDisk(9 * MIB)
    with (
        OriginServer(BODY, unknown_length) as server,
        Lab(tmp_path, room=Room(tmp_path, disk, reserve=2 * MIB)) as lab,
    ):
        uid = lab.begin(asking(server.url))
        full = shows(lab, uid, lambda progress: progress.state is State.PAUSED_DISK)
        assert full.wait(SOON)
        (data,) = (tmp_path / "partials").rglob("data")
        assert data.stat().st_size < 12 * MIB
        disk.free = 100 * MIB
        assert lab.wait().body == BODY


@pytest.mark.parametrize("handler", [plain, unknown_length])
def test_over_a_quota_it_ends(tmp_path: Path, handler: Handler) -> None:
    """A quota that a person set ends the fetch, all of its records at once, and says so."""

    def refuse(needed: int) -> None:
        if needed > 6 * MIB:
            raise OverQuota("there is a quota")

    with (
        OriginServer({"/a": BODY, "/b": BODY}, handler) as server,
        Lab(tmp_path, room=Room(tmp_path, Vfs(), make_room=refuse)) as lab,
    ):
        ended = lab.fetch(asking(server.url_of("/a")), asking(server.url_of("/b")))
    assert ended.row.failure_reason is FailureReason.QUOTA_EXCEEDED
    assert ended.row.failure_detail == "quota: there is a quota"
    assert {record.failure_reason for record in ended.records} == {FailureReason.QUOTA_EXCEEDED}


LIMITED = """
import resource, sys
from bgfetch.cli.main import main
kind, most = getattr(resource, sys.argv[1]), int(sys.argv[2])
resource.setrlimit(kind, (most, most))
main(sys.argv[3:])
"""


def limited(command: Command, kind: str, most: int, *args: str) -> subprocess.CompletedProcess[str]:
    """The command line under a limit of the process."""
    root = Path(__file__).resolve().parents[2]
    paths = [str(root / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-c", LIMITED, kind, str(most), *args],
        env={**os.environ, **command.settings, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=18,
        check=False,
    )


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX's")
def test_a_file_too_long_for_the_file_system_is_refused_at_once(tmp_path: Path) -> None:
    """EFBIG, as FAT32 gives it beyond 4 GiB and a process beyond RLIMIT_FSIZE: said before any byte, not retried."""
    with OriginServer(BODY) as server:
        said = limited(Command(tmp_path), "RLIMIT_FSIZE", 16 * MIB, "get", server.url)
        assert (said.returncode, said.stdout) == (7, "")
        assert "allows no file so long" in said.stderr
        assert len(server.requests) == 1


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX's")
def test_few_descriptors_mean_fewer_connections(tmp_path: Path) -> None:
    """With 64 descriptors in all, 60 files of one host come nevertheless."""
    files = {f"/{number}": BODY[: 2 * MIB + number] for number in range(60)}
    with OriginServer(files) as server:
        urls = [server.url_of(path) for path in files]
        said = limited(Command(tmp_path), "RLIMIT_NOFILE", 64, "get", "--quiet", *urls)
        assert (said.returncode, len(said.stdout.splitlines())) == (0, 60), said.stderr


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB of its own."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting takes root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_target_elsewhere_has_its_own_room(tmp_path: Path, elsewhere: Path) -> None:
    """What does not fit there is refused once its length is known, not when all has come; the bytes that came stay."""
    command = Command(tmp_path / "home")
    with OriginServer({"/large": BODY, "/small": BODY[:MIB]}) as server:
        server.rate = 2e6
        said = command("get", server.url_of("/large"), "-o", elsewhere / "x", "--id", "large")
        assert said.code == 7
        assert f"{len(BODY)} bytes are needed and {4 * MIB} are free" in said.err
        assert "`bgfetch resume large`" in said.err
        assert server.bytes_sent < len(BODY) // 2
        assert list(elsewhere.iterdir()) == []
        server.rate = 0.0
        assert command("get", server.url_of("/small"), "-o", elsewhere / "y").code == 0
        assert (elsewhere / "y").read_bytes() == BODY[:MIB]


def test_a_length_that_was_said_is_refused_before_any_request(tmp_path: Path, elsewhere: Path) -> None:
    """Nobody is asked for what cannot be put where it is wanted."""
    with OriginServer(BODY) as server:
        said = Command(tmp_path / "home")("get", server.url, "-o", elsewhere / "x", "--size", str(len(BODY)))
        assert (said.code, len(server.requests)) == (7, 0)
        assert "has no room for this" in said.err


def test_a_limit_of_the_process_counts_for_a_copy(tmp_path: Path, elsewhere: Path) -> None:
    """A file that may be in the cache, where the daemon puts it, may still be too long for us to write."""
    with OriginServer(BODY) as server:
        wanted = ("get", server.url, "-o", str(elsewhere / "x"), "--size", str(3 * MIB))
        said = limited(Command(tmp_path / "home"), "RLIMIT_FSIZE", 2 * MIB, *wanted)
        assert (said.returncode, len(server.requests)) == (7, 0)
        assert f"a limit of this process allows {2 * MIB}" in said.stderr


def test_a_name_that_is_too_long_is_refused_before_any_request(tmp_path: Path) -> None:
    """The file system itself is asked."""
    with OriginServer(BODY) as server:
        said = Command(tmp_path / "home")("get", server.url, "-o", tmp_path / ("x" * 256))
        assert (said.code, len(server.requests)) == (2, 0)
        assert "File name too long" in said.err
