"""Watches the network for the engine: says when it changes, and what it is while somebody wants to know."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from bgfetch.core.networks import Network
from bgfetch.network.links import Links

__all__ = ["NetworkWatch"]

_TURN: Final = 0.5  # s within which it ends, and within which a new question is answered
_LOOK: Final = 5.0  # s between looks at what the network is, which may become metered without changing


class NetworkWatch:
    """A thread of its own.

    Args:
        links: Tells of changes.
        look: What the network is.
        wanted: Whether anybody wants to know that.
        changed: Called when it has changed; a second change within half a second is told after it.
        found: Called with what it is, when that is wanted.
    """

    def __init__(
        self,
        links: Links,
        look: Callable[[], Network],
        *,
        wanted: Callable[[], bool],
        changed: Callable[[], None],
        found: Callable[[Network], None],
    ) -> None:
        self._links = links
        self._look = look
        self._wanted = wanted
        self._changed = changed
        self._found = found
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bgfetch-network", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Watch no longer; the thread ends within half a second, and nobody need wait for it."""
        self._closing.set()

    def _run(self) -> None:
        looked: float | None = None
        while not self._closing.is_set():
            changed = self._links.wait(_TURN)
            if changed:
                self._changed()
                self._closing.wait(_TURN)  # a link that comes up says five things in a row
            now = time.monotonic()
            if not self._wanted():
                looked = None
            elif changed or looked is None or now - looked > _LOOK:
                looked = now
                self._found(self._look())
        self._links.close()
