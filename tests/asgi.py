"""An ASGI application behind a real uvicorn on a port that the system chose, and a real curl to ask it.

Imported by tests as `tests.asgi`: pytest is run as `python -m pytest` from the root.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn

from bgfetch.core.model import Headers

__all__ = ["Answered", "curl", "serving"]


@dataclass(frozen=True)
class Answered:
    """What curl got: its exit code, the status, the fields and the body."""

    code: int
    status: int
    headers: Headers
    body: bytes


@contextlib.contextmanager
def serving(application: Any) -> Iterator[str]:
    """The application's URL while the block lasts, without a slash at its end."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        application, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def curl(url: str, *arguments: str) -> Answered:
    """Ask with curl, the path as it stands."""
    command = ["curl", "-s", "-i", "--path-as-is", "--noproxy", "*", "--max-time", "15", *arguments, url]
    done = subprocess.run(command, capture_output=True, check=False)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    pairs = [field.partition(":")[::2] for field in fields]
    status = int(line.split()[1]) if line.startswith("HTTP/") else 0
    return Answered(done.returncode, status, Headers(pairs), body)
