"""Every error bgfetch raises, in one tree.

::

    BgfetchError
    ├── InvalidRequest           TypeError           the request can never work as it was given
    ├── DuplicateId              TypeError           the id is active already
    ├── InvalidState             InvalidStateError   records are gone, an event is over
    ├── FetchError               (by failure_reason) a registration settled without success
    │   ├── BadStatus            "bad-status"
    │   ├── NetworkError         "fetch-error"
    │   ├── InvalidPartialResponse "fetch-error"
    │   ├── IntegrityError       "fetch-error"
    │   ├── QuotaExceeded        "quota-exceeded"
    │   ├── DownloadTotalExceeded "download-total-exceeded"
    │   └── Aborted              "aborted"
    ├── SourceError
    │   ├── NotFound
    │   └── AccessDenied
    ├── CacheError               the store on this machine refused or is damaged
    └── DaemonError
        ├── DaemonNotRunning
        └── ProtocolMismatch

Each carries `.name`, the web platform's name for it, so that both halves of bgfetch and its JSON speak alike.
A message says what happened, to what, and what to do next. Nothing here carries a URL's query: it may be a secret.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "Aborted",
    "AccessDenied",
    "BadStatus",
    "BgfetchError",
    "CacheError",
    "DaemonError",
    "DaemonNotRunning",
    "DownloadTotalExceeded",
    "DuplicateId",
    "FetchError",
    "IntegrityError",
    "InvalidPartialResponse",
    "InvalidRequest",
    "InvalidState",
    "NetworkError",
    "NotFound",
    "ProtocolMismatch",
    "QuotaExceeded",
    "SourceError",
]


class BgfetchError(Exception):
    """The root: `except BgfetchError` catches whatever bgfetch raises on purpose."""

    name: ClassVar[str] = "UnknownError"


class InvalidRequest(BgfetchError, TypeError):
    """A URL, option, digest or name that can never work; nothing was registered. Not retryable."""

    name = "TypeError"


class DuplicateId(InvalidRequest):
    """The id is already active in this scope (Background Fetch, fetch() step 6)."""


class InvalidState(BgfetchError):
    """The object no longer allows this: its records are gone or its event is over."""

    name = "InvalidStateError"


class FetchError(BgfetchError):
    """A registration settled with `result == "failure"`.

    Args:
        message: What happened, to what, what was kept, what to do.
        registration_id: The id it was registered under, or "".
        url: The request's URL without its query, or "".
    """

    name = "NetworkError"
    failure_reason: ClassVar[str] = "fetch-error"

    def __init__(self, message: str, *, registration_id: str = "", url: str = "") -> None:
        super().__init__(message)
        self.registration_id = registration_id
        self.url = url


class BadStatus(FetchError):
    """The server answered with a status that no retry will change, such as 404."""

    failure_reason = "bad-status"


class NetworkError(FetchError):
    """The network or the server failed for longer than the retry budget allows. Worth trying again later."""


class InvalidPartialResponse(FetchError):
    """The server's answers to range requests contradict each other and it offers no whole answer."""


class IntegrityError(FetchError):
    """The bytes are not the promised ones, also after repair."""


class QuotaExceeded(FetchError):
    """A quota that a person set would be exceeded, or the disk cannot hold what was promised."""

    name = "QuotaExceededError"
    failure_reason = "quota-exceeded"


class DownloadTotalExceeded(FetchError):
    """More bytes came than `download_total` promised (Background Fetch, complete a record)."""

    failure_reason = "download-total-exceeded"


class Aborted(FetchError):
    """`abort()` was called."""

    name = "AbortError"
    failure_reason = "aborted"


class SourceError(BgfetchError):
    """A name could not be turned into requests."""

    name = "NetworkError"


class NotFound(SourceError):
    """Nothing has this name: a registration, a cache entry, a model."""

    name = "NotFoundError"


class AccessDenied(SourceError):
    """The server wants credentials it did not get (401), or refuses those it got (403)."""

    name = "NotAllowedError"


class CacheError(BgfetchError):
    """The store on this machine refused an operation or is damaged."""

    name = "UnknownError"


class DaemonError(BgfetchError):
    """The background process could not serve this call."""

    name = "UnknownError"


class DaemonNotRunning(DaemonError):
    """No daemon answers and none could be started."""


class ProtocolMismatch(DaemonError):
    """Client and daemon speak versions that do not fit together."""
