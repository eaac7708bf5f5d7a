"""No secret outlives its use where a daemon fetches: not in its home, logs, answers, errors, processes or handlers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.canaries import Canary, sightings
from tests.daemons import DaemonProcess

from bgfetch.core.model import State
from bgfetch.errors import BgfetchError
from bgfetch.testing import Exchange, OriginServer, text_reply

BODY = os.urandom(2 << 20)
QUERY = Canary("the query of the URL", stored=True)
TOKEN, COOKIE, PROXY = Canary("Authorization"), Canary("Cookie"), Canary("a proxy's password")
VARIABLE, OTHER = Canary("HF_TOKEN"), Canary("a variable of the client's shell")
SIGNED, NETRC = Canary("the query of a signed URL"), Canary("a password of netrc")
ALL = (QUERY, TOKEN, COOKIE, PROXY, VARIABLE, OTHER, SIGNED, NETRC)

HANDLER = """\
import json, os, sys
event = json.load(sys.stdin)
out = open(sys.argv[1], "a")
print(json.dumps([dict(os.environ), open("/proc/self/cmdline").read(), open(f"/proc/{os.getppid()}/environ").read(), event]), file=out)
"""


class Origin:
    """Sends on to a signed address; says secrets where it fails."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        headers = exchange.request.headers
        self.seen.append(f"{headers.get('authorization', '')} {headers.get('cookie', '')}")
        path = exchange.request.path
        if path == "/denied":
            exchange.send(
                text_reply(403, f"no {SIGNED.value}\n").but(www_authenticate=f'Basic realm="{SIGNED.value}"')
            )
        elif path == "/real":
            exchange.send(exchange.correct())
        else:
            exchange.send(text_reply(302, "elsewhere\n").but(location=f"/real?X-Signature={SIGNED.value}"))


