"""A request as the model server sees it: what of an ASGI scope matters, and short answers that are no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from bgfetch.core.model import Headers
from bgfetch.web.fields import Fields, text_fields
from bgfetch.web.sending import Send

__all__ = ["TOO_LONG", "Asked", "Reply", "asked", "refused", "send_head"]

_MOST_QUERY = 4096  # characters
_MOST_MEMBERS = 32


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    Args:
        method: Upper case.
        path: Below the mount, percent-decoded once, "/" first; "" is the mount itself without its slash.
        query: What follows "?"; of a name that is there twice, the last.
        headers: Its fields.
        client: Its address, or "" where the server does not say.
        http: The version of HTTP it came by, such as "1.1".
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Headers
    client: str
    http: str = "1.1"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer of few bytes."""

    status: int
    fields: Fields
    body: bytes = b""

    async def send(self, send: Send, *, head: bool) -> None:
        """Send it, without the body to a HEAD."""
        await send_head(send, self.status, self.fields)
        await send({"type": "http.response.body", "body": b"" if head else self.body})


def asked(scope: Mapping[str, Any]) -> Asked:
    """The request of an ASGI scope of type "http".

    Raises:
        ValueError: Its query is longer than any of ours, or has more members.
    """
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    if root and (path == root or path.startswith(f"{root}/")):  # of the ASGI servers some leave the mount in
        path = path[len(root) :]
    headers = Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    client = scope.get("client")
    return Asked(
        scope["method"],
        path,
        _query(scope["query_string"]),
        headers,
        str(client[0]) if client else "",
        str(scope.get("http_version", "1.1")),
    )


def refused(status: int, text: str, *more: tuple[str, str]) -> Reply:
    """An answer in words, which is nobody's to keep."""
    body = f"{text}\n".encode()
    return Reply(status, [*text_fields(body), ("cache-control", "no-store"), *more], body)


TOO_LONG = refused(414, "the query is longer than any that is asked here")
"""The answer where `asked` raises."""


async def send_head(send: Send, status: int, fields: Fields) -> None:
    """Begin an answer."""
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})


def _query(text: bytes) -> Mapping[str, str]:
    if len(text) > _MOST_QUERY:
        raise ValueError(f"more than {_MOST_QUERY} characters")
    return dict(parse_qsl(text.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_MEMBERS))
