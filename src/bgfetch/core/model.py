"""The nouns of Background Fetch as plain values: requests, reply heads, states, progress.

Words and strings are the standard's (WICG Background Fetch); what is ours is said to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "FailureReason",
    "Fault",
    "Headers",
    "Icon",
    "Progress",
    "ReplyHead",
    "Request",
    "Result",
    "State",
    "Verified",
]


class Result(StrEnum):
    """`BackgroundFetchRegistration.result`."""

    NONE = ""
    SUCCESS = "success"
    FAILURE = "failure"


class FailureReason(StrEnum):
    """`BackgroundFetchRegistration.failureReason`; a closed set."""

    NONE = ""
    ABORTED = "aborted"
    BAD_STATUS = "bad-status"
    FETCH_ERROR = "fetch-error"
    QUOTA_EXCEEDED = "quota-exceeded"
    DOWNLOAD_TOTAL_EXCEEDED = "download-total-exceeded"


class State(StrEnum):
    """What a person needs to see of unfinished work; ours. Each says what is awaited."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING_NETWORK = "waiting-network"
    WAITING_RETRY = "waiting-retry"
    PAUSED = "paused"
    PAUSED_DISK = "paused-disk"
    PAUSED_SCHEDULE = "paused-schedule"
    PAUSED_METERED = "paused-metered"
    VERIFYING = "verifying"
    SETTLED = "settled"


class Verified(StrEnum):
    """How a finished body was checked; ours. "" means it is not finished."""

    NONE = ""
    LENGTH = "length"
    VALIDATORS = "validators"
    DIGEST = "digest"


class Headers(Mapping[str, str]):
    """HTTP fields: names lower-case, order and repetitions kept, values joined with ", " when looked up.

    Source: RFC 9110 section 5.3.
    """

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple((name.strip().lower(), value.strip(" \t\r\n")) for name, value in pairs)

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        return len(dict(self._pairs))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._pairs == other._pairs

    def __hash__(self) -> int:
        return hash(self._pairs)

    def __repr__(self) -> str:
        return f"Headers({list(self._pairs)!r})"

    def get_all(self, name: str) -> list[str]:
        """Each value of this field, in the order received."""
        wanted = name.lower()
        return [value for key, value in self._pairs if key == wanted]

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Every (name, value) as received, names lower-case."""
        return self._pairs


@dataclass(frozen=True, slots=True)
class Icon:
    """An image shown for a registration; `sizes` is the standard's key ("128x128"), never `size`."""

    src: str
    sizes: str = ""
    type: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask for, unresolved: each attempt starts from it, so an expired signed URL is just a redirect.

    Args:
        url: Absolute http or https URL, without credentials; a fragment is not sent.
        method: Upper-case HTTP method.
        headers: Extra request headers, names in any case.
        body: Request body; such a request is sent once and never retried.
        integrity: "ALG:HEX" that the body must have, or "" (ours).
        expected_size: Length the body must have, bytes, or None (ours).
    """

    url: str
    method: str = "GET"
    headers: Headers = field(default_factory=Headers)
    body: bytes | None = None
    integrity: str = ""
    expected_size: int | None = None

    @property
    def resumable(self) -> bool:
        """Whether asking again has no side effects (only GET may be paused or retried)."""
        return self.method == "GET" and self.body is None


@dataclass(frozen=True, slots=True)
class ReplyHead:
    """The part of a reply that comes before its body; `url` is the one that answered."""

    url: str
    status: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure as data, for the core to decide about.

    Args:
        kind: Stable word for what failed ("connect", "stall", "disk-full"); callers branch on it.
        detail: The sentence for a person, without secrets.
        reason: What a registration that ends with it reports.
        transient: Whether trying again may help.
    """

    kind: str
    detail: str
    reason: FailureReason = FailureReason.FETCH_ERROR
    transient: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """One look at a registration.

    Args:
        downloaded: Bytes stored now, over all records; may fall when a record restarts.
        download_total: What the app promised or what the replies announced, bytes; 0 = unknown.
        uploaded: Bytes of request bodies sent.
        upload_total: Bytes of request bodies in all.
        rate: Bytes a second lately; 0 when nothing arrives.
        eta: Seconds left at this rate, or None when that cannot be said.
        state: What it is doing; see `State`.
        until: Instant a waiting state ends by itself, seconds since the epoch, or None.
        connections: Transfers open now.
        result: See `Result`.
        failure_reason: See `FailureReason`.
        failure_detail: What exactly went wrong, for a person (ours).
    """

    downloaded: int
    download_total: int
    uploaded: int = 0
    upload_total: int = 0
    rate: float = 0.0
    eta: float | None = None
    state: State = State.QUEUED
    until: float | None = None
    connections: int = 0
    result: Result = Result.NONE
    failure_reason: FailureReason = FailureReason.NONE
    failure_detail: str = ""
