"""What a person changes while the daemon runs: how fast it may be, when, and whether at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from bgfetch.wire import Fields, Json

__all__ = ["Steering"]


@dataclass(slots=True)
class _Wheel:
    limit_rate: int
    schedule: str
    paused: bool


class Steering:
    """The settings that are live; kept until the daemon ends, since the file `config.toml` is a person's own.

    Args:
        limit_rate: Bytes a second for all together; 0 for no limit.
        schedule: When how fast, in rclone's words; "" for always.
        apply_limit: Makes a rate hold; None for no limit.
        apply_schedule: Makes a timetable hold; refuses one that cannot be read.
        apply_paused: Lets everything rest, or go on.
    """

    def __init__(
        self,
        *,
        limit_rate: int,
        schedule: str,
        apply_limit: Callable[[int], None],
        apply_schedule: Callable[[str], None],
        apply_paused: Callable[[bool], None],
    ) -> None:
        self._lock = threading.Lock()
        self._wheel = _Wheel(limit_rate, schedule, paused=False)
        self._apply_limit = apply_limit
        self._apply_schedule = apply_schedule
        self._apply_paused = apply_paused

    def told(self) -> Json:
        """As JSON."""
        with self._lock:
            wheel = self._wheel
            return {"limit_rate": wheel.limit_rate, "schedule": wheel.schedule, "paused": wheel.paused}

    def change(self, asked: Json) -> None:
        """Take over what is asked for.

        Raises:
            InvalidRequest: It cannot be; nothing was changed.
        """
        it = Fields(asked, "settings")
        rate, schedule, paused = (
            it.maybe("limit_rate", int),
            it.maybe("schedule", str),
            it.maybe("paused", bool),
        )
        it.end()
        with self._lock:
            if schedule is not None:  # the only one that can be refused
                self._apply_schedule(schedule)
                self._wheel.schedule = schedule
            if rate is not None:
                self._wheel.limit_rate = max(0, rate)
                self._apply_limit(self._wheel.limit_rate)
            if paused is not None:
                self._wheel.paused = paused
                self._apply_paused(paused)
