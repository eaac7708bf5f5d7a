"""An ASGI application on a port of loopback that the system chose, in a thread of the tests' own process."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn

__all__ = ["serve"]


@contextlib.contextmanager
def serve(app: Any) -> Iterator[str]:
    """Its address, such as "http://127.0.0.1:40123", which answers from now on."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        server.force_exit = True  # a browser's idle connections are no reason to wait
        thread.join(10)
        listener.close()
