"""The SQLite file itself: made private, migrated, shared, and not believed when it is damaged."""

from __future__ import annotations

import random
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bgfetch.cache.entries import Entry, SqliteEntries
from bgfetch.core.model import Headers, ReplyHead, Request, Result, Verified
from bgfetch.core.spans import Spans
from bgfetch.database import SCHEMA, Damaged, Database, StoreFull
from bgfetch.errors import CacheError
from bgfetch.registrations.port import RecordProgress, RecordRow, RegistrationRow, Wish
from bgfetch.registrations.rows import pack_spans, unpack_spans
from bgfetch.registrations.sqlite import SqliteRegistrations

SPANS = Spans.of([(0, 1 << 24), (1 << 30, (1 << 30) + 77)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "state" / "bgfetch.sqlite3"


def filled(path: Path, count: int = 5) -> list[tuple[RegistrationRow, list[RecordRow]]]:
    """A closed database with registrations that hold bytes, and what a reader must find in it."""
    database = Database.open(path, now=0.0)
    store = SqliteRegistrations(database)
    for number in range(count):
        requests = [
            (Request(f"https://host/{number}/{index}"), f"key-{number}-{index}") for index in range(4)
        ]
        row = store.add("app", f"id-{number}", requests, title="A model", now=float(number))
        epoch = store.claim(row.uid, "me")
        store.save_progress(
            [
                RecordProgress(row.uid, epoch, index, SPANS, SPANS.length, etag=f'"{number}{index}"')
                for index in range(4)
            ]
        )
    found = [(row, store.records(row.uid)) for row in store.listing()]
    database.close()
    return found


def parts(folder: Path) -> set[str]:
    """The names in a folder."""
    return {it.name for it in folder.iterdir()}


def test_made_private_and_durable(path: Path) -> None:
    """Nobody else can read the file, its log or its folder, and every commit is flushed."""
    path.parent.mkdir(mode=0o755)
    database = Database.open(path, now=0.0)
    with database.write() as connection:
        connection.execute("INSERT INTO facts VALUES ('a', 'b')")
        modes = {it.name: stat.S_IMODE(it.stat().st_mode) for it in path.parent.iterdir()}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert set(modes.values()) == {0o600}
    assert {path.name, f"{path.name}-wal"} <= set(modes)
    pragmas = [
        database.rows(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous", "foreign_keys")
    ]
    assert pragmas == ["wal", 2, 1]
    assert not database.was_rebuilt
    database.close()


def test_loose_rights_are_taken_away(path: Path) -> None:
    """A file that others may read is made private when it is opened."""
    filled(path, 1)
    path.chmod(0o644)
    Database.open(path, now=0.0).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_opened_again_as_it_was(path: Path) -> None:
    """What was written is there for the next process, and opening writes nothing."""
    expected = filled(path)
    before = path.read_bytes()
    database = Database.open(path, now=9.0)
    store = SqliteRegistrations(database)
    assert [(row, store.records(row.uid)) for row in store.listing()] == expected
    database.check()
    database.close()
    assert path.read_bytes() == before


def test_migrated_one_by_one(path: Path, tmp_path: Path) -> None:
    """An older file gets the migrations it lacks, each once, and keeps its rows."""
    filled(path, 1)
    newer = tmp_path / "newer"
    newer.mkdir()
    for script in SCHEMA.glob("*.sql"):
        (newer / script.name).write_text(script.read_text("utf-8"), "utf-8")
    (newer / "901_more.sql").write_text("CREATE TABLE more (a TEXT); INSERT INTO more VALUES (';');", "utf-8")
    (newer / "902_yet.sql").write_text("ALTER TABLE more ADD COLUMN b TEXT;", "utf-8")
    for _ in range(2):
        database = Database.open(path, now=0.0, schema=newer)
        assert database.rows("SELECT * FROM more") == [(";", None)]
        assert database.rows("PRAGMA user_version") == [(902,)]
        assert len(SqliteRegistrations(database).listing()) == 1
        database.close()


def test_failed_migration_changes_nothing(path: Path, tmp_path: Path) -> None:
    """A migration that fails half way leaves the version and the tables of before."""
    filled(path, 1)
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "901_broken.sql").write_text("CREATE TABLE half (a TEXT); CREATE TABLE half (a TEXT);", "utf-8")
    with pytest.raises(CacheError, match="half"):
        Database.open(path, now=0.0, schema=newer)
    database = Database.open(path, now=0.0)
    assert database.rows("SELECT name FROM sqlite_master WHERE name = 'half'") == []
    database.close()


def test_newer_schema_is_left_alone(path: Path) -> None:
    """A file of a newer bgfetch is refused with the way out, and not one byte of it changes."""
    filled(path, 1)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(CacheError, match=r"newer bgfetch \(schema 99.*upgrade") as caught:
        Database.open(path, now=0.0)
    assert not isinstance(caught.value, Damaged)
    assert path.read_bytes() == before
    assert parts(path.parent) == {path.name, f"{path.name}.lock"}


def test_other_programs_are_left_alone(path: Path) -> None:
    """A database of another program is refused and not one byte of it changes."""
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(CacheError, match="another program"):
        Database.open(path, now=0.0)
    assert path.read_bytes() == before


def test_empty_file_is_new(path: Path) -> None:
    """A file that was made and never filled, as after a crash, is taken for a new one."""
    path.parent.mkdir()
    path.touch()
    database = Database.open(path, now=0.0)
    assert not database.was_rebuilt
    assert SqliteRegistrations(database).listing() == []
    database.close()


def garbage(path: Path) -> None:
    """Something else."""
    path.write_bytes(b"no database at all" * 100)


def short(path: Path) -> None:
    """A part."""
    path.write_bytes(path.read_bytes()[:5000])


def zeros(path: Path) -> None:
    """Its length in zeros."""
    path.write_bytes(bytes(path.stat().st_size))


def schema_gone(path: Path) -> None:
    """A first page without tables."""
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3996)


@pytest.mark.parametrize("spoil", [garbage, short, zeros, schema_gone])
def test_damaged_is_set_aside(path: Path, spoil: Callable[[Path], None]) -> None:
    """What is no database is kept under another name, a fresh one is started, and the caller is told until it is done."""
    filled(path)
    spoil(path)
    spoilt = path.read_bytes()
    database = Database.open(path, now=1700.9)
    assert database.was_rebuilt
    store = SqliteRegistrations(database)
    assert store.listing() == []
    assert path.with_name(f"{path.name}.damaged-1700").read_bytes() == spoilt
    store.add("app", "id", [(Request("https://host/"), "k")], now=1.0)
    database.close()
    again = Database.open(path, now=1800.0)
    seen = [again.was_rebuilt]  # whoever was to rebuild it may have been killed
    again.rebuilt()
    assert [*seen, again.was_rebuilt] == [True, False]
    again.close()
    last = Database.open(path, now=1900.0)
    assert not last.was_rebuilt
    assert SqliteRegistrations(last).ids("app") == ["id"]
    last.close()


def test_no_damaged_file_is_overwritten(path: Path) -> None:
    """Two files set aside in the same second are both kept."""
    for _ in range(2):
        path.parent.mkdir(exist_ok=True)
        garbage(path)
        Database.open(path, now=7.0).close()
    assert {f"{path.name}.damaged-7", f"{path.name}.damaged-8"} <= parts(path.parent)


def test_start_over_happens_once(path: Path) -> None:
    """Of two that find the same damage the second opens the file the first one made."""
    filled(path, 1)
    one, two = Database.open(path, now=0.0), Database.open(path, now=0.0)
    one.rows("SELECT 1")
    two.rows("SELECT 1")
    fresh = one.start_over(now=5.0)
    SqliteRegistrations(fresh).add("app", "saved", [(Request("https://host/"), "k")], now=1.0)
    other = two.start_over(now=6.0)
    assert SqliteRegistrations(other).ids("app") == ["saved"]
    assert len([name for name in parts(path.parent) if name.endswith((".damaged-5", ".damaged-6"))]) == 1
    fresh.close()
    other.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE registrations SET title = 'another' WHERE uid = 1",
        "UPDATE registrations SET result = 'succesS' WHERE uid = 1",
        "UPDATE registrations SET options = '[' WHERE uid = 1",
        "UPDATE records SET request = replace(request, 'host', 'evil') WHERE uid = 1 AND position = 2",
        "UPDATE records SET partial = 'key-9-9' WHERE uid = 1 AND position = 2",
        "DELETE FROM records WHERE uid = 1 AND position = 3",
        "UPDATE records SET position = 7 WHERE uid = 1 AND position = 3",
        "UPDATE registrations SET title = CAST(x'ff' AS TEXT) WHERE uid = 1",
    ],
)
def test_changed_rows_are_not_believed(path: Path, change: str) -> None:
    """A registration or request that is not what was written is never handed out."""
    filled(path, 1)
    with sqlite3.connect(path) as connection:
        connection.execute(change)
    connection.close()
    database = Database.open(path, now=0.0)
    store = SqliteRegistrations(database)
    with pytest.raises(Damaged):  # noqa: PT012 - either may be the first to notice
        for row in store.listing():
            store.records(row.uid)
    with pytest.raises(Damaged):
        store.keys()
    fresh = database.start_over(now=3.0)
    assert fresh.was_rebuilt
    fresh.close()


