"""How much one client may take at once, so that none takes it all; generous unless told otherwise.

A client is an address. Behind a reverse proxy that is the proxy's, unless the ASGI server is told to believe its
X-Forwarded-For (uvicorn: `--forwarded-allow-ips`).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Busy", "Clients", "Limits", "Pace"]

_MOST_PACES = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """What is allowed.

    Args:
        per_client: Answers in progress for one address; more get 429.
        total: Answers in progress for all; more get 503.
        rate: Bytes a second for one address, all its answers together; 0 = no limit.
        patience: Seconds in which a client must take a MiB; a slower one is cut off, and may come back for the rest.
            120 s are 9 kB/s.
    """

    per_client: int = 64
    total: int = 1024
    rate: int = 0
    patience: float = 120.0


class Busy(Exception):
    """There is no place for one more.

    Args:
        status: 429 where it is the client's own fault, 503 otherwise.
        retry_after: Seconds.
    """

    def __init__(self, status: int, retry_after: int) -> None:
        super().__init__(status, retry_after)
        self.status = status
        self.retry_after = retry_after


class Pace:
    """When the next bytes of one client may go: a bucket that holds a second's worth.

    Args:
        rate: Bytes a second, > 0.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._free_at = 0.0

    @property
    def portion(self) -> int:
        """Bytes to send at once: a quarter of a second's, so that no client takes the silence between two for the end."""
        return max(1, self._rate // 4)

    def delay(self, count: int, now: float) -> float:
        """Seconds to wait before sending so many bytes, which are counted as sent from here on.

        Args:
            count: Bytes.
            now: Monotonic seconds.
        """
        begun = max(self._free_at, now - 1.0)
        self._free_at = begun + count / self._rate
        return max(0.0, begun - now)

    def idle(self, now: float) -> bool:
        """Whether nothing would be lost by forgetting it."""
        return self._free_at <= now - 1.0


class Clients:
    """Who is being served.

    Args:
        limits: What is allowed.
        now: Monotonic seconds.
    """

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        self.limits = limits
        self._now = now
        self._counts: Counter[str] = Counter()
        self._paces: dict[str, Pace] = {}

    @contextlib.contextmanager
    def place(self, client: str) -> Iterator[Pace | None]:
        """A place for one answer while the block lasts; gives the client's pace where there is a limit.

        Raises:
            Busy: There is none.
        """
        if self._counts[client] >= self.limits.per_client:
            raise Busy(429, 2)
        if self._counts.total() >= self.limits.total:
            raise Busy(503, 5)
        self._counts[client] += 1
        try:
            yield self._pace(client) if self.limits.rate else None
        finally:
            self._counts[client] -= 1
            if not self._counts[client]:
                del self._counts[client]

    def _pace(self, client: str) -> Pace:
        """Kept between answers, or each new one would begin with a full bucket."""
        if len(self._paces) >= _MOST_PACES:
            now = self._now()
            self._paces = {
                name: pace for name, pace in self._paces.items() if self._counts[name] or not pace.idle(now)
            }
        return self._paces.setdefault(client, Pace(self.limits.rate))
