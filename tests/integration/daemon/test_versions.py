"""A client meets a daemon of another version: a real process that says of itself that it is one."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.daemons import DaemonProcess, is_ready

from bgfetch.client.starting import Daemon
from bgfetch.errors import ProtocolMismatch
from bgfetch.testing import OriginServer
from bgfetch.version import __version__
from bgfetch.wire import PROTOCOL

_OTHER = """
import sys
import bgfetch.version
import bgfetch.wire
bgfetch.version.__version__, bgfetch.wire.PROTOCOL = sys.argv[1], int(sys.argv[2])
from bgfetch.cli.main import run
sys.exit(run(["daemon", "run"]))
"""
_OLDER, _NEWER = "0.0.9", "999.0"


def start(home: DaemonProcess, version: str, protocol: int = PROTOCOL) -> int:
    """Begin a daemon that says so of itself; its process."""
    quiet = subprocess.DEVNULL
    home.process = subprocess.Popen(
        [sys.executable, "-c", _OTHER, version, str(protocol)],
        env=home.environ, stdin=quiet, stdout=quiet, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert is_ready(home.process)
    hello = home.connection.hello()
    assert (hello.version, hello.protocol) == (version, protocol)
    return home.process.pid


def met(home: DaemonProcess) -> tuple[str, int]:
    """Meet it as clients do; the version and the process of the daemon that is there then."""
    Daemon(home.connection, home.environ).ensure()
    hello = home.connection.hello()
    return hello.version, hello.pid


def with_a_secret(home: DaemonProcess, server: OriginServer) -> int:
    """Register what no other daemon could go on with; the uid."""
    server.rate = 300_000.0
    request = {"url": server.url, "headers": [["authorization", "Bearer abc"]]}
    return int(
        home.call("POST", "/v1/registrations", {"scope": "app", "id": "m", "requests": [request]})["uid"]
    )


@pytest.mark.parametrize("protocol", [PROTOCOL, PROTOCOL - 1])
def test_an_older_one_makes_room_where_nothing_is_lost(
    idle: DaemonProcess, server: OriginServer, protocol: int
) -> None:
    """Whatever it speaks; the one that follows goes on with the bytes that are here."""
    server.rate = 1e6
    older = start(idle, _OLDER, protocol)
    uid = idle.fetch(server.url)
    idle.holds(uid, 1 << 20)
    try:
        version, pid = met(idle)
        assert (version, pid != older) == (__version__, True)
        assert idle.ended() == 0
        idle.process = None
        server.rate = 0.0
        assert idle.settled(uid)["result"] == "success"
        assert server.bytes_sent < (3 << 20) + (2 << 20)
    finally:
        assert idle.command("daemon", "stop").returncode == 0


def test_an_older_one_that_is_understood_goes_on_with_what_would_be_lost(
    idle: DaemonProcess, server: OriginServer
) -> None:
    """Its secrets would end with it, so it stays; when nothing is lost any more the next client has it make room."""
    older = start(idle, _OLDER)
    uid = with_a_secret(idle, server)
    assert met(idle) == (_OLDER, older)
    server.rate = 0.0
    assert idle.settled(uid)["result"] == "success"
    try:
        assert met(idle)[0] == __version__
        assert idle.ended() == 0
        idle.process = None
    finally:
        assert idle.command("daemon", "stop").returncode == 0


def test_an_older_one_that_is_not_understood_is_not_ended_over_what_would_be_lost(
    idle: DaemonProcess, server: OriginServer
) -> None:
    """The error names it, for an application as for a command, and the download is left in peace."""
    older = start(idle, _OLDER, PROTOCOL - 1)
    uid = with_a_secret(idle, server)
    with pytest.raises(ProtocolMismatch, match="would lose the secrets of 'm'"):
        met(idle)
    said = idle.command("get", server.url, "--id", "n", "--detach")
    assert said.returncode != 0
    assert "the secrets of 'm'" in said.stderr
    assert idle.connection.hello().pid == older
    server.rate = 0.0
    assert idle.settled(uid)["result"] == "success"


def test_a_newer_one_stays(idle: DaemonProcess) -> None:
    """Where it is understood it is used, else the error says who is to be upgraded."""
    newer = start(idle, _NEWER)
    assert met(idle) == (_NEWER, newer)
    idle.close()
    newer = start(idle, _NEWER, PROTOCOL + 1)
    with pytest.raises(ProtocolMismatch, match="upgrade bgfetch here"):
        met(idle)
    assert idle.connection.hello().pid == newer
