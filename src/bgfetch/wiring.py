"""The one place that picks implementations. Each is made when first asked for: a command pays for what it uses."""

# ruff: noqa: PLC0415 - each part is imported where it is made, for the same reason

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bgfetch.clock import SystemClock
from bgfetch.config import Settings
from bgfetch.errors import CacheError
from bgfetch.version import __version__
from bgfetch.vfs import Vfs

if TYPE_CHECKING:  # libcurl, asyncio and the engine cost more to import than most commands take
    from bgfetch.cache.blobs import Blobs
    from bgfetch.cache.entries import SqliteEntries
    from bgfetch.cache.links import Links
    from bgfetch.cache.maintenance import Kept
    from bgfetch.cache.partials import Partials
    from bgfetch.cache.room import Room
    from bgfetch.caches import CacheStorage
    from bgfetch.client.remote import Audience, RemoteRunner
    from bgfetch.client.starting import Daemon
    from bgfetch.database import Database
    from bgfetch.engine.driver import Driver
    from bgfetch.engine.runner import Runner
    from bgfetch.engine.tasks import Job
    from bgfetch.eviction import Eviction
    from bgfetch.manager import BackgroundFetchManager
    from bgfetch.network.watch import NetworkWatch
    from bgfetch.registration import Home
    from bgfetch.registrations.sqlite import SqliteRegistrations
    from bgfetch.running import Runs
    from bgfetch.transports.curl import Trust
    from bgfetch.worker.clients import Switchboard
    from bgfetch.worker.delivery import Delivery
    from bgfetch.worker.launcher import Launcher
    from bgfetch.worker.mailbox import Mailbox
    from bgfetch.worker.outbox import Outbox
    from bgfetch.worker.places import Places
    from bgfetch.worker.retention import Retention
    from bgfetch.worker.scopes import Scopes
    from bgfetch.worker.workers import Workers

__all__ = ["Wiring", "mended"]

_LOOPS = 2  # more gain nothing: the kernel and the disk are the limit then

_DIRECTORIES = ("state", "partials", "blobs", "names", "daemon", "log")
_OWN_DESCRIPTORS = 32  # of the store, the loops, the locks and the standard streams

_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Bytes that bgfetch can fetch again: back-up programs may skip this.\n"


