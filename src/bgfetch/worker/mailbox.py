"""Messages for clients that are not there, kept where a scope asked for that.

The standard drops what is posted to nobody; a scope that opted in finds it when its next client comes. A message is
kept until a client has had it: delivered at least once, in order, the latest thousand.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bgfetch.database import Database, load_queries
from bgfetch.errors import InvalidRequest

__all__ = ["LONGEST", "SENDER", "Mailbox", "Message", "packed"]

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_MOST: Final = 1000
SENDER: Final = "worker"
LONGEST: Final = 1 << 16  # bytes of JSON: a message says that something is there, files stay in the cache


@dataclass(frozen=True, slots=True)
class Message:
    """A message that waits; `data` is what JSON can say."""

    message_id: int
    data: Any
    created_at: float


class Mailbox:
    """Messages over a `Database`. Raises CacheError as `Registrations` does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, scope: str, data: object, *, now: float) -> None:
        """Keep a message; beyond a thousand the oldest goes.

        Raises:
            InvalidRequest: JSON cannot say it, or it is longer than `LONGEST`.
        """
        text = packed(data)
        with self._database.write() as connection:
            connection.execute(_SQL["put_message"], {"scope": scope, "data": text, "now": now})
            connection.execute(_SQL["crowd_out"], {"scope": scope, "most": _MOST})

    def waiting(self, scope: str) -> list[Message]:
        """What waits for a client of the scope, oldest first; `taken` says that one has had it."""
        rows = self._database.rows(_SQL["messages"], {"scope": scope})
        return [Message(message_id, json.loads(data), created_at) for message_id, data, created_at in rows]

    def taken(self, message_id: int) -> bool:
        """A client has had it; False when another client had it before."""
        with self._database.write() as connection:
            return connection.execute(_SQL["drop_message"], {"message_id": message_id}).rowcount > 0

    def take_all(self, scope: str) -> list[dict[str, Any]]:
        """What waits, as it is told on a client's stream; it waits no longer."""
        waiting = self.waiting(scope)
        return [{"from": SENDER, "data": each.data} for each in waiting if self.taken(each.message_id)]

    def forget(self, scope: str) -> None:
        """Drop what waits for the scope."""
        with self._database.write() as connection:
            connection.execute(_SQL["forget_messages"], {"scope": scope})


def packed(data: object) -> str:
    """A message as JSON.

    Raises:
        InvalidRequest: JSON cannot say it, or it is longer than `LONGEST`.
    """
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"a message is what JSON can say: {error}") from error
    if len(text.encode("utf-8", "surrogatepass")) > LONGEST:
        raise InvalidRequest(f"a message has {LONGEST} bytes at most: put files into a cache and say so")
    return text
