"""What the machine of a record wants done, in the imperative: its only output."""

from __future__ import annotations

from dataclasses import dataclass

from bgfetch.core.model import FailureReason, Headers, Result
from bgfetch.core.spans import Spans
from bgfetch.core.verdicts import Ask

__all__ = [
    "CheckPieces",
    "CloseFlight",
    "Command",
    "Commit",
    "Finish",
    "ForgetPieces",
    "Note",
    "OpenFlight",
    "Reset",
    "RingAt",
    "ShortenFlight",
    "Verify",
]


@dataclass(frozen=True, slots=True)
class OpenFlight:
    """Send this request; `compare`: replace only pieces that differ from what is held.

    `ahead`: another flight brings the beginning of the piece; what comes is kept until that is stored.
    """

    flight: int
    ask: Ask
    headers: Headers
    hops: int = 0
    compare: bool = False
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class CloseFlight:
    """Give this exchange up; what it gathered may still be stored."""

    flight: int


@dataclass(frozen=True, slots=True)
class ShortenFlight:
    """End this exchange once it has brought the bytes before `stop`."""

    flight: int
    stop: int


@dataclass(frozen=True, slots=True)
class Reset:
    """Throw away every byte held: they are of another version."""

    generation: int


@dataclass(frozen=True, slots=True)
class ForgetPieces:
    """Hold none of these any longer: their bytes are not what was written."""

    spans: Spans


@dataclass(frozen=True, slots=True)
class RingAt:
    """Send `TimerRang` at this instant, seconds since the epoch; replaces an earlier one."""

    when: float


@dataclass(frozen=True, slots=True)
class Verify:
    """Compare the whole body of `total` bytes with the digest promised."""

    total: int


@dataclass(frozen=True, slots=True)
class CheckPieces:
    """Read every piece back and compare it with its checksum."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Give the body of `total` bytes its final name, durably."""

    total: int


@dataclass(frozen=True, slots=True)
class Note:
    """Write this into the event log of the registration."""

    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The record is over."""

    result: Result
    reason: FailureReason = FailureReason.NONE
    detail: str = ""
    kind: str = ""


Command = (
    OpenFlight
    | CloseFlight
    | ShortenFlight
    | Reset
    | ForgetPieces
    | RingAt
    | Verify
    | CheckPieces
    | Commit
    | Note
    | Finish
)
