"""The page of the cases: a window and a service worker of a new origin, in one of four engines.

`native` is Chromium as it is, without the kit. The others have no Background Fetch of their own and load the polyfill.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from tests.browser.browsers import PATIENCE, Browser, Tab
from tests.browser.sites import Site

from bgfetch.testing import Exchange, text_reply
from bgfetch.testing.message import Reply

__all__ = ["ENGINES", "FEATURE", "SLOW", "TEXT", "Page"]

ENGINES = {"native": "chromium", "polyfill": "bare", "firefox": "firefox", "webkit": "webkit"}
"""Columns of the table, each with the kind of browser it is run in."""

TEXT = "Background Fetch"
FEATURE = "/feature.txt"
SLOW = "/slow"
ECHO = "/echo"
_TRIED = 15.0  # seconds, for Chromium's own: what is known to miss there never comes

WINDOW = """
    globalThis.manager = () => navigator.serviceWorker.ready.then(it => it.backgroundFetch)
    globalThis.start = async (...given) => (await manager()).fetch(...given)
    // What a promise rejects with, by name; "" where it does not.
    globalThis.refused = promise => promise.then(() => "", error => error.name)
    globalThis.facts = it => Object.fromEntries(["id", "uploadTotal", "uploaded", "downloadTotal", "downloaded",
        "result", "failureReason", "recordsAvailable"].map(name => [name, it[name]]))
    globalThis.settled = it => new Promise(done => {
        const look = () => { if (it.result) { it.removeEventListener("progress", look); done(facts(it)) } }
        it.addEventListener("progress", look)
        look()
    })
    // A registration must not be collected while it is listened to.
    globalThis.kept = []
"""

WORKER = """
    addEventListener("install", () => skipWaiting())
    addEventListener("activate", event => event.waitUntil(clients.claim()))
    const tell = facts => fetch("/told", {method: "POST", body: JSON.stringify(facts)})
    const read = async record => {
        try {
            const response = await record.responseReady
            return {url: record.request.url, method: record.request.method, from: response.url,
                    status: response.status, type: response.type, text: await response.text(), open: response.headers.get("open"), secret: response.headers.get("secret")}
        } catch (error) { return {url: record.request.url, error: error.name} }
    }
    const records = async it => Promise.all((await it.matchAll()).map(read))
    const handle = async event => {
        const registration = event.registration
        %s
    }
    for (const end of ["success", "fail", "abort", "click"])
        addEventListener(`backgroundfetch${end}`, event => {
            const {id, result, failureReason, downloaded} = event.registration
            const facts = {type: event.type, id, result, failureReason, downloaded, kind: event.constructor.name}
            event.waitUntil(handle(event).then(
                value => tell({...facts, value: value ?? null}),
                error => tell({...facts, threw: `${error.name}: ${error.message}`})))
            %s
        })
"""


class Page:
    """A window of a new origin whose service worker is active and reports each event.

    Args:
        engine: A name of `ENGINES`.
        browser: A browser of its kind.
        site: Where the window is.
        handle: Body of the asynchronous handler of all events; `registration` and `event` are at hand, and `records`.
        also: Statements that run at once in each event.
        active: Whether to wait for the worker; without, none is registered.
    """

    def __init__(
        self,
        engine: str,
        browser: Browser,
        site: Site,
        *,
        handle: str = "return await records(registration)",
        also: str = "",
        active: bool = True,
    ) -> None:
        self.engine = engine
        self.native = engine == "native"
        self.within = _TRIED if self.native else PATIENCE
        self.site = site
        self.browser = browser
        kit = "" if self.native else "<script src=/bgfetch/polyfill.js></script>"
        site.put(
            "/page.html",
            f"<!doctype html><meta charset=utf-8><title>case</title>{kit}<script>{WINDOW}</script><body>",
        )
        half = "" if self.native else 'importScripts("/bgfetch/sw.js")\n'
        site.put("/worker.js", half + WORKER % (handle, also))
        site.put(FEATURE, TEXT)
        site.answer(SLOW, lambda exchange: exchange.hold())
        site.answer(ECHO, _echo)
        self.ids: list[str] = []
        self.tab: Tab
        self.open()
        if active:
            self.run(
                "await navigator.serviceWorker.register('/worker.js'); await navigator.serviceWorker.ready"
            )

    def open(self) -> None:
        """Open the window, for the first time or in a browser that was started again."""
        self.tab = self.browser.open(self.site.url_of("/page.html"))

    @property
    def url(self) -> str:
        """Of the site, without the last "/"."""
        return self.site.url.rstrip("/")

    def run(self, body: str, **values: Any) -> Any:
        """What the body of an async function gives in the window."""
        return self.tab.run(body, within=self.within, **values)

    def start(self, requests: Any, options: dict[str, Any] | None = None, *, id: str = "") -> str:  # noqa: A002
        """Begin a fetch; its id. The window keeps the registration as `kept.at(-1)`."""
        id = id or secrets.token_hex(4)  # noqa: A001
        self.ids.append(id)
        self.run(
            "kept.push(await start(id, requests, options))", id=id, requests=requests, options=options or {}
        )
        return id

    def heard(self, id: str, type: str = "") -> dict[str, Any]:  # noqa: A002
        """What the worker says of an event of a registration, once it has come."""

        def said() -> Any:
            of = [each for each in self.site.told if each.get("id") == id]
            return next((each for each in of if not type or each["type"] == f"backgroundfetch{type}"), None)

        found: dict[str, Any] = self.site.wait(said, within=self.within, what=f"an event of {id!r}")
        assert "threw" not in found, found["threw"]
        return found

    def fetched(self, requests: Any, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """What the worker says at the end of a new fetch."""
        return self.heard(self.start(requests, options))

    def close(self) -> None:
        """Abort what is still fetched, and close the window."""
        if not self.browser.alive:
            return
        self.run("""
            const registration = await navigator.serviceWorker.getRegistration()
            for (const id of await registration?.backgroundFetch.getIds() ?? [])
                await (await registration.backgroundFetch.get(id))?.abort()
        """)
        self.tab.close()


def _echo(exchange: Exchange) -> None:
    """Answer with what was uploaded, to other origins too."""
    exchange.send(cors(text_reply(200, exchange.request.body.decode()), "*"))


def cors(reply: Reply, origin: str, **more: str) -> Reply:
    """A reply that a page of this origin may read."""
    return reply.but(access_control_allow_origin=origin, **more)


def preflight(exchange: Exchange, **allowed: str) -> bool:
    """Answer an OPTIONS request, if it is one, with these permissions."""
    if exchange.request.method != "OPTIONS":
        return False
    exchange.send(text_reply(204, "").but(access_control_allow_origin="*", **allowed))
    return True


def quoted(text: str) -> str:
    """As a literal of JavaScript."""
    return json.dumps(text)
