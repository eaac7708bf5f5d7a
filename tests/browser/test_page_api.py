"""The page's API, as docs/browser.md describes it, in each browser."""

from __future__ import annotations

import pytest
from tests.browser.browsers import PageError, Tab
from tests.browser.sites import Site

pytestmark = pytest.mark.timeout(90)  # a browser starts

SIZE = 3 * 2**20 + 7
READY = """
const { ready } = await import("/bgfetch/bgfetch.js");
const bf = globalThis.bf = await ready({ engine: "worker" });
const hex = async (bytes) => [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))].map((it) => it.toString(16).padStart(2, "0")).join("");
"""
FETCH = READY + 'const reg = await bf.ensure("m", "/models/m/manifest.json"); await reg.finished;\n'


def test_a_model_is_fetched_kept_and_handed_out_in_every_form(tab: Tab, site: Site) -> None:
    """Each hand-off gives the very bytes; the first and the last progress are seen."""
    model = site.model("/models/m/model.bin", SIZE)
    seen = tab.run(
        READY
        + """
        const reg = await bf.fetch("m", "/models/m/manifest.json", { title: "M" });
        const steps = [];
        for await (const step of reg) steps.push([step.downloaded, step.result]);
        await reg.finished;
        const response = await reg.response("model.bin");
        const reader = await reg.reader("model.bin");
        let streamed = 0;
        for (let read; !(read = await reader.read()).done;) streamed += read.value.length;
        const file = await reg.file("model.bin");
        return {
          steps, streamed, name: file.name,
          status: response.status, length: response.headers.get("content-length"),
          digests: [await hex(await response.arrayBuffer()), await hex(await file.arrayBuffer()), await hex(await reg.bytes("model.bin"))],
          url: await reg.url("model.bin"), files: reg.files, availability: await bf.availability("m"), ids: await bf.getIds(),
          cached: await hex(await (await bf.asCache("m").match("/models/m/model.bin")).arrayBuffer()),
          through: (await bf.fetchThrough("/models/m/model.bin")).status, verify: await bf.verify("m"),
        };"""
    )
    assert seen["steps"][0] == [0, ""]
    assert seen["steps"][-1] == [SIZE, "success"]
    assert seen["streamed"] == SIZE
    assert (seen["status"], seen["length"], seen["name"]) == (200, str(SIZE), "model.bin")
    assert {*seen["digests"], seen["cached"]} == {model.sha256}
    assert seen["url"].endswith(f"?sha256={model.sha256}")
    assert seen["files"][0] | {"url": ""} == {
        "path": "model.bin",
        "url": "",
        "size": SIZE,
        "downloaded": SIZE,
        "verified": "digest",
    }
    assert (seen["availability"], seen["ids"], seen["through"]) == ("available", ["m"], 200)
    assert seen["verify"] == {"whole": True, "wrong": 0, "missing": 0}


def test_what_is_stored_is_not_fetched_again(tab: Tab, site: Site) -> None:
    """After a reload `ensure` gives it at once, and `delete` gives the room back."""
    model = site.model("/models/m/model.bin", SIZE)
    tab.run(FETCH)
    before = model.sent
    tab.reload()
    assert tab.run(FETCH + "return reg.result") == "success"
    assert model.sent == before
    assert tab.run(
        READY
        + 'return [await bf.delete("m"), await bf.availability("m"), (await (await caches.open("bgfetch-segments")).keys()).length]'
    ) == [True, "downloadable", 0]


def test_wrong_and_missing_parts_are_mended(tab: Tab, site: Site) -> None:
    """`verify` throws out what is wrong, a hand-off fetches it again, and the bytes are right."""
    model = site.model("/models/m/model.bin", SIZE)
    tab.run(FETCH)
    assert tab.run(
        READY
        + """
        const store = await caches.open("bgfetch-segments");
        const [key] = await store.keys();
        await store.put(key, new Response("wrong"));
        return [await bf.verify("m"), await bf.availability("m"), await hex(await (await bf.get("m")).bytes("model.bin"))];"""
    ) == [{"whole": False, "wrong": 1, "missing": 0}, "downloadable", model.sha256]


def test_abort_settles_and_its_promise_says_so(tab: Tab, site: Site) -> None:
    """By the signal as by the method; the second abort is false."""
    site.model("/models/m/model.bin", SIZE).faults.rate = 200_000
    assert tab.run(
        READY
        + """
        const control = new AbortController();
        const reg = await bf.fetch("m", "/models/m/manifest.json", { signal: control.signal });
        control.abort();
        const name = await reg.finished.catch((error) => error.name);
        return [name, reg.result, reg.failureReason, await reg.abort()];"""
    ) == ["AbortError", "failure", "aborted", False]


def test_a_held_download_goes_on(tab: Tab, site: Site) -> None:
    """Paused it stays so; resumed it ends whole."""
    model = site.model("/models/m/model.bin", SIZE)
    model.faults.rate = 2_000_000
    assert tab.run(
        READY
        + """
        const reg = await bf.fetch("m", "/models/m/manifest.json");
        await reg.pause();
        const state = reg.state;
        await reg.resume();
        await reg.finished;
        return [state, await hex(await reg.bytes("model.bin"))];"""
    ) == ["paused", model.sha256]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<html>", "is no manifest of models"),
        ('{"bgfetch":1,"files":[]}', "is no manifest of models"),
        (
            '{"bgfetch":1,"files":[{"path":"a","url":"a","size":-1,"sha256":"0","segment_size":1,"segments":[]}]}',
            "of 1 files 0",
        ),
        (
            '{"bgfetch":1,"files":[{"path":"../a","url":"a","size":0,"sha256":"'
            + "0" * 64
            + '","segment_size":16384,"segments":[]}]}',
            "not allowed",
        ),
        (
            '{"bgfetch":1,"files":[{"path":"a","url":"file:///a","size":0,"sha256":"'
            + "0" * 64
            + '","segment_size":16384,"segments":[]}]}',
            "cannot be fetched",
        ),
    ],
)
def test_a_hostile_manifest_is_refused(tab: Tab, site: Site, body: str, words: str) -> None:
    """Nothing is registered for it."""
    site.put("/bad/manifest.json", body)
    with pytest.raises(PageError, match=words):
        tab.run(READY + 'await bf.fetch("m", "/bad/manifest.json")')
    assert tab.run(READY + "return await bf.getIds()") == []
