"""What a partial promises: what it claims is there and right, after kills and power cuts in any order, and of one version."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bgfetch.cache.facts import PartialFacts
from bgfetch.cache.hashing import FrontHasher
from bgfetch.cache.partials import Partial, Partials
from bgfetch.cache.writer import BufferPool, PieceWriter
from bgfetch.core.pieces import Slot, decode_slots
from bgfetch.core.segments import PIECE
from bgfetch.core.spans import Span, Spans
from bgfetch.testing import FailingVfs, ForgetfulVfs, fates
from bgfetch.vfs import Vfs

KEY = "ab" * 32
FACTS = PartialFacts("https://host/model.bin", total=3 * PIECE, etag='"1"')
BODY = random.Random(1).randbytes(3 * PIECE)


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


@pytest.fixture
def partials(tmp_path: Path, vfs: Vfs) -> Partials:
    """An empty directory of partials."""
    return Partials(tmp_path / "partials", vfs)


def writer(
    partial: Partial, start: int, stop: int | None = None, *, compare: bool = False, ahead: bool = False
) -> PieceWriter:
    """A writer that nobody hears of."""
    return PieceWriter(partial, start, stop, stored=_unheard, pool=BufferPool(), compare=compare, ahead=ahead)


def _unheard(start: int, stop: int, differs: bool) -> None:  # noqa: FBT001 - the writer's callback
    """Nobody listens."""


def put(partial: Partial, start: int, stop: int, body: bytes = BODY) -> None:
    """Store these bytes of the body as a transfer does."""
    it = writer(partial, start, stop)
    for at in range(start, stop, 16_384):
        it.write(body[at : min(stop, at + 16_384)])
    it.flush()
    it.close()


def split(partial: Partial, at: int) -> tuple[PieceWriter, PieceWriter]:
    """Two writers for the first piece; the second one has all its bytes already."""
    front, rest = writer(partial, 0, at), writer(partial, at, PIECE, ahead=True)
    assert rest.write(BODY[at:PIECE])
    return front, rest


def content(partial: Partial, stop: int = len(BODY)) -> bytes:
    """What is on disk."""
    buffer = bytearray(stop)
    partial.read_into(memoryview(buffer), 0)
    return bytes(buffer)


def test_a_kill_loses_nothing_stored(partials: Partials) -> None:
    """What was written is held by the next process, without any sync."""
    first = partials.open(KEY)
    first.save_facts(FACTS)
    put(first, 0, PIECE + 300)
    put(first, 2 * PIECE, 2 * PIECE + 77)
    first.close()
    again = partials.open(KEY)
    assert again.recover() == Spans.of([(0, PIECE + 300), (2 * PIECE, 2 * PIECE + 77)])
    assert content(again, PIECE + 300) == BODY[: PIECE + 300]
    assert again.facts() == FACTS


def test_bytes_without_facts_are_worth_nothing(partials: Partials) -> None:
    """Nobody knows of which version they are; they are given up, on disk as well."""
    first = partials.open(KEY)
    put(first, 0, PIECE)
    first.close()
    again = partials.open(KEY)
    assert not again.recover()
    assert (again.data_path.stat().st_size, again.pieces_path.stat().st_size) == (0, 0)


def test_facts_that_cannot_be_read_now_cost_nothing(tmp_path: Path) -> None:
    """Too few descriptors is no reason to give bytes up."""
    first = Partials(tmp_path, Vfs()).open(KEY)
    first.save_facts(FACTS)
    put(first, 0, PIECE)
    first.close()
    failing = FailingVfs(24, 3)
    again = Partials(tmp_path, failing).open(KEY)
    with pytest.raises(OSError, match="Too many open files"):
        again.recover()
    assert again.recover().length == PIECE


def test_damage_that_a_synced_slot_hides_is_found_by_asking(partials: Partials) -> None:
    """A restart believes what was synced; `damaged` reads everything."""
    first = partials.open(KEY)
    first.save_facts(FACTS)
    put(first, 0, 2 * PIECE)
    first.datasync()
    with first.data_path.open("r+b") as file:
        file.seek(PIECE + 5)
        file.write(b"\0\1\2\3")
    assert first.recover().length == 2 * PIECE
    assert first.damaged() == Spans.of([(PIECE, 2 * PIECE)])
    first.forget(first.damaged())
    assert first.held == Spans.of([(0, PIECE)])


@pytest.mark.parametrize("synced", [False, True])
def test_a_person_shortens_the_file(partials: Partials, *, synced: bool) -> None:
    """What is not in the file any more is not held, whatever the slots say."""
    first = partials.open(KEY)
    first.save_facts(FACTS)
    put(first, 0, 2 * PIECE)
    if synced:
        first.datasync()
    first.close()
    with first.data_path.open("r+b") as file:
        file.truncate(PIECE + 9)
    assert partials.open(KEY).recover() == Spans.of([(0, PIECE)])


def test_a_person_deletes_the_directory_meanwhile(partials: Partials) -> None:
    """The bytes are still reached through the descriptor, and get a name again when they are sealed."""
    first = partials.open(KEY)
    put(first, 0, len(BODY))
    shutil.rmtree(first.path)
    first.seal(len(BODY))
    assert first.data_path.read_bytes() == BODY


def test_held_bytes_are_not_written_over(partials: Partials) -> None:
    """Of two transfers over the same bytes the first one's stay, and the checksum is of what stays."""
    first = partials.open(KEY)
    put(first, 0, 1000)
    other = bytes(byte ^ 255 for byte in BODY)
    put(first, 0, 5000, other)
    assert content(first, 5000) == BODY[:1000] + other[1000:5000]
    assert not first.damaged()
    put(first, 0, 700)
    assert first.held == Spans.of([(0, 5000)])


