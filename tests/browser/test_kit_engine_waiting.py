"""What the worker engine waits for, and what it says meanwhile: the network, a person's pause, room."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.browser.chromium import ChromiumTab
from tests.browser.kitted import Kitted
from tests.browser.lab import running
from tests.browser.models import SEGMENT
from tests.browser.sites import Site

from bgfetch.testing import Exchange, text_reply

MODEL = "/models/m/model.bin"
SIZE = 2 * SEGMENT + 12345


def engine(site: Site, before: str, *, again: str = "15_000") -> None:
    """Have the engine run a script first, and wait so many ms after what nobody foresaw."""
    site.alter("engine.js", "AGAIN = 15_000", f"AGAIN = {again}", before=before)


def test_offline(kitted: Kitted, site: Site) -> None:
    """Being offline costs no tries; it goes on when the page hears that the network is back."""
    site.alter("reply.js", "limit = 10", "limit = 1")  # a try that costs is the last
    engine(
        site,
        """
        let onLine = true
        Object.defineProperty(navigator, "onLine", {get: () => onLine})
        new BroadcastChannel("test").onmessage = ({data}) => { onLine = data }
        """,
    )
    model = site.model(MODEL, SIZE)
    model.faults.rate = 4 << 20
    kitted.start(MODEL)
    site.wait(lambda: model.sent > SEGMENT)
    kitted.run("globalThis.net = new BroadcastChannel('test'); net.postMessage(false)")
    site.down()
    assert kitted.says("it.state === 'waiting-network' && it.until") > 0
    site.up()
    model.faults.rate = 0
    kitted.run("net.postMessage(true); dispatchEvent(new Event('online'))")
    assert kitted.ends()["records"][0]["sha256"] == model.sha256


def test_pause(kitted: Kitted, site: Site) -> None:
    """A pause holds whole segments, is there after a reload, and ends when it is told to."""
    model = site.model(MODEL, SIZE)
    model.faults.rate = 3 << 20
    kitted.start(MODEL)
    kitted.until("kit.row && kit.row(1).then(it => it.downloaded > 0)")
    assert kitted.run("return kit.pause(1, true)") is True
    kitted.tab.reload()
    row = kitted.until("kit.row && kit.row(1)")
    assert [row["paused"], row["state"], row["result"]] == [True, "paused", ""]
    assert row["downloaded"] >= SEGMENT
    before = len(site.seen(MODEL))
    model.faults.rate = 0
    assert kitted.run("return (await (await manager()).get('x')).downloaded") == row["downloaded"]
    assert kitted.run("return kit.pause(1, false)") is True
    assert kitted.ends()["records"][0]["sha256"] == model.sha256
    # Not by bytes: Firefox may read what it had asked for to its end.
    asked = [each.range or "" for each in site.seen(MODEL)[before:]]
    assert asked
    assert not [each for each in asked if each.startswith("bytes=0-")]


def test_broken_database(kitted: Kitted, site: Site) -> None:
    """What a browser's database refuses out of the blue is tried again later, not left for ever without a word."""
    engine(
        site,
        """
        const {put} = IDBObjectStore.prototype
        let broken = false
        IDBObjectStore.prototype.put = function (...row) {
            if (!broken && row[0].segmentSize) {
                broken = true
                throw new DOMException("Internal error.", "UnknownError")
            }
            return put.apply(this, row)
        }
        """,
        again="2_000",
    )
    model = site.model(MODEL, SIZE)
    kitted.start(MODEL)
    kitted.says("it.state === 'waiting-retry' && it.until")
    assert kitted.ends()["records"][0]["sha256"] == model.sha256
    assert model.sent <= SIZE + 2 * SEGMENT


def test_no_lock(kitted: Kitted, site: Site) -> None:
    """An engine that fails in its first moment is followed by another."""
    scripts = iter(["navigator.locks.request = async () => { throw new Error('refused') }"])

    def first(exchange: Exchange) -> None:
        exchange.send(text_reply(200, next(scripts, "1"), "text/javascript"))

    site.answer("/first.js", first)
    engine(site, "importScripts('/first.js')")
    site.alter("polyfill.js", "AGAIN = 5000", "AGAIN = 50")
    kitted.tab.reload()
    model = site.model(MODEL, SIZE)
    kitted.start(MODEL)
    assert kitted.ends()["records"][0]["sha256"] == model.sha256
    assert len(site.seen("/first.js")) == 2


UNNAMED = "indexedDB.databases = async () => []"
REFUSED = """
    const {open} = IDBFactory.prototype
    let tries = 0
    IDBFactory.prototype.open = function (...which) {
        if (tries++) return open.apply(this, which)
        const asked = {error: new DOMException("Internal error.", "UnknownError")}
        setTimeout(() => asked.onerror())
        return asked
    }
"""


