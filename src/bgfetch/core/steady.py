"""A wall clock that never goes back: what waits for an instant is not made to wait longer by whoever sets the clock.

Forwards it follows at once, since a laptop that slept has a wall clock that jumped and a monotonic one that stood still.
"""

from __future__ import annotations

__all__ = ["SteadyTime"]


class SteadyTime:
    """Seconds since the epoch by the latest wall clock that was ever shown, carried on by the monotonic one."""

    def __init__(self) -> None:
        self._seen: tuple[float, float] | None = None  # what it last said, and the monotonic instant of that

    def at(self, wall: float, monotonic: float) -> float:
        """What it says now.

        Args:
            wall: Seconds since the epoch, as the clock shows them now.
            monotonic: Seconds on a clock that nobody sets.
        """
        steady = wall
        if self._seen is not None:
            said, then = self._seen
            steady = max(wall, said + max(0.0, monotonic - then))
        self._seen = (steady, monotonic)
        return steady
