"""A page of another site, in a real Chromium, against the daemon's port: no effect, and no byte of an answer is read.

The daemon listens for browsers here, and the page is served from loopback itself, where the browser's own protection of
local networks stands aside: the worst case. What arrives at all was measured: a plain POST, a form and an image do.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.attacks import Target, target

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: install it by the system's means (apt: chromium)"
)

# Each attack tells what it could read: "" where it was kept from reading, or what it was told.
ATTACKS = {
    "text/plain POST": """fetch(API + "/v1/registrations", {method: "POST", body: FETCH, headers: {"Content-Type": "text/plain"}})
        .then(reply => reply.text())""",
    "no-cors POST": """fetch(API + "/v1/registrations", {method: "POST", mode: "no-cors", body: FETCH})
        .then(reply => reply.text())""",
    "beacon": """navigator.sendBeacon(API + "/v1/stop", new Blob(["{}"], {type: "text/plain"})), new Promise(done => setTimeout(done, 200, ""))""",
    "JSON POST": """fetch(API + "/v1/registrations", {method: "POST", body: FETCH, headers: {"Content-Type": "application/json"}})
        .then(reply => reply.text())""",
    "DELETE": """fetch(API + "/v1/workers/app", {method: "DELETE"}).then(reply => reply.text())""",
    "PATCH": """fetch(API + "/v1/registrations", {method: "PATCH", body: '{"wish":"abort"}', headers: {"Content-Type": "application/json"}})
        .then(reply => reply.text())""",
    "GET": """fetch(API + "/v1/registrations").then(reply => reply.text())""",
    "GET with a guessed token": """fetch(API + "/v1/registrations?token=guess", {headers: {Authorization: "Bearer guess"}})
        .then(reply => reply.text())""",
    "image": """new Promise(done => {
        const image = new Image()
        image.onload = () => done("loaded " + image.width)
        image.onerror = () => done("")
        image.src = API + "/v1/registrations"
    })""",
    "script": """new Promise(done => {
        const script = document.createElement("script")
        script.onload = () => done("ran")
        script.onerror = () => done("")
        script.src = API + "/v1/openapi.json"
        document.head.append(script)
    })""",
    "form into a frame": """new Promise(done => {
        const frame = document.createElement("iframe")
        frame.name = "victim"
        document.body.append(frame)
        const form = document.createElement("form")
        form.target = "victim"; form.method = "POST"; form.action = API + "/v1/stop"; form.enctype = "text/plain"
        form.innerHTML = '<input name=\\'{"x":"\\' value=\\'"}\\'>'
        document.body.append(form)
        frame.onload = () => {
            let read = ""
            try { read = frame.contentDocument.body.innerText } catch (refused) {}
            done(read)
        }
        form.submit()
        setTimeout(done, 3000, "")
    })""",
    "EventSource": """new Promise(done => {
        const source = new EventSource(API + "/v1/events", {withCredentials: true})
        source.onmessage = event => done(event.data)
        for (const name of ["log", "progress", "message"]) source.addEventListener(name, event => done(event.data))
        source.onopen = () => done("open")
        source.onerror = () => { source.close(); done("") }
    })""",
    "WebSocket": """new Promise(done => {
        const end = new WebSocket(API.replace("http", "ws") + "/v1/events")
        end.onopen = () => done("open")
        end.onmessage = event => done(event.data)
        end.onerror = () => done("")
    })""",
    "window": """new Promise(done => {
        const opened = window.open(API + "/v1/registrations")
        setTimeout(() => {
            let read = ""
            try { read = opened.document.body.innerText } catch (refused) {}
            if (opened) opened.close()
            done(read)
        }, 700)
    })""",
}


class _Page(BaseHTTPRequestHandler):
    """An empty page, for any name."""

    def do_GET(self) -> None:
        """Serve it."""
        text = b"<!doctype html><title>evil</title><body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        """Say nothing."""


@pytest.fixture(scope="module")
def evil() -> Iterator[int]:
    """The port of the other site."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def prey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The daemon."""
    with target(tmp_path_factory.mktemp("browser") / "home") as found:
        yield found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser for which every name that is ours leads to loopback."""
    names = ", ".join(f"MAP {name} 127.0.0.1" for name in ("evil.test", "rebind.test"))
    flags = [
        # Local Network Access would keep most of this from being sent at all; the daemon must not need it.
        "--disable-features=LocalNetworkAccessChecks",
        "--disable-gpu",
        "--disable-background-networking",
        f"--host-resolver-rules={names}",
        "--no-proxy-server",
    ]
    environ = {**os.environ, "DBUS_SESSION_BUS_ADDRESS": ""}
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--headless=new", *flags], env=environ
        )
        yield browser
        browser.close()


def mounted(page: Any, attack: str, api: str) -> str:
    """What the page could read by an attack; an exception there reads nothing."""
    asked = json.dumps(json.dumps({"id": "evil", "requests": ["http://evil.test/x"]}))
    said = page.evaluate(
        f"async () => {{ const API = {json.dumps(api)}, FETCH = {asked};"
        f" try {{ return String(await ({attack})) }} catch (refused) {{ return '' }} }}"
    )
    assert isinstance(said, str)
    return said


def refused(text: str) -> bool:
    """Whether this is a refusal of ours, with nothing in it."""
    try:
        return list(json.loads(text)) == ["error"] and json.loads(text)["error"]["class"] == "AccessDenied"
    except ValueError:
        return False


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("site", ["evil.test", "127.0.0.1", "localhost"])
def test_another_site_neither_acts_nor_reads(
    prey: Target, chromium: Any, evil: int, site: str, attack: str
) -> None:
    """A page of another host, and one of this host but another port."""
    before = prey.truth()
    page = chromium.new_page()
    try:
        page.goto(f"http://{site}:{evil}/")
        read = mounted(page, ATTACKS[attack], f"http://127.0.0.1:{prey.port}")
    finally:
        page.close()
    assert read == "", read
    assert prey.truth() == before


@pytest.mark.parametrize("attack", [name for name in ATTACKS if name not in ("form into a frame", "window")])
def test_a_rebound_name_is_refused(prey: Target, chromium: Any, attack: str) -> None:
    """A page whose name now leads to the daemon is of the daemon's own origin, as the browser sees it: only refusals are read."""
    before = prey.truth()
    api = f"http://rebind.test:{prey.port}"
    page = chromium.new_page()
    try:
        # What the attacker's server answered before the name led here.
        page.route(f"{api}/evil", lambda route: route.fulfill(body="<body>", content_type="text/html"))
        page.goto(f"{api}/evil")
        with (
            page.expect_response(f"{api}/v1/**", timeout=5000)
            if attack not in ("WebSocket", "beacon")
            else _nothing() as seen
        ):
            read = mounted(page, ATTACKS[attack], api)
        status = seen.value.status if seen is not None else 421
    finally:
        page.close()
    assert status == 421
    assert read == "" or refused(read), read
    assert prey.told_nothing(read.encode())
    assert prey.truth() == before


class _nothing:  # noqa: N801 - stands where a context manager of Playwright does
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def test_the_daemons_own_answers_run_nothing(prey: Target, chromium: Any) -> None:
    """Opened by hand, an answer is text without script, frames or requests of its own; without token it is a refusal."""
    page = chromium.new_page()
    try:
        reply = page.goto(f"http://127.0.0.1:{prey.port}/v1/registrations")
        assert reply.status == 401
        assert prey.told_nothing(page.content().encode())
    finally:
        page.close()


def test_the_browser_can_attack_at_all(prey: Target, chromium: Any) -> None:
    """The test's own eyes: with the token in its hands, a page of the daemon's origin does read and does act."""
    page = chromium.new_page()
    try:
        page.route(
            f"http://127.0.0.1:{prey.port}/own",
            lambda route: route.fulfill(body="<body>", content_type="text/html"),
        )
        page.goto(f"http://127.0.0.1:{prey.port}/own")
        read = page.evaluate(
            "token => fetch('/v1/registrations', {headers: {Authorization: 'Bearer ' + token}}).then(it => it.text())",
            prey.token,
        )
    finally:
        page.close()
    assert not prey.told_nothing(read.encode())
