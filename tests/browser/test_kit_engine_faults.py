"""The worker engine against a server that goes wrong: the right bytes, no more of them than needed, or a refusal in words."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace

import pytest
from tests.browser.kitted import IN_ONE, Kitted
from tests.browser.models import SEGMENT, Model, Seeded
from tests.browser.sites import Site

from bgfetch.testing import Content, Exchange, text_reply
from bgfetch.testing.message import correct_reply

MODEL = "/models/m/model.bin"
MIB = 1 << 20
SIZE = 3 * SEGMENT + 5 * MIB


def begun(kitted: Kitted, site: Site, *, manifest: bool = True) -> Model:
    """A model of which a segment and a half has come, slowly enough for what happens next to matter."""
    model = site.model(MODEL, SIZE)
    model.faults.manifest = manifest
    model.faults.rate = 8 * MIB
    kitted.start(MODEL)
    site.wait(lambda: model.sent > SEGMENT * 1.5)
    return model


@pytest.mark.parametrize("manifest", [True, False], ids=["manifest", "bare"])
def test_whole(kitted: Kitted, site: Site, *, manifest: bool) -> None:
    """A file arrives byte for byte, each byte is sent once, and its segments are asked for side by side."""
    model = site.model(MODEL, SIZE)
    model.faults.manifest = manifest
    kitted.start(MODEL, downloadTotal=SIZE)
    (record,) = kitted.ends()["records"]
    assert [record["sha256"], record["size"], record["length"]] == [model.sha256, SIZE, str(SIZE)]
    assert model.sent == SIZE
    assert len([each for each in site.seen(MODEL) if "range" in each.headers]) == 4


def test_drops(kitted: Kitted, site: Site) -> None:
    """Connections that end every 3 MiB cost little: browsers drop what they have not yet handed over when one breaks."""
    model = site.model(MODEL, SIZE)
    model.faults.drop_every = 3 * MIB
    kitted.start(MODEL)
    assert kitted.ends()["records"][0]["sha256"] == model.sha256
    # WebKit hands over nothing of a body that breaks off within milliseconds, until it is asked for less.
    assert model.sent <= SIZE * (1.7 if kitted.browser.name == "webkit" else 1.2)


def test_no_ranges(kitted: Kitted, site: Site) -> None:
    """A server that ignores ranges is read from end to end."""
    model = site.model(MODEL, SIZE)
    model.faults.ranges = False
    kitted.start(MODEL)
    assert kitted.ends()["records"][0]["sha256"] == model.sha256
    assert model.sent <= SIZE * 1.05


def test_no_ranges_and_always_cut(kitted: Kitted, site: Site) -> None:
    """Where each answer is the whole and breaks off at the same byte, what comes again is no progress: it ends, in words."""
    site.alter("reply.js", "limit = 10", "limit = 3")
    model = site.model(MODEL, SIZE)
    model.faults.ranges = False
    model.faults.drop_every = 12 * MIB
    kitted.start(MODEL)
    assert kitted.ends(event="fail")["failureReason"] == "fetch-error"
    assert (
        len(site.seen(MODEL)) <= 8
    )  # WebKit hands over less than has come, so it may take some to store the first segment


def test_new_tag(kitted: Kitted, site: Site) -> None:
    """The same bytes under another ETag cost nothing where a manifest tells that they are the same."""
    model = begun(kitted, site)
    model.change_etag()  # at this rate: what is under way when a browser hangs up counts as sent
    assert kitted.ends()["records"][0]["sha256"] == model.sha256
    assert model.sent <= SIZE * 1.25


@pytest.mark.parametrize("manifest", [True, False], ids=["manifest", "bare"])
def test_new_version(kitted: Kitted, site: Site, *, manifest: bool) -> None:
    """A file that changes on the way is fetched anew, and never mixed."""
    model = begun(kitted, site, manifest=manifest)
    model.change(Seeded.made(SIZE + 100, 2))
    model.faults.rate = 0
    (record,) = kitted.ends()["records"]
    assert [record["sha256"], record["size"]] == [model.sha256, SIZE + 100]


@IN_ONE
def test_new_version_behind_a_busy_manifest(kitted: Kitted, site: Site) -> None:
    """Where the manifest cannot be had in the moment in which the file has changed, it is asked for again."""
    model = begun(kitted, site)
    refused = threading.Event()

    def busy_once(exchange: Exchange) -> None:
        if "manifest" in exchange.request.target and not refused.is_set():
            refused.set()
            exchange.send(text_reply(503, "later"))
        else:
            model.answer(exchange)

    site.answer(MODEL, busy_once)
    model.change(Seeded.made(SIZE + 100, 2))
    model.faults.rate = 0
    assert kitted.ends()["records"][0]["sha256"] == model.sha256
    assert refused.is_set()


@IN_ONE
def test_gone_for_a_moment(kitted: Kitted, site: Site) -> None:
    """A file that is away although its manifest still promises it is waited for, as when a server is set up again."""
    model = begun(kitted, site)
    model.faults.status = 404
    kitted.says("it.state === 'waiting-retry'")
    model.faults.status = 0
    model.faults.rate = 0
    assert kitted.ends()["records"][0]["sha256"] == model.sha256
    assert model.sent <= SIZE * 1.25


def test_wrong_once(kitted: Kitted, site: Site) -> None:
    """A segment that came wrong is fetched again alone."""
    model = site.model(MODEL, SIZE)
    model.faults.wrong = {2}
    kitted.start(MODEL)
    site.wait(
        lambda: (
            len(
                [
                    each
                    for each in site.seen(MODEL)
                    if f"bytes={2 * SEGMENT}-" in each.headers.get("range", "")
                ]
            )
            > 1
        )
    )
    model.faults.wrong = set()
    assert kitted.ends()["records"][0]["sha256"] == model.sha256
    assert model.sent <= SIZE + 4 * SEGMENT


@IN_ONE
def test_wrong_always(kitted: Kitted, site: Site) -> None:
    """Bytes that the manifest does not promise are never handed out."""
    model = site.model(MODEL, SIZE)
    model.faults.wrong = {1}
    kitted.start(MODEL)
    told = kitted.ends(event="fail")
    assert [told["failureReason"], told["records"][0]["error"]] == ["fetch-error", "TypeError"]
    assert "manifest promises" in kitted.detail()[0]


def test_wrong_to_the_page(kitted: Kitted, site: Site) -> None:
    """Bytes that are not what the page's own `integrity` promises are never handed out, not even while they come."""
    site.model(MODEL, SIZE).faults.manifest = False
    answered = kitted.run(
        """const it = await begin("x", new Request(model, {integrity: "sha256-" + "A".repeat(43)}))
        const [record] = await it.matchAll()
        return await record.responseReady.then(() => "answered", error => error.name)""",
        model=MODEL,
    )
    assert answered == "TypeError"
    assert kitted.ends(event="fail")["failureReason"] == "fetch-error"
    assert "not what its integrity promises" in kitted.detail()[0]