@pytest.fixture
def server() -> Iterator[OriginServer]:
    """The origin."""
    paths = dict.fromkeys(("/real", "/model", "/denied"), BODY)
    with OriginServer(paths, Origin()) as server:
        yield server


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A home whose clients have secrets in their environment, and start the daemon themselves."""
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login me password {NETRC.value}\n")
    (tmp_path / "netrc").chmod(0o600)
    shell = {"HF_TOKEN": VARIABLE.value, "OPENAI_API_KEY": OTHER.value, "NETRC": str(tmp_path / "netrc")}
    proxy = {"https_proxy": f"http://me:{PROXY.value}@127.0.0.1:9"}
    found = DaemonProcess(tmp_path / "home", {**shell, **proxy, "BGFETCH_IN_PROCESS": "0"})
    yield found
    found.command("daemon", "stop")


def processes() -> list[int]:
    """Every process there is."""
    return [int(each) for each in os.listdir("/proc") if each.isdecimal() and int(each) != os.getpid()]  # noqa: PTH208 - names only


def get(daemon: DaemonProcess, url: str, *more: str) -> subprocess.CompletedProcess[str]:
    """The command, which is told its secrets by files and variables that only it reads."""
    return daemon.command("get", "--id", "mine", "--scope", "app", *more, url)


def asked(url: str) -> dict[str, object]:
    """A registration with a secret in everything that may carry one."""
    fields = [["Authorization", f"Bearer {TOKEN.value}"], ["Cookie", f"a={COOKIE.value}"]]
    return {
        "scope": "app", "id": "mine", "requests": [{"url": f"{url}?token={QUERY.value}", "headers": fields}],
        "environment": {"HF_TOKEN": VARIABLE.value, "https_proxy": f"http://me:{PROXY.value}@127.0.0.1:9"},
    }  # fmt: skip


def everything_told(daemon: DaemonProcess) -> list[str]:
    """What each reading route and command says."""
    paths = (
        "/v1/",
        "/v1/registrations",
        "/v1/registrations/1",
        "/v1/registrations/1/records",
        "/v1/workers",
        "/v1/settings",
        "/v1/clients",
    )
    told = [json.dumps(daemon.call("GET", path)) for path in paths]
    commands = (
        ("ls", "--all"),
        ("ls", "--all", "--json"),
        ("show", "mine", "--scope", "app", "--json"),
        ("events", "--json"),
        ("cache", "ls", "--json"),
        ("doctor",),
        ("worker", "ls", "--json"),
        ("daemon", "status", "--json"),
    )
    for each in commands:
        said = daemon.command(*each)
        told += [said.stdout, said.stderr]
    with daemon.events(after=0) as stream:
        told.append(str(next(stream)))
    return [*told, daemon.log()]


def seen(daemon: DaemonProcess, *said: str) -> list[str]:
    """Where any of them is."""
    found = sightings(ALL, home=daemon.home, said=[*everything_told(daemon), *said], pids=processes())
    hello = daemon.answers()
    assert hello is not None
    environ = Path(f"/proc/{hello.pid}/environ").read_text()
    return found + [f"{each.name} in the daemon's environment" for each in ALL if each.value in environ]


@pytest.mark.parametrize("path", ["/model", "/denied"], ids=["done", "failed"])
def test_none_is_left_and_no_handler_inherits_one(
    daemon: DaemonProcess, server: OriginServer, tmp_path: Path, path: str
) -> None:
    """Through success and failure; the origin did get them, the handler did run, and got none but what was fetched."""
    assert daemon.command("daemon", "start").returncode == 0
    script, out = tmp_path / "handler.py", tmp_path / "handled"
    script.write_text(HANDLER)
    worker = {"scope": "app", "kind": "argv", "target": [sys.executable, str(script), str(out)]}
    daemon.call("POST", "/v1/workers", worker)
    out.write_text("")
    uid = daemon.call("POST", "/v1/registrations", asked(server.url_of(path)))["uid"]
    over = daemon.settled(uid)
    assert over["result"] == ("success" if path == "/model" else "failure")
    daemon.logged("acknowledged")
    handled = out.read_text()
    assert f"Bearer {TOKEN.value}" in str(
        server.behaviour.seen if hasattr(server, "behaviour") else server.requests
    )
    assert seen(daemon, str(over)) == []
    inherited = [each for each in ALL if each is not QUERY and each.value in handled]
    assert inherited == []


def test_none_is_left_by_kill_restart_and_abort(daemon: DaemonProcess, server: OriginServer) -> None:
    """While it is under way, after SIGKILL, with a daemon that lost them, and after the abort."""
    daemon.start()
    server.rate = 40_000.0  # under way however long the looks take
    uid = daemon.call("POST", "/v1/registrations", asked(server.url_of("/model")))["uid"]
    daemon.holds(uid)
    found = sightings(ALL, home=daemon.home, said=everything_told(daemon), pids=processes())
    assert found == []
    daemon.kill()
    daemon.process = None
    assert daemon.command("daemon", "start").returncode == 0
    daemon.is_in(uid, State.PAUSED)
    assert seen(daemon) == []
    daemon.call("PATCH", f"/v1/registrations/{uid}", {"wish": "abort"})
    daemon.settled(uid)
    assert seen(daemon) == []


def test_errors_repeat_none(daemon: DaemonProcess) -> None:
    """What is refused is refused without its secret, over the API, by the command and in Python."""
    assert daemon.command("daemon", "start").returncode == 0
    bad = f"https://me:{TOKEN.value}@host.invalid/x?k={QUERY.value}"
    said = []
    for request in (
        {"url": bad},
        {"url": "http://[" + SIGNED.value},
        {"url": f"file:///{SIGNED.value}?{TOKEN.value}"},
        {"url": "http://h/", "headers": [["Authorization", f"{TOKEN.value}\r\nX: y"]]},
    ):
        try:
            daemon.call("POST", "/v1/registrations", {"id": "x", "requests": [request]})
        except BgfetchError as error:
            said.append(
                str(error).replace(SIGNED.value, "")
                if "file:" in request["url"] or "[" in str(request["url"])
                else str(error)
            )
    assert len(said) >= 3
    refused = get(daemon, bad)
    assert refused.returncode == 2
    assert sightings(ALL, home=daemon.home, said=[*said, refused.stdout, refused.stderr]) == []
