"""Every way to misbehave that bgfetch is tested against, by name, and a server that does it.

The families are those of the project's catalogue of threats; each name's outcome is what a correct client must do.
"""

from __future__ import annotations

import difflib
import itertools
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bgfetch.errors import InvalidRequest
from bgfetch.testing import (
    faults_connection,
    faults_content,
    faults_framing,
    faults_range,
    faults_redirect,
    faults_status,
    faults_version,
)
from bgfetch.testing.exchange import Exchange, Fuse, Handler
from bgfetch.testing.faults_redirect import Signatures
from bgfetch.testing.faults_status import in_seconds
from bgfetch.testing.message import text_reply
from bgfetch.testing.origin import OriginServer
from bgfetch.testing.scenario import Outcome, Scenario, part

__all__ = ["SCENARIOS", "FaultServer"]


def bad_day(
    server: OriginServer,
    *,
    busy: int = 1,
    retry_after: float = 1.0,
    lives: int | None = None,
    after: int | None = None,
    reset: bool = False,
) -> Handler:
    """Several faults at once, as on a bad day; give the server a `rate` to make it slow as well.

    Args:
        server: The server it is for.
        busy: How many requests get a 503 first.
        retry_after: What those say, seconds.
        lives: Body bytes before a signed URL expires; a third of the body when None.
        after: Body bytes before a connection drops; a sixth of the body when None.
        reset: Whether it drops with RST.
    """
    left = Fuse(busy)
    signatures = Signatures(lives=part(server, lives, 3))
    limit = part(server, after, 6)

    def answer(exchange: Exchange) -> None:
        if left.take():
            exchange.send(text_reply(503, "not now\n").but(**in_seconds(retry_after)))
        elif not exchange.request.query:
            signatures.redirect(exchange)
        else:
            fuse = Fuse(limit - exchange.connection.sent)
            signatures.serve(exchange, fuse)
            if reset and fuse.burnt:
                exchange.reset()

    return answer


_BAD_DAY = Scenario(
    "bad-day",
    "mixed",
    Outcome.FINISH,
    "503, then signed URLs that expire over connections that drop",
    bad_day,
)

SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in itertools.chain(
        faults_connection.TABLE,
        faults_range.TABLE,
        faults_version.TABLE,
        faults_framing.TABLE,
        faults_content.TABLE,
        faults_redirect.TABLE,
        faults_status.TABLE,
        (_BAD_DAY,),
    )
}
"""Every scenario by its name."""


class FaultServer(OriginServer):
    """An origin that misbehaves as one scenario says.

    ::

        with FaultServer(body, "drop-rst", after=100_000) as server:
            download(server.url)
            assert server.requests[1].range == "bytes=100000-"

    Args:
        bodies: As for `OriginServer`; faults that change the body are about the first.
        scenario: A name in `SCENARIOS`.
        tls: Context with the server's certificate, for https.
        rate: Body bytes a second on each connection; 0 = as fast as it goes.
        latency: Seconds before each reply.
        repr_digest: Whether to send `Repr-Digest` (RFC 9530).
        **parameters: The scenario's own.

    Raises:
        InvalidRequest: There is no such scenario, or it needs TLS and has none.
        TypeError: The scenario has no such parameter.
    """

    def __init__(
        self,
        bodies: bytes | Path | Mapping[str, bytes | Path],
        scenario: str = "plain",
        *,
        tls: ssl.SSLContext | None = None,
        rate: float = 0.0,
        latency: float = 0.0,
        repr_digest: bool = False,
        **parameters: Any,
    ) -> None:
        if scenario not in SCENARIOS:
            near = ", ".join(difflib.get_close_matches(scenario, SCENARIOS, n=3)) or "SCENARIOS has them all"
            raise InvalidRequest(f"no scenario {scenario!r}; near it: {near}")
        self.scenario = SCENARIOS[scenario]
        if self.scenario.needs_tls and tls is None:
            raise InvalidRequest(f"scenario {scenario!r} is about https: give the server a `tls` context")
        super().__init__(bodies, tls=tls, rate=rate, latency=latency, repr_digest=repr_digest)
        try:
            self.answer_with(self.scenario.make(self, **parameters))
        except BaseException:
            self.close()
            raise