@IN_ONE
@pytest.mark.parametrize("manifest", [True, False], ids=["manifest", "bare"])
def test_page_instead(kitted: Kitted, site: Site, *, manifest: bool) -> None:
    """A login page that comes instead is refused in words."""
    model = site.model(MODEL, SIZE)
    model.faults.manifest = manifest
    model.faults.html = True
    kitted.start(MODEL)
    assert kitted.ends(event="fail")["failureReason"] == "fetch-error"
    assert "web page instead" in kitted.detail()[0]


@IN_ONE
def test_busy(kitted: Kitted, site: Site) -> None:
    """A server that is busy is asked again when it said, and the page can see until when it waits."""
    model = site.model(MODEL, SIZE)
    model.faults.refuse = 2
    model.faults.retry_after = "2"
    kitted.start(MODEL)
    assert kitted.says("it.state === 'waiting-retry' && it.until && it.until - Date.now()") < 2100
    assert kitted.ends()["records"][0]["sha256"] == model.sha256


def test_away(kitted: Kitted, site: Site) -> None:
    """What a page first begins while its own server cannot be reached is begun when it can."""
    model = site.model(MODEL, SIZE)
    kitted.controlled()
    site.down()
    kitted.start(MODEL)
    kitted.says("it.state.startsWith('waiting')")
    site.up()
    assert kitted.ends()["records"][0]["sha256"] == model.sha256


def test_cut_chunks(kitted: Kitted, site: Site) -> None:
    """A body without a length that breaks off between two chunks is not taken for the whole, though WebKit reads it so."""
    body = bytes(range(256)) * 8192
    cuts = [1 << 20, 1 << 19]

    def answer(exchange: Exchange) -> None:
        reply = text_reply(200, "").but(content_type="application/octet-stream")
        reply = replace(reply, content=Content(memoryview(body)), spans=((0, len(body)),))
        if exchange.request.method == "HEAD":
            exchange.send(reply.but(content_length=str(len(body))))
        elif cuts:
            exchange.send_chunked(replace(reply, spans=((0, cuts.pop()),)), last=False)
        else:
            exchange.send_chunked(reply)

    site.answer("/chunks.bin", answer)
    kitted.start("/chunks.bin")
    (record,) = kitted.ends()["records"]
    assert [record["size"], record["sha256"]] == [len(body), hashlib.sha256(body).hexdigest()]
    assert not cuts


