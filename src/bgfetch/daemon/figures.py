"""Where the figures of a daemon come from."""

from __future__ import annotations

from collections import Counter

from bgfetch.daemon.metrics import Figures
from bgfetch.daemon.state import State
from bgfetch.version import __version__

__all__ = ["figures"]


def figures(state: State) -> Figures:
    """How it does now; reads the store."""
    wiring, admission = state.wiring, state.admission
    counts: Counter[str] = Counter(
        {
            (it or row_state): count
            for row_state, it, count in wiring.database.rows(
                "SELECT state, result, count(*) FROM registrations GROUP BY state, result"
            )
        }
    )
    now = [last for uid in admission.held if (last := admission.last(uid)) is not None]
    ((pending,),) = wiring.database.rows("SELECT count(*) FROM outbox WHERE acknowledged_at IS NULL")
    return Figures(
        version=__version__,
        uptime=wiring.clock.now() - state.started_at,
        registrations=counts,
        received=admission.received,
        rate=sum(each.rate for each in now),
        connections=sum(each.connections for each in now),
        pending=pending,
        parked=state.parked(),
        streams=state.hub.readers,
        disk_free=wiring.vfs.free_space(wiring.root),
    )
