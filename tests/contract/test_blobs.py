"""What finished bodies promise: whole, right, durable before anybody is told, and found again after any end."""

from __future__ import annotations

import errno
import hashlib
import json
import random
from pathlib import Path

import pytest

from bgfetch.cache.blobs import Blobs, Finished
from bgfetch.cache.facts import BlobFacts
from bgfetch.cache.partials import Partial, Partials
from bgfetch.cache.writer import BufferPool, PieceWriter
from bgfetch.core.model import Verified
from bgfetch.core.segments import PIECE
from bgfetch.core.spans import Spans
from bgfetch.testing import FailingVfs, ForgetfulVfs, fates
from bgfetch.vfs import Vfs

KEY = "cd" * 32
OWNER = "1.0.5"
BODY = random.Random(2).randbytes(2 * PIECE + 99)
HEX = hashlib.sha256(BODY).hexdigest()
FACTS = BlobFacts("https://host/model.bin", len(BODY), digest=f"sha256:{HEX}", verified=Verified.DIGEST.value)


@pytest.fixture(params=["real", "failing", "forgetful"])
def vfs(request: pytest.FixtureRequest, tmp_path: Path) -> Vfs:
    """Every file system."""
    match request.param:
        case "failing":
            return FailingVfs(5, 0)
        case "forgetful":
            return ForgetfulVfs(tmp_path)
        case _:
            return Vfs()


def written(root: Path, vfs: Vfs, key: str = KEY, body: bytes = BODY) -> Partial:
    """A whole partial."""
    partial = Partials(root / "partials", vfs).open(key)
    writer = PieceWriter(partial, 0, None, stored=_unheard, pool=BufferPool())
    for at in range(0, len(body), 65_536):
        writer.write(body[at : at + 65_536])
    writer.flush()
    writer.close()
    return partial


def _unheard(start: int, stop: int, differs: bool) -> None:  # noqa: FBT001 - the writer's callback
    """Nobody listens."""


def finished(partial: Partial, *, known: bool = True, owner: str = OWNER) -> Finished:
    """It, on its way."""
    return Finished(partial, len(BODY), HEX if known else "", FACTS, owner)


@pytest.mark.parametrize("known", [True, False])
def test_adopts(tmp_path: Path, vfs: Vfs, *, known: bool) -> None:
    """The body stands under its digest or a random name, read-only, with its facts and its pieces."""
    blobs = Blobs(tmp_path / "blobs", vfs)
    partial = written(tmp_path, vfs)
    (name,) = blobs.adopt([finished(partial, known=known)])
    assert name.startswith(f"sha256/{HEX[:2]}/{HEX}" if known else "unverified/")
    assert blobs.path(name).read_bytes() == BODY
    assert blobs.path(name).stat().st_mode & 0o777 == 0o444
    assert blobs.size(name) == len(BODY)
    assert blobs.facts(name) == FACTS
    assert not blobs.damaged(name)
    assert list(blobs.names()) == [name]
    assert not partial.data_path.exists()
    assert blobs.remove(name) == len(BODY)
    assert list(blobs.names()) == []


def test_a_partial_without_an_owner_goes_at_once(tmp_path: Path) -> None:
    """Nobody will ask what it became."""
    partial = written(tmp_path, Vfs())
    Blobs(tmp_path / "blobs", Vfs()).adopt([finished(partial, owner="")])
    assert not partial.path.exists()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EMFILE])
def test_a_second_try_goes_on_where_the_first_stopped(tmp_path: Path, error: int, *, known: bool) -> None:
    """Whichever operation fails: no body twice, none lost, and the names are durable when it says so."""
    for nth in range(1, 100):
        home = tmp_path / str(nth)
        partial = written(home, Vfs())
        vfs = FailingVfs(error, nth)
        partial._vfs = vfs
        blobs = Blobs(home / "blobs", vfs)
        try:
            names = blobs.adopt([finished(partial, known=known)])
        except OSError:
            names = blobs.adopt([finished(partial, known=known)])
        assert blobs.path(names[0]).read_bytes() == BODY
        assert list(blobs.names()) == names
        if not vfs.reached:
            break
    assert nth > (1 if error == errno.EMFILE else 5)


@pytest.mark.parametrize("known", [True, False])
def test_no_power_cut_leaves_a_wrong_body(tmp_path: Path, *, known: bool) -> None:
    """At each operation: what has a final name is right; once the call has returned it is there for good."""
    home, states = tmp_path / "home", 0
    home.mkdir()

    def before(nth: int) -> None:
        nonlocal states
        state = tmp_path / str(nth)
        disk.crash(state, fates(nth))
        states += 1
        blobs = Blobs(state / "blobs", Vfs())
        assert all(blobs.path(name).read_bytes() == BODY for name in blobs.names())

    disk = ForgetfulVfs(home, before=before)
    (name,) = Blobs(home / "blobs", disk).adopt([finished(written(home, disk), known=known)])
    for seed in range(50):
        state = tmp_path / f"after-{seed}"
        disk.crash(state, fates(seed))
        blobs = Blobs(state / "blobs", Vfs())
        assert blobs.path(name).read_bytes() == BODY
        assert not blobs.damaged(name)
        assert blobs.slots(name)
        placed = blobs.resume(state / "partials" / KEY, OWNER)
        assert placed is not None
        assert placed.blob == name
    assert states > 20


