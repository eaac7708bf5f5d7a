"""What web-platform-tests says nothing about, and the standard, its explainer or Chromium does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.browser.conformance.page import FEATURE, SLOW, TEXT, Page, cors
from tests.browser.models import Model, Seeded
from tests.browser.sites import Site

from bgfetch.testing import Content, Exchange, Fuse, Reply, SeenRequest, text_reply
from bgfetch.testing.message import correct_reply

pytestmark = pytest.mark.wpt("not in web-platform-tests")

case = pytest.mark.case

MIB = 1 << 20
MODEL = "/m.bin"
DIGEST = """
    return Promise.all((await registration.matchAll()).map(async record => {
        const hash = await crypto.subtle.digest("SHA-256", await (await record.responseReady).arrayBuffer())
        return [...new Uint8Array(hash)].map(byte => byte.toString(16).padStart(2, "0")).join("")
    }))
"""


@pytest.fixture
def reader(make: Callable[..., Page]) -> Page:
    """A page whose worker reports the digest of each record."""
    return make(handle=DIGEST)


@pytest.fixture
def model(site: Site) -> Model:
    """20 MiB without a manifest: a server like any other."""
    made = site.model(MODEL, 20 * MIB)
    made.faults.manifest = False
    return made


def succeeds(page: Page, model: Model) -> None:
    """It ends with the right bytes."""
    told = page.heard(page.ids[-1])
    assert [told["type"], told["failureReason"]] == ["backgroundfetchsuccess", ""]
    assert told["value"] == [model.sha256]


@case("A fetch that was interrupted asks for the range that is missing, with If-Range")
def test_range_resume(reader: Page, model: Model) -> None:
    """Little comes twice, and each request for a later range names the version that is held."""
    model.faults.drop_every, model.faults.rate = 7 * MIB, 16.0 * MIB
    reader.start(MODEL)
    succeeds(reader, model)
    ranged = [each for each in model_requests(reader) if each.range not in (None, "bytes=0-8388607")]
    assert ranged
    assert {each.headers.get("if-range") for each in ranged} == {model.content.etag}
    assert model.sent <= 1.3 * model.size


def model_requests(page: Page) -> list[SeenRequest]:
    """GET requests for the model."""
    return page.site.seen(MODEL)


@case(
    "A file that changes on the way is never mixed", departs="the record starts over; the standard fails it"
)
def test_changed(reader: Page, model: Model) -> None:
    """The body is the new version, whole."""
    model.faults.rate = 8.0 * MIB
    reader.start(MODEL)
    reader.site.wait(lambda: model.sent > 4 * MIB)
    model.change(Seeded.made(18 * MIB, seed=2))
    model.faults.rate = 0.0
    reader.site.server.cut_connections()
    succeeds(reader, model)


@case("200 to a range request starts the record over")
def test_no_ranges(reader: Page, model: Model) -> None:
    """A server that has no ranges, and breaks off once."""
    model.faults.ranges = False
    model.faults.rate = 40.0 * MIB
    reader.start(MODEL)
    reader.site.wait(lambda: model.sent > 4 * MIB)
    model.faults.rate = 0.0
    reader.site.server.cut_connections()
    succeeds(reader, model)


@case("A body that announces no length is complete at its last chunk")
def test_chunked(reader: Page, model: Model) -> None:
    """It comes in chunks, and ranges are not offered."""

    def answer(exchange: Exchange) -> None:
        whole = Reply(200, model.content, ((0, model.size),), {"Content-Type": "application/octet-stream"})
        exchange.send_chunked(whole)

    reader.site.answer(MODEL, answer)
    reader.start(MODEL)
    succeeds(reader, model)


@case(
    "A range of unknown total is gone on with",
    departs="by the standard it never succeeds",
    untested="it asks for no range at first",
)
def test_unknown_total(reader: Page, model: Model) -> None:
    """The server says "*" for the total of a range that was not even asked for: one whole answer instead."""

    def answer(exchange: Exchange) -> None:
        reply = correct_reply(exchange.request, model.content)
        if reply.status == 206:
            start, stop = reply.spans[0]
            reply = reply.but(content_range=f"bytes {start}-{stop - 1}/*")
        exchange.send(reply)

    reader.site.answer(MODEL, answer)
    reader.start(MODEL)
    succeeds(reader, model)


@case("416 to a first range is answered with a request for the whole")
def test_416(reader: Page, model: Model) -> None:
    """A server that refuses every range."""

    def answer(exchange: Exchange) -> None:
        if exchange.request.range is None:
            exchange.send(correct_reply(exchange.request, model.content))
        else:
            exchange.send(Reply(416, Content(memoryview(b"")), (), {"Content-Length": "0"}))

    reader.site.answer(MODEL, answer)
    reader.start(MODEL)
    succeeds(reader, model)


def shared(exchange: Exchange, model: Model) -> None:
    """Answer rightly, for pages of other origins too."""
    exchange.send(cors(correct_reply(exchange.request, model.content), "*"))


@case(
    "A fetch made while the server is away waits and starts by itself",
    native="it fetches the whole and fails all the same",
)
def test_offline_start(reader: Page, other: Site) -> None:
    """It resolves at once; the bytes come once they can."""
    model = other.model(MODEL, 2 * MIB)
    other.answer(MODEL, lambda exchange: shared(exchange, model))
    other.down(3.0)
    reader.start(other.url_of(MODEL))
    assert reader.run("return kept.at(-1).result") == ""
    succeeds(reader, model)


@case("A 503 is tried again, after the time that it names", native="it fails with bad-status")
def test_retry_after(reader: Page, model: Model) -> None:
    """Nothing is asked for before."""
    model.faults.refuse, model.faults.retry_after = 1, "1"
    reader.start(MODEL)
    succeeds(reader, model)
    first, second = model_requests(reader)[:2]
    assert second.at - first.at >= 0.95


@case("A body shorter than announced is never a success")
def test_truncated(reader: Page, model: Model) -> None:
    """Once it breaks off without an error; in the end all of it is there."""

    def answer(exchange: Exchange) -> None:
        if len(reader.site.seen(MODEL)) == 1:
            exchange.send(correct_reply(exchange.request, model.content), Fuse(3 * MIB))
        else:
            exchange.send(correct_reply(exchange.request, model.content))

    reader.site.answer(MODEL, answer)
    reader.start(MODEL)
    succeeds(reader, model)


@case("More than downloadTotal ends it at once with download-total-exceeded")
def test_total_exceeded(make: Callable[..., Page], model: Model) -> None:
    """One byte too many is enough."""
    told = make(handle="return ''").fetched(MODEL, {"downloadTotal": model.size - 1})
    assert [told["type"], told["failureReason"]] == ["backgroundfetchfail", "download-total-exceeded"]


@case("As much as downloadTotal is right, and less is right, too")
def test_total_met(page: Page) -> None:
    """The total is a bound, not a promise."""
    for total in (len(TEXT), len(TEXT) + 1):
        assert page.fetched(FEATURE, {"downloadTotal": total})["type"] == "backgroundfetchsuccess"


@case("A click is told to the worker", untested="a test cannot click the browser's own user interface")
def test_click(page: Page) -> None:
    """With the registration, and without updateUI."""
    page.start(SLOW, id="x")
    page.run("""
        const uid = globalThis[Symbol.for("bgfetch")].insides.get(kept.at(-1)).uid
        const {active} = await navigator.serviceWorker.ready
        active.postMessage({bgfetch: "click", uid})
        await kept.at(-1).abort()
    """)
    assert page.heard("x", "click")["kind"] == "BackgroundFetchEvent"


@case("Unregistering the worker drops its fetches, without an event")
def test_unregister(page: Page) -> None:
    """A worker that is registered afterwards knows of none."""
    page.start(SLOW, id="x")
    said = page.run("""
        const registration = await navigator.serviceWorker.ready
        await registration.unregister()
        return (await navigator.serviceWorker.getRegistrations()).length
    """)
    assert said == 0
    page.tab.reload()
    page.run("await navigator.serviceWorker.register('/worker.js'); await navigator.serviceWorker.ready")
    ids = "return (await manager()).getIds()"
    page.site.wait(lambda: page.run(ids) == [], what="the end of the fetch")
    assert page.site.told == []


@case(
    "The settle event comes after the browser was killed",
    departs="at least once; in the standard at most once",
)
def test_kill(make_alone: Callable[..., Page], model: Model) -> None:
    """What is on its way when the browser is killed goes on when the page is open again, and ends with its event."""
    reader = make_alone(handle=DIGEST)
    model.faults.rate = 8.0 * MIB
    reader.start(MODEL)
    reader.site.wait(lambda: model.sent > 12 * MIB)
    reader.browser.kill()
    model.faults.rate = 0.0
    reader.browser.launch()
    reader.open()
    succeeds(reader, model)


@case(
    "A settle event whose handler was cut off comes again",
    departs="at least once; in the standard at most once",
    native="settle events come at most once",
)
def test_handler_killed(make_alone: Callable[..., Page], site: Site) -> None:
    """The browser is killed while the handler runs; it is run again when the page is open again, and can read its records."""
    calls: list[Exchange] = []

    def first_waits(exchange: Exchange) -> None:
        calls.append(exchange)
        if len(calls) == 1:
            exchange.hold()
        else:
            exchange.send(text_reply(200, "go on"))

    site.answer("/call", first_waits)
    page = make_alone(handle="await fetch('/call'); return await records(registration)")
    id_ = page.start([FEATURE])
    site.wait(lambda: calls, what="the handler")
    page.browser.kill()
    page.browser.launch()
    page.open()
    told = page.heard(id_, "success")
    assert told["value"][0]["text"] == TEXT
    assert len(calls) == 2


@case("The last progress says all")
def test_last_progress(page: Page, model: Model) -> None:
    """A settle is a progress event, too, and nothing changes after it."""
    said = page.run("""
        const it = await start("x", "/m.bin"), seen = []
        kept.push(it)
        it.addEventListener("progress", () => seen.push([it.downloaded, it.result]))
        await settled(it)
        await new Promise(done => setTimeout(done, 300))
        return seen
    """)
    assert said[-1] == [model.size, "success"]
    assert [result for _, result in said].count("success") == 1