def test_evicted(kitted: Kitted, site: Site) -> None:
    """A segment that the browser removes before the end is noticed, and fetched again alone."""
    model = site.model(MODEL, SIZE)
    gate = threading.Event()

    def later(exchange: Exchange) -> None:
        gate.wait(20)
        exchange.send(text_reply(200, "done"))

    site.answer("/hold", later)
    kitted.start([MODEL, "/hold"])
    kitted.until("kit.record && kit.record(1, 0).then(it => it?.result === 'success')")
    gone = kitted.run("""
        const cache = await caches.open("bgfetch-segments"), keys = await cache.keys()
        return cache.delete(keys.find(it => it.url.endsWith("/1")))
    """)
    assert gone
    gate.set()
    (record, _) = kitted.ends()["records"]
    assert record["sha256"] == model.sha256
    assert model.sent == SIZE + SEGMENT


@IN_ONE
def test_missing(kitted: Kitted, site: Site) -> None:
    """A status that is final fails the fetch, and the page can read what was answered."""
    site.model(MODEL, SIZE).faults.status = 403
    kitted.start(MODEL)
    told = kitted.ends(event="fail")
    assert [told["failureReason"], told["records"][0]["status"], told["records"][0]["size"]] == [
        "bad-status",
        403,
        3,
    ]


@IN_ONE
def test_too_much(kitted: Kitted, site: Site) -> None:
    """More bytes than the page allowed for end the fetch at once."""
    model = site.model(MODEL, SIZE)
    kitted.start(MODEL, downloadTotal=SEGMENT + 1)
    told = kitted.ends(event="fail")
    assert told["failureReason"] == "download-total-exceeded"
    assert model.sent < SIZE


@IN_ONE
def test_no_number_announced(kitted: Kitted, site: Site) -> None:
    """What is no number, or without an end, announces nothing (Web IDL, unsigned long long)."""
    site.model(MODEL, 3)
    assert kitted.run(
        """const found = []
        for (const downloadTotal of [NaN, Infinity, null, "x", 1.9]) found.push((await begin(`${downloadTotal}`, model, {downloadTotal})).downloadTotal)
        return found""",
        model=MODEL,
    ) == [0, 0, 0, 0, 1]


def test_stall(kitted: Kitted, site: Site) -> None:
    """A connection on which nothing comes is given up, and another one made; here after 3 s instead of 30."""
    site.alter("source.js", "STALL = 30_000", "STALL = 3_000")
    model = site.model(MODEL, SIZE)
    model.faults.stall_every = 10 * MIB
    model.faults.stall = 30
    kitted.start(MODEL)
    assert kitted.ends()["records"][0]["sha256"] == model.sha256
    assert model.sent <= SIZE * 1.3


@pytest.mark.parametrize("exposed", [True, False], ids=["exposed", "plain"])
def test_redirected(kitted: Kitted, site: Site, *, exposed: bool) -> None:
    """A redirect to another origin, which permits reading and nothing more, gives the file in ranges, or whole."""
    with Site() as other:
        body = bytes(range(256)) * (SIZE // 256)

        def answer(exchange: Exchange) -> None:
            content = Content(memoryview(body), etag='"one"')
            reply = correct_reply(exchange.request, content).but(access_control_allow_origin="*")
            exchange.send(
                reply.but(access_control_expose_headers="Content-Range, ETag") if exposed else reply
            )

        other.answer("/cdn.bin", answer)
        where = other.url_of("/cdn.bin")

        def elsewhere(exchange: Exchange) -> None:
            exchange.send(text_reply(302, "").but(location=where))

        site.answer("/model.bin", elsewhere)
        kitted.start("/model.bin")
        (record,) = kitted.ends()["records"]
        assert [record["size"], record["sha256"]] == [len(body), hashlib.sha256(body).hexdigest()]
        assert not other.seen("/cdn.bin", "OPTIONS")
        # WebKit sends no Range along a redirect to another origin, so the whole comes at once.
        assert (len(other.seen("/cdn.bin")) > 2) == (exposed and kitted.browser.name != "webkit")


def test_policy_of_the_page(kitted: Kitted, site: Site) -> None:
    """It does not bind a worker, as docs/browser.md says: that of `engine.js` does (conformance/test_requests.py)."""
    model = site.model(MODEL, SIZE)
    forbidden = kitted.run(
        """const meta = document.createElement("meta")
        meta.httpEquiv = "Content-Security-Policy"
        meta.content = "connect-src https://example.test"
        document.head.append(meta)
        return fetch(model).then(() => false, () => true)""",
        model=MODEL,
    )
    assert forbidden
    kitted.start(MODEL)
    assert kitted.ends()["records"][0]["sha256"] == model.sha256
