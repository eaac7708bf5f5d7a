"""What happened to one record, in the past tense: the only input of its machine."""

from __future__ import annotations

from dataclasses import dataclass

from bgfetch.core.digests import Digest
from bgfetch.core.model import Fault, Verified
from bgfetch.core.spans import Spans
from bgfetch.core.verdicts import Verdict

__all__ = [
    "AbortAsked",
    "BlobCommitted",
    "BytesStored",
    "CheckEvent",
    "ConnectionsGranted",
    "DigestMatched",
    "DigestMismatched",
    "Event",
    "FlightEnded",
    "FlightEvent",
    "FlightFailed",
    "FlightLagged",
    "LimitPassed",
    "NetworkReturned",
    "PauseAsked",
    "PiecesChecked",
    "ReplyJudged",
    "ResumeAsked",
    "Started",
    "StoreFailed",
    "TimerRang",
    "TurnEvent",
    "WishEvent",
]


@dataclass(frozen=True, slots=True)
class Started:
    """The scheduler gave this record its turn and so many connections, >= 1."""

    connections: int


@dataclass(frozen=True, slots=True)
class ConnectionsGranted:
    """It may use so many connections now, >= 1."""

    connections: int


@dataclass(frozen=True, slots=True)
class ReplyJudged:
    """The reply checker's verdict on a flight's reply; `digest` is the strongest one its fields promise."""

    flight: int
    verdict: Verdict
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class BytesStored:
    """Bytes `start` to `stop` are written; `differs`: other bytes stood there (a repair)."""

    flight: int
    generation: int
    start: int
    stop: int
    differs: bool = False


@dataclass(frozen=True, slots=True)
class FlightEnded:
    """The exchange ended with its framing complete, or when enough had come."""

    flight: int


@dataclass(frozen=True, slots=True)
class FlightFailed:
    """The exchange broke."""

    flight: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class FlightLagged:
    """The connection is far slower than its siblings."""

    flight: int


@dataclass(frozen=True, slots=True)
class TimerRang:
    """The instant asked for with `RingAt` came."""


@dataclass(frozen=True, slots=True)
class NetworkReturned:
    """The machine has a network again, or another one."""


@dataclass(frozen=True, slots=True)
class PauseAsked:
    """A person wants it to wait, or what that person has set; why, in words."""

    why: str = ""


@dataclass(frozen=True, slots=True)
class ResumeAsked:
    """A person wants it to go on."""


@dataclass(frozen=True, slots=True)
class AbortAsked:
    """A person wants it to end."""


@dataclass(frozen=True, slots=True)
class LimitPassed:
    """The registration as a whole must end for this reason: its download_total or a quota is exceeded."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class DigestMatched:
    """The whole body has the promised digest."""


@dataclass(frozen=True, slots=True)
class DigestMismatched:
    """It has another one."""

    found: str


@dataclass(frozen=True, slots=True)
class PiecesChecked:
    """Every piece was read back; those are no longer what was written.

    `witnessed`: none, and the whole is what the server itself says it is (`Transfer.witness`).
    """

    damaged: Spans
    witnessed: bool = False


@dataclass(frozen=True, slots=True)
class BlobCommitted:
    """The body stands durable under its final name."""

    verified: Verified


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """Checking or committing failed on this machine's disk, or there is no room yet."""

    fault: Fault


TurnEvent = Started | ConnectionsGranted | TimerRang | NetworkReturned
FlightEvent = ReplyJudged | BytesStored | FlightEnded | FlightFailed | FlightLagged
WishEvent = PauseAsked | ResumeAsked | AbortAsked | LimitPassed
CheckEvent = DigestMatched | DigestMismatched | PiecesChecked | BlobCommitted | StoreFailed
Event = TurnEvent | FlightEvent | WishEvent | CheckEvent
