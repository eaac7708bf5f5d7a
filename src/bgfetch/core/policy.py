"""How long to go on trying, in one value."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How long to go on trying.

    Args:
        attempts: Failures in a row, without a byte of progress, after which a record fails.
        first_attempts: The same while nobody has answered yet: a mistyped host should be told soon.
        server_waits: Times in a row a server may ask to wait.
        offline_waits: Looks in a row for a network that is away, once the server has served something; at 3 s each
            about a day awake (a count, not a time: a laptop that slept has not waited).
        patient: Whether a network or server that is away is waited for without end, also one that was never
            reached: somebody else watches, and a mistyped host is seen there, not waited for.
        portal_waits: Pages in place of the file, in a row and before the server ever sent some of it, that a patient
            record bears: about an hour to sign in to a network.
        resolves: Times in a row the source may be asked for a fresh URL.
        restarts: Times a body may turn out to be another version before that is an error.
        repairs: Times the doubtful pieces are fetched again before a wrong digest is an error; each asks for fewer.
        most_bytes: Longest body of unannounced length that is believed.
        retry_scale: Factor on all back-off delays.
        disk_poll: Seconds between looks at a full disk.
    """

    attempts: int = 12
    first_attempts: int = 6
    server_waits: int = 100
    offline_waits: int = 28_800
    patient: bool = False
    portal_waits: int = 60
    resolves: int = 3
    restarts: int = 6
    repairs: int = 10
    most_bytes: int = 1 << 40
    retry_scale: float = 1.0
    disk_poll: float = 5.0
