"""Looking after what is kept, on a real disk: nothing in use goes, damage is found and mended, a lost store comes back."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import google_crc32c
import pytest
from tests.command import Command
from tests.lab import Lab, asking

from bgfetch.cache import maintenance, rebuild, repair
from bgfetch.cache.blobs import Blobs
from bgfetch.cache.drafts import Draft
from bgfetch.cache.entries import Entry, Placed, SqliteEntries
from bgfetch.cache.facts import PartialFacts
from bgfetch.cache.links import Links
from bgfetch.cache.maintenance import Kept
from bgfetch.cache.partials import Partials
from bgfetch.core.identity import request_key
from bgfetch.core.model import Headers, ReplyHead, Request, Result, Verified
from bgfetch.core.pieces import Slot
from bgfetch.core.segments import PIECE
from bgfetch.core.spans import Spans
from bgfetch.database import Database
from bgfetch.errors import InvalidRequest, InvalidState, NotFound
from bgfetch.registrations.port import RecordFinished
from bgfetch.registrations.sqlite import SqliteRegistrations
from bgfetch.testing import OriginServer
from bgfetch.vfs import Vfs

URL = "https://host/org/model.bin"
DAY = 86400.0
BODY = b"".join(bytes([number]) * PIECE for number in range(3)) + b"end"


class House:
    """A home with real stores in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.vfs = Vfs()
        self.blobs = Blobs(root / "blobs", self.vfs)
        self.partials = Partials(root / "partials", self.vfs)
        self.links = Links(root / "names", self.vfs)
        self.begin(root / "state" / "1.sqlite3")

    def begin(self, path: Path) -> None:
        """Go on over another database."""
        self.database = Database.open(path, now=0.0)
        self.registrations = SqliteRegistrations(self.database)
        self.entries = SqliteEntries(self.database)
        self.kept = Kept(self.entries, self.blobs, self.partials, self.links, self.vfs)

    def blob(self, body: bytes, url: str = URL, scope: str = "default") -> str:
        """A finished body that nobody refers to."""
        draft = Draft(self.partials)
        draft.write(body)
        name = draft.adopt(self.blobs, scope, url, reply(url))
        draft.drop()
        return name

    def put(self, body: bytes, url: str = URL, *, scope: str = "default", cache: str = "downloads") -> Placed:
        """An entry."""
        name = self.blob(body, url, scope)
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        entry = Entry(Request(url), reply(url), name, len(body), Verified.DIGEST, digest, 5.0)
        (stored,) = self.entries.put(self.entries.open_cache(scope, cache), entry)
        return Placed(scope, cache, stored)

    def partial(
        self,
        request: Request,
        body: bytes = b"x",
        *,
        scope: str = "default",
        id: str = "",  # noqa: A002 - the standard's word
        title: str = "",
        digest: str = "",
    ) -> str:
        """A partial of a GET with these facts, and its key."""
        key = request_key(request)
        partial = self.partials.open(key)
        slot = Slot(len(body), google_crc32c.extend(0, body))
        assert partial.grow(0, 0, memoryview(body), slot)
        facts = PartialFacts(
            request.url, request.headers.pairs, scope=scope, id=id, title=title, digest=digest
        )
        partial.save_facts(facts)
        partial.close()
        return key

    def rot(self, blob: str, *offsets: int) -> None:
        """Change bytes of a blob behind everybody's back."""
        path = self.blobs.path(blob)
        path.chmod(0o600)
        with path.open("r+b") as file:
            for offset in offsets:
                file.seek(offset)
                byte = file.read(1)
                file.seek(offset)
                file.write(bytes([byte[0] ^ 1]))
        path.chmod(0o400)

    def later(self, seconds: float = DAY) -> float:
        """An instant so long after now, by the clock that dates files."""
        probe = self.root / "probe"
        probe.touch()
        os.utime(probe)
        return probe.stat().st_mtime + seconds

    def report(self, blob: str) -> repair.Report:
        """What reading it again comes to."""
        (report,) = repair.verify(self.kept, [blob])
        return report