def test_two_transfers_within_a_piece(partials: Partials) -> None:
    """One that was given up may store a little more after the next one began where it stood."""
    first = partials.open(KEY)
    old = writer(first, 0)
    old.write(BODY[:1000])
    old.flush()
    old.write(BODY[1000:4000])
    new = writer(first, 1000)
    old.flush()
    old.close()
    new.write(BODY[1000:6000])
    new.flush()
    assert first.held == Spans.of([(0, 6000)])
    assert content(first, 6000) == BODY[:6000]
    assert not first.damaged()


def test_a_piece_without_its_beginning_takes_no_more(partials: Partials) -> None:
    """A late write into a forgotten piece is refused, and no transfer can start within it."""
    first = partials.open(KEY)
    late = writer(first, 0)
    late.write(BODY[:1000])
    late.flush()
    late.write(BODY[1000:2000])
    first.forget([Span(0, PIECE)])
    late.flush()
    assert not first.held
    with pytest.raises(OSError, match="lost its beginning"):
        writer(first, 500)


@pytest.mark.parametrize("stop", [1, 700, PIECE - 1, PIECE, PIECE + 700, len(BODY)])
@pytest.mark.parametrize("size", [700, 16_384, PIECE + 1])
def test_chunks_together_are_as_chunks_one_by_one(partials: Partials, stop: int, size: int) -> None:
    """However they come: what is before `stop` is stored with its checksum, what is behind it is not."""
    first = partials.open(KEY)
    it = writer(first, 0, stop)
    chunks = [BODY[at : at + size] for at in range(0, len(BODY), size)]
    assert it.write_all(chunks) == (stop == len(BODY))
    it.close()
    assert first.held.items == Spans.of([(0, stop)]).items
    assert content(first, stop) == BODY[:stop]
    assert not first.damaged()