@pytest.mark.parametrize("first", [UNNAMED, REFUSED], ids=["unnamed", "refused"])
def test_first_answer(first: str, kitted: Kitted, site: Site) -> None:
    """A page has its fetch go on, also where the browser did not name the database at first, or did not open it."""
    model = site.model(MODEL, SIZE)
    model.faults.rate = 4 << 20
    kitted.start(MODEL)
    site.wait(lambda: model.sent > SEGMENT)
    site.alter("polyfill.js", "AGAIN = 5000", "AGAIN = 50", before=first)
    kitted.tab.reload()
    model.faults.rate = 0
    if first == UNNAMED:
        kitted.run("kept.push(await (await manager()).get('x'))")
    assert kitted.ends()["records"][0]["sha256"] == model.sha256


def test_no_room(kitted: Kitted, site: Site) -> None:
    """Where the browser says that there is no room, nothing is asked for once the size is known."""
    engine(site, "navigator.storage.estimate = async () => ({quota: 10 << 20, usage: 0})")
    if kitted.browser.name == "webkit":
        pytest.skip("WebKitGTK does not say how much room there is")
    model = site.model(MODEL, SIZE)
    kitted.start(MODEL)
    assert kitted.ends(event="fail")["failureReason"] == "quota-exceeded"
    assert "are to come" in kitted.detail()[0]
    assert model.sent < SEGMENT * 1.5


FULL = {
    "dom.quotaManager.temporaryStorage.fixedLimit": 50 << 10
}  # KiB, of which Firefox gives each site a fifth


@pytest.mark.parametrize("kind", ["bare", "firefox"])
def test_full(kind: str, tmp_path: Path, site: Site) -> None:
    """Where a browser says only on the way that it is full, the fetch ends with that reason, and in words."""
    engine(site, "navigator.storage.estimate = async () => ({quota: 2 ** 40, usage: 0})")
    model = site.model(MODEL, SIZE)
    with running(kind, tmp_path / kind, preferences=FULL) as browser:
        kitted = Kitted(browser, site)
        if isinstance(kitted.tab, ChromiumTab):
            quota = {"origin": site.url.rstrip("/"), "quotaSize": 10 << 20}
            kitted.tab.call("Storage.overrideQuotaForOrigin", quota)
        kitted.start(MODEL)
        assert kitted.ends(event="fail")["failureReason"] == "quota-exceeded"
        assert "no more room" in kitted.detail()[0]
    assert SEGMENT < model.sent <= SIZE


PARTS = "caches.open('bgfetch-parts').then(it => it.keys())"


@pytest.mark.parametrize("manifest", [True, False], ids=["manifest", "bare"])
def test_reloaded_within_segments(kitted: Kitted, site: Site, *, manifest: bool) -> None:
    """What has come of segments that are not whole yet outlives the page, and goes when they are."""
    model = site.model(MODEL, SIZE)
    model.faults.manifest = manifest
    model.faults.rate = 2 * 2**20
    kitted.start(MODEL)
    kitted.until(f"{PARTS}.then(it => it.length)")
    kitted.tab.reload()
    seen = len(site.seen(MODEL))
    model.faults.rate = 0
    assert kitted.ends()["records"][0]["sha256"] == model.sha256
    starts = [int(each.headers["range"][6:].split("-")[0]) for each in site.seen(MODEL)[seen:]]
    assert [start for start in starts if start % SEGMENT]
    assert model.sent < SIZE + SEGMENT / 2  # what was on its way, and what came within half a second
    kitted.until(f"{PARTS}.then(it => !it.length)")


def test_a_part_that_went_bad(kitted: Kitted, site: Site) -> None:
    """Parts are not believed: a segment whose digest is wrong is fetched again from its beginning."""
    model = site.model(MODEL, SIZE)
    model.faults.rate = 2 * 2**20
    kitted.start(MODEL)
    kitted.until(f"{PARTS}.then(it => it.some(({{url}}) => url.endsWith('/0/0')))")
    kitted.run("""
        const store = await caches.open("bgfetch-parts")
        const key = (await store.keys()).find(({url}) => url.endsWith("/0/0"))
        const length = (await (await store.match(key)).arrayBuffer()).byteLength
        await store.put(key, new Response(new Uint8Array(length)))
    """)
    kitted.tab.reload()
    model.faults.rate = 0
    assert kitted.ends()["records"][0]["sha256"] == model.sha256
    ranges = [each.headers.get("range", "") for each in site.seen(MODEL)]
    assert len([each for each in ranges if each.startswith("bytes=0-")]) == 2
