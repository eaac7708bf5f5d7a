"""What was asked, what is known, and what a reply can mean: the words between the reply checker and the machine."""

from __future__ import annotations

from dataclasses import dataclass

from bgfetch.core.model import Fault

__all__ = [
    "Accept",
    "Ask",
    "Complete",
    "Follow",
    "Known",
    "PlainRange",
    "Refuse",
    "ResolveAgain",
    "Restart",
    "Retry",
    "Verdict",
    "Whole",
]


@dataclass(frozen=True, slots=True)
class Ask:
    """What one request asked for.

    Args:
        url: Where it was sent.
        start: First byte wanted.
        stop: One past the last byte wanted; None = to the end.
        ranged: Whether a Range header was sent.
        conditional: Whether If-Range was sent.
        resolved: Whether `url` is a remembered redirect target, not the source itself.
        safe: Whether the method is GET; other replies are taken as they come.
        source: What was asked first, before redirects, or "" for `url`: its name says what kind of file is wanted.
    """

    url: str
    start: int = 0
    stop: int | None = None
    ranged: bool = True
    conditional: bool = False
    resolved: bool = False
    safe: bool = True
    source: str = ""

    @property
    def named(self) -> str:
        """The URL that says what is wanted."""
        return self.source or self.url


@dataclass(frozen=True, slots=True)
class Known:
    """What earlier replies and the person said about the body.

    Args:
        total: Length, bytes, or None.
        etag: Entity tag of the version whose bytes are held, "" = none.
        last_modified: Its Last-Modified, "" = none.
        content_type: Its Content-Type, "" = none.
        held: Bytes held of it.
        front: How far they reach from 0 without a gap.
        expected_size: Length the person or the source promised, or None.
        by_digest: A digest decides in the end, so disagreeing validators are endured (replicas that differ).
    """

    total: int | None = None
    etag: str = ""
    last_modified: str = ""
    content_type: str = ""
    held: int = 0
    front: int = 0
    expected_size: int | None = None
    by_digest: bool = False

    @property
    def version(self) -> bool:
        """Whether a version is known at all, so that a reply can contradict it."""
        return self.total is not None or self.held > 0


@dataclass(frozen=True, slots=True)
class Accept:
    """Store the body from `start` up to `stop` (None = to its end); the rest is what the reply taught."""

    start: int
    stop: int | None
    total: int | None
    etag: str
    last_modified: str
    content_type: str
    ranges: bool


@dataclass(frozen=True, slots=True)
class Complete:
    """Nothing is missing: the body has `total` bytes and they are held."""

    total: int


@dataclass(frozen=True, slots=True)
class Follow:
    """A redirect; core.urls.next_hop decides whether to go there."""

    location: str


@dataclass(frozen=True, slots=True)
class PlainRange:
    """The same version came whole although If-Range matched: ask once more without If-Range."""


@dataclass(frozen=True, slots=True)
class Whole:
    """Ranges cannot be trusted here: ask for the whole body on one connection."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Restart:
    """The body is another version now: what is held must go."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again; `after` is how long the server asked to wait, seconds, or None."""

    fault: Fault
    after: float | None = None


@dataclass(frozen=True, slots=True)
class ResolveAgain:
    """The remembered redirect target refused (an expired signature): start from the source."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Refuse:
    """Final: no further attempt helps."""

    fault: Fault


Verdict = Accept | Complete | Follow | PlainRange | Whole | Restart | Retry | ResolveAgain | Refuse
