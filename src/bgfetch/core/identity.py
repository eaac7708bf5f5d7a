"""What makes two requests the same: the key of a partial, and a readable id where a person gave none.

Identity is the source, not where it led: the unresolved URL, the method and the headers that are not secret. A new
token or a fresh signature on a redirect target changes nothing.
"""

from __future__ import annotations

import hashlib

from bgfetch.core.model import Request
from bgfetch.core.names import name_from_url
from bgfetch.core.urls import is_secret_header

__all__ = ["default_id", "request_key"]


def request_key(request: Request, *, nonce: str = "") -> str:
    """64 hex digits that equal requests share.

    Args:
        request: Its URL has been through `parse_http_url`.
        nonce: Sets apart requests that have effects and so are never shared.
    """
    lines = [request.method, request.url.partition("#")[0], nonce]
    lines += sorted(f"{name}:{value}" for name, value in request.headers.pairs if not is_secret_header(name))
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass"))
    if request.body is not None:
        digest.update(b"\n\n" + hashlib.sha256(request.body).digest())
    return digest.hexdigest()


def default_id(requests: list[Request]) -> str:
    """An id for these requests: the first one's file name and a few digits that tell others apart."""
    digest = hashlib.sha256("".join(request_key(request) for request in requests).encode()).hexdigest()
    return f"{name_from_url(requests[0].url)}-{digest[:8]}"
