"""What outlives the process that asked: registrations, their records, the events owed to workers, the log.

The port speaks the domain, never SQL. Its rules, kept by every implementation (`tests/contract`):

* What a method returned from is durable, and each method is one transaction. `commit` takes the changes of any
  number of registrations, so that one journal thread makes one transaction for all running downloads.
* A claim raises the registration's epoch. Changes that carry an older epoch come from an owner that was
  replaced, perhaps without knowing: they change nothing and are reported as stale.
* A registration settles once; its outbox event and its log line are written in the same transaction.
* Secrets are not kept (`bgfetch.stored`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from bgfetch.core.model import FailureReason, Icon, ReplyHead, Request, Result, State, Verified
from bgfetch.core.spans import Spans
from bgfetch.errors import DuplicateId, InvalidState
from bgfetch.registrations.summary import Summary

__all__ = [
    "Change",
    "Committed",
    "EventType",
    "LoggedEvent",
    "OutboxEvent",
    "RecordFinished",
    "RecordProgress",
    "RecordRow",
    "RegistrationOptions",
    "RegistrationRow",
    "Registrations",
    "Settlement",
    "StateChanged",
    "Summary",
    "Wish",
    "counted",
    "duplicate",
    "event_type",
    "new_row",
    "settled_as",
]


class Wish(StrEnum):
    """What a person asked of a registration; whoever runs it obeys as soon as it sees it. An abort is final."""

    RUN = "run"
    PAUSE = "pause"
    ABORT = "abort"


class EventType(StrEnum):
    """The functional event a worker gets (Background Fetch, section "Events")."""

    SUCCESS = "backgroundfetchsuccess"
    FAIL = "backgroundfetchfail"
    ABORT = "backgroundfetchabort"
    CLICK = "backgroundfetchclick"


@dataclass(frozen=True, slots=True)
class RegistrationOptions:
    """Ours; stored as JSON, so a field may be added without a migration.

    Args:
        priority: Higher goes first.
        limit_rate: Most bytes a second; 0 for no limit.
        connections: Most connections; 0 for as many as help.
        networks: "any", "unmetered", or names of networks (connections or SSIDs) with commas between: on others it waits.
        schedule: When how fast, as core.timetable reads it; "" for always.
        environment: The client's variables that decide about proxies, certificates and sources, without secrets.
        metadata: Words for whoever made the registration; bgfetch does not read them.
    """

    priority: int = 0
    limit_rate: int = 0
    connections: int = 0
    networks: str = "any"
    schedule: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class RegistrationRow:
    """One registration as stored.

    Args:
        uid: Never used twice in a store.
        downloaded: Bytes held, the sum over its records; may fall when one restarts.
        created_at: Seconds since the epoch, like every instant here.
        settled_at: None while it is active.
        records_available: False once the settle event has been handled.
        wish: What a person asked last.
        epoch: How often it was claimed; 0 = nobody ever ran it.
        owner: Who claimed it last, in the words of the engine; "" = nobody.
        until: When a waiting state ends by itself, or None.
    """

    uid: int
    scope: str
    id: str
    title: str
    icons: tuple[Icon, ...]
    download_total: int
    upload_total: int
    downloaded: int
    uploaded: int
    result: Result
    failure_reason: FailureReason
    failure_detail: str
    created_at: float
    settled_at: float | None
    records_available: bool
    wish: Wish
    epoch: int
    owner: str
    state: State
    until: float | None
    options: RegistrationOptions


@dataclass(frozen=True, slots=True)
class RecordRow:
    """One request of a registration and what is held of its body.

    Args:
        index: Its place among the requests, from 0.
        request: Without the values of secret headers, which are "".
        key: Names the partial.
        total: Length of the body, bytes, or None while unknown.
        spans: Durable bytes of the partial. Nothing when the stored ones fail their checksum; then `etag` and
            `last_modified` are "" as well.
        digest: "ALG:HEX" of the finished body, or "".
        blob: Names the finished body in the store of blobs, or "".
        restarts: How often it began again from 0.
    """

    index: int
    request: Request
    key: str
    reply: ReplyHead | None = None
    total: int | None = None
    downloaded: int = 0
    uploaded: int = 0
    spans: Spans = field(default_factory=Spans)
    etag: str = ""
    last_modified: str = ""
    digest: str = ""
    verified: Verified = Verified.NONE
    blob: str = ""
    result: Result = Result.NONE
    failure_reason: FailureReason = FailureReason.NONE
    failure_detail: str = ""
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class RecordProgress:
    """All that is known of an unfinished record now; replaces what was stored. Make its bytes durable first.

    A record that has finished is not changed by it.
    """

    uid: int
    epoch: int
    index: int
    spans: Spans
    downloaded: int
    uploaded: int = 0
    total: int | None = None
    etag: str = ""
    last_modified: str = ""
    reply: ReplyHead | None = None
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class RecordFinished:
    """How a record ended. The first one counts. Its spans and validators stay: another fetch may go on from them.

    Args:
        uploaded: Bytes of the request's body sent, or None for what was stored before.
    """

    uid: int
    epoch: int
    index: int
    result: Result
    failure_reason: FailureReason = FailureReason.NONE
    failure_detail: str = ""
    downloaded: int = 0
    total: int | None = None
    digest: str = ""
    verified: Verified = Verified.NONE
    blob: str = ""
    reply: ReplyHead | None = None
    uploaded: int | None = None


@dataclass(frozen=True, slots=True)
class StateChanged:
    """What the registration does now, and until when."""

    uid: int
    epoch: int
    state: State
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a registration. The first one counts; where `Wish.ABORT` was stored before, it is "aborted".

    Args:
        result: SUCCESS or FAILURE.
        now: The instant, seconds since the epoch.
    """

    uid: int
    epoch: int
    result: Result
    failure_reason: FailureReason
    failure_detail: str
    now: float


