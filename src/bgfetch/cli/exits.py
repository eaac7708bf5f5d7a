"""What the process ends with. The numbers are a promise to scripts; docs/cli.md lists them."""

from __future__ import annotations

from enum import IntEnum

from bgfetch.errors import (
    Aborted,
    AccessDenied,
    BgfetchError,
    CacheError,
    DaemonError,
    IntegrityError,
    InvalidRequest,
    InvalidState,
    NotFound,
    QuotaExceeded,
)

__all__ = ["MEANING", "Exit", "Mended", "exit_of", "exit_of_failure"]


class Mended(Exception):
    """What the command met was damaged and no longer is, as the message says: the command may be run once more."""


class Exit(IntEnum):
    """Exit codes; `MEANING` says what each stands for."""

    DONE = 0
    BUG = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    NETWORK = 5
    INTEGRITY = 6
    NO_ROOM = 7
    ABORTED = 8
    NO_DAEMON = 9
    SOME_FAILED = 10
    STILL_WAITING = 75
    DETACHED = 130


MEANING: dict[Exit, str] = {
    Exit.DONE: "done",
    Exit.BUG: "a bug in bgfetch",
    Exit.USAGE: "what was asked can never work: a bad option, URL, digest or target, or an id that is busy or over",
    Exit.NOT_FOUND: "nothing has this name: 404, 410, an unknown id, nothing in the cache",
    Exit.NOT_ALLOWED: "the server wants other credentials (401, 403, 407)",
    Exit.NETWORK: "the network or the server failed for longer than the retries allow",
    Exit.INTEGRITY: "the bytes are not the promised ones; they were not given out",
    Exit.NO_ROOM: "the disk is full or refuses, or a quota would be exceeded",
    Exit.ABORTED: "it was aborted, or a question was answered with no",
    Exit.NO_DAEMON: "no daemon answers",
    Exit.SOME_FAILED: "some of several failed; the others are done",
    Exit.STILL_WAITING: "not done when the time of `--timeout` was up; what came is kept",
    Exit.DETACHED: "stopped by Ctrl-C or SIGTERM; what came is kept, and the same command goes on",
}


_BY_ERROR: tuple[tuple[type[BgfetchError], Exit], ...] = (
    (InvalidRequest, Exit.USAGE),
    (InvalidState, Exit.USAGE),
    (NotFound, Exit.NOT_FOUND),
    (AccessDenied, Exit.NOT_ALLOWED),
    (IntegrityError, Exit.INTEGRITY),
    (QuotaExceeded, Exit.NO_ROOM),
    (CacheError, Exit.NO_ROOM),
    (Aborted, Exit.ABORTED),
    (DaemonError, Exit.NO_DAEMON),
)
_BY_KIND = {
    "status-404": Exit.NOT_FOUND,
    "status-410": Exit.NOT_FOUND,
    "status-401": Exit.NOT_ALLOWED,
    "status-403": Exit.NOT_ALLOWED,
    "status-407": Exit.NOT_ALLOWED,
    "integrity": Exit.INTEGRITY,
    "size": Exit.INTEGRITY,
    "disk": Exit.NO_ROOM,
    "disk-full": Exit.NO_ROOM,
    "resources": Exit.NO_ROOM,
    "file-too-large": Exit.NO_ROOM,
    "aborted": Exit.ABORTED,
}


def exit_of(error: BgfetchError) -> Exit:
    """The code for an error that was raised."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Exit.NETWORK)


def exit_of_failure(failure_detail: str, failure_reason: str) -> Exit:
    """The code for a registration that failed."""
    if failure_reason == "quota-exceeded":
        return Exit.NO_ROOM
    return _BY_KIND.get(failure_detail.partition(":")[0], Exit.NETWORK)