def test_a_repair_replaces_what_differs(partials: Partials) -> None:
    """Only the wrong piece is written again."""
    first = partials.open(KEY)
    wrong = bytearray(BODY)
    wrong[PIECE + 1] ^= 1
    put(first, 0, len(BODY), bytes(wrong))
    differing: list[tuple[int, int]] = []

    def stored(start: int, stop: int, differs: bool) -> None:  # noqa: FBT001 - the writer's callback
        if differs:
            differing.append((start, stop))

    it = PieceWriter(first, 0, len(BODY), stored=stored, pool=BufferPool(), compare=True)
    for at in range(0, len(BODY), 16_384):
        it.write(BODY[at : at + 16_384])
    it.close()
    assert differing == [(PIECE, 2 * PIECE)]
    assert content(first) == BODY


def test_sealed_means_no_more(partials: Partials) -> None:
    """After sealing, what a transfer still brings goes nowhere."""
    first = partials.open(KEY)
    put(first, 0, PIECE)
    late = writer(first, 0, compare=True)
    first.seal(PIECE)
    late.write(bytes(PIECE))
    assert content(first, PIECE) == BODY[:PIECE]
    assert first.data_path.stat().st_size == PIECE


def test_sealing_wants_every_byte(partials: Partials) -> None:
    """A gap is never sealed, and can still be filled."""
    first = partials.open(KEY)
    put(first, 0, PIECE)
    with pytest.raises(OSError, match="lost bytes"):
        first.seal(PIECE + 1)
    put(first, PIECE, PIECE + 1)
    first.seal(PIECE + 1)


class FickleVfs(Vfs):
    """A disk whose next sync fails and, as Linux does, loses what it should have written."""

    def __init__(self, *, loses: bool) -> None:
        super().__init__()
        self.fail = False
        self._loses = loses

    def datasync(self, fd: int) -> None:
        """Sync, or fail and let the bytes be lost."""
        if self.fail:
            self.fail = False
            if self._loses:
                self.pwrite(fd, bytes(500), 100)
            raise OSError(5, "Input/output error")
        super().datasync(fd)

    sync = datasync


@pytest.mark.parametrize("loses", [False, True])
def test_a_failed_sync_is_not_forgotten(tmp_path: Path, *, loses: bool) -> None:
    """The next sync may say that all is well; what the failed one covered is read back before that is believed."""
    vfs = FickleVfs(loses=loses)
    first = Partials(tmp_path, vfs).open(KEY)
    put(first, 0, PIECE)
    vfs.fail = True
    for once in range(2):
        if once and not loses:
            first.seal(PIECE)
            assert content(first, PIECE) == BODY[:PIECE]
            return
        with pytest.raises(OSError, match=r"Input/output|lost bytes"):
            first.seal(PIECE)
    assert not first.held


def test_another_version_starts_from_nothing(partials: Partials) -> None:
    """Transfers of the older one write where nobody reads."""
    first = partials.open(KEY)
    first.save_facts(FACTS)
    late = writer(first, 0)
    late.write(BODY[:1000])
    fresh = partials.fresh(KEY)
    late.flush()
    assert not fresh.held
    assert fresh.facts() is None
    assert fresh.data_path.stat().st_size == 0


@pytest.mark.parametrize("synced", [False, True])
def test_no_power_cut_brings_two_versions_together(tmp_path: Path, *, synced: bool) -> None:
    """The bytes of one version are never found beside the facts of another, whichever names survive."""
    live = tmp_path / "live"
    live.mkdir()
    disk = ForgetfulVfs(live)
    partials = Partials(live / "partials", disk)
    old = partials.open(KEY)
    old.save_facts(FACTS)
    put(old, 0, 5000)
    old.datasync()
    new = partials.fresh(KEY)
    new.save_facts(PartialFacts("https://host/model.bin", etag='"2"'))
    other = bytes(byte ^ 255 for byte in BODY[:7000])
    put(new, 0, 7000, other)
    if synced:
        new.datasync()
    for seed in range(200):
        state = tmp_path / str(seed)
        disk.crash(state, fates(seed))
        left = Partials(state / "partials", Vfs()).open(KEY)
        held, facts = left.recover(), left.facts()
        assert held == Spans.of([(0, 7000)]) or not synced
        if held:
            assert facts is not None
            assert content(left, held.front) == (other if facts.etag == '"2"' else BODY)[: held.front]
        left.close()