@pytest.mark.parametrize("change", ["blob = 'bb'", "url = 'https://host/b'", "request = '{}'", "reply = ''"])
def test_changed_entries_are_not_believed(path: Path, change: str) -> None:
    """A cache entry that is not what was written never answers a query."""
    database = Database.open(path, now=0.0)
    store = SqliteEntries(database)
    reply = ReplyHead("https://host/a", 200, Headers())
    entry = Entry(Request("https://host/a"), reply, "aa", 1, Verified.DIGEST, "", 1.0)
    cache_id = store.open_cache("app", "c")
    store.put(cache_id, entry)
    with database.write() as connection:
        connection.execute(f"UPDATE entries SET {change}")  # noqa: S608 - from the table above
    with pytest.raises(Damaged):
        store.find(cache_id, entry.request)
    database.close()


@pytest.mark.parametrize("column", ["spans = x'00'", "spans = x''", "etag = 'v2'", "last_modified = 'x'"])
def test_doubtful_spans_are_nothing_held(path: Path, column: str) -> None:
    """Spans that fail their checksum, or belong to another version, claim no byte; the rest stays readable."""
    ((row, records),) = filled(path, 1)
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE records SET {column} WHERE position = 1")  # noqa: S608 - from the table above
    connection.close()
    database = Database.open(path, now=0.0)
    found = SqliteRegistrations(database).records(row.uid)
    assert (found[1].spans, found[1].downloaded, found[1].etag) == (Spans(), 0, "")
    assert [found[0], *found[2:]] == [records[0], *records[2:]]
    database.close()


