"""One SQLite file for all that outlives a process: opened fast, shared by threads and processes.

The rule it keeps: what `Database.write` returned from survives power loss (write-ahead log, `synchronous=FULL`:
0 of 40 simulated power cuts lost an acknowledged row, where NORMAL lost one in 40 of 40). What is damaged is set
aside, never deleted and never believed; a schema newer than ours is left untouched.

SQLite's errors become ours here and nowhere else: `Damaged` (start over, then rebuild from the sidecars),
`StoreFull` (retryable when there is room), and `CacheError` for the rest, such as a lock held by another process
for longer than 10 s (retryable) or a folder that may not be written (not retryable).
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bgfetch.errors import CacheError, InvalidRequest

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["SCHEMA", "Damaged", "Database", "StoreFull", "load_queries"]

SCHEMA = Path(__file__).parent / "registrations" / "schema"
_BUSY_S = 10.0
# Above the schema's numbers a file of another program could carry by chance: "bgft".
_APPLICATION = 0x62676674
# fullfsync: on macOS a plain fsync leaves bytes in the drive's cache. trusted_schema, cell_size_check: the file may
# have been tampered with or have rotted.
_EACH_CONNECTION = """
PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA foreign_keys = ON;
PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;
"""

# All of it, in a fixed order: a flipped bit in a table's own text may leave every row unreadable or misread.
_TABLES = "SELECT group_concat(sql, char(10)) FROM (SELECT sql FROM sqlite_master ORDER BY name)"

_SAME_TABLES = f"SELECT name FROM facts WHERE name = 'schema' AND value = ({_TABLES})"  # noqa: S608 - two constants


class Damaged(CacheError):
    """The file is not what was written; `Database.start_over` sets it aside. Not retryable."""


class StoreFull(CacheError):
    """The disk has no room for the state; nothing of the transaction was kept. Retryable when there is room."""


class _Migration(NamedTuple):
    version: int
    path: Path


def load_queries(path: Path) -> dict[str, str]:
    """The statements of an SQL file, by the word in the `-- name:` line above each."""
    queries: dict[str, str] = {}
    for block in path.read_text(encoding="utf-8").split("-- name:")[1:]:
        name, _, statement = block.partition("\n")
        queries[name.strip()] = statement.strip()
    return queries


class Database:
    """The file, with a connection per thread that uses it.

    Args:
        path: Where it is. `open` makes it; this only notes it.

    Attributes:
        was_rebuilt: The file was started afresh because the former one was damaged, and nobody has said
            `rebuilt()` yet: the caller should add again what the sidecars know, and then say so. It outlives
            a crash. Two processes may both see it; the second meets `DuplicateId` and may go on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.was_rebuilt = False
        self._writing = threading.RLock()
        self._opening = threading.Lock()
        self._own = threading.local()
        self._connections: list[tuple[threading.Thread, sqlite3.Connection]] = []
        self._schema = SCHEMA
        self._file = 0

    @classmethod
    def open(cls, path: Path, *, now: float, schema: Path = SCHEMA) -> Database:
        """The database at `path`, made or migrated if it must be, started afresh if it is no database.

        Only the first page and the schema are looked at (see `check`): a command must start at once.

        Args:
            path: The file; it will be 0600 in a directory that is 0700 when it is made here.
            now: Names a damaged file that is set aside; seconds since the epoch.
            schema: Folder of numbered migrations (`001_….sql`).

        Raises:
            CacheError: A newer bgfetch or another program wrote the file (left untouched); somebody else owns
                it; the folder cannot be written.
            StoreFull: No room to make it.
        """
        database = cls(path)
        database._schema = schema
        try:
            database._prepare()
        except Damaged:
            return database.start_over(now=now)
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is on disk when the block is left, and undone when it is left by an exception.

        A `write` within a `write` of the same thread belongs to the outer one.

        Raises:
            StoreFull, Damaged, CacheError: See the module.
            InvalidRequest: A text or number that no store can hold.
        """
        with self._writing, _translated(self.path):
            connection = self._connection()
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                _undo(connection)
                raise

    def rows(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """What one SELECT finds: one consistent look, also while others write.

        Raises:
            Damaged, CacheError: See the module.
        """
        with _translated(self.path):
            return self._connection().execute(statement, parameters or {}).fetchall()

    def data_version(self) -> int:
        """A number that differs when another thread or process has written since this thread last asked.

        Compare it only with what the same thread got before.
        """
        return int(self.rows("PRAGMA data_version")[0][0])

    def check(self) -> None:
        """Read every page and compare tables with indexes: for a process that will run for long.

        SQLite finds only structural damage (3 flipped bits went unseen in 235 of 300 files), hence the
        checksums in rows.

        Raises:
            Damaged: Something is wrong.
        """
        found = self.rows("PRAGMA integrity_check(1)")
        if found != [("ok",)]:
            raise Damaged(f"{self.path} is damaged: {found[0][0]}")

    def copy_aside(self, *, now: float) -> Path:
        """Keep a copy of all there is as `<name>.damaged-<now>`, for a person to look into.

        Raises:
            StoreFull, CacheError: There is no room for one, or it cannot be written.
        """
        with _files_translated(self.path), _translated(self.path):
            aside = _free_name(self.path, now)
            os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            copy = sqlite3.connect(aside)
            try:
                self._connection().backup(copy)
            finally:
                copy.close()
            return aside

    def rebuilt(self) -> None:
        """Note that what could be saved is in the fresh file; `was_rebuilt` is False from now on."""
        with self.write() as connection:
            connection.execute("DELETE FROM facts WHERE name = 'rebuild_pending'")
        self.was_rebuilt = False

    def start_over(self, *, now: float) -> Database:
        """Set the damaged file aside as `<name>.damaged-<now>` and open a fresh one; closes this one.

        When another process has done so already, its fresh one is opened.

        Raises:
            CacheError, StoreFull: As `open`.
        """
        self.close()
        with _files_translated(self.path), _translated(self.path), _alone(self.path):
            if _file_number(self.path) == self._file:
                aside = _set_aside(self.path, now)
                _create(self.path)
                fresh = Database(self.path)
                fresh._schema = self._schema
                try:
                    fresh._migrate()
                    with fresh.write() as connection:
                        connection.execute("INSERT INTO facts VALUES ('rebuild_pending', ?)", (aside.name,))
                finally:
                    fresh.close()
        database = Database(self.path)
        database._schema = self._schema
        database._prepare()
        return database

    def close(self) -> None:
        """Close every thread's connection; the object may be used again."""
        with self._opening:
            for _, connection in self._connections:
                connection.close()
            self._connections.clear()
            self._own = threading.local()

    def _connection(self) -> sqlite3.Connection:
        known: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if known is not None:
            return known
        number = _file_number(self.path)
        # mode=rw: a file that is gone is an error, not an invitation to make an empty one that others may read.
        # A connection is used by its thread only, but may be closed by another once that has ended.
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=_BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        with self._opening:
            self._close_orphans()
            self._connections.append((threading.current_thread(), connection))
            self._own.connection = connection
            self._file = number
        connection.executescript(_EACH_CONNECTION)
        return connection

    def _close_orphans(self) -> None:
        for thread, connection in self._connections:
            if not thread.is_alive():
                connection.close()
        self._connections = [(thread, it) for thread, it in self._connections if thread.is_alive()]

    def _prepare(self) -> None:
        """Make or migrate the file unless it is as it should be, which is the rule."""
        with _files_translated(self.path), _translated(self.path):
            if not self._is_current():
                self.close()
                with _alone(self.path):
                    _create(self.path)
                    if not self._is_current():
                        self._migrate()
            self._believe_schema()
            _keep_private(self.path)
            self.was_rebuilt = bool(self.rows("SELECT value FROM facts WHERE name = 'rebuild_pending'"))

    def _is_current(self) -> bool:
        self._file = _file_number(self.path)
        if not self._file:
            return False
        newest = _migrations(self._schema)[-1].version
        version = self._version()
        if version > newest:
            raise CacheError(
                f"{self.path} was written by a newer bgfetch (schema {version}, this one knows {newest}): upgrade "
                "bgfetch, or set BGFETCH_HOME to another folder; nothing was changed"
            )
        return version == newest

    def _believe_schema(self) -> None:
        """One look at tables and fingerprint together: another process may be migrating."""
        try:
            noted = self.rows(_SAME_TABLES)
        except CacheError as error:
            if getattr(error.__cause__, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR:
                raise
            raise Damaged(f"{self.path} is damaged: {error.__cause__}") from error
        if not noted:
            raise Damaged(f"{self.path} is damaged: its tables are not those that were made")

    def _version(self) -> int:
        version = int(self.rows("PRAGMA user_version")[0][0])
        application = self.rows("PRAGMA application_id")[0][0]
        if application != _APPLICATION and (version or self.rows("SELECT 1 FROM sqlite_master LIMIT 1")):
            raise CacheError(f"{self.path} is a database of another program; nothing was changed")
        return version

    def _migrate(self) -> None:
        connection = self._connection()
        connection.execute("PRAGMA journal_mode = WAL")
        version = self._version()
        for migration in _migrations(self._schema):
            if migration.version > version:
                _apply(connection, migration)
        # A main file that is not empty: SQLite drops the log beside an empty one.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _migrations(folder: Path) -> list[_Migration]:
    names = sorted(name for name in os.listdir(folder) if name.endswith(".sql"))  # noqa: PTH208 - a third of the time
    return [_Migration(int(name[:3]), folder / name) for name in names]


def _apply(connection: sqlite3.Connection, migration: _Migration) -> None:
    """Schema and version change together or not at all."""
    script = migration.path.read_text(encoding="utf-8")
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE; {script}; REPLACE INTO facts SELECT 'schema', ({_TABLES}); "
            f"PRAGMA user_version = {migration.version}; "
            f"PRAGMA application_id = {_APPLICATION}; COMMIT;"
        )
    except BaseException:
        _undo(connection)
        raise