Change = RecordProgress | RecordFinished | StateChanged | Settlement


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of changes.

    Args:
        stale: Registrations some change of which was ignored: claimed by somebody else, settled, or gone.
        events: By uid, the outbox event of each settlement, also of one that had happened before.
    """

    stale: frozenset[int]
    events: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """An event owed to the worker of a scope, until it is acknowledged.

    Args:
        event_id: Stable over deliveries: a handler may tell repetitions by it. Grows with time.
        attempts: Deliveries begun.
        not_before: The next one may begin then.
    """

    event_id: int
    uid: int
    scope: str
    id: str
    type: EventType
    created_at: float
    attempts: int
    not_before: float


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """A line of a registration's log; `seq` grows and is never used twice."""

    seq: int
    uid: int
    scope: str
    id: str
    at: float
    name: str
    detail: str


class Registrations(Protocol):
    """The store. Every method may be called from any thread, and raises `CacheError` when the store refuses.

    `Damaged` among these says that a row is not what was written.
    """

    def add(
        self,
        scope: str,
        id: str,  # noqa: A002 - the standard's word
        requests: Sequence[tuple[Request, str]],
        *,
        title: str = "",
        icons: Sequence[Icon] = (),
        download_total: int = 0,
        options: RegistrationOptions | None = None,
        now: float,
    ) -> RegistrationRow:
        """A new registration of these (request, key of its partial), queued, claimed by nobody.

        Raises:
            DuplicateId: The id is active in this scope (fetch() step 6); nothing was added.
            InvalidRequest: A text or number that cannot be stored.
        """

    def active(self, scope: str, id: str) -> RegistrationRow | None:  # noqa: A002
        """The registration that has this id now and has not settled."""

    def latest(self, scope: str, id: str) -> RegistrationRow | None:  # noqa: A002
        """The last one that had this id, settled or not."""

    def get(self, uid: int) -> RegistrationRow | None:
        """The registration, or None once it is purged."""

    def ids(self, scope: str) -> list[str]:
        """Ids that are active in the scope, in the order they were made (`getIds()`)."""

    def listing(
        self, scope: str | None = None, *, active: bool | None = None, limit: int | None = None
    ) -> list[RegistrationRow]:
        """Registrations, newest first: of one scope or of all; active, settled (False) or both; at most `limit`."""

    def summaries(
        self, scope: str | None = None, *, active: bool = False, limit: int | None = None
    ) -> list[Summary]:
        """The same for showing only, without a check of what was stored: all, or those that are active."""

    def unfinished(self, *, limit: int, paused: bool = False) -> list[int]:
        """Uids that are to be worked on: the highest priority first, of one priority the oldest; at most `limit`.

        Args:
            limit: >= 0.
            paused: Also those that a person lets rest.
        """

    def count_unfinished(self) -> int:
        """How many have not settled."""

    def records(self, uid: int) -> list[RecordRow]:
        """The records in the order of their requests; none once it is purged."""

    def keys(self) -> set[str]:
        """Keys of every partial some registration refers to and still makes available: never delete these."""

    def blobs(self) -> set[str]:
        """Blobs of records that are still available."""

    def claim(self, uid: int, owner: str, *, epoch: int | None = None) -> int:
        """The new epoch under which `owner` may change it; from now on changes of former owners are stale.

        Args:
            uid: What to claim.
            owner: Who claims, in words that tell the engine whether it is alive.
            epoch: Claim only if this is still its epoch: of two processes that find an owner dead, one wins.

        Raises:
            InvalidState: It has settled or is gone, or its epoch is another.
        """

    def commit(self, changes: Sequence[Change]) -> Committed:
        """Make all changes, in this order, in one transaction."""

    def set_wish(self, uid: int, wish: Wish) -> bool:
        """Note what a person asked; False when it has settled, is gone, or was aborted and this asks otherwise.

        When True came back for `Wish.ABORT` it will settle as "aborted", whatever its records do meanwhile, so
        that `abort() == True` promises a backgroundfetchabort (Background Fetch, abort()).
        """

    def amend(
        self,
        uid: int,
        *,
        title: str | None = None,
        icons: Sequence[Icon] | None = None,
        options: RegistrationOptions | None = None,
    ) -> None:
        """Change what is shown of it (`updateUI`) or how it runs; None leaves a thing as it is."""

    def release_records(self, uid: int) -> None:
        """Its settle event has been handled: `records_available` is False."""

    def purge(self, uid: int) -> None:
        """Forget it, its records, its events and its log."""

    def click(self, uid: int, *, now: float) -> int:
        """The id of a new outbox event: a person chose this registration, in whatever state.

        Raises:
            InvalidState: It is gone.
        """

    def pending(self, scope: str | None = None, *, now: float) -> list[OutboxEvent]:
        """Events not acknowledged and due now, oldest first."""

    def acknowledge(self, event_id: int, now: float) -> None:
        """The worker has handled the event; it is not delivered again."""

    def postpone(self, event_id: int, not_before: float, *, attempts: int | None = None) -> bool:
        """Count a delivery and allow the next at `not_before`; whether that was done.

        Called before each delivery, so that a handler which kills its process is not retried at once.

        Args:
            event_id: The event.
            not_before: Seconds since the epoch.
            attempts: Only if it was tried this often: of two processes that see the event, one delivers it.
        """

    def log(self, uid: int, now: float, name: str, detail: str = "") -> None:
        """Add a line to the registration's log, unless it is gone. The caller keeps secrets out of it."""

    def events(self, uid: int | None = None, *, after: int = 0, limit: int = 1000) -> list[LoggedEvent]:
        """Lines with `seq` > `after`, of one registration or of all, oldest first, at most `limit`."""

    def last_line(self) -> int:
        """The `seq` of the newest line of the log; 0 when there is none."""

    def data_version(self) -> int:
        """Differs when another thread or process may have changed something since this thread last asked."""

    def save_progress(self, updates: Sequence[RecordProgress]) -> frozenset[int]:
        """`commit` of these; the stale uids."""
        return self.commit(updates).stale

    def save_state(self, uid: int, epoch: int, state: State, until: float | None = None) -> bool:
        """`commit` of this; False when it was stale."""
        return not self.commit([StateChanged(uid, epoch, state, until)]).stale

    def finish_records(self, finished: Sequence[RecordFinished]) -> frozenset[int]:
        """`commit` of these; the stale uids."""
        return self.commit(finished).stale

    def settle(
        self,
        uid: int,
        epoch: int,
        result: Result,
        failure_reason: FailureReason = FailureReason.NONE,
        failure_detail: str = "",
        *,
        now: float,
    ) -> int:
        """`commit` of a settlement; its outbox event, the same one each time.

        Raises:
            InvalidState: It was claimed by somebody else, or is gone.
        """
        change = Settlement(uid, epoch, result, failure_reason, failure_detail, now)
        event_id = self.commit([change]).events.get(uid)
        if event_id is None:
            raise InvalidState(f"registration {uid} was taken over by another process, or is gone")
        return event_id