def reply(url: str) -> ReplyHead:
    """What answered."""
    return ReplyHead(url, 200, Headers([("etag", '"v1"'), ("content-type", "application/octet-stream")]))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """An empty home."""
    house = House(tmp_path)
    yield house
    house.database.close()


def test_listing_says_what_is_there(house: House) -> None:
    """Each entry with its place, and whether its file is there and whole."""
    one, two = house.put(b"one"), house.put(b"two", f"{URL}2", scope="app", cache="c")
    house.blobs.path(two.entry.blob).unlink()
    assert maintenance.listing(house.kept) == [
        maintenance.Listed(one, present=True),
        maintenance.Listed(two, present=False),
    ]
    assert maintenance.listing(house.kept, "app") == [maintenance.Listed(two, present=False)]


def test_usage_counts_each_byte_once_in_the_total(house: House) -> None:
    """A shared blob counts in both caches and once in all; what nobody refers to is what prune would free."""
    house.put(b"12345")
    house.put(b"12345", cache="other")
    house.blob(b"123")
    house.partial(Request(f"{URL}p"), b"1234567")
    used = maintenance.usage(house.kept, house.registrations)
    assert used.caches == {("default", "downloads"): 5, ("default", "other"): 5}
    assert (used.partials, used.unreferenced, used.total) == (7, 3, 15)


def test_verify_finds_nothing_wrong_with_what_is_right(house: House) -> None:
    """Every blob is read once, named or not, and progress ends at its size."""
    house.put(BODY)
    house.blob(b"loose")
    house.put(b"", f"{URL}0")
    seen: dict[str, tuple[int, int]] = {}
    reports = list(
        repair.verify(house.kept, on_read=lambda name, read, size: seen.update({name: (read, size)}))
    )
    assert len(reports) == 3
    assert all(report.sound and report.checked == "digest" for report in reports)
    assert sorted(seen.values()) == [(5, 5), (len(BODY), len(BODY))]


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [((0,), [(0, PIECE)]), ((PIECE + 5, len(BODY) - 1), [(PIECE, 2 * PIECE), (3 * PIECE, 4 * PIECE)])],
)
def test_verify_says_where_it_rotted(
    house: House, offsets: tuple[int, ...], expected: list[tuple[int, int]]
) -> None:
    """The pieces that changed are named, and the entries that have them."""
    placed = house.put(BODY)
    house.rot(placed.entry.blob, *offsets)
    report = house.report(placed.entry.blob)
    assert (report.sound, report.damaged, report.placed) == (False, Spans.of(expected), (placed,))


