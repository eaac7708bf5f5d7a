"""The interfaces are those of the standard's IDL, as WebIDL has them in JavaScript: in windows and in service workers."""

from __future__ import annotations

from typing import Any

import pytest
from tests.browser.conformance.page import SLOW, Page

pytestmark = pytest.mark.wpt("idlharness.any.js")

case = pytest.mark.case

LOOK = """
    const descriptor = (of, name) => {
        const it = Object.getOwnPropertyDescriptor(of, name)
        return it && [it.enumerable, it.configurable, typeof (it.get ?? it.value), (it.get ?? it.value).length, !!it.set]
    }
    const look = name => {
        const made = globalThis[name]
        let illegal = ""
        try { new made() } catch (error) { illegal = error.name }
        const members = Object.getOwnPropertyNames(made.prototype).filter(it => it !== "constructor").sort()
        return {
            global: [Object.getOwnPropertyDescriptor(globalThis, name).enumerable, made.name, made.length], illegal,
            tag: Object.prototype.toString.call(made.prototype), above: Object.getPrototypeOf(made.prototype).constructor.name,
            members: Object.fromEntries(members.map(it => [it, descriptor(made.prototype, it)])),
        }
    }
"""
ATTRIBUTE = [True, True, "function", 0, False]


def method(length: int) -> list[Any]:
    """The descriptor of an operation with so many required arguments."""
    return [True, True, "function", length, False]


@case("BackgroundFetchManager, BackgroundFetchRegistration and BackgroundFetchRecord in a window")
def test_window(page: Page) -> None:
    """Interfaces, attributes and operations with their lengths; what is not of theirs is an illegal invocation."""
    manager, registration, record = page.run(
        LOOK + "return ['Manager', 'Registration', 'Record'].map(it => look(`BackgroundFetch${it}`))"
    )
    assert manager == {
        "global": [False, "BackgroundFetchManager", 0],
        "illegal": "TypeError",
        "tag": "[object BackgroundFetchManager]",
        "above": "Object",
        "members": {"fetch": method(2), "get": method(1), "getIds": method(0)},
    }
    plain = "downloaded downloadTotal failureReason id recordsAvailable result uploaded uploadTotal"
    assert registration["above"] == "EventTarget"
    assert registration["illegal"] == "TypeError"
    assert registration["members"] == {
        **dict.fromkeys(plain.split(), ATTRIBUTE),
        "abort": method(0),
        "match": method(1),
        "matchAll": method(0),
        "onprogress": [True, True, "function", 0, True],
    }
    assert record["members"] == {"request": ATTRIBUTE, "responseReady": ATTRIBUTE}
    said = page.run("""
        const thrown = what => { try { what(); return "" } catch (error) { return error.name } }
        const it = await navigator.serviceWorker.ready
        const get = (of, name) => Object.getOwnPropertyDescriptor(of.prototype, name).get
        return [
            "BackgroundFetchManager" in self, "backgroundFetch" in ServiceWorkerRegistration.prototype,
            it.backgroundFetch === it.backgroundFetch, it.backgroundFetch instanceof BackgroundFetchManager,
            thrown(() => get(BackgroundFetchRegistration, "id").call({})), thrown(() => get(ServiceWorkerRegistration, "backgroundFetch").call({})),
            await BackgroundFetchManager.prototype.getIds.call({}).then(() => "", error => error.name),
            thrown(() => BackgroundFetchManager()),
        ]
    """)
    assert said == [True, True, True, True, "TypeError", "TypeError", "TypeError", "TypeError"]


@case("BackgroundFetchRegistration.onprogress is an event handler")
def test_handler(page: Page) -> None:
    """Null at first, in its first place, replaced and taken away."""
    said = page.run(
        """
        const it = await start("x", slow), order = []
        const found = [it.onprogress]
        it.onprogress = () => order.push("old")
        it.addEventListener("progress", () => order.push("listener"))
        it.onprogress = () => order.push("new")
        it.dispatchEvent(new Event("progress"))
        it.onprogress = 5
        found.push(it.onprogress)
        it.dispatchEvent(new Event("progress"))
        await it.abort()
        return [found, order.slice(0, 3), it instanceof EventTarget, String(it)]
    """,
        slow=SLOW,
    )
    assert said == [
        [None, None],
        ["new", "listener", "listener"],
        True,
        "[object BackgroundFetchRegistration]",
    ]


@case("BackgroundFetchEvent and BackgroundFetchUpdateUIEvent in a service worker, and their handlers")
def test_worker(page: Page) -> None:
    """They are there, and `fetch` is refused in a worker, as Chromium does."""
    half = "" if page.native else 'importScripts("/bgfetch/sw.js")\n'
    report = """
        addEventListener("message", async () => {
            const seen = ["Event", "UpdateUIEvent"].map(it => look(`BackgroundFetch${it}`))
            const on = Object.keys(self).filter(it => it.startsWith("onbackgroundfetch")).sort()
            const manager = registration.backgroundFetch
            const facts = {seen, on, fetch: await manager.fetch("x", "/").catch(error => error.name), ids: await manager.getIds()}
            await fetch("/told", {method: "POST", body: JSON.stringify(facts)})
        })
    """
    page.site.put("/surface.js", half + LOOK + report)
    page.run("""
        const it = await navigator.serviceWorker.register("/surface.js", {scope: "/surface/"})
        const worker = it.installing ?? it.waiting ?? it.active
        while (worker.state !== "activated") await new Promise(done => worker.addEventListener("statechange", done, {once: true}))
        worker.postMessage("look")
    """)
    told = page.site.wait(
        lambda: next((each for each in page.site.told if "seen" in each), None), what="the worker's report"
    )
    plain, update = told["seen"]
    assert plain["above"] == "ExtendableEvent"
    assert plain["members"] == {"registration": ATTRIBUTE}
    assert plain["global"] == [False, "BackgroundFetchEvent", 2]
    assert update["global"] == [False, "BackgroundFetchUpdateUIEvent", 2]
    assert update["above"] == "BackgroundFetchEvent"
    assert update["members"] == {"updateUI": method(0)}
    assert told["on"] == [f"onbackgroundfetch{end}" for end in ("abort", "click", "fail", "success")]
    assert [told["fetch"], told["ids"]] == ["NotAllowedError", []]
