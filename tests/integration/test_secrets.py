"""No secret outlives its use: not in state, names, logs, messages or errors (invariant 8)."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from tests.canaries import Canary, sightings
from tests.command import Command, Said

from bgfetch.testing import Exchange, OriginServer, text_reply

BODY = bytes(range(256)) * 8192 * 2
QUERY = Canary("the query of the URL", stored=True)
TOKEN, COOKIE, KEY = Canary("Authorization"), Canary("Cookie"), Canary("X-Api-Key")
SIGNED, SET_COOKIE = Canary("the query of a signed URL"), Canary("Set-Cookie")
PROXY, USERINFO = Canary("the proxy's password"), Canary("userinfo")
ALL = (QUERY, TOKEN, COOKIE, KEY, SIGNED, SET_COOKIE, PROXY, USERINFO)


class Origin:
    """Redirects to a signed address and sets cookies; some paths fail there."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        self.tokens.append(exchange.request.headers.get("authorization", ""))
        path = exchange.request.path
        if path == "/broken":
            exchange.send(text_reply(500, f"no {SIGNED.value}\n").but(set_cookie=f"s={SET_COOKIE.value}"))
        elif path == "/denied":
            exchange.send(text_reply(403, "no\n").but(www_authenticate=f'Basic realm="{SIGNED.value}"'))
        elif path == "/real":
            exchange.send(exchange.correct().but(set_cookie=f"session={SET_COOKIE.value}"))
        else:
            moved = text_reply(302, "elsewhere\n").but(set_cookie=f"session={SET_COOKIE.value}")
            exchange.send(moved.but(location=f"/real?X-Signature={SIGNED.value}"))


def everything_said(command: Command, *more: Said) -> list[str]:
    """What the runs and every command that shows something say."""
    shown = [command("ls", "--all"), command("ls", "--json"), command("events"), command("events", "--json")]
    shown += [command("cache", "ls"), command("cache", "ls", "--json"), command("doctor")]
    shown += [command("show", "mine"), command("show", "mine", "--json")]
    return [text for said in (*more, *shown) for text in (said.out, said.err)]


def arguments(url: str) -> list[str]:
    """A get with a secret in everything that may carry one."""
    fields = (f"Authorization: Bearer {TOKEN.value}", f"Cookie: a={COOKIE.value}", f"X-Api-Key: {KEY.value}")
    headers = [part for each in fields for part in ("-H", each)]
    return ["get", "--id", "mine", *headers, f"{url}?token={QUERY.value}"]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command line with a fresh home."""
    return Command(tmp_path / "home")


@pytest.mark.parametrize(
    ("path", "code"), [("/model", 0), ("/broken", 5), ("/denied", 4)], ids=["done", "failed", "denied"]
)
def test_none_is_left_behind(command: Command, path: str, code: int) -> None:
    """After success and after failure; the origin did get its credentials."""
    origin = Origin()
    with OriginServer({"/real": BODY, path: BODY}, origin) as server:
        said = command(*arguments(server.url_of(path)))
        assert said.code == code, said.err
        assert f"Bearer {TOKEN.value}" in origin.tokens
        assert sightings(ALL, home=command.home, said=everything_said(command, said)) == []


def test_none_is_left_by_an_abort(command: Command) -> None:
    """Nor while it is unfinished, nor afterwards."""
    with OriginServer({"/real": BODY, "/model": BODY}, Origin()) as server:
        server.rate = 400_000.0
        said = command(*arguments(server.url_of("/model")), "--timeout", "1s")
        assert said.code == 75, said.err
        assert sightings(ALL, home=command.home, said=everything_said(command, said)) == []
        aborted = command("abort", "mine", "--yes")
        assert sightings(ALL, home=command.home, said=everything_said(command, aborted)) == []


def test_none_is_in_what_is_said_of_a_proxy(command: Command) -> None:
    """A proxy that does not answer is named without its password."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command.settings |= {"NO_PROXY": "", "http_proxy": f"http://me:{PROXY.value}@127.0.0.1:{port}"}
    said = command(*arguments("http://origin.invalid/model"))
    assert said.code == 5
    assert sightings(ALL, home=command.home, said=everything_said(command, said)) == []


def test_userinfo_is_refused_unseen(command: Command) -> None:
    """Credentials in a URL are no credentials here; the refusal does not repeat them."""
    said = command("get", f"https://me:{USERINFO.value}@host.invalid/model")
    assert said.code == 2
    command("ls")
    assert sightings(ALL, home=command.home, said=everything_said(command, said)) == []


def test_a_sighting_is_seen(tmp_path: Path) -> None:
    """The look itself: plain and as Basic credentials, in files, names and texts; what may be stored is let be."""
    import base64

    canary, allowed = Canary("secret"), Canary("query", stored=True)
    (tmp_path / "state").mkdir()
    basic = base64.b64encode(f"user:{canary.value}".encode()).decode()
    (tmp_path / "state" / "a").write_text(f"{allowed.value} {basic}")
    (tmp_path / "log").write_text(allowed.value)
    (tmp_path / canary.value).touch()
    found = sightings([canary, allowed], home=tmp_path, said=[f"x {canary.value}"])
    assert sorted(found) == sorted(
        [
            f"secret in {Path('state') / 'a'}",
            "query in log",
            f"secret in the name {canary.value}",
            f"secret in what was said: {f'x {canary.value}'[:60]!r}",
        ]
    )