def test_verify_reads_twice(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading that is wrong once only is no damage."""
    placed = house.put(BODY)
    lies = [1]
    read = house.vfs.pread_into

    def lying(fd: int, buffer: memoryview, offset: int) -> int:
        got = read(fd, buffer, offset)
        if lies:
            buffer[0] ^= lies.pop()
        return got

    monkeypatch.setattr(house.vfs, "pread_into", lying)
    assert house.report(placed.entry.blob).sound


def test_verify_takes_a_bad_sector_for_damage(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk can no longer read is a piece to fetch again, not the end of the check."""
    placed = house.put(BODY)
    read = house.vfs.pread_into

    def failing(fd: int, buffer: memoryview, offset: int) -> int:
        if offset == PIECE:
            raise OSError(5, "Input/output error")
        return read(fd, buffer, offset)

    monkeypatch.setattr(house.vfs, "pread_into", failing)
    assert house.report(placed.entry.blob).damaged == Spans.of([(PIECE, 2 * PIECE)])


def test_verify_believes_the_digest_over_the_table(house: House) -> None:
    """Where the table of pieces rotted or was lost, right content is right; wrong content is wrong as a whole."""
    placed = house.put(BODY)
    path = house.blobs.path(placed.entry.blob)
    table = path.with_name(f"{path.name}.pieces")
    table.chmod(0o600)
    table.write_bytes(b"\0" * 32)
    assert house.report(placed.entry.blob).sound
    table.unlink()
    assert house.report(placed.entry.blob).sound
    house.rot(placed.entry.blob, 7)
    assert house.report(placed.entry.blob).damaged == Spans.of([(0, len(BODY))])


@pytest.mark.parametrize("size", [0, 5, PIECE, len(BODY) + 9])
def test_verify_sees_a_wrong_length(house: House, size: int) -> None:
    """A file that was cut or grew is damaged where it differs."""
    placed = house.put(BODY)
    path = house.blobs.path(placed.entry.blob)
    path.chmod(0o600)
    os.truncate(path, size)
    report = house.report(placed.entry.blob)
    assert not report.sound
    assert report.size == len(BODY)
    assert report.damaged.covers((min(size, len(BODY)), max(size, len(BODY))))


def test_verify_reports_a_file_that_is_gone(house: House) -> None:
    """Its entries are told of it."""
    placed = house.put(BODY)
    house.blobs.path(placed.entry.blob).unlink()
    (report,) = repair.verify(house.kept)
    assert (report.sound, report.damaged, report.placed) == (False, Spans.of([(0, len(BODY))]), (placed,))


def unverified(house: House, body: bytes) -> Placed:
    """An entry whose blob has a name that says nothing."""
    placed = house.put(body)
    name = f"unverified/ab/{'ab' * 32}"
    for ending in ("", ".pieces", ".json"):
        old = house.blobs.path(placed.entry.blob)
        new = house.blobs.path(name)
        new.parent.mkdir(parents=True, exist_ok=True)
        old.with_name(old.name + ending).rename(new.with_name(new.name + ending))
    entry = replace(placed.entry, blob=name, digest="", verified=Verified.VALIDATORS)
    (stored,) = house.entries.put(house.entries.open_cache("default", "downloads"), entry)
    return Placed("default", "downloads", stored)


def test_verify_without_a_digest_goes_by_the_pieces(house: House) -> None:
    """Their checksums tell; without the table only the length does, and the report says so."""
    placed = unverified(house, BODY)
    report = house.report(placed.entry.blob)
    assert (report.sound, report.checked) == (True, "pieces")
    house.rot(placed.entry.blob, 2 * PIECE)
    assert house.report(placed.entry.blob).damaged == Spans.of([(2 * PIECE, 3 * PIECE)])
    path = house.blobs.path(placed.entry.blob)
    path.with_name(f"{path.name}.pieces").unlink()
    report = house.report(placed.entry.blob)
    assert (report.sound, report.checked) == (True, "length")


def test_repair_keeps_every_good_piece(house: House) -> None:
    """The partial of the same request holds all but the damage, of the same version; nothing wrong keeps its name."""
    placed = house.put(BODY)
    key = request_key(Request(URL))
    name = house.links.publish(house.blobs.path(placed.entry.blob), key, "model.bin")
    house.rot(placed.entry.blob, PIECE)
    todo = repair.repair(house.kept, house.registrations, house.report(placed.entry.blob))
    assert (todo.good, todo.missing) == (len(BODY) - PIECE, PIECE)
    assert (todo.key, todo.request.integrity) == (key, placed.entry.digest)
    assert house.blobs.size(placed.entry.blob) is None
    assert not name.exists()
    partial = house.partials.open(todo.key)
    assert partial.recover() == Spans.of([(0, PIECE), (2 * PIECE, len(BODY))])
    facts = partial.facts()
    assert facts is not None
    assert (facts.url, facts.total, facts.etag) == (URL, len(BODY), '"v1"')
    partial.close()


def test_repaired_entries_name_the_new_blob(house: House) -> None:
    """All entries of the blob are whole again, also one that was dropped meanwhile; a newer one is left alone."""
    first = unverified(house, BODY)
    second = replace(first.entry, pinned=True)
    house.entries.put(house.entries.open_cache("app", "mine"), second)
    third_id = house.entries.open_cache("third", "c")
    house.entries.put(third_id, first.entry)
    house.rot(first.entry.blob, 0)
    todo = repair.repair(house.kept, house.registrations, house.report(first.entry.blob))
    house.entries.delete(house.entries.open_cache("default", "downloads"), Request(URL))
    newer = house.put(b"newer", scope="third", cache="c")
    blob = house.blob(BODY)
    digest = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
    for _ in range(2):
        count = repair.repaired(
            house.kept, todo, blob=blob, size=len(BODY), verified=Verified.VALIDATORS, digest=digest
        )
        assert count == 2
    names = {(each.scope, each.entry.blob, each.entry.pinned) for each in house.entries.placed()}
    assert names == {("default", blob, False), ("app", blob, True), ("third", newer.entry.blob, False)}


def test_repair_fetches_only_what_rotted(tmp_path: Path) -> None:
    """An ordinary fetch of the same request brings the damaged piece and nothing else, and the entry is whole."""
    with OriginServer(BODY) as origin, Lab(tmp_path) as lab:
        entries = SqliteEntries(lab.database)
        vfs = Vfs()
        links = Links(tmp_path / "names", vfs)
        kept = Kept(entries, lab.stores.blobs, lab.stores.partials, links, vfs)
        first = lab.fetch(asking(origin.url, sha256=hashlib.sha256(BODY).hexdigest())).records[0]
        assert first.reply is not None
        lab.store.release_records(1)
        head = ReplyHead(first.reply.url, 200, first.reply.headers)
        entry = Entry(first.request, head, first.blob, len(BODY), first.verified, first.digest, 5.0)
        entries.put(entries.open_cache("default", "downloads"), entry)
        path = lab.stores.blobs.path(first.blob)
        path.chmod(0o600)
        path.write_bytes(BODY[:PIECE] + b"\xff" * PIECE + BODY[2 * PIECE :])
        (report,) = repair.verify(kept)
        todo = repair.repair(kept, lab.store, report)
        before = origin.bytes_sent
        row = lab.store.add("default", "again", [(todo.request, todo.key)], now=lab.clock.now())
        lab.resume(row.uid, todo.request)
        (record,) = lab.wait().records
        repair.repaired(kept, todo, blob=record.blob, size=len(BODY), verified=record.verified)
        assert origin.bytes_sent - before == PIECE == todo.missing
        assert lab.stores.blobs.path(record.blob).read_bytes() == BODY
        assert [each.sound for each in repair.verify(kept)] == [True]
        assert [each.present for each in maintenance.listing(kept)] == [True]


def test_repair_of_what_cannot_be_fetched(house: House) -> None:
    """It says why: nothing is wrong, somebody fetches it now, or nobody knows its URL. The blob stays then."""
    placed = house.put(BODY)
    with pytest.raises(InvalidState, match="nothing is wrong"):
        repair.repair(house.kept, house.registrations, house.report(placed.entry.blob))
    house.rot(placed.entry.blob, 0)
    house.registrations.add("default", "x", [(Request(URL), request_key(Request(URL)))], now=0.0)
    with pytest.raises(InvalidState, match="not over"):
        repair.repair(house.kept, house.registrations, house.report(placed.entry.blob))
    loose = house.blob(BODY + b"2")
    house.rot(loose, 0)
    path = house.blobs.path(loose)
    path.with_name(f"{path.name}.json").unlink()
    with pytest.raises(NotFound):
        repair.repair(house.kept, house.registrations, house.report(loose))
    assert house.blobs.size(loose) == len(BODY) + 1
    assert house.blobs.size(placed.entry.blob) == len(BODY)


def test_repair_knows_the_url_of_a_loose_blob(house: House) -> None:
    """Without an entry the file beside the blob says where it came from."""
    loose = house.blob(BODY)
    house.rot(loose, 0)
    todo = repair.repair(house.kept, house.registrations, house.report(loose))
    assert (todo.request.url, todo.missing, todo.placed) == (URL, PIECE, ())


def test_remove_frees_what_nobody_else_has(house: House) -> None:
    """The last entry of a blob takes the blob and its name along; one before the last does not."""
    one, two = house.put(b"12345"), house.put(b"12345", cache="other")
    name = house.links.publish(house.blobs.path(one.entry.blob), request_key(Request(URL)), "model.bin")
    assert maintenance.remove(house.kept, house.registrations, [one]) == 0
    assert name.exists()
    assert maintenance.remove(house.kept, house.registrations, [two, two]) == 5
    assert not name.exists()
    assert house.blobs.size(one.entry.blob) is None


def test_prune_takes_only_what_nobody_refers_to(house: House) -> None:
    """Partials and blobs of registrations, entries and their names stay; everything else that is old goes."""
    kept = house.put(b"kept")
    asked, lost = Request(f"{URL}a"), Request(f"{URL}b")
    wanted, orphan = house.partial(asked), house.partial(lost, b"1234567")
    row = house.registrations.add("default", "x", [(asked, wanted)], now=0.0)
    done = house.blob(b"done")
    epoch = house.registrations.claim(row.uid, "me")
    house.registrations.finish_records(
        [RecordFinished(row.uid, epoch, 0, Result.SUCCESS, blob=done, total=4)]
    )
    loose = house.blob(b"123")
    doomed = house.put(b"12", f"{URL}d", cache="old")
    house.entries.delete_cache("default", "old")
    live = house.links.publish(house.blobs.path(kept.entry.blob), request_key(kept.entry.request), "m.bin")
    stale = house.links.publish(house.blobs.path(loose), request_key(lost), "l.bin")
    now = house.later()
    expected = maintenance.Pruned(
        (orphan,), tuple(sorted([loose, doomed.entry.blob])), (request_key(lost)[:32],), 12
    )
    dry = maintenance.prune(house.kept, house.registrations, now=now, older_than=60, dry_run=True)
    assert replace(dry, blobs=tuple(sorted(dry.blobs))) == expected
    assert stale.exists()
    assert house.partials.exists(orphan)
    wet = maintenance.prune(house.kept, house.registrations, now=now, older_than=60)
    assert wet == dry
    assert house.partials.keys() == [wanted]
    assert set(house.blobs.names()) == {kept.entry.blob, done}
    assert (live.exists(), stale.exists()) == (True, False)
    again = maintenance.prune(house.kept, house.registrations, now=now, older_than=60)
    assert again == maintenance.Pruned((), (), (), 0)


def test_prune_leaves_what_was_touched_lately(house: House) -> None:
    """A body on its way into the cache is referred to by nobody yet."""
    draft = Draft(house.partials)
    draft.write(b"on its way")
    loose = house.blob(b"just placed")
    now = house.later(30)
    pruned = maintenance.prune(house.kept, house.registrations, now=now, older_than=60)
    assert pruned == maintenance.Pruned((), (), (), 0)
    assert house.blobs.size(loose) == 11
    draft.drop()


def test_prune_asks_again_right_before(house: House) -> None:
    """What somebody began to refer to after the list was made is not deleted."""
    loose, key = house.blob(b"123"), house.partial(Request(URL))
    now = house.later()

    class Late:
        """Nobody refers to anything when first asked."""

        def __init__(self) -> None:
            self.asked = 0

        def keys(self) -> set[str]:
            """First for the list, second for the names, third before deleting."""
            self.asked += 1
            return {key} if self.asked > 2 else set()

        def blobs(self) -> set[str]:
            """As keys."""
            return {loose} if self.asked > 1 else set()

    maintenance.prune(house.kept, Late(), now=now, older_than=60)
    assert house.blobs.size(loose) == 3
    assert house.partials.exists(key)


def test_export_is_a_second_name(house: House, tmp_path: Path) -> None:
    """The file is where it was wanted, without a copy; what is gone or cannot be written is said."""
    placed = house.put(b"12345")
    target = tmp_path / "out.bin"
    target.write_bytes(b"older")
    maintenance.export(house.kept, placed, target)
    assert target.read_bytes() == b"12345"
    assert target.stat().st_nlink == 2
    with pytest.raises(InvalidRequest, match="directory"):
        maintenance.export(house.kept, placed, tmp_path)
    house.blobs.remove(placed.entry.blob)
    with pytest.raises(NotFound, match="gone"):
        maintenance.export(house.kept, placed, target)


def test_rebuild_after_the_database_was_lost(house: House) -> None:
    """Unfinished registrations are active with their partials, finished files are in `downloads`; twice is once."""
    house.put(b"12345", f"{URL}?x=1", scope="app")
    asked = [Request(f"{URL}{part}", headers=Headers([("accept", "x")])) for part in "ab"]
    digest = f"sha256:{'ab' * 32}"
    keys = [house.partial(each, scope="app", id="m", title="Model", digest=digest) for each in asked]
    nameless = house.partial(Request(f"{URL}n"))
    house.database.close()
    house.begin(house.root / "state" / "2.sqlite3")
    rebuilt = rebuild.rebuild(house.kept, house.registrations, now=9.0)
    assert min(rebuilt.registrations) == ("app", "m")
    assert (len(rebuilt.registrations), rebuilt.entries) == (2, 1)
    row = house.registrations.active("app", "m")
    assert row is not None
    assert (row.title, row.created_at) == ("Model", 9.0)
    records = house.registrations.records(row.uid)
    assert [record.key for record in records] == keys
    assert [record.request for record in records] == [replace(each, integrity=digest) for each in asked]
    assert house.registrations.keys() == {*keys, nameless}
    entry = house.entries.by_url("app", f"{URL}?x=1")
    assert entry is not None
    assert (entry.size, entry.reply.headers["etag"], entry.added_at) == (5, '"v1"', 9.0)
    assert house.entries.names("app") == ["downloads"]
    assert rebuild.rebuild(house.kept, house.registrations, now=10.0) == rebuild.Rebuilt((), 0)


def test_rebuild_leaves_alone_what_it_cannot_believe(house: House) -> None:
    """No GET is made of what was another request; a cut blob, strange URLs and unreadable files are passed over."""
    post = request_key(Request(URL, "POST", body=b"x"))
    for key, url in ((post, URL), ("ab" * 32, "file:///etc/passwd"), ("cd" * 32, f"{URL}c")):
        partial = house.partials.open(key)
        partial.save_facts(PartialFacts(url))
        partial.close()
    (house.root / "partials" / ("ef" * 32)).mkdir()
    cut = house.blobs.path(house.blob(b"12345"))
    cut.chmod(0o600)
    cut.write_bytes(b"12")
    house.blob(b"file", "file:///etc/passwd")
    torn = house.blobs.path(house.blob(b"torn"))
    torn.with_name(f"{torn.name}.json").write_bytes(b"{")
    assert rebuild.rebuild(house.kept, house.registrations, now=9.0) == rebuild.Rebuilt((), 0)


def test_rebuild_prefers_the_newest_version(house: House) -> None:
    """Of two bodies of one URL the later one is what the cache answers."""
    older, newer = house.blob(b"older"), house.blob(b"newer")
    when = house.later(50)
    os.utime(house.blobs.path(newer), (when, when))
    assert rebuild.rebuild(house.kept, house.registrations, now=9.0).entries == 1
    entry = house.entries.by_url("default", URL)
    assert entry is not None
    assert entry.blob == newer != older


def test_rebuild_beside_a_live_registration(house: House) -> None:
    """An id that is active is not taken over."""
    house.registrations.add("app", "m", [(Request(f"{URL}z"), "ab" * 32)], now=1.0)
    house.partial(Request(URL), scope="app", id="m")
    assert rebuild.rebuild(house.kept, house.registrations, now=9.0) == rebuild.Rebuilt((), 0)


def edited(path: Path, data: bytes) -> None:
    """As by a person who gave themselves the right to write."""
    path.chmod(0o600)
    path.write_bytes(data)
    later = time.time() + 60
    os.utime(path, (later, later))


def test_an_edited_blob_is_not_believed(house: House) -> None:
    """Its date tells that it was written to, its pieces whether that changed it; who only copied it is believed after."""
    blob = house.blob(BODY)
    path = house.blobs.path(blob)
    assert house.blobs.intact(blob, len(BODY))
    edited(path, BODY)
    noted = path.with_name(f"{path.name}.json")
    before = noted.stat().st_ino
    assert house.blobs.intact(blob, len(BODY))
    assert noted.stat().st_ino != before
    edited(path, b"!" + BODY[1:])
    assert not house.blobs.intact(blob, len(BODY))
    path.with_name(f"{path.name}.pieces").unlink()
    assert not house.blobs.intact(blob, len(BODY))
    noted.unlink()
    assert house.blobs.intact(blob, len(BODY)), "without a date to compare with, the length must do"


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("what", ["edited", "cut", "deleted"])
def test_get_fetches_again_what_somebody_spoilt(tmp_path: Path, what: str, *, large: bool) -> None:
    """A finished file that a person edited under its own name, cut or deleted is noticed at the next `get`."""
    body = BODY if large else BODY[:1000]
    command = Command(tmp_path)
    with OriginServer(body) as server:
        path = Path(command("get", server.url).out.strip())
        match what:
            case "edited":
                edited(path, b"!" + body[1:])
            case "cut":
                edited(path, body[:-1])
            case _:
                for blob in (tmp_path / "blobs").rglob("*"):
                    if blob.is_file() and not blob.suffix:
                        blob.unlink()
        said = command("get", server.url)
        assert said.code == 0, said.err
        assert Path(said.out.strip()).read_bytes() == body
        assert len(server.requests) > 1
        assert command("get", server.url).code == 0


@pytest.mark.parametrize("what", ["edited", "cut", "deleted"])
def test_get_goes_on_from_what_is_left_of_a_partial(tmp_path: Path, what: str) -> None:
    """Bytes of an unfinished file that a person spoilt come again; the file is right, with a digest and without."""
    command = Command(tmp_path)
    body = BODY * 2
    for path, flags in {"/a": (), "/b": ("--sha256", hashlib.sha256(body).hexdigest())}.items():
        with OriginServer({path: body}) as server:
            server.rate = 5e5
            assert command("get", server.url_of(path), "--timeout", "1s", *flags).code == 75
            server.rate = 0.0
            (data,) = (tmp_path / "partials").rglob("data")
            match what:
                case "edited":
                    old = data.read_bytes()
                    edited(data, bytes(byte ^ 1 for byte in old[:4096]) + old[4096:])
                case "cut":
                    edited(data, data.read_bytes()[:5000])
                case _:
                    data.unlink()
            said = command("get", server.url_of(path), *flags)
            assert said.code == 0, said.err
            assert Path(said.out.strip()).read_bytes() == body


@pytest.mark.parametrize("kind", ["", ".json", ".pieces"])
def test_prune_takes_drafts_that_a_power_cut_left(house: House, kind: str) -> None:
    """A body, facts or a table that never got its name is litter once nobody can be writing it; the named one stays."""
    kept = house.put(b"kept")
    blob = house.blobs.path(kept.entry.blob)
    drafts = [
        blob.with_name(f"{blob.name}{kind}.4711.140000000000.new"),
        blob.with_name(f"{blob.name[:2]}{'0' * 62}{kind}.4711.140000000000.new"),
    ]
    for draft in drafts:
        draft.write_bytes(b"half")
    fresh = maintenance.prune(house.kept, house.registrations, now=house.later(1.0), older_than=60)
    assert fresh.strays == ()
    pruned = maintenance.prune(house.kept, house.registrations, now=house.later(), older_than=60)
    assert set(pruned.strays) == set(drafts)
    assert not any(draft.exists() for draft in drafts)
    assert house.blobs.intact(kept.entry.blob, 4)