def test_finds_what_it_placed_before_it_could_tell(tmp_path: Path, vfs: Vfs) -> None:
    """The record that waits is told, another one is not, and then nobody any more."""
    blobs = Blobs(tmp_path / "blobs", vfs)
    partial = written(tmp_path, vfs)
    (name,) = blobs.adopt([finished(partial, known=False)])
    again = Blobs(tmp_path / "blobs", vfs)
    placed = again.resume(partial.path, OWNER)
    assert placed is not None
    assert (placed.blob, placed.size, placed.verified) == (name, len(BODY), Verified.DIGEST)
    assert again.resume(partial.path, "2.0.5") is None
    assert again.resume(partial.path, OWNER) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 10_000,
        json.dumps({"version": 1, "owner": OWNER, "blob": "../../etc/passwd", "size": 1, "digest": "", "verified": ""}),
        json.dumps({"version": 2, "owner": OWNER, "blob": f"sha256/{HEX[:2]}/{HEX}", "size": 1, "digest": "", "verified": ""}),
        json.dumps({"version": 1, "owner": OWNER, "blob": f"sha256/{HEX[:2]}/{HEX}", "size": "1", "digest": "", "verified": ""}),
        json.dumps({"version": 1, "owner": OWNER, "blob": f"sha256/{HEX[:2]}/{HEX}", "size": 1, "digest": "", "verified": "?"}),
    ],
)  # fmt: skip
def test_nonsense_is_no_promise(tmp_path: Path, text: str) -> None:
    """What a torn write or a person left there is nothing."""
    (tmp_path / "placed.json").write_text(text)
    assert Blobs(tmp_path / "blobs", Vfs()).resume(tmp_path, OWNER) is None


def test_content_that_is_here_already_stays(tmp_path: Path) -> None:
    """Whoever has it open or linked keeps it, and the disk holds it once."""
    vfs = Vfs()
    blobs = Blobs(tmp_path / "blobs", vfs)
    (name,) = blobs.adopt([finished(written(tmp_path, vfs))])
    number = blobs.path(name).stat().st_ino
    assert blobs.adopt([finished(written(tmp_path, vfs, "ef" * 32))]) == [name]
    assert blobs.path(name).stat().st_ino == number


def test_content_that_has_rotted_is_replaced(tmp_path: Path) -> None:
    """A file of the right name and length is not believed to be the right file."""
    vfs = Vfs()
    blobs = Blobs(tmp_path / "blobs", vfs)
    (name,) = blobs.adopt([finished(written(tmp_path, vfs))])
    path = blobs.path(name)
    path.chmod(0o600)
    rotten = bytearray(BODY)
    rotten[PIECE + 7] ^= 1
    path.write_bytes(rotten)
    assert blobs.damaged(name) == Spans.of([(PIECE, 2 * PIECE)])
    assert blobs.adopt([finished(written(tmp_path, vfs, "ef" * 32))]) == [name]
    assert path.read_bytes() == BODY


def test_what_is_missing_is_damaged(tmp_path: Path) -> None:
    """A shortened body, and none at all."""
    vfs = Vfs()
    blobs = Blobs(tmp_path / "blobs", vfs)
    (name,) = blobs.adopt([finished(written(tmp_path, vfs))])
    path = blobs.path(name)
    path.chmod(0o600)
    path.write_bytes(BODY[: PIECE + 5])
    assert blobs.damaged(name) == Spans.of([(PIECE, len(BODY))])
    path.unlink()
    assert blobs.damaged(name) == Spans.of([(0, len(BODY))])


def test_good_pieces_of_a_bad_blob_are_kept(tmp_path: Path) -> None:
    """A repair starts from all but the damaged pieces."""
    vfs = Vfs()
    blobs = Blobs(tmp_path / "blobs", vfs)
    (name,) = blobs.adopt([finished(written(tmp_path, vfs))])
    path = blobs.path(name)
    path.chmod(0o600)
    rotten = bytearray(BODY)
    rotten[5] ^= 1
    path.write_bytes(rotten)
    partial = Partials(tmp_path / "partials", vfs).open("ef" * 32)
    blobs.withdraw(name, partial, blobs.damaged(name))
    assert partial.held == Spans.of([(PIECE, len(BODY))])
    assert not partial.damaged()


def test_impossible_names(tmp_path: Path) -> None:
    """A name is a kind and a digest on its shelf, and nothing that leads elsewhere."""
    blobs = Blobs(tmp_path, Vfs())
    for name in (
        "",
        f"sha256/00/{HEX}",
        f"sha256/{HEX[:2]}/{HEX}/..",
        f"md5/{HEX[:2]}/{HEX}",
        f"../{HEX[:2]}/{HEX}",
    ):
        with pytest.raises(ValueError, match="not a blob"):
            blobs.path(name)
