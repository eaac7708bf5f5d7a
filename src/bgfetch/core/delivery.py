"""When an event whose handler failed is delivered again, and when a person must look at it instead."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["MOST_DELIVERIES", "PARKED", "next_delivery"]

PARKED: Final = math.inf
"""The instant of the next delivery of an event that is not delivered by itself any more."""

# A blip of the machine is over in seconds, a full disk or a handler's own server in an hour; what fails for longer is
# a bug in the handler, which no repetition mends. About two hours in all.
_DELAYS: Final = (1.0, 5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0)
_JITTER: Final = 0.2

MOST_DELIVERIES: Final = len(_DELAYS) + 1


def next_delivery(begun: int, *, now: float, chance: float) -> float:
    """The instant before which an event that is not acknowledged is not delivered again.

    Known before a delivery begins, so that a handler which takes the whole process with it is not tried again at
    once, nor for ever.

    Args:
        begun: Deliveries begun, the one at hand included; > 0.
        now: Seconds since the epoch.
        chance: From 0 up to but not including 1: a fifth of the delay either way.

    Returns:
        Seconds since the epoch, or `PARKED`.
    """
    if begun >= MOST_DELIVERIES:
        return PARKED
    return now + _DELAYS[begun - 1] * (1 - _JITTER + 2 * _JITTER * chance)