def new_row(
    uid: int,
    scope: str,
    id: str,  # noqa: A002 - the standard's word
    *,
    title: str,
    icons: tuple[Icon, ...],
    download_total: int,
    upload_total: int,
    options: RegistrationOptions,
    now: float,
) -> RegistrationRow:
    """A registration as it is when it has just been added."""
    return RegistrationRow(
        uid=uid,
        scope=scope,
        id=id,
        title=title,
        icons=icons,
        download_total=download_total,
        upload_total=upload_total,
        downloaded=0,
        uploaded=0,
        result=Result.NONE,
        failure_reason=FailureReason.NONE,
        failure_detail="",
        created_at=now,
        settled_at=None,
        records_available=True,
        wish=Wish.RUN,
        epoch=0,
        owner="",
        state=State.QUEUED,
        until=None,
        options=options,
    )


def counted(requests: int) -> str:
    """How many there are, as the log says it."""
    return "1 request" if requests == 1 else f"{requests} requests"


def duplicate(live: RegistrationRow) -> DuplicateId:
    """The error for a second registration while this one lives."""
    return DuplicateId(
        f"the id {live.id!r} is active in scope {live.scope!r}: registration {live.uid}, {live.state.value}, "
        f"{live.downloaded} bytes held; attach to it with get(), abort it, or choose another id"
    )


def settled_as(change: Settlement, *, aborted: bool) -> tuple[Result, FailureReason, str]:
    """How the registration ends: a promised abort wins over what its records did meanwhile."""
    if aborted:
        return Result.FAILURE, FailureReason.ABORTED, change.failure_detail
    return change.result, change.failure_reason, change.failure_detail


def event_type(result: Result, failure_reason: FailureReason) -> EventType:
    """The settle event's name (Background Fetch, 1.7)."""
    if result is Result.SUCCESS:
        return EventType.SUCCESS
    return EventType.ABORT if failure_reason is FailureReason.ABORTED else EventType.FAIL