@pytest.mark.parametrize("spans", [Spans(), SPANS, Spans.of([(127, 128), (1 << 62, (1 << 62) + 1)])])
def test_packed_spans(spans: Spans) -> None:
    """Spans come back as packed, and with any one bit flipped, or read for another record, not at all."""
    packed = pack_spans(spans, 7, 3, etag="e", last_modified="")
    assert unpack_spans(packed, 7, 3, etag="e", last_modified="") == spans
    assert unpack_spans(packed, 7, 4, etag="e", last_modified="") is None
    assert unpack_spans(packed, 8, 3, etag="e", last_modified="") is None
    for bit in range(len(packed) * 8):
        flipped = bytearray(packed)
        flipped[bit // 8] ^= 1 << bit % 8
        assert unpack_spans(bytes(flipped), 7, 3, etag="e", last_modified="") is None
    assert unpack_spans(packed[:-1], 7, 3, etag="e", last_modified="") is None


def test_changed_tables_are_not_believed(path: Path) -> None:
    """Tables whose text is not what was made are damage, also where SQLite could still read them."""
    filled(path, 1)
    spoilt = path.read_bytes().replace(b"failure_detail TEXT", b"failure_petail TEXT", 1)
    path.write_bytes(spoilt)
    database = Database.open(path, now=1.0)
    assert database.was_rebuilt
    database.close()


def test_random_corruption(path: Path) -> None:
    """After random flips a reader gets what was written, no bytes held, or `Damaged`: never another request or span."""
    expected = filled(path, 20)
    identity = {
        (row.uid, row.scope, row.id, row.title, row.created_at): [(it.request, it.key) for it in records]
        for row, records in expected
    }
    whole = path.read_bytes()
    chance = random.Random(5)
    refused = 0
    for _ in range(200):
        spoilt = bytearray(whole)
        for _ in range(chance.choice([1, 3, 30])):
            spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
        path.write_bytes(spoilt)
        try:
            database = Database.open(path, now=1.0)
        except CacheError:  # the version or the mark of the program was hit: left untouched
            refused += 1
            continue
        try:
            store = SqliteRegistrations(database)
            for row in store.listing():
                records = store.records(row.uid)
                key = (row.uid, row.scope, row.id, row.title, row.created_at)
                assert identity[key] == [(it.request, it.key) for it in records]
                assert all(it.spans in (SPANS, Spans()) for it in records)
        except CacheError:
            refused += 1
        finally:
            database.close()
            for left in path.parent.glob("*-wal"):
                left.unlink()
    assert refused


def test_threads_write_together(path: Path) -> None:
    """Several threads write and read one store at once; nothing is lost and nobody waits in vain."""
    database = Database.open(path, now=0.0)
    store = SqliteRegistrations(database)
    uids = [
        store.add("app", f"id-{number}", [(Request("https://host/"), f"k{number}")], now=1.0).uid
        for number in range(4)
    ]
    epochs = {uid: store.claim(uid, "me") for uid in uids}
    failures: list[BaseException] = []

    def work(uid: int) -> None:
        try:
            for step in range(1, 26):
                spans = Spans.of([(0, step)])
                assert not store.save_progress([RecordProgress(uid, epochs[uid], 0, spans, step)])
                assert store.records(uid)[0].spans == spans
                store.log(uid, float(step), "step")
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(uid,)) for uid in uids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [row.downloaded for row in store.listing()] == [25] * 4
    assert len(store.events()) == 4 * 26
    store_thread = threading.Thread(target=store.listing)
    store_thread.start()
    store_thread.join()
    assert len(database._connections) < 6, "connections of threads that ended are closed"
    database.close()


