"""The polyfill's names are those of the standard, as WebIDL has them: in the page and in the worker."""

from __future__ import annotations

from typing import Any

import pytest
from tests.browser.kitted import WORKER, Kitted
from tests.browser.sites import Site

pytestmark = pytest.mark.timeout(60)  # a browser starts

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


def test_page(kitted: Kitted) -> None:
    """Interfaces, attributes and operations with their lengths; what is not of theirs is an illegal invocation."""
    manager, registration, record = kitted.run(
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
    said = kitted.run("""
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


def test_handler(kitted: Kitted, site: Site) -> None:
    """`onprogress` is an event handler: null at first, in its first place, replaced and taken away."""
    site.answer("/hold", lambda exchange: exchange.hold())
    said = kitted.run("""
        const it = await begin("x", "/hold"), order = []
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
    """)
    assert said == [
        [None, None],
        ["new", "listener", "listener"],
        True,
        "[object BackgroundFetchRegistration]",
    ]


def test_worker(kitted: Kitted, site: Site) -> None:
    """In the worker there are the events and their handlers too, and `fetch` is refused, as Chromium does."""
    handler = "onbackgroundfetchabort = event => tell({handled: event.type, on: String(event)})"
    report = (
        LOOK
        + """
        ;(async () => tell({
            seen: ["Event", "UpdateUIEvent"].map(it => look(`BackgroundFetch${it}`)), on: Object.keys(self).filter(it => it.startsWith("onbackgroundfetch")),
            fetch: await registration.backgroundFetch.fetch("x", "/").catch(error => error.name), ids: await registration.backgroundFetch.getIds(),
        }))()
    """
    )
    site.put("/worker.js", f"{WORKER}\n;{handler}\n;{report}")
    kitted.run("await (await navigator.serviceWorker.ready).update()")
    told = site.wait(
        lambda: next((each for each in site.told if "seen" in each), None), what="the worker's report"
    )
    plain, update = told["seen"]
    assert plain["above"] == "ExtendableEvent"
    assert plain["members"] == {"registration": ATTRIBUTE}
    assert plain["global"] == [False, "BackgroundFetchEvent", 2]
    assert update["global"] == [False, "BackgroundFetchUpdateUIEvent", 2]
    assert update["above"] == "BackgroundFetchEvent"
    assert update["members"] == {"updateUI": method(0)}
    assert sorted(told["on"]) == [f"onbackgroundfetch{end}" for end in ("abort", "click", "fail", "success")]
    assert [told["fetch"], told["ids"]] == ["NotAllowedError", []]
