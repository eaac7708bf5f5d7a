"""The commands, with a daemon that the first of them starts: who waits, who leaves, and what is said of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.daemons import DaemonProcess

from bgfetch.testing import OriginServer


@pytest.fixture
def home(idle: DaemonProcess) -> Iterator[DaemonProcess]:
    """A home in which whoever needs a daemon starts it; it is ended with the test."""
    yield idle
    assert idle.command("daemon", "stop").returncode in (0, 9)


def test_ctrl_c_detaches(home: DaemonProcess, server: OriginServer) -> None:
    """The command ends with 130 and says how to look on; the download goes on to its end."""
    server.rate = 1e6
    command = [sys.executable, "-m", "bgfetch", "get", server.url, "--id", "m"]
    asking = subprocess.Popen(
        command, env=home.environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.wait_for(lambda: server.bytes_sent)
    asking.send_signal(signal.SIGINT)
    _out, err = asking.communicate(timeout=10)
    assert asking.returncode == 130
    assert "the download goes on" in err
    assert "bgfetch abort m" in err
    waited = home.command("wait", "m")
    assert waited.returncode == 0
    assert os.path.getsize(waited.stdout.strip()) == len(server.body)  # noqa: PTH202 - one word


def test_a_timeout_bounds_the_waiting_only(home: DaemonProcess, server: OriginServer) -> None:
    """75, and it goes on."""
    server.rate = 1.5e6
    said = home.command("get", server.url, "--id", "m", "--timeout", "500ms")
    assert said.returncode == 75
    assert "It goes on" in said.stderr
    assert home.command("wait", "m", "--timeout", "10").returncode == 0


def test_detach_prints_the_id_and_leaves(home: DaemonProcess, server: OriginServer) -> None:
    """One line on stdout, for a script that comes back later; a second `get` of what is there prints its path."""
    said = home.command("get", server.url, "--id", "m", "--detach", "--priority", "3")
    assert (said.returncode, said.stdout) == (0, "m\n")
    assert home.command("wait", "m").returncode == 0
    assert home.command("get", server.url, "-d").stdout.strip().endswith("/model.bin")
    assert home.command("get", server.url, "-d", "--in-process").returncode == 2


def test_all_of_a_scope(home: DaemonProcess, server: OriginServer) -> None:
    """`--all --scope` means those of the scope and no others; each is told as JSON."""
    server.rate = 20_000  # under way however long the commands take
    for id_, scope in (("a", "one"), ("b", "one"), ("c", "two")):
        said = home.command(
            "get", server.url_of("/model.bin") + f"?{id_}", "-d", "--id", id_, "--scope", scope
        )
        assert said.returncode == 0, said
    paused = [
        json.loads(line)
        for line in home.command("pause", "--all", "--scope", "one", "--json").stdout.splitlines()
    ]
    assert [each["id"] for each in paused] == ["a", "b"]
    states = {each["id"]: each["wish"] for each in home.call("GET", "/v1/registrations")["registrations"]}
    assert states == {"a": "pause", "b": "pause", "c": "run"}
    assert home.command("resume", "--all").returncode == 0
    changed = json.loads(home.command("set", "c", "--scope", "two", "--limit-rate", "1M", "--json").stdout)
    assert changed["limit_rate"] == 1 << 20
    over = [json.loads(line) for line in home.command("abort", "--all", "--json").stdout.splitlines()]
    assert {(each["id"], each["failure_reason"]) for each in over} == {(id_, "aborted") for id_ in "abc"}
    assert home.command("abort", "--all").returncode == 0
    assert home.command("pause").returncode == 2


def test_watch_and_events_follow_until_it_is_over(home: DaemonProcess, server: OriginServer) -> None:
    """Both see what happens while they look on, and need no terminal for it."""
    server.rate = 100_000
    home.command("get", server.url, "-d", "--id", "m")
    following, watching = (
        subprocess.Popen(
            [sys.executable, "-m", "bgfetch", *arguments, "--json"],
            env=home.environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        for arguments in (("events", "--follow"), ("watch", "m"))
    )
    assert following.stdout is not None
    assert watching.stdout is not None
    while json.loads(watching.stdout.readline())["rate"] == 0:
        pass
    server.rate = 0.0
    last = json.loads(watching.communicate(timeout=15)[0].splitlines()[-1])
    assert (last["state"], last["result"]) == ("settled", "success")
    names = []
    while "backgroundfetchsuccess" not in names:
        names.append(json.loads(following.stdout.readline())["name"])
    assert names[0] == "registered"
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=10)
    assert following.returncode == 130


def test_no_daemon_can_be_started(home: DaemonProcess, server: OriginServer) -> None:
    """9, with a reason; what was asked for is in the store all the same."""
    home.home.mkdir(mode=0o700)
    (home.home / "daemon").write_text("in the way")
    said = home.command("get", server.url, "--id", "m")
    assert said.returncode in (7, 9)
    assert "daemon" in said.stderr
    (home.home / "daemon").unlink()
    assert home.command("ls", "-q").stdout == "m\n"
