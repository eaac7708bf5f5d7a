"""uvicorn, made to obey the daemon and not the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import uvicorn

from bgfetch.daemon.guard import Guard
from bgfetch.daemon.peers import Peers

__all__ = ["Server"]


class Server(uvicorn.Server):
    """Serves an application until `should_exit`.

    Args:
        application: The guarded application.
    """

    def __init__(self, application: Guard) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                http=Peers,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                backlog=512,
                timeout_graceful_shutdown=1,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the daemon, which has more to end than this."""
        yield
