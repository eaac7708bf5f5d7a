"""What the driver keeps of a registration that is being worked on."""

from __future__ import annotations

from dataclasses import dataclass, field

from bgfetch.cache.facts import PartialFacts
from bgfetch.cache.hashing import FrontHasher
from bgfetch.cache.partials import Partial
from bgfetch.core import commands as do
from bgfetch.core.machine import RecordMachine
from bgfetch.core.model import FailureReason, Fault, ReplyHead, Request, Result, State, Verified
from bgfetch.core.pacing import RateMeter
from bgfetch.core.segments import PIECE
from bgfetch.engine.receiver import FlightReceiver
from bgfetch.engine.steering import Gate
from bgfetch.registrations.port import (
    RecordFinished,
    RecordProgress,
    RecordRow,
    RegistrationRow,
    Settlement,
    Wish,
)
from bgfetch.running import Look
from bgfetch.transports.surroundings import Surroundings

__all__ = ["Job", "Look", "RecordTask", "told"]


def told(finish: do.Finish) -> str:
    """A failure as it is stored and shown: its word, by which callers tell it from others, then the sentence."""
    return f"{finish.kind}: {finish.detail}" if finish.kind else finish.detail


@dataclass(slots=True, eq=False)
class RecordTask:
    """One request under way.

    Args:
        job: The registration it belongs to.
        row: As it was stored when the job began.
        request: What is sent, secrets included.
        host: Whose connections it uses.
        number: Unique in this process.
        partial: Its bytes, once it has had its turn.
        reached_public: Whether a connection of this record reached a public address; none may then lead inwards.
        timer: Instant its machine wants to be called, seconds since the epoch.
        retry_open: Instant its partial may be opened again after the disk refused, on the monotonic clock.
        needs: Bytes it waits for room for.
    """

    job: Job
    row: RecordRow
    request: Request
    host: str
    machine: RecordMachine
    number: int
    partial: Partial | None = None
    reply: ReplyHead | None = None
    announced: int | None = None
    hasher: FrontHasher | None = None
    receivers: dict[int, FlightReceiver] = field(default_factory=dict)
    opened: dict[int, float] = field(default_factory=dict)
    uploaded: int = 0
    reached_public: bool = False
    timer: float | None = None
    retry_open: float = 0.0
    open_failures: int = 0
    needs: int = 0
    granted: int = 0
    dirty: bool = False
    finish: do.Finish | None = None
    blob: str = ""
    digest: str = ""
    verified: Verified = Verified.NONE

    @property
    def downloaded(self) -> int:
        """Bytes held now."""
        if self.finish is not None and self.finish.result is Result.SUCCESS:
            return self.machine.total or 0
        return self.machine.held.length

    def opened_as(self, flight: int) -> int:
        """The number the transport knows a flight by; flights of other records have other ones."""
        return self.number << 32 | flight

    def look(self) -> Look:
        """How it stands; any thread may ask, since what it reads is replaced and never changed."""
        machine = self.machine
        total = self.announced if machine.total is None else machine.total
        return Look(self.reply, machine.generation, machine.held.front, total)

    @property
    def transferring(self) -> bool:
        """Whether it uses connections."""
        return self.machine.state is State.RUNNING

    @property
    def owner(self) -> str:
        """The record in words that never mean another one, also after the database was lost."""
        return f"{self.job.row.uid}.{self.row.index}.{self.job.row.created_at!r}"

    def facts(self) -> PartialFacts:
        """What a stranger needs to go on from its partial."""
        machine, row = self.machine, self.job.row
        stored = self.row.request  # the stored request has no secrets
        return PartialFacts(
            url=stored.url,
            headers=stored.headers.pairs,
            total=-1 if machine.total is None else machine.total,
            etag=machine.etag,
            last_modified=machine.last_modified,
            content_type=machine.content_type,
            digest="" if machine.digest is None else str(machine.digest),
            scope=row.scope,
            id=row.id,
            title=row.title,
        )

    def progress(self) -> RecordProgress:
        """What the store is told once these bytes are durable."""
        machine = self.machine
        return RecordProgress(
            self.job.row.uid,
            self.job.epoch,
            self.row.index,
            spans=machine.held,
            downloaded=machine.held.length,
            uploaded=self.uploaded,
            total=machine.total,
            etag=machine.etag,
            last_modified=machine.last_modified,
            reply=self.reply,
            restarts=machine.restarts,
        )

    def finished(self) -> RecordFinished:
        """What the store is told at the end."""
        assert self.finish is not None  # noqa: S101 - asked for at the end only
        return RecordFinished(
            self.job.row.uid,
            self.job.epoch,
            self.row.index,
            self.finish.result,
            self.finish.reason,
            told(self.finish),
            downloaded=self.downloaded,
            total=self.machine.total,
            digest=self.digest,
            verified=self.verified,
            blob=self.blob,
            reply=self.reply,
            uploaded=self.uploaded,
        )

    @property
    def large(self) -> bool:
        """Whether losing its first second would be worth avoiding."""
        return (self.machine.total or PIECE) >= PIECE


@dataclass(slots=True, eq=False)
class Job:
    """A registration this process has claimed.

    Args:
        row: As it was stored when it was claimed.
        epoch: Of the claim: what an older one writes is ignored.
        wish: What a person asked of it last.
        obeyed: What its records were told of that, and of the gate.
        gate: What holds it besides, or None.
        surroundings: Proxies, certificates and passwords to use; None for the transport's own.
        clock_ahead: Seconds by which the instants of its machines are ahead of the wall clock, which was set back.
        refused: Why it could not even begin, or None.
    """

    row: RegistrationRow
    epoch: int
    meter: RateMeter
    tasks: list[RecordTask] = field(default_factory=list)
    wish: Wish = Wish.RUN
    obeyed: Wish = Wish.RUN
    gate: Gate | None = None
    surroundings: Surroundings | None = None
    clock_ahead: float = 0.0
    refused: Fault | None = None
    settled: bool = False
    stored: int = 0
    shown: tuple[State, float | None] | None = None

    @property
    def result(self) -> tuple[Result, do.Finish | None]:
        """How it ended: the failing record of the lowest index gives the reason."""
        if self.refused is not None:
            fault = self.refused
            return Result.FAILURE, do.Finish(Result.FAILURE, fault.reason, fault.detail, fault.kind)
        for task in self.tasks:
            if task.finish is not None and task.finish.result is Result.FAILURE:
                return Result.FAILURE, task.finish
        return Result.SUCCESS, None

    def settlement(self, now: float) -> Settlement:
        """What the store is told when every record is over, at this instant, seconds since the epoch."""
        result, finish = self.result
        reason = FailureReason.NONE if finish is None else finish.reason
        detail = "" if finish is None else told(finish)
        return Settlement(self.row.uid, self.epoch, result, reason, detail, now)

    def excess(self) -> Fault | None:
        """That more bytes come than `download_total` promised, if they do (Background Fetch, complete a record)."""
        promised = self.row.download_total
        coming = sum(max(task.downloaded, task.machine.total or 0) for task in self.tasks) if promised else 0
        if coming <= promised:
            return None
        detail = f"{coming} bytes come where download_total promised at most {promised}"
        return Fault("download-total", detail, FailureReason.DOWNLOAD_TOTAL_EXCEEDED)

    @property
    def unfinished(self) -> list[RecordTask]:
        """Records that are not over."""
        return [task for task in self.tasks if task.finish is None]
