"""The page's API, as docs/browser.md describes it, in each browser."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.browser.browsers import Browser, PageError, Tab
from tests.browser.chromium import Chromium, ChromiumTab
from tests.browser.lab import running
from tests.browser.models import Model, Seeded
from tests.browser.sites import Site

SIZE = 3 * 2**20 + 7
READY = """
const { ready } = await import("/bgfetch/bgfetch.js");
const bf = globalThis.bf = await ready({ engine: "worker" });
const hex = async (bytes) => [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))].map((it) => it.toString(16).padStart(2, "0")).join("");
"""
FETCH = READY + 'const reg = await bf.ensure("m", "/models/m/manifest.json"); await reg.finished;\n'


def integrity(model: Model) -> str:
    """What a page may promise of it."""
    return f"sha256-{base64.b64encode(bytes.fromhex(model.sha256)).decode()}"


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
    assert seen["url"].endswith(f"/model.bin?sha256={model.sha256}#stored")
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
    tab.reload()
    assert tab.run(FETCH + "return reg.result") == "success"
    assert model.sent == SIZE
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


def test_an_update_takes_nothing_away_before_it_is_whole(tab: Tab, site: Site) -> None:
    """An aborted update leaves what was stored; one that ends takes its place, and its room."""
    model = site.model("/models/m/model.bin", SIZE)
    before = model.sha256
    tab.run(FETCH)
    model.change(Seeded.made(SIZE, 2))
    model.faults.rate = 200_000
    stored = "return [await hex(await (await bf.get('m')).bytes('model.bin')), (await (await caches.open('bgfetch-segments')).keys()).length]"
    assert tab.run(
        READY
        + """
        const reg = await bf.fetch("m", "/models/m/manifest.json");
        reg.finished.catch(() => {});
        await reg.abort();"""
        + stored
    ) == [before, 1]
    model.faults.rate = 0
    assert tab.run(READY + 'await (await bf.fetch("m", "/models/m/manifest.json")).finished;' + stored) == [
        model.sha256,
        1,
    ]


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


@pytest.mark.parametrize("manifest", [True, False], ids=["manifest", "bare"])
def test_what_the_page_promises_of_a_url(tab: Tab, site: Site, *, manifest: bool) -> None:
    """`integrity` is checked of the whole, however it came; what is something else is neither kept nor handed out."""
    model = site.model("/models/m/model.bin", SIZE)
    model.faults.manifest = manifest
    model.faults.drop_every = 2 * 2**20
    assert tab.run(
        READY
        + """
        const reg = await bf.fetch("m", "/models/m/model.bin", { integrity });
        await reg.finished;
        return [reg.files[0].verified, await hex(await reg.bytes("/models/m/model.bin"))]""",
        integrity=f"sha256-{'A' * 43}= {integrity(model)}",
    ) == ["digest", model.sha256]
    assert not [
        each for each in site.seen(model.path) if "." in each.headers.get("range", "")
    ]  # half an odd rest
    model.faults.drop_every = 0
    before = model.sent
    assert tab.run(
        READY
        + """
        await bf.delete("m");
        const reg = await bf.fetch("m", "/models/m/model.bin", { integrity });
        const words = await reg.finished.catch((error) => error.message);
        const name = await reg.bytes("/models/m/model.bin").catch((error) => error.name);
        return [reg.failureReason, words, name, (await (await caches.open("bgfetch-segments")).keys()).length]""",
        integrity=f"sha256-{'A' * 43}=",
    ) == [
        "fetch-error",
        site.url_of("/models/m/model.bin") + " is not what its integrity promises.",
        "InvalidStateError",
        0,
    ]
    assert model.sent - before < 1.2 * SIZE


def test_what_the_page_promises_of_a_manifest(tab: Tab, site: Site) -> None:
    """Then the manifest's digests are the page's own; another one is refused, and nothing is registered."""
    model = site.model("/models/m/model.bin", SIZE)
    fetched = 'const reg = await bf.fetch("m", "/models/m/manifest.json", { integrity }); await reg.finished; return reg.files[0].verified'
    promise = READY + (
        'const bytes = await (await fetch("/models/m/manifest.json")).arrayBuffer();'
        'const integrity = "sha512-" + btoa(String.fromCharCode(...new Uint8Array(await crypto.subtle.digest("SHA-512", bytes))));'
    )
    assert tab.run(promise + fetched) == "digest"
    with pytest.raises(PageError, match="is not what its integrity promises") as refusal:
        tab.run(READY + fetched, integrity=integrity(model))
    assert refusal.value.name == "NetworkError"


def test_bytes_are_given_up_to_what_an_array_holds(tab: Tab, site: Site) -> None:
    """Before anything is asked for or made room for, in words that name another way."""
    size, segment = 2**31, 2**26
    entry = {"path": "a", "url": "a", "size": size, "sha256": "0" * 64, "segment_size": segment}
    files = [{**entry, "segments": ["0" * 64] * (size // segment)}]
    site.put("/large/manifest.json", json.dumps({"bgfetch": 1, "files": files}))
    with pytest.raises(PageError, match=r'"a" has 2147483648 bytes.* use stream\(\) or blob\(\)') as refusal:
        tab.run(READY + 'const reg = await bf.fetch("m", "/large/manifest.json"); await reg.bytes("a")')
    assert refusal.value.name == "RangeError"


PLAIN = 'const { ready } = await import("/bgfetch/bgfetch.js"); const bf = await ready();\n'


@contextmanager
def without_site_data(kind: str, profile: Path) -> Iterator[Tab]:
    """A tab of a browser whose person has blocked cookies, and so everything that a site could store."""
    if kind == "firefox":
        with running(kind, profile, preferences={"network.cookie.cookieBehavior": 2}) as browser:
            yield browser.open()
        return
    (profile / "Default").mkdir(parents=True)
    blocked = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (profile / "Default" / "Preferences").write_text(json.dumps(blocked))
    with running(kind, profile) as browser:
        yield browser.open()


@pytest.mark.parametrize("kind", ["chromium", "firefox"])
def test_without_storage_it_says_so(kind: str, tmp_path: Path, site: Site) -> None:
    """The page loads, knows that there will be no models, and whoever asks for one all the same hears why."""
    site.model("/models/m/model.bin", SIZE)
    with without_site_data(kind, tmp_path / kind) as tab:
        tab.goto(site.url)
        assert tab.run(PLAIN + 'return await bf.availability("m")') == "unavailable"
        assert (
            tab.run(
                """await import("/bgfetch/element.js");
                const it = document.createElement("model-download"); it.name = "m"; it.manifest = "/models/m/manifest.json";
                document.body.append(it); await it.refresh(); return it.state"""
            )
            == "unsupported"
        )
        for how in ("fetch", "ensure"):
            with pytest.raises(PageError, match="stores no models for this page") as refusal:
                tab.run(PLAIN + 'await bf[how]("m", "/models/m/manifest.json")', how=how)
            assert refusal.value.name == "NotSupportedError"


@contextmanager
def private_tab(kind: str, profile: Path) -> Iterator[Tab]:
    """A tab of a private window."""
    if kind == "firefox":
        with running(kind, profile, preferences={"browser.privatebrowsing.autostart": True}) as browser:
            yield browser.open()
        return
    with running(kind, profile) as browser:
        assert isinstance(browser, Chromium)
        yield browser.open_private()


@pytest.mark.parametrize("kind", ["chromium", "firefox"])
def test_in_a_private_window(kind: str, tmp_path: Path, site: Site) -> None:
    """Models are stored as elsewhere, for as long as it is open."""
    model = site.model("/models/m/model.bin", SIZE)
    with private_tab(kind, tmp_path / kind) as tab:
        tab.goto(site.url)
        assert tab.run(FETCH + "return await hex(await reg.bytes('model.bin'))") == model.sha256
        tab.reload()
        assert tab.run(READY + 'return await bf.availability("m")') == "available"


def test_another_tab_sees_it(tab: Tab, browser: Browser, site: Site) -> None:
    """The same registration, with progress, without a second download."""
    model = site.model("/models/m/model.bin", SIZE)
    model.faults.rate = 1_000_000
    tab.run(READY + 'await bf.fetch("m", "/models/m/manifest.json")')
    other = browser.open(site.url)
    seen = other.run(
        READY
        + """
        const reg = await bf.get("m");
        const steps = [];
        for await (const step of reg) steps.push(step.downloaded);
        return [reg.result, steps.length, steps.at(-1)];"""
    )
    other.close()
    assert (seen[0], seen[2]) == ("success", SIZE)
    assert seen[1] > 2
    assert model.sent < 1.2 * SIZE


def test_its_address_is_answered_without_the_server(tab: Tab, site: Site) -> None:
    """By the worker, the whole and a range."""
    model = site.model("/models/m/model.bin", SIZE)
    url = tab.run(
        FETCH
        + 'while (!navigator.serviceWorker.controller) await new Promise((next) => navigator.serviceWorker.addEventListener("controllerchange", next, { once: true })); return await reg.url("model.bin")'
    )
    model.faults.status = 500
    assert tab.run(
        READY
        + """
        const whole = await fetch(url);
        const part = await fetch(url, { headers: { Range: "bytes=5-9" } });
        return [await hex(await whole.arrayBuffer()), part.status, (await part.arrayBuffer()).byteLength];""",
        url=url,
    ) == [model.sha256, 206, 5]


@pytest.mark.parametrize("named", ["manifest.json", "signed.json?manifest", "model.bin"])
def test_its_address_is_answered_although_the_worker_has_not_heard_of_it_yet(
    named: str, tab: Tab, site: Site
) -> None:
    """It looks again for what only a registration can have given: a message may take its time."""
    site.alter("sw.js", "kit.listen(", "void (")
    model = site.model("/models/m/model.bin", SIZE)
    model.faults.manifest = named != "model.bin"
    entry = {**model.manifest_entry("/models/m/"), "url": "model.bin?signature=1"}
    site.put("/models/m/signed.json", json.dumps({"bgfetch": 1, "files": [entry]}))
    url = tab.run(
        READY
        + """
        while (!navigator.serviceWorker.controller) await new Promise((next) => navigator.serviceWorker.addEventListener("controllerchange", next, { once: true }));
        await fetch("/"); // by now the worker has read what is stored, nothing
        const reg = await bf.ensure("m", "/models/m/" + named);
        await reg.finished;
        return await reg.url(reg.files[0].path);""",
        named=named,
    )
    model.faults.status = 500
    assert (
        tab.run(READY + "return await hex(await (await fetch(url)).arrayBuffer());", url=url) == model.sha256
    )


@pytest.mark.parametrize("shared", ["chromium"], indirect=True)  # its protocol alone stops a worker
def test_an_address_without_a_version_is_answered_by_a_worker_that_just_started(
    tab: ChromiumTab, site: Site
) -> None:
    """It does not know yet what is stored, but asks before the network is."""
    model = site.model("/plain/model.bin", SIZE)
    model.faults.manifest = False
    url = tab.run(
        READY
        + """const reg = await bf.ensure("p", "/plain/model.bin"); await reg.finished;
        while (!navigator.serviceWorker.controller) await new Promise((next) => navigator.serviceWorker.addEventListener("controllerchange", next, { once: true }));
        return await reg.url("/plain/model.bin");"""
    )
    model.faults.status = 500
    tab.call("ServiceWorker.enable", {})
    tab.call("ServiceWorker.stopAllWorkers", {})
    assert (
        tab.run(READY + "return await hex(await (await fetch(url)).arrayBuffer());", url=url) == model.sha256
    )


@pytest.mark.parametrize("shared", ["chromium"], indirect=True)
def test_what_waits_for_nobody_is_swept(tab: Tab, site: Site) -> None:
    """What was to be hashed for a fetch that has gone does not stay."""
    site.model("/models/m/model.bin", SIZE)
    left = "(await (await caches.open('bgfetch-quarantine')).keys()).length"
    tab.run(
        "await (await caches.open('bgfetch-quarantine')).put('/.bgfetch/quarantine/99/0/0', new Response('x'))"
    )
    tab.run(FETCH + "await bf.delete('m')")
    assert tab.run(f"return {left}") == 0


def test_an_abort_in_the_moment_of_the_start(tab: Tab, site: Site) -> None:
    """A signal that comes while the fetch is stored ends it like any other."""
    model = site.model("/models/m/model.bin", SIZE)
    assert (
        tab.run(
            READY
            + """const control = new AbortController();
            globalThis[Symbol.for("bgfetch")].listen((message) => { if (message.type === "changed") control.abort(); });
            const reg = await bf.fetch("m", "/models/m/manifest.json", { signal: control.signal });
            return await reg.finished.catch((error) => error.name);"""
        )
        == "AbortError"
    )
    assert model.sent == 0


def test_what_is_not_whole_is_not_handed_out(tab: Tab, site: Site) -> None:
    """It says so by name; so does what is not there at all."""
    site.model("/models/m/model.bin", SIZE).faults.rate = 200_000
    assert tab.run(
        READY
        + """
        const reg = await bf.fetch("m", "/models/m/manifest.json");
        const names = [];
        for (const name of ["model.bin", "other.bin"]) await reg.blob(name).catch((error) => names.push(error.name));
        await bf.delete("m");
        return names;"""
    ) == ["InvalidStateError", "NotFoundError"]


def test_a_page_with_trusted_types_needs_no_exception(tab: Tab, site: Site) -> None:
    """And none from the strictest policy that lets its own scripts run."""
    site.model("/models/m/model.bin", SIZE)
    policy = "default-src 'self'; script-src 'self' 'unsafe-eval'; require-trusted-types-for 'script'"
    site.put("/strict.html", "<!doctype html><title>strict</title>", content_security_policy=policy)
    tab.goto(site.url_of("/strict.html"))
    assert tab.run(FETCH + "return reg.result") == "success"
