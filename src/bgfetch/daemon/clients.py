"""The apps that are connected now: each is an open stream of events that said its name and scope."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from bgfetch.errors import NotFound
from bgfetch.wire import Json

__all__ = ["Client", "Clients"]


@dataclass(frozen=True, slots=True, eq=False)
class Client:
    """One stream.

    Args:
        id: What the app calls itself.
        scope: Whose messages it gets.
        post: Gives it a message; may be called from any thread.
    """

    id: str
    scope: str
    post: Callable[[Json], None]


class Clients:
    """Who is connected. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[Client] = []

    def add(self, client: Client) -> None:
        """Somebody has connected."""
        with self._lock:
            self._open.append(client)

    def remove(self, client: Client) -> None:
        """It is gone."""
        with self._lock:
            if client in self._open:
                self._open.remove(client)

    def match_all(self, scope: str | None = None) -> list[Client]:
        """Those of a scope or of all, the first that came first; one that came back counts once."""
        with self._lock:
            found = [each for each in self._open if scope in (None, each.scope)]
        return list({(each.scope, each.id): each for each in found}.values())

    def post_message(self, id: str, data: object, *, sender: str, scope: str | None = None) -> None:  # noqa: A002 - the standard's word
        """Give a client a message.

        Args:
            id: Of the client.
            data: Any JSON.
            sender: Whom to answer, in the words of the sender.
            scope: Where to look for it; None for everywhere.

        Raises:
            NotFound: It is not connected.
        """
        found = [each for each in self.match_all(scope) if each.id == id]
        if not found:
            raise NotFound(f"no client {id!r} is connected")
        for client in found:
            client.post({"from": sender, "data": data})
