"""The one place that reads a clock or draws chance."""

from __future__ import annotations

import random
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What time it is; every instant in bgfetch comes from one of these."""

    def now(self) -> float:
        """Seconds since the epoch; may jump when a person sets the clock."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed point; never jumps."""
        ...

    def chance(self) -> float:
        """A number from 0 up to but not including 1, for jitter."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some fixed point."""
        return time.monotonic()

    def chance(self) -> float:
        """A number from 0 up to but not including 1."""
        return random.random()  # noqa: S311 - jitter, not a secret
