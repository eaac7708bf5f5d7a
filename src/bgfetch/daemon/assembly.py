"""Puts a daemon together from the parts that wiring picks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Final

from bgfetch.config import Settings
from bgfetch.daemon.clients import Clients
from bgfetch.daemon.state import State
from bgfetch.daemon.steering import Steering
from bgfetch.daemon.stream import Hub
from bgfetch.database import Damaged
from bgfetch.engine.admission import Admission
from bgfetch.mending import mend_rows
from bgfetch.network.resolver import ask_often
from bgfetch.running import Runs
from bgfetch.wiring import Wiring

__all__ = ["assembled"]

_LOG: Final = logging.getLogger(__name__)


class _DaemonWiring(Wiring):
    """The wiring whose registrations are run by an admission."""

    admission: Admission

    @property
    def runs(self) -> Runs:
        """The daemon itself."""
        return self.admission


def _check(wiring: Wiring) -> None:
    """Every page, once: what is made again now is lost by nobody who works with it."""
    try:
        wiring.database.check()
    except Damaged:
        _LOG.warning("%s", wiring.mend())


def _mend(wiring: Wiring, stop: Callable[[], None]) -> None:
    try:
        mend_rows(wiring.database, wiring.kept, now=wiring.clock.now())
    except Damaged as error:  # the file itself, which many threads have open: the next daemon makes it again
        _LOG.error("%s; this daemon ends, and the next one sets it aside", error)
        stop()


def assembled(settings: Settings, *, stop: Callable[[], None]) -> State:
    """A daemon that has not begun to admit anything. On the loop's thread.

    Raises:
        CacheError: The store cannot be opened.
    """
    ask_often(os.environ)
    wiring = _DaemonWiring(settings)
    _check(wiring)
    clients = Clients()
    admission = Admission(wiring.registrations, wiring.runner, wiring.clock, mend=lambda: _mend(wiring, stop))
    wiring.admission = admission
    hub = Hub(wiring.registrations, admission.last, clients, greet=wiring.mailbox.take_all)
    admission.follow(hub.told)
    admission.watch(hub.changed)
    steering = Steering(
        limit_rate=settings.limit_rate,
        schedule=settings.schedule,
        apply_limit=admission.set_limit,
        apply_schedule=admission.set_schedule,
        apply_paused=admission.set_paused,
    )
    return State(wiring, admission, hub, clients, steering, wiring.clock.now(), stop, wiring.worker.wake)