def test_transaction_is_undone(path: Path) -> None:
    """What an exception interrupts leaves no trace; an inner transaction belongs to the outer one."""
    database = Database.open(path, now=0.0)
    store = SqliteRegistrations(database)
    with pytest.raises(ZeroDivisionError), database.write():  # noqa: PT012 - the block is what is undone
        store.add("app", "id", [(Request("https://host/"), "k")], now=1.0)
        assert store.ids("app") == ["id"]
        raise ZeroDivisionError
    assert store.listing() == []
    assert store.events() == []
    database.close()


def test_disk_full(path: Path) -> None:
    """No room is an error of its own, keeps nothing of the transaction, and goes when there is room."""
    database = Database.open(path, now=0.0)
    store = SqliteRegistrations(database)
    pages = int(database.rows("PRAGMA page_count")[0][0])
    database.rows(f"PRAGMA max_page_count = {pages}")
    big = Request("https://host/", "PUT", body=bytes(1 << 20))
    with pytest.raises(StoreFull, match="free some space"):
        store.add("app", "id", [(big, "k")], now=1.0)
    assert store.listing() == []
    database.rows("PRAGMA max_page_count = 100000")
    assert store.add("app", "id", [(big, "k")], now=1.0).upload_total == 1 << 20
    database.close()


PROCESS = """
import sys
from pathlib import Path
from bgfetch.core.model import Request
from bgfetch.database import Database
from bgfetch.registrations.sqlite import SqliteRegistrations
database = Database.open(Path(sys.argv[1]), now=0.0)
store = SqliteRegistrations(database)
for number in range(20):
    store.add(sys.argv[2], str(number), [(Request("https://host/"), "k")], now=1.0)
"""


def test_processes_start_together(path: Path) -> None:
    """Several processes make, open and write one database at the same time; each keeps all its rows."""
    running = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(path), str(number)]) for number in range(3)
    ]
    assert [process.wait() for process in running] == [0, 0, 0]
    database = Database.open(path, now=0.0)
    assert len(SqliteRegistrations(database).listing()) == 60
    database.check()
    database.close()


def test_other_writers_are_noticed(path: Path) -> None:
    """A reader learns cheaply that another wrote, and sees the wish it left."""
    filled(path, 1)
    mine, theirs = Database.open(path, now=0.0), Database.open(path, now=0.0)
    before = mine.data_version()
    assert mine.data_version() == before
    assert SqliteRegistrations(theirs).set_wish(1, Wish.PAUSE)
    assert mine.data_version() != before
    row = SqliteRegistrations(mine).get(1)
    assert row is not None
    assert (row.wish, row.result) == (Wish.PAUSE, Result.NONE)
    mine.close()
    theirs.close()


def test_acknowledged_survives_a_kill(path: Path) -> None:
    """What a method returned from is there although the process was killed without a word."""
    script = PROCESS + "\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    killed = subprocess.run([sys.executable, "-c", script, str(path), "a"], check=False)
    assert killed.returncode != 0
    database = Database.open(path, now=0.0)
    assert len(SqliteRegistrations(database).ids("a")) == 20
    database.close()


def test_secrets_are_not_on_disk(path: Path) -> None:
    """No file of the store holds a secret header's value, not even in the log of changes."""
    database = Database.open(path, now=0.0)
    headers = Headers([("Authorization", "Bearer canary-1"), ("X-Api-Key", "canary-2")])
    store = SqliteRegistrations(database)
    row = store.add("app", "id", [(Request("https://host/", headers=headers), "k")], now=1.0)
    head = ReplyHead("https://cdn/?sig=canary-3", 200, Headers([("set-cookie", "canary-4")]))
    epoch = store.claim(row.uid, "me")
    store.save_progress([RecordProgress(row.uid, epoch, 0, Spans(), 0, reply=head)])
    assert not [it for it in path.parent.iterdir() if b"canary" in it.read_bytes()]
    database.close()
