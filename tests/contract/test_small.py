"""What small bodies promise: no file until one is needed, and the same body whichever way it went."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import google_crc32c
import pytest

from bgfetch.cache.blobs import Blobs, Finished
from bgfetch.cache.facts import BlobFacts, PartialFacts
from bgfetch.cache.partials import Partials
from bgfetch.cache.small import SmallBodies, SmallPartial
from bgfetch.core.model import Verified
from bgfetch.core.pieces import Slot
from bgfetch.core.segments import PIECE
from bgfetch.core.spans import Span, Spans
from bgfetch.testing import FailingVfs, ForgetfulVfs, fates
from bgfetch.vfs import Vfs

KEY = "ab" * 32
BODY = os.urandom(70_000)
SLOT = Slot(len(BODY), google_crc32c.value(BODY))
HEX = hashlib.sha256(BODY).hexdigest()
FACTS = BlobFacts("https://host/small.bin", len(BODY), verified=Verified.LENGTH.value)


def opened(root: Path, vfs: Vfs | None = None, *, key: str = KEY, room: int = 1 << 20) -> SmallPartial:
    """A partial of which nothing is there yet."""
    partial = SmallBodies(Partials(root / "partials", vfs or Vfs()), room=room).open(key)
    assert isinstance(partial, SmallPartial)
    return partial


def whole(root: Path, vfs: Vfs | None = None, *, key: str = KEY) -> SmallPartial:
    """The same with all its bytes, in memory."""
    partial = opened(root, vfs, key=key)
    partial.allocate(len(BODY))
    assert partial.grow(0, 0, BODY, SLOT)
    assert partial.body == BODY
    return partial


def read(partial: SmallPartial) -> bytes:
    """What it holds."""
    buffer = bytearray(len(BODY) + 5)
    return bytes(buffer[: partial.read_into(memoryview(buffer), 0)])


def test_a_body_that_comes_whole_has_no_files(tmp_path: Path) -> None:
    """It is held, is read back, proves itself, and nothing was written."""
    partial = whole(tmp_path)
    assert partial.recover() == Spans()
    assert partial.held == Spans.of([(0, len(BODY))])
    assert partial.facts() is None
    assert read(partial) == BODY
    assert not partial.damaged()
    partial.seal(len(BODY))
    partial.close()
    assert partial.body is None
    assert not (tmp_path / "partials").exists()


def test_an_empty_body_has_no_files(tmp_path: Path) -> None:
    """Nothing comes of it, and that is all of it."""
    partial = opened(tmp_path)
    partial.allocate(0)
    partial.seal(0)
    assert partial.body == b""


def test_a_body_of_another_length_is_not_sealed(tmp_path: Path) -> None:
    """What is short is no body."""
    with pytest.raises(OSError, match="long"):
        whole(tmp_path).seal(len(BODY) + 1)


def test_a_body_that_comes_in_parts_has_files(tmp_path: Path) -> None:
    """Whoever reads along finds what there is of a slow one."""
    partial = opened(tmp_path)
    partial.allocate(len(BODY))
    half = BODY[:5000]
    assert partial.grow(0, 0, half, Slot(5000, google_crc32c.value(half)))
    assert partial.body is None
    assert partial.data_path.read_bytes()[:5000] == half
    assert partial.grow(0, 0, BODY, SLOT)
    assert read(partial) == BODY
    partial.seal(len(BODY))


def test_a_large_body_has_files(tmp_path: Path) -> None:
    """Its room is reserved at once."""
    partial = opened(tmp_path)
    partial.allocate(PIECE)
    assert partial.data_path.stat().st_size == PIECE


def test_memory_is_lent_and_given_back(tmp_path: Path) -> None:
    """Past the limit bodies are written as they come; a closed one makes room."""
    small = SmallBodies(Partials(tmp_path / "partials", Vfs()), room=len(BODY) + 1)
    one, two, three = (small.open(digit * 64) for digit in "123")
    for partial in (one, two, three):
        partial.allocate(len(BODY))
    assert one.grow(0, 0, BODY, SLOT)
    assert two.grow(0, 0, BODY, SLOT)
    assert (one.body, two.body) == (BODY, None)
    one.close()
    assert three.grow(0, 0, BODY, SLOT)
    assert three.body == BODY


@pytest.mark.parametrize("need", ["mend", "datasync", "save_facts"])
def test_files_are_made_when_they_are_needed(tmp_path: Path, need: str) -> None:
    """What was in memory is in them then, durable where that is asked."""
    partial = whole(tmp_path)
    match need:
        case "mend":
            assert partial.mend(0, BODY, SLOT)
        case "datasync":
            partial.datasync()
            assert partial.slot(0).synced
        case _:
            partial.save_facts(PartialFacts("https://host/small.bin"))
            assert partial.facts() is not None
    assert partial.body is None
    assert partial.data_path.read_bytes() == BODY
    assert partial.held == partial.recover() if need == "save_facts" else read(partial) == BODY
    partial.seal(len(BODY))
    assert not partial.damaged()


def test_what_is_sealed_takes_no_more(tmp_path: Path) -> None:
    """In memory and with files; thawed it does."""
    partial = opened(tmp_path)
    partial.allocate(len(BODY))
    partial.freeze()
    assert not partial.grow(0, 0, BODY, SLOT)
    partial.thaw()
    assert partial.grow(0, 0, BODY, SLOT)
    partial.datasync()
    partial.freeze()
    assert not partial.mend(0, BODY, SLOT)


@pytest.mark.parametrize("files", [True, False])
def test_what_is_given_up_is_not_held(tmp_path: Path, *, files: bool) -> None:
    """A body that was wrong comes once more."""
    partial = whole(tmp_path)
    if files:
        partial.datasync()
    mends = partial.mends
    partial.forget([Span(0, len(BODY))])
    assert not partial.held
    assert partial.mends > mends
    assert partial.grow(0, 0, BODY, SLOT)
    assert read(partial) == BODY


def test_a_disk_that_refuses_costs_no_byte(tmp_path: Path) -> None:
    """Whichever operation fails while files are made, the body is still there for the next try."""
    for nth in range(1, 20):
        vfs = FailingVfs(errno.EIO, 0)
        partial = whole(tmp_path / str(nth), vfs)
        vfs._nth = vfs.count + nth
        try:
            partial.datasync()
        except OSError:
            vfs.heal()
            assert read(partial) == BODY
            partial.datasync()
        vfs.heal()
        assert read(partial) == BODY
        assert partial.held == Spans.of([(0, len(BODY))])
        if not vfs.reached:
            break
    assert nth > 5


def finished(partial: SmallPartial, *, known: bool) -> Finished:
    """It, on its way."""
    return Finished(partial, len(BODY), HEX if known else "", FACTS, "1.0.5")


def bodies(root: Path, vfs: Vfs, *, known: bool) -> list[Finished]:
    """Three of the same content."""
    return [finished(whole(root, vfs, key=digit * 64), known=known) for digit in "123"]


@pytest.mark.parametrize("known", [True, False])
def test_small_bodies_are_adopted_together(tmp_path: Path, *, known: bool) -> None:
    """Each has its name, its facts and its one checksum; a flipped bit shows."""
    blobs = Blobs(tmp_path / "blobs", Vfs())
    names = blobs.adopt(bodies(tmp_path, Vfs(), known=known))
    assert sorted(set(names)) == sorted(blobs.names())
    assert len(set(names)) == (1 if known else 3)
    assert len({blobs.path(name).parent for name in names}) == 1
    path = blobs.path(names[0])
    assert path.read_bytes() == BODY
    assert path.stat().st_mode & 0o777 == 0o444
    facts = blobs.facts(names[0])
    assert facts is not None
    assert (facts.url, facts.size) == (FACTS.url, len(BODY))
    assert not blobs.damaged(names[0])
    path.chmod(0o600)
    path.write_bytes(bytes([BODY[0] ^ 1]) + BODY[1:])
    assert blobs.damaged(names[0]) == Spans.of([(0, len(BODY))])
    assert not (tmp_path / "partials").exists()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EMFILE])
def test_a_second_try_goes_on_where_the_first_stopped(tmp_path: Path, error: int, *, known: bool) -> None:
    """Whichever operation fails: no body twice, none lost, no draft left."""
    for nth in range(1, 100):
        home = tmp_path / str(nth)
        vfs = FailingVfs(error, nth)
        three, blobs = bodies(home, Vfs(), known=known), Blobs(home / "blobs", vfs)
        try:
            names = blobs.adopt(three)
        except OSError:
            names = blobs.adopt(three)
        assert all(blobs.path(name).read_bytes() == BODY for name in names)
        assert sorted(set(names)) == sorted(blobs.names())
        assert not list(home.rglob("*.new"))
        if not vfs.reached:
            break
    assert nth > (1 if error == errno.EMFILE else 5)


@pytest.mark.parametrize("known", [True, False])
def test_no_power_cut_leaves_a_wrong_body(tmp_path: Path, *, known: bool) -> None:
    """At each operation: what has a final name is right; once the call has returned all are there for good."""
    home = tmp_path / "home"
    home.mkdir()

    def before(nth: int) -> None:
        state = tmp_path / str(nth)
        disk.crash(state, fates(nth))
        blobs = Blobs(state / "blobs", Vfs())
        assert all(blobs.path(name).read_bytes() == BODY for name in blobs.names())

    disk = ForgetfulVfs(home, before=before)
    names = Blobs(home / "blobs", disk).adopt(bodies(home, disk, known=known))
    for seed in range(50):
        state = tmp_path / f"after-{seed}"
        disk.crash(state, fates(seed))
        blobs = Blobs(state / "blobs", Vfs())
        for name in names:
            assert blobs.path(name).read_bytes() == BODY
            assert not blobs.damaged(name)
            assert blobs.slots(name)
