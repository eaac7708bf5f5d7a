"""Who is connected to the daemon, asked by the process of a handler."""

from __future__ import annotations

from bgfetch.client.connection import Connection
from bgfetch.errors import DaemonError

__all__ = ["DaemonSwitchboard"]

_SENDER = "worker"


class DaemonSwitchboard:
    """`worker.clients.Switchboard` over the daemon's API; it starts no daemon.

    Args:
        connection: The way to it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def clients(self, scope: str) -> list[str]:
        """Ids of the apps of a scope that are connected.

        Raises:
            DaemonError: There is no daemon, or it speaks otherwise.
        """
        told = self._connection.call("GET", "/v1/clients", query={"scope": scope}).get("clients")
        if not isinstance(told, list):
            raise DaemonError("the daemon does not say who is connected")
        return [str(each["id"]) for each in told if isinstance(each, dict) and "id" in each]

    def post(self, scope: str, client: str, data: object) -> None:
        """Give a client a message.

        Raises:
            NotFound: It is not connected any more.
            DaemonError: There is no daemon.
        """
        from urllib.parse import quote  # noqa: PLC0415 - most handlers post nothing

        path = f"/v1/clients/{quote(client, safe='')}/messages"
        self._connection.call("POST", path, {"data": data, "from": _SENDER}, query={"scope": scope})