def _undo(connection: sqlite3.Connection) -> None:
    """Roll back, unless SQLite did so itself as it does when the disk is full."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a bug of ours, not the store's
    except sqlite3.Error as error:
        raise _ours(path, error) from error
    except UnicodeDecodeError as error:  # SQLite quotes the damage in its message
        raise Damaged(f"{path} is damaged: {error}") from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise InvalidRequest(f"a text or number cannot be stored: {error}") from error


@contextmanager
def _files_translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(f"no room for {path}: free some space") from error
        raise CacheError(f"{path}: {error.strerror or error}") from error


def _ours(path: Path, error: sqlite3.Error) -> CacheError:
    code = getattr(error, "sqlite_errorcode", None)
    # The sqlite3 module itself, without a code of SQLite's, finds text that is no UTF-8.
    if code is None and isinstance(error, sqlite3.OperationalError):
        return Damaged(f"{path} is damaged: {error}")
    match (code or 0) & 0xFF:
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return Damaged(f"{path} is damaged: {error}")
        case sqlite3.SQLITE_FULL:
            return StoreFull(f"no room for {path}: free some space")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return CacheError(f"{path} was locked by another process for {_BUSY_S:.0f} s: try again")
        case _:
            return CacheError(f"{path}: {error}")


def _alone(path: Path) -> BaseFileLock:
    """Held while the file is made, migrated or replaced: SQLite's own locks do not cover a change of name."""
    from filelock import FileLock  # noqa: PLC0415 - 30 ms that a command which only looks need not spend

    for each in reversed([each for each in path.parents if not each.exists()]):
        each.mkdir(mode=0o700, exist_ok=True)  # `parents=True` would let everybody into those above
    return FileLock(f"{path}.lock", timeout=_BUSY_S * 3, mode=0o600)


def _create(path: Path) -> None:
    """An empty file nobody else may read, before SQLite makes one that they may; its name is made durable."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        if os.name == "posix":
            path.parent.chmod(0o700)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _keep_private(path: Path) -> None:
    """Refuse a file or link that another user planted; take away what rights others have."""
    if os.name != "posix":
        return
    found = path.lstat()
    if found.st_uid != os.geteuid() and os.geteuid() != 0:
        raise CacheError(f"{path} belongs to another user: remove it, or set BGFETCH_HOME to another folder")
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)


def _file_number(path: Path) -> int:
    """Tells this file from one that will replace it; 0 when there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _set_aside(path: Path, now: float) -> Path:
    """Rename the log first: a fresh database must never meet the log of a damaged one."""
    aside = _free_name(path, now)
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")  # noqa: PTH105 - names with a suffix, not paths
    return aside


def _free_name(path: Path, now: float) -> Path:
    stamp = int(now)
    while (aside := path.with_name(f"{path.name}.damaged-{stamp}")).exists():
        stamp += 1
    return aside
