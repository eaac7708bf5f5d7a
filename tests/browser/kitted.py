"""A page of the kit's polyfill, in browsers that have no Background Fetch of their own, and what its worker tells."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.browser.browsers import PATIENCE, Browser, Tab
from tests.browser.sites import Site

__all__ = ["IN_ONE", "PAGE", "Kitted"]

IN_ONE = pytest.mark.parametrize(
    "shared_bare",
    ["bare", *(pytest.param(name, marks=pytest.mark.whole) for name in ("firefox", "webkit"))],
    indirect=True,
)
"""For what asks nothing of a browser that another test does not: in `make test` it runs in one, in `make browser` in all."""

PAGE = """<!doctype html><meta charset=utf-8><title>kit</title><script src=/bgfetch/polyfill.js></script><script>
    const kit = globalThis[Symbol.for("bgfetch")]
    globalThis.kit = kit
    globalThis.kept = []
    globalThis.manager = async () => (await navigator.serviceWorker.ready).backgroundFetch
    globalThis.begin = async (id, requests, options = {}) => {
        const it = await (await manager()).fetch(id, requests, options)
        kept.push(it)
        return it
    }
    globalThis.said = []
    globalThis.sha256 = async bytes => [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))]
        .map(it => it.toString(16).padStart(2, "0")).join("")
    new BroadcastChannel("bgfetch").onmessage = ({data}) => {
        if (data.type !== "progress") return
        said.push(data)
        dispatchEvent(new Event("said"))
    }
</script><body>"""

WORKER = """
    importScripts("/bgfetch/sw.js")
    oninstall = () => skipWaiting()
    onactivate = event => event.waitUntil(clients.claim())
    const tell = facts => fetch("/told", {method: "POST", body: JSON.stringify(facts)})
    const hex = bytes => [...new Uint8Array(bytes)].map(it => it.toString(16).padStart(2, "0")).join("")
    const read = async record => {
        try {
            const response = await record.responseReady
            const bytes = await response.arrayBuffer()
            return {url: record.request.url, status: response.status, size: bytes.byteLength, length: response.headers.get("content-length"),
                    sha256: hex(await crypto.subtle.digest("SHA-256", bytes))}
        } catch (error) { return {error: error.name, message: error.message} }
    }
    for (const end of ["success", "fail", "abort"])
        addEventListener(`backgroundfetch${end}`, event => event.waitUntil((async () => {
            const {id, result, failureReason, downloaded} = event.registration
            const records = await Promise.all((await event.registration.matchAll()).map(read))
            await tell({event: end, id, result, failureReason, downloaded, records})
        })()))
"""


class Kitted:
    """A tab with the polyfill whose worker tells the digests of all records at each settle event.

    Args:
        browser: One without Background Fetch of its own.
        site: Where the page is.
    """

    def __init__(self, browser: Browser, site: Site) -> None:
        self.browser = browser
        self.site = site
        site.put("/kit.html", PAGE)
        site.put("/worker.js", WORKER)
        self.tab: Tab = browser.open(site.url_of("/kit.html"))
        self.run("await navigator.serviceWorker.register('/worker.js'); await navigator.serviceWorker.ready")

    def run(self, body: str, **values: Any) -> Any:
        """What the body of an async function gives in the page."""
        return self.tab.run(body, **values)

    def start(self, requests: Any, **options: Any) -> None:
        """Begin a fetch with the id "x"."""
        self.run("await begin('x', requests, options)", requests=requests, options=options)

    def ends(self, *, within: float = PATIENCE, event: str = "success") -> dict[str, Any]:
        """What the worker says of the settle event, once it has come."""
        found: dict[str, Any] = self.site.wait(
            lambda: next((each for each in self.site.told if "event" in each), None),
            within=within,
            what=f"a settle event ({json.dumps(self.site.told)[:300]})",
        )
        assert found["event"] == event, (found, self.detail())
        return found

    def detail(self) -> list[str]:
        """The words for what went wrong, as the page has heard them."""
        found: list[str] = self.run("return said.filter(it => it.failureDetail).map(it => it.failureDetail)")
        return found

    def controlled(self) -> None:
        """Wait until the worker is the one of this page."""
        self.run("""
            const {serviceWorker} = navigator
            if (!serviceWorker.controller)
                await new Promise(done => serviceWorker.addEventListener("controllerchange", done, {once: true}))
        """)

    def says(self, condition: str) -> Any:
        """What the condition gives for the first progress of which it is true; `it` is the progress."""
        return self.run(f"""
            const found = () => {{ for (const it of said) {{ const value = {condition}; if (value) return value }} }}
            while (!found()) await new Promise(done => addEventListener("said", done, {{once: true}}))
            return found()
        """)

    def until(self, condition: str, **values: Any) -> Any:
        """The value of an expression in the page once it is true; looked at again and again, for what a worker or another
        tab does to IndexedDB and the Cache Storage the browser tells nobody.
        """
        return self.run(
            f"""for (;;) {{
                const value = await ({condition})
                if (value) return value
                await new Promise(done => setTimeout(done, 20))
            }}""",
            **values,
        )
