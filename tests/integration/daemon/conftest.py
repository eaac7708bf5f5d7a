"""A daemon for a test, and an origin it may fetch from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemons import DaemonProcess

from bgfetch.testing import OriginServer

BODY = os.urandom(3 << 20)


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A home where no daemon runs yet."""
    daemon = DaemonProcess(tmp_path / "home")
    yield daemon
    daemon.close()


@pytest.fixture
def daemon(idle: DaemonProcess) -> DaemonProcess:
    """A daemon that runs."""
    idle.start()
    return idle


@pytest.fixture
def server() -> Iterator[OriginServer]:
    """A correct origin."""
    with OriginServer({"/model.bin": BODY, "/other.bin": b"other" * 100}) as server:
        yield server
