"""The service worker's half: stored models by their URLs, events that are owed, and the app's own handlers beside them."""

from __future__ import annotations

from typing import Any

from tests.browser.kitted import WORKER, Kitted
from tests.browser.models import SEGMENT, Model
from tests.browser.sites import Site

MODEL = "/models/m/model.bin"
SIZE = 2 * SEGMENT + 12345

GET = """
    const answer = await fetch(url, {headers: range ? {Range: range} : {}})
    const bytes = await answer.arrayBuffer()
    return [answer.status, answer.headers.get("content-length"), answer.headers.get("content-range"), await sha256(bytes)]
"""


def stored(kitted: Kitted, site: Site) -> Model:
    """A model that the page has stored for good."""
    model = site.model(MODEL, SIZE)
    kitted.run(
        """
        const worker = await navigator.serviceWorker.ready
        await worker.backgroundFetch.getIds()
        const at = new URL("/models/m/manifest.json", location)
        const [entry] = (await (await fetch(at)).json()).files
        const request = await kit.store(new Request(new URL(entry.url, at)))
        await kit.add({scope: worker.scope, id: "m", kept: true}, [{request, entry, path: entry.path, manifest: at.href}])
        kit.start()
        """
    )
    kitted.ends()
    kitted.controlled()
    return model


def get(kitted: Kitted, url: str, range_: str = "") -> Any:
    """Status, length, range and digest of what the page is given."""
    return kitted.run(GET, url=url, range=range_)


def test_offline(kitted: Kitted, site: Site) -> None:
    """A stored model is answered from storage by its versioned URL and its plain one, whole and in ranges."""
    model = stored(kitted, site)
    kitted.until("kit.outbox().then(it => !it.length)")
    site.down()
    for url in (MODEL, f"{MODEL}?sha256={model.sha256}"):
        assert get(kitted, url) == [200, str(SIZE), None, model.sha256]
        status, length, range_, _ = get(kitted, url, f"bytes={SEGMENT - 5}-{SEGMENT + 4}")
        assert [status, length, range_] == [206, "10", f"bytes {SEGMENT - 5}-{SEGMENT + 4}/{SIZE}"]
        assert get(kitted, url, "bytes=-3")[:3] == [206, "3", f"bytes {SIZE - 3}-{SIZE - 1}/{SIZE}"]
        assert get(kitted, url, f"bytes={SIZE}-")[0::2][:2] == [416, f"bytes */{SIZE}"]
    site.up()


def test_mended(kitted: Kitted, site: Site) -> None:
    """A segment that the browser has removed is fetched again, alone, by whoever reads the model."""
    model = stored(kitted, site)
    kitted.run("""
        const cache = await caches.open("bgfetch-segments"), keys = await cache.keys()
        await cache.delete(keys.find(it => it.url.endsWith("/1")))
    """)
    sent = model.sent
    assert get(kitted, MODEL)[3] == model.sha256
    assert model.sent == sent + SEGMENT
    assert get(kitted, MODEL)[3] == model.sha256
    assert model.sent == sent + SEGMENT


def test_beside_an_app(kitted: Kitted, site: Site) -> None:
    """The app's own handler answers everything else, and is not asked about what is stored."""
    own = """
        onfetch = event => {
            if (!event.request.url.includes(".bin")) return
            event.respondWith(new Response("the app's own"))
        }
        onmessage = event => tell({message: event.data})
    """
    site.put("/worker.js", WORKER + own)
    kitted.run("""
        const worker = await navigator.serviceWorker.ready
        await worker.update()
        const newest = worker.installing || worker.waiting || worker.active
        while (newest.state !== "activated")
            await new Promise(done => newest.addEventListener("statechange", done, {once: true}))
    """)
    model = stored(kitted, site)
    kitted.until("kit.outbox().then(it => !it.length)")
    assert get(kitted, MODEL)[3] == model.sha256
    assert kitted.run("return (await fetch('/models/other.bin')).text()") == "the app's own"
    kitted.run("(await navigator.serviceWorker.ready).active.postMessage('hello')")
    site.hears(message="hello")
    assert [each for each in site.told if "message" in each] == [{"message": "hello"}]


def test_owed(kitted: Kitted, site: Site) -> None:
    """An event that could not be delivered, since the page went away first, is delivered at the next page's load, once."""
    kitted.tab.goto(site.url)
    kitted.run("""
        await import("/bgfetch/database.js")
        await import("/bgfetch/segments.js")
        const kit = globalThis[Symbol.for("bgfetch")], {scope} = await navigator.serviceWorker.ready
        const {uid} = await kit.add({scope, id: "x"}, [{request: await kit.store(new Request("/"))}])
        await kit.abort(uid)
    """)
    assert site.told == []
    kitted.tab.goto(site.url_of("/kit.html"))
    told = kitted.ends(event="abort")
    assert [told["id"], told["failureReason"], told["records"]] == [
        "x",
        "aborted",
        [{"error": "AbortError", "message": told["records"][0]["message"]}],
    ]
    kitted.until("kit.rows && kit.rows().then(it => !it.length)")
    kitted.tab.reload()
    assert kitted.run("await (await manager()).getIds(); return kit.outbox()") == []
    assert len(site.told) == 1


def test_swept(kitted: Kitted, site: Site) -> None:
    """After the event of a plain fetch its records and all its bytes are gone."""
    site.model(MODEL, SIZE)
    kitted.start(MODEL)
    kitted.ends()
    kitted.until("!kept[0].recordsAvailable")
    kitted.until("caches.open('bgfetch-segments').then(it => it.keys()).then(it => !it.length)")


def test_reload_and_second_tab(kitted: Kitted, site: Site) -> None:
    """Two tabs are one download; it survives a reload of the tab that leads, and goes on in the other when it closes."""
    model = site.model(MODEL, 4 * SEGMENT)
    model.faults.rate = 3 << 20
    kitted.start(MODEL)
    second = kitted.browser.open(site.url_of("/kit.html"))
    site.wait(lambda: model.sent > SEGMENT)
    kitted.tab.reload()
    site.wait(lambda: model.sent > 2 * SEGMENT)
    kitted.tab.close()
    model.faults.rate = 0
    assert kitted.ends()["records"][0]["sha256"] == model.sha256
    assert model.sent <= 4 * SEGMENT * 1.9  # twice two segments were in the middle, of four in all
    kitted.tab = second
