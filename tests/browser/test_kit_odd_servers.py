"""The worker engine against answers that are allowed, or nearly: what looks whole and is not is never taken for it."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from email.utils import formatdate

import pytest
from tests.browser.kitted import IN_ONE, Kitted
from tests.browser.models import SEGMENT, Seeded
from tests.browser.sites import Site

from bgfetch.testing import Content, Exchange, Reply, text_reply

pytestmark = IN_ONE

FILE = "/files/model.bin"
MIB = 1 << 20
SIZE = 3 * SEGMENT + 5 * MIB


def few_tries(site: Site) -> None:
    """Have the engine give up after three tries without progress, not ten."""
    site.alter("reply.js", "limit = 10", "limit = 3")


def without_validators(content: Content) -> Content:
    """The same bytes, of which nobody can say whether they are still the same."""
    return replace(content, etag="", modified="")


def at_most(reply: Reply, most: int) -> Reply:
    """A 206 of no more than so many bytes; others as they are."""
    if reply.status != 206:
        return reply
    start = reply.spans[0][0]
    stop = min(reply.spans[0][1], start + most)
    shorter = replace(reply, spans=((start, stop),)).but(content_length=str(stop - start))
    return shorter.but(content_range=f"bytes {start}-{stop - 1}/{reply.content.length}")


def kept(kitted: Kitted, body: str) -> object:
    """What a page that imports bgfetch.js gives."""
    return kitted.run(
        f"""const {{ ready }} = await import("/bgfetch/bgfetch.js")
        const bf = globalThis.bf ??= await ready({{ engine: "worker" }})
        {body}"""
    )


@pytest.mark.parametrize("hidden", [False, True], ids=["shown", "hidden"])
@pytest.mark.parametrize("size", [SIZE, 3 * MIB], ids=["large", "small"])
def test_a_range_that_is_not_the_whole(kitted: Kitted, site: Site, *, size: int, hidden: bool) -> None:
    """A server that gives a range at most a MiB, and another origin that does not even show which, are asked without one."""
    content = replace(Seeded.made(size, 1), etag='W/"weak"')

    def answer(exchange: Exchange) -> None:
        exchange.send(at_most(exchange.correct(content), MIB).but(access_control_allow_origin="*"))

    site.answer(FILE, answer)
    kitted.start(site.url_of(FILE, host="localhost") if hidden else FILE)
    (record,) = kitted.ends()["records"]
    assert [record["size"], record["sha256"]] == [size, content.sha256]


def test_two_versions_without_a_validator(kitted: Kitted, site: Site) -> None:
    """A version whose Last-Modified is too new to vouch for anything is another version all the same."""
    former, later = (replace(Seeded.made(SIZE, seed), etag="") for seed in (1, 2))
    changed = threading.Event()

    def answer(exchange: Exchange) -> None:
        begins = (exchange.request.range or "").startswith("bytes=0-")
        content, age = (former, 86400) if begins and not changed.is_set() else (later, 5)
        if not begins:
            changed.set()
        reply = exchange.correct(content).but(last_modified=formatdate(time.time() - age, usegmt=True))
        exchange.send(
            reply.but(access_control_allow_origin="*", access_control_expose_headers="Content-Range")
        )

    site.answer(FILE, answer)
    kitted.start(site.url_of(FILE, host="localhost"))
    assert kitted.ends()["records"][0]["sha256"] == later.sha256


@pytest.mark.parametrize("size", [SIZE, 6 * MIB], ids=["large", "small"])
def test_always_cut_and_never_known(kitted: Kitted, site: Site, size: int) -> None:
    """Where nobody can say what came before, what comes again is no progress: it ends, and leaves nothing behind."""
    few_tries(site)
    content = without_validators(Seeded.made(size, 1))

    def answer(exchange: Exchange) -> None:
        reply = exchange.correct(content)
        exchange.write(reply.head())
        for start, stop in reply.spans:
            exchange.stream(content.chunks(start, min(stop, size * 2 // 3)))
        exchange.drop()

    site.answer(FILE, answer)
    kitted.start(FILE)
    assert kitted.ends(event="fail")["failureReason"] == "fetch-error"
    assert len(site.seen(FILE)) <= 8
    assert kitted.until("caches.open('bgfetch-segments').then(it => it.keys()).then(it => it.length === 0)")


def test_an_empty_range(kitted: Kitted, site: Site) -> None:
    """An answer of no bytes is no progress."""
    few_tries(site)
    content = Seeded.made(SIZE, 1)

    def answer(exchange: Exchange) -> None:
        reply = exchange.correct(content)
        if reply.spans[0][0] >= SEGMENT:
            reply = replace(reply.but(content_length="0"), spans=())
        exchange.send(reply)

    site.answer(FILE, answer)
    kitted.start(FILE)
    assert kitted.ends(event="fail")["failureReason"] == "fetch-error"
    assert len(site.seen(FILE)) < 20


def test_gone_on_the_way(kitted: Kitted, site: Site) -> None:
    """A file of no manifest that has gone: what the page can read is that answer, not the head of the bytes before."""
    model = site.model(FILE, SIZE)
    model.faults.manifest = False
    model.faults.refused = {3: [404] * 9}
    kitted.start(FILE)
    told = kitted.ends(event="fail")
    assert [told["failureReason"], told["records"][0]["status"], told["records"][0]["size"]] == [
        "bad-status",
        404,
        3,
    ]


def test_gone_for_good(kitted: Kitted, site: Site) -> None:
    """A file that stays away although its manifest promises it is given up, with the status that was answered."""
    site.alter("transfer.js", "AWAY = 5", "AWAY = 2")
    site.model(FILE, SIZE).faults.refused = {1: [404] * 99}
    kitted.start(FILE)
    assert kitted.ends(event="fail")["failureReason"] == "bad-status"
    assert "answered 404" in kitted.detail()[0]


def test_two_tags_of_the_same_bytes(kitted: Kitted, site: Site) -> None:
    """Two servers behind one name that give the same file another ETag each: the manifest knows better, and nothing is lost."""
    model = site.model(FILE, 12 * SEGMENT)
    content = model.content

    def answer(exchange: Exchange) -> None:
        model.content = content.under(etag=f'"{len(site.seen(FILE)) // 3 % 2}"')
        model.answer(exchange)

    site.answer(FILE, answer)
    kept(kitted, 'await (await bf.fetch("m", "/files/manifest.json")).finished')
    assert site.hears(id="m")["records"][0]["sha256"] == content.sha256
    assert kitted.run("return (await kit.records()).map(it => it.restarts)") == [0]


def test_a_larger_version(kitted: Kitted, site: Site) -> None:
    """A manifest that says more than it did is no breach of what the page has announced."""
    model = site.model(FILE, SIZE)
    model.faults.rate = 8 * MIB
    kept(kitted, 'globalThis.it = await bf.fetch("m", "/files/manifest.json")')
    site.wait(lambda: model.sent > SEGMENT * 1.5)
    model.change(Seeded.made(SIZE + MIB, 2))
    model.faults.rate = 0
    assert kept(kitted, "await it.finished; return [it.downloaded, it.downloadTotal]") == [SIZE + MIB] * 2


def test_all_there_already(kitted: Kitted, site: Site) -> None:
    """A model under another id whose bytes are here: nothing is fetched, and its response is there like any other."""
    model = site.model(FILE, SIZE)
    for name in "ab":
        kept(kitted, f'await (await bf.fetch("{name}", "/files/manifest.json")).finished')
        (record,) = site.hears(id=name)["records"]
        assert [record["status"], record["sha256"]] == [200, model.sha256]
    assert model.sent == SIZE


def test_two_calls_at_once(kitted: Kitted, site: Site) -> None:
    """`ensure` joins what runs, also what began a moment ago."""
    site.model(FILE, SIZE)
    both = '["m", "m"].map(async id => (await (await bf.ensure(id, "/files/manifest.json")).finished).result)'
    assert kept(kitted, f"return Promise.all({both})") == ["success", "success"]


def test_a_new_version_where_there_is_little_room(kitted: Kitted, site: Site) -> None:
    """What is left of the former one is no reason to refuse it."""
    if kitted.browser.name == "webkit":
        pytest.skip("WebKitGTK does not say how much room there is")
    used = '(await (await caches.open("bgfetch-segments")).keys()).length * 2 ** 23'
    estimate = f"navigator.storage.estimate = async () => ({{quota: 11 * 2 ** 23, usage: {used}}})"
    site.alter("engine.js", before=estimate)
    model = site.model(FILE, 10 * SEGMENT)
    model.faults.rate = 16 * MIB
    kitted.start(FILE)
    kitted.until("kit.row && kit.row(1).then(it => it.downloaded >= 2 * 2 ** 23)")
    model.change(Seeded.made(10 * SEGMENT, 2))
    model.faults.rate = 0
    assert kitted.ends()["records"][0]["sha256"] == model.sha256


def test_one_breaks_and_the_others_end(kitted: Kitted, site: Site) -> None:
    """Where one file's manifest breaks the run, what loads beside it is not loaded twice by the next run."""
    broken = """
        const {put} = IDBObjectStore.prototype
        let left = 1
        IDBObjectStore.prototype.put = function (...row) {
            if (row[0].path?.endsWith("b.bin") && row[0].segmentSize && left-- > 0) throw new DOMException("Internal error.", "UnknownError")
            return put.apply(this, row)
        }
    """
    site.alter("engine.js", "AGAIN = 15_000", "AGAIN = 1_000", before=broken)
    models = [site.model(f"/files/{name}.bin", SIZE, seed=seed) for seed, name in enumerate("ab")]
    models[0].faults.rate = 12 * MIB
    kitted.start([each.path for each in models])
    assert [each["sha256"] for each in kitted.ends()["records"]] == [each.sha256 for each in models]
    assert models[0].sent <= SIZE + SEGMENT


def test_an_upload_is_not_paused(kitted: Kitted, site: Site) -> None:
    """It could not be sent again."""
    gate = threading.Event()

    def answer(exchange: Exchange) -> None:
        gate.wait(20)
        exchange.send(text_reply(200, "thanks"))

    site.answer("/upload", answer)
    kept(kitted, 'globalThis.it = await bf.fetch("u", new Request("/upload", {method: "POST", body: "x"}))')
    site.wait(lambda: site.seen("/upload", "POST"))
    assert kept(kitted, "return it.pause()") is False
    gate.set()
    assert kept(kitted, "return (await it.finished).result") == "success"