class Wiring:
    """Everything of one home.

    Args:
        settings: How to behave, and where.
        audience: The app that messages of workers are for, if any.
    """

    def __init__(self, settings: Settings, *, audience: Audience | None = None) -> None:
        self.settings = settings
        self._audience = audience
        self._watch: NetworkWatch | None = None
        self.clock = SystemClock()
        self.vfs = Vfs()
        for each in (self.root, *(self.root / name for name in _DIRECTORIES)):
            if not self.vfs.owned(each):
                raise CacheError(
                    f"{each} belongs to another user: remove it, or set BGFETCH_HOME to another folder"
                )

    @property
    def root(self) -> Path:
        """BGFETCH_HOME."""
        return self.settings.home

    @property
    def claims_root(self) -> Path:
        """Where processes say which registrations they run."""
        return self.root / "state" / "claims"

    @cached_property
    def database(self) -> Database:
        """The store, made if it is not there; one that was lost or damaged is filled again from what is on disk."""
        from bgfetch.database import Database

        path = self.root / "state" / "bgfetch.sqlite3"
        lost = self.vfs.size(path) is None and any(
            self.vfs.names(self.root / each) for each in ("partials", "blobs")
        )
        database = Database.open(path, now=self.clock.now())
        if database.was_rebuilt or lost:
            self._rebuild(database)
        return database

    def _rebuild(self, database: Database) -> None:
        from bgfetch.cache.entries import SqliteEntries
        from bgfetch.cache.maintenance import Kept
        from bgfetch.mending import rebuild_all

        kept = Kept(SqliteEntries(database), self.blobs, self.partials, self.links, self.vfs)
        rebuild_all(database, kept, now=self.clock.now())

    def mend(self) -> str:
        """Make a damaged database good, before anything is asked of what works with it.

        Returns:
            What was done, in words; "" where nothing is wrong that could be mended.

        Raises:
            CacheError: There is no room, or it cannot be written.
        """
        from bgfetch.database import Damaged
        from bgfetch.mending import mend_rows

        try:
            return mend_rows(self.database, self.kept, now=self.clock.now())
        except Damaged as error:
            self.database.start_over(now=self.clock.now()).close()
            for name in ("database", "registrations", "entries", "kept", "eviction", "room"):
                self.__dict__.pop(name, None)
            found = len(self.registrations.listing()), len(self.entries.placed())
            return (
                f"{error}: it is set aside beside the new one, which was made again with {found[0]} registrations and "
                f"{found[1]} cache entries from the files"
            )

    @cached_property
    def registrations(self) -> SqliteRegistrations:
        """Registrations over the store."""
        from bgfetch.registrations.sqlite import SqliteRegistrations

        return SqliteRegistrations(self.database)

    @cached_property
    def entries(self) -> SqliteEntries:
        """Entries of named caches over the store."""
        from bgfetch.cache.entries import SqliteEntries

        return SqliteEntries(self.database)

    @cached_property
    def partials(self) -> Partials:
        """Unfinished bodies."""
        from bgfetch.cache.partials import Partials

        return Partials(self.root / "partials", self.vfs)

    @cached_property
    def blobs(self) -> Blobs:
        """Finished bodies."""
        from bgfetch.cache.blobs import Blobs

        return Blobs(self.root / "blobs", self.vfs)

    @cached_property
    def room(self) -> Room:
        """Where bodies get their room."""
        from bgfetch.cache.room import Room

        return Room(
            self.root, self.vfs, reserve=self.settings.disk_reserve, make_room=self.eviction.make_room
        )

    @cached_property
    def kept(self) -> Kept:
        """Everything that is kept, as those see it who look after it."""
        from bgfetch.cache.maintenance import Kept

        return Kept(self.entries, self.blobs, self.partials, self.links, self.vfs)

    @cached_property
    def eviction(self) -> Eviction:
        """The quota."""
        from bgfetch.eviction import Eviction

        return Eviction(
            self.kept,
            self.registrations,
            quota=self.settings.cache_quota,
            now=self.clock.now,
            monotonic=self.clock.monotonic,
        )

    @cached_property
    def links(self) -> Links:
        """Names for finished bodies."""
        from bgfetch.cache.links import Links

        return Links(self.root / "names", self.vfs)

    @cached_property
    def workers(self) -> Workers:
        """Workers of scopes."""
        from bgfetch.worker.workers import Workers

        return Workers(self.database)

    @cached_property
    def outbox(self) -> Outbox:
        """Events owed to workers."""
        from bgfetch.worker.outbox import Outbox

        return Outbox(self.database)

    @cached_property
    def mailbox(self) -> Mailbox:
        """Messages for apps that are not there."""
        from bgfetch.worker.mailbox import Mailbox

        return Mailbox(self.database)

    @cached_property
    def retention(self) -> Retention:
        """What is forgotten in time."""
        from bgfetch.worker.retention import Retention

        return Retention(self.database, records=self.settings.retention, log=self.settings.log_retention)

    @cached_property
    def places(self) -> Places:
        """Locks and logs of workers."""
        from bgfetch.worker.places import Places

        return Places(self.root, self.vfs)

    @cached_property
    def launcher(self) -> Launcher:
        """Runs handlers."""
        from bgfetch.worker.launcher import Launcher

        return Launcher(self.root)

    @cached_property
    def scopes(self) -> Scopes:
        """Registers workers and unregisters them."""
        from bgfetch.worker.scopes import Scopes

        return Scopes(
            self.workers,
            self.outbox,
            self.mailbox,
            self.registrations,
            self.partials,
            self.launcher,
            self.places,
            self.clock,
        )

    @cached_property
    def worker(self) -> Delivery:
        """What hands events over; where there is a daemon, that one runs the handlers of apps."""
        from bgfetch.worker.builtin import BuiltinWorker
        from bgfetch.worker.delivery import Delivery, Post

        return Delivery(
            Post(self.registrations, self.outbox, self.workers, self.blobs),
            BuiltinWorker(self.registrations, self.entries),
            self.scopes,
            self.launcher,
            self.places,
            self.clock,
            handles=self.settings.in_process,
            sweep=lambda now: self.retention.sweep(now=now),
        )

    @cached_property
    def switchboard(self) -> Switchboard:
        """Who is connected to the daemon; nobody where there is none."""
        from bgfetch.address import Address
        from bgfetch.client.connection import Connection
        from bgfetch.client.switchboard import DaemonSwitchboard

        return DaemonSwitchboard(Connection(Address(self.root), os.environ))

    @property
    def runs(self) -> Runs:
        """Who runs registrations for this process: the daemon, unless the settings say otherwise."""
        return self.runner if self.settings.in_process else self.remote

    @cached_property
    def daemon(self) -> Daemon:
        """The daemon of this home, started when it is needed."""
        from bgfetch.address import Address
        from bgfetch.client.connection import Connection
        from bgfetch.client.starting import Daemon
        from bgfetch.environment import travelling

        self._tag()
        connection = Connection(Address(self.root), os.environ)
        return Daemon(connection, os.environ, not_inherited=frozenset(travelling(os.environ)))

    @cached_property
    def remote(self) -> RemoteRunner:
        """The daemon as what runs registrations."""
        return self._remote(self._audience)

    @cached_property
    def errand_runs(self) -> Runs:
        """Who runs what caches fetch: an app's stream tells of its own scope only, and errands have another."""
        return self.runs if self.settings.in_process or self._audience is None else self._remote(None)

    def _remote(self, audience: Audience | None) -> RemoteRunner:
        from bgfetch.client.remote import RemoteRunner
        from bgfetch.environment import travelling

        return RemoteRunner(
            self.daemon,
            self.registrations,
            environment=lambda: travelling(os.environ),
            audience=audience,
        )

    @cached_property
    def runner(self) -> Runner:
        """What runs registrations in this process."""
        from bgfetch.engine.claims import Claims
        from bgfetch.engine.runner import Runner

        self._tag()
        return Runner(
            self.registrations,
            Claims(self.claims_root, self.vfs),
            self.clock,
            make_driver=self._driver,
            deliver=self.worker.deliver,
        )

    def manager(self, scope: str) -> BackgroundFetchManager:
        """The standard's object of a scope."""
        from bgfetch.manager import BackgroundFetchManager

        return BackgroundFetchManager(scope, self.home)

    @cached_property
    def home(self) -> Home:
        """What registrations need of all this."""
        from bgfetch.registration import Home

        return Home(
            registrations=self.registrations,
            partials=self.partials,
            blobs=self.blobs,
            links=self.links,
            runner=self.runs,
            clock=self.clock,
            vfs=self.vfs,
            room=self.room,
            root=self.root,
        )

    def caches(self, scope: str) -> CacheStorage:
        """The standard's CacheStorage of a scope."""
        from bgfetch.caches import CacheStorage
        from bgfetch.errand import errands

        return CacheStorage(
            scope,
            self.entries,
            self.blobs,
            self.partials,
            self.links,
            self.clock.now,
            fetch=errands(replace(self.home, runner=self.errand_runs)),
            settle=self.eviction.settle,
        )

    def close(self) -> None:
        """Stop what runs, keeping every byte."""
        if self._watch is not None:
            self._watch.close()
        for name in ("errand_runs", "remote", "runner"):
            if name in self.__dict__:
                runs: Runs = self.__dict__[name]
                runs.close()
        if "worker" in self.__dict__:
            self.worker.close(finish=self.settings.in_process)
        if "database" in self.__dict__:
            self.database.close()

    def _driver(self, settled: Callable[[Job, int], None], lost: Callable[[int], None]) -> Driver:
        from bgfetch.core.machine import Policy
        from bgfetch.core.timetable import Timetable
        from bgfetch.engine.driver import Driver, Stores
        from bgfetch.engine.scheduler import Caps
        from bgfetch.network.links import links
        from bgfetch.network.metered import NetworkManager
        from bgfetch.network.watch import NetworkWatch
        from bgfetch.transports.base import Deadlines
        from bgfetch.transports.curl import CurlTransport
        from bgfetch.transports.limited import LimitedTransport
        from bgfetch.transports.loops import Loops
        from bgfetch.transports.proxies import Proxies

        settings = self.settings
        trust, proxies = _trust(settings), Proxies.from_environment(os.environ)
        loops = [
            CurlTransport(
                deadlines=Deadlines(
                    settings.connect_timeout, settings.head_timeout, settings.silence_timeout
                ),
                trust=trust,
                user_agent=f"bgfetch/{__version__}",
                proxies=proxies,
                netrc=os.environ.get("NETRC", ""),
            )
            for _ in range(min(_LOOPS, os.cpu_count() or 1))
        ]
        limited = LimitedTransport(Loops(loops), self.clock)
        driver = Driver(
            Stores(self.registrations, self.partials, self.blobs, self.room),
            limited,
            clock=self.clock,
            policy=Policy(
                attempts=settings.attempts,
                patient=not settings.in_process,
                retry_scale=settings.retry_scale,
                most_bytes=settings.most_bytes,
            ),
            caps=Caps(
                per_host=settings.connections_per_host,
                total=min(settings.connections_total, _bearable()),
                per_record=settings.connections,
            ),
            settled=settled,
            limits=limited,
            lost=lost,
        )
        driver.set_limit(settings.limit_rate)
        driver.set_schedule(Timetable.parse(settings.schedule))
        self._watch = NetworkWatch(
            links(),
            NetworkManager().look,
            wanted=lambda: driver.chooses_networks,
            changed=driver.network_returned,
            found=driver.network_is,
        )
        return driver

    def _tag(self) -> None:
        tag = self.root / "CACHEDIR.TAG"
        if self.vfs.size(tag) is None:
            self.vfs.make_directory(self.root)
            self.vfs.replace(tag, _TAG.encode(), durable=False)


def mended(settings: Settings, error: CacheError) -> str:
    """What was done about an error of the store of a home: "" where it is no damage, or none that could be mended.

    Raises:
        CacheError: There is no room to mend it, or it cannot be written.
    """
    from bgfetch.database import Damaged

    if not isinstance(error, Damaged):
        return ""
    wiring = Wiring(settings)
    try:
        return wiring.mend()
    finally:
        wiring.close()


def _bearable() -> int:
    """Connections this process has descriptors for: each wants one, and a file beside it two more."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows has no such limit
        return 1 << 16
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else max(1, (soft - _OWN_DESCRIPTORS) // 4)


def _trust(settings: Settings) -> Trust:
    from bgfetch.transports.curl import Trust

    file = settings.ca_file or next(
        (
            os.environ[name]
            for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
            if os.environ.get(name)
        ),
        "",
    )
    if not file:
        import certifi

        file = certifi.where()
    return Trust(file, os.environ.get("SSL_CERT_DIR", ""))