def test_impossible_keys(partials: Partials) -> None:
    """A key is 64 hex digits and nothing that leads elsewhere."""
    for key in ("", "../" * 21 + "a", "A" * 64, "a" * 63, "a" * 65):
        with pytest.raises(ValueError, match="not a partial"):
            partials.path(key)


def test_descriptors_are_given_back(partials: Partials) -> None:
    """When the last user is gone; after that nothing is read from whoever has the numbers now."""
    first = partials.open(KEY)
    first.acquire()
    first.close()
    put(first, 0, 10)
    first.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        content(first, 10)


# The replay of the table, whatever happened before.

_MOST = 3000  # bytes of a piece that are ever written: small ones cross every edge that large ones do


def of_version(version: int, piece: int) -> bytes:
    """What a version has at the beginning of a piece."""
    return random.Random(f"{version}.{piece}").randbytes(_MOST)


class Replay(RuleBasedStateMachine):
    """A partial that grows, is synced, mended, restarted, killed and loses its power."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.number = 0
        self.version = 0
        self.saved = False
        self.written: dict[int, int] = {}
        self.synced: dict[int, int] = {}
        self._start(self.folder / "0")

    def _start(self, root: Path) -> None:
        root.mkdir(exist_ok=True)
        self.vfs = ForgetfulVfs(root)
        self.partials = Partials(root / "partials", self.vfs)
        self.partial = self.partials.open(KEY)
        self.held = self.partial.recover()

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.partial.close()
        shutil.rmtree(self.folder)

    @rule(piece=st.integers(0, 3), count=st.integers(1, 900))
    def grow(self, piece: int, count: int) -> None:
        """More of a piece comes."""
        at = self.written.get(piece, 0)
        data = of_version(self.version, piece)[: at + count]
        slot = Slot(len(data), google_crc32c.value(data))
        assert self.partial.grow(piece, at, memoryview(data)[at:], slot)
        self.written[piece] = len(data)
        if count:
            self.synced.pop(piece, None)

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def mend(self, data: st.DataObject) -> None:
        """A piece is written anew."""
        piece = data.draw(st.sampled_from(sorted(self.written)))
        body = of_version(self.version, piece)
        self.partial.mend(piece, body, Slot(len(body), google_crc32c.value(body)))
        self.written[piece] = len(body)
        self.synced.pop(piece, None)

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """A piece was found wrong."""
        piece = data.draw(st.sampled_from(sorted(self.written)))
        self.partial.forget([Span(piece * PIECE, piece * PIECE + 1)])
        del self.written[piece]
        self.synced.pop(piece, None)

    @rule()
    def save_facts(self) -> None:
        """The version is written down."""
        self.partial.save_facts(PartialFacts("https://host/", etag=str(self.version)))
        self.saved = True

    @rule()
    def datasync(self) -> None:
        """A second has passed."""
        self.partial.datasync()
        self.synced = dict(self.written) if self.saved else {}

    @rule()
    def restart(self) -> None:
        """The server has another version."""
        self.partial.close()
        self.partial = self.partials.fresh(KEY)
        self.version += 1
        self.saved, self.written, self.synced = False, {}, {}

    @rule()
    def kill(self) -> None:
        """Everything that was written is there."""
        self.partial.close()
        self.partial = self.partials.open(KEY)
        held = self.partial.recover()
        if not self.saved:
            self.written = {}
        assert held == Spans.of((piece * PIECE, piece * PIECE + size) for piece, size in self.written.items())
        self._forgotten()

    @rule(seed=st.integers(0, 1 << 32))
    def cut(self, seed: int) -> None:
        """What was synced is there; anything else may be, if it is right."""
        self.partial.close()
        self.number += 1
        root = self.folder / str(self.number)
        self.vfs.crash(root, fates(seed))
        self._start(root)
        for piece, size in self.synced.items():
            assert self.held.covers((piece * PIECE, piece * PIECE + size)), (piece, size, self.held)
        facts = self.partial.facts()
        if facts is not None and self.held:
            self.version = int(facts.etag)
        self.written = {span.start // PIECE: span.length for span in self.held}
        self.saved = bool(self.held)
        self._forgotten()

    def _forgotten(self) -> None:
        """Without a byte nothing is known of a version either: the next one need not be the same."""
        self.synced = {}
        if not self.written:
            self.version += 1
            self.saved = False

    @invariant()
    def what_is_held_is_right(self) -> None:
        """Each claim, in memory and on disk, is of the bytes of one version."""
        table = decode_slots(self.partial.pieces_path.read_bytes())
        assert [slot[:2] for slot in table] == [slot[:2] for slot in self.partial.slots()]
        for piece, slot in enumerate(table):
            buffer = bytearray(slot.length)
            self.partial.read_into(memoryview(buffer), piece * PIECE)
            assert bytes(buffer) == of_version(self.version, piece)[: slot.length], (piece, slot)


TestReplay = Replay.TestCase
TestReplay.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)


def test_what_is_frozen_takes_no_bytes_until_it_thaws(tmp_path: Path) -> None:
    """Bytes that are being verified are the bytes that will be sealed: a late transfer changes nothing."""
    partial = Partials(tmp_path, Vfs()).open("a" * 64)
    good, other = b"a" * 10, b"b" * 10
    assert partial.grow(0, 0, good, Slot(10, google_crc32c.extend(0, good)))
    partial.freeze()
    assert not partial.mend(0, other, Slot(10, google_crc32c.extend(0, other)))
    assert not partial.grow(1, 0, other, Slot(10, google_crc32c.extend(0, other)))
    before, after = (FrontHasher(partial, {"sha256"}) for _ in range(2))
    partial.thaw()
    assert before.current
    assert partial.mend(0, other, Slot(10, google_crc32c.extend(0, other)))
    assert not after.current, "what was hashed before a piece was replaced must not count"
    partial.close()


@pytest.mark.parametrize("at", [1, 65536, PIECE - 1])
def test_what_came_ahead_is_held_once_the_bytes_before_it_are(partials: Partials, at: int) -> None:
    """A piece's later part waits in memory, claims nothing meanwhile, and then the checksum is of the whole."""
    partial = partials.open(KEY)
    front, rest = split(partial, at)
    rest.flush()
    assert (rest.ahead, rest.gathered, partial.held) == (True, PIECE - at, Spans())
    front.write(BODY[:at])
    rest.flush()
    assert not rest.ahead
    assert partial.slot(0).same_bytes(Slot(PIECE, google_crc32c.extend(0, BODY[:PIECE])))
    assert content(partial, PIECE) == BODY[:PIECE]


def test_what_came_ahead_may_be_overtaken(partials: Partials) -> None:
    """The first writer had gathered more than its share when it was shortened."""
    partial = partials.open(KEY)
    front, rest = split(partial, 65536)
    front.stop = None
    front.write(BODY[:300_000])
    front.flush()
    rest.flush()
    assert partial.slot(0).same_bytes(Slot(PIECE, google_crc32c.extend(0, BODY[:PIECE])))
    assert content(partial, PIECE) == BODY[:PIECE]


def test_what_came_ahead_of_bytes_that_never_come_is_nothing(partials: Partials) -> None:
    """A writer that is closed early leaves the piece as it was."""
    partial = partials.open(KEY)
    _, rest = split(partial, 65536)
    rest.close()
    assert partial.held == Spans()


@pytest.mark.parametrize("stop", [None, PIECE + 1])
def test_only_the_rest_of_one_piece_may_come_ahead(partials: Partials, stop: int | None) -> None:
    """More would not fit into the buffer."""
    with pytest.raises(OSError, match="has lost its beginning"):
        writer(partials.open(KEY), 65536, stop, ahead=True)
