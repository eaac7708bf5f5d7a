"""The standard's `Clients` as a worker has it: the apps of its scope that are connected now.

A scope that opted in has a mailbox: where no app is connected, that is its one client, and keeps what is posted until an app
comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from bgfetch.errors import DaemonError, NotFound

__all__ = ["MAILBOX", "Client", "Clients", "Switchboard"]

MAILBOX: Final = "mailbox"
Keep = Callable[[object], None]


class Switchboard(Protocol):
    """Knows who is connected; the daemon's, or nobody where there is no daemon. Its calls wait for a socket."""

    def clients(self, scope: str) -> list[str]:
        """Ids of the apps of a scope that are connected."""

    def post(self, scope: str, client: str, data: object) -> None:
        """Give a client a message, which is what JSON can say.

        Raises:
            NotFound: It is not connected any more.
            DaemonError: There is nobody to hand it on.
        """


@dataclass(frozen=True, slots=True)
class Client:
    """An app that is connected, or the mailbox.

    Args:
        id: What the app calls itself; `MAILBOX` for the mailbox.
    """

    id: str
    scope: str
    _switchboard: Switchboard
    _keep: Keep | None

    async def post_message(self, data: object) -> None:
        """Give it a message, which is what JSON can say. One that has gone meanwhile does not get it, as in the
        standard; where there is a mailbox it goes there.

        Raises:
            InvalidRequest: JSON cannot say it, or it is too long.
        """
        if self.id != MAILBOX:
            try:
                await asyncio.to_thread(self._switchboard.post, self.scope, self.id, data)
            except (NotFound, DaemonError):
                pass
            else:
                return
        if self._keep is not None:
            await asyncio.to_thread(self._keep, data)


class Clients:
    """`ServiceWorkerGlobalScope.clients`.

    Args:
        scope: Whose apps.
        switchboard: Who knows them.
        keep: Puts a message into the mailbox; None where the scope has none.
    """

    def __init__(self, scope: str, switchboard: Switchboard, keep: Keep | None = None) -> None:
        self._scope = scope
        self._switchboard = switchboard
        self._keep = keep

    async def match_all(self) -> list[Client]:
        """The apps that are connected; where there is none, the mailbox if the scope has one."""
        try:
            found = await asyncio.to_thread(self._switchboard.clients, self._scope)
        except DaemonError:
            found = []
        if not found and self._keep is not None:
            found = [MAILBOX]
        return [Client(each, self._scope, self._switchboard, self._keep) for each in found]

    async def get(self, id: str) -> Client | None:  # noqa: A002 - the standard's word
        """The connected app that calls itself so, or None."""
        return next((each for each in await self.match_all() if each.id == id), None)
