"""What `fetch`, `get` and `getIds` give, and what becomes of a fetch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.browser.conformance.page import ECHO, FEATURE, SLOW, TEXT, Page
from tests.browser.sites import Site

wpt = pytest.mark.wpt
case = pytest.mark.case

MAX_SAFE = 2**53 - 1


@wpt("fetch.https.window.js")
class TestFetch:
    @case("Background Fetch requires an activated Service Worker")
    def test_needs_a_worker(self, make: Callable[..., Page], site: Site) -> None:
        """While the worker is only installing, a fetch is a TypeError."""
        page = make(active=False)
        site.put("/never.js", 'oninstall = event => event.waitUntil(fetch("/slow"))')
        said = page.run("""
            const registration = await navigator.serviceWorker.register("/never.js")
            return refused(registration.backgroundFetch.fetch("x", "/feature.txt"))
        """)
        assert said == "TypeError"

    @case("Argument verification is done for BackgroundFetchManager.fetch()")
    def test_arguments(self, page: Page) -> None:
        """No requests, a user name in a URL and no-cors are each a TypeError, as is the lack of arguments."""
        said = page.run("""
            const it = await manager()
            const bad = [["x", []], ["x", "https://user:pass@127.0.0.1/"], ["x", new Request("/", {mode: "no-cors"})],
                ["x", ["/feature.txt", "https://user:pass@127.0.0.1/"]], ["x"], [], ["x", [null, "https://:0"]],
                ["x", "/feature.txt", {icons: [{}]}]]
            return Promise.all(bad.map(each => refused(it.fetch(...each))))
        """)
        assert said == ["TypeError"] * 8
        assert page.run("return (await manager()).getIds()") == []

    @case("IDs must be unique among active Background Fetch registrations")
    def test_unique(self, page: Page) -> None:
        """Of two at once the first wins; the id is free again when that one has settled."""
        said = page.run("""
            const it = await manager()
            const [first, second] = await Promise.allSettled([it.fetch("x", "/slow"), it.fetch("x", "/feature.txt")])
            const third = await refused(it.fetch("x", "/feature.txt"))
            kept.push(first.value)
            await first.value.abort()
            await settled(first.value)
            return [second.reason.name, third, await refused(it.fetch("x", "/feature.txt"))]
        """)
        assert said == ["TypeError", "TypeError", ""]

    @case("Empty URL is OK.")
    def test_empty_url(self, page: Page) -> None:
        """The empty string is the page itself."""
        told = page.fetched("")
        assert (told["type"], told["value"][0]["url"]) == (
            "backgroundfetchsuccess",
            page.site.url_of("/page.html"),
        )

    @case("Using Background Fetch to successfully fetch a single resource")
    def test_single(self, page: Page) -> None:
        """The values at first, the event, and the body under its URL."""
        first = page.run("kept.push(await start('x', '/feature.txt')); return facts(kept.at(-1))")
        assert first == {
            "id": "x",
            "uploadTotal": 0,
            "uploaded": 0,
            "downloadTotal": 0,
            "downloaded": 0,
            "result": "",
            "failureReason": "",
            "recordsAvailable": True,
        }
        told = page.heard("x")
        assert [told["type"], told["kind"]] == ["backgroundfetchsuccess", "BackgroundFetchUpdateUIEvent"]
        assert [told["result"], told["failureReason"], told["downloaded"]] == ["success", "", len(TEXT)]
        (record,) = told["value"]
        assert [record["status"], record["text"], record["from"]] == [200, TEXT, page.site.url_of(FEATURE)]

    @case("Registration object gets updated values when a background fetch completes.")
    def test_updated(self, page: Page) -> None:
        """By the time the worker is told, the page's own object says so; the progress event says it first."""
        page.start(FEATURE, id="x")
        said = page.run("return settled(kept.at(-1))")
        assert [said["result"], said["failureReason"], said["downloaded"]] == ["success", "", len(TEXT)]

    @case("Background Fetch that exceeds the quota throws a QuotaExceededError")
    def test_quota(self, page: Page) -> None:
        """A total for which there is no room is refused before the first byte."""
        said = page.run("return refused(start('x', '/feature.txt', {downloadTotal: size}))", size=MAX_SAFE)
        assert said == "QuotaExceededError"
        assert page.site.seen(FEATURE) == []

    @case("Fetches can have requests with duplicate URLs")
    def test_duplicates(self, page: Page) -> None:
        """Two requests for one URL are two records."""
        told = page.fetched([FEATURE, FEATURE])
        assert [each["text"] for each in told["value"]] == [TEXT, TEXT]

    @case("recordsAvailable is false after onbackgroundfetchsuccess finishes execution.")
    def test_records_go(self, page: Page) -> None:
        """It flips when the handler has ended, of which nobody is told, and then no record can be asked for."""
        id_ = page.start(FEATURE)
        assert page.heard(id_)["value"][0]["text"] == TEXT
        said = page.run("""
            const it = kept.at(-1), end = performance.now() + 5000
            while (it.recordsAvailable && performance.now() < end) await new Promise(done => setTimeout(done, 20))
            return [it.recordsAvailable, await refused(it.matchAll()), await refused(it.match("/feature.txt"))]
        """)
        assert said == [False, "InvalidStateError", "InvalidStateError"]

    @case(
        "Using Background Fetch to fetch a non-existent resource should fail.",
        departs="the error's text is kept, as the standard says; the test there expects what Chromium does, an empty one",
    )
    def test_missing(self, page: Page) -> None:
        """It fails with bad-status, and the record is readable with its status."""
        told = page.fetched(["/nowhere.txt", FEATURE])
        assert [told["type"], told["result"], told["failureReason"]] == [
            "backgroundfetchfail",
            "failure",
            "bad-status",
        ]
        assert told["kind"] == "BackgroundFetchUpdateUIEvent"
        assert [each["status"] for each in told["value"]] == [404, 200]
        assert told["value"][0]["text"] == ("" if page.native else "there is nothing here\n")
        assert told["value"][1]["text"] == TEXT


@wpt("fetch-uploads.https.window.js")
class TestUploads:
    @case("Fetch with an upload should work")
    def test_upload(self, page: Page) -> None:
        """Its length is the total, it is counted, and it arrives."""
        page.run("""
            kept.push(await start("x", new Request("/echo", {method: "POST", body: "upload"})))
            kept.total = kept.at(-1).uploadTotal
        """)
        assert page.run("return kept.total") == 6
        told = page.heard("x")
        assert [each["text"] for each in told["value"]] == ["upload"]
        assert page.run("return (await settled(kept.at(-1))).uploaded") == 6
        assert [each.body for each in page.site.seen(ECHO, "POST")] == [b"upload"]

    @case("Progress event includes uploaded bytes")
    def test_progress(self, page: Page) -> None:
        """Once bytes come back, all that was to go up has gone."""
        said = page.run("""
            const it = await start("x", new Request("/echo", {method: "POST", body: "upload"}))
            kept.push(it)
            return new Promise(done => {
                it.onprogress = event => { if (it.downloaded > 0) done([it.uploaded, event.target === it]) }
            })
        """)
        assert said == [6, True]

    @case("Duplicate upload requests work and can be distinguished.")
    def test_duplicates(self, page: Page) -> None:
        """Two uploads to one URL keep their own responses."""
        page.run("""
            const request = body => new Request("/echo", {method: "POST", body})
            kept.push(await start("x", [request("one"), request("two")]))
        """)
        assert sorted(each["text"] for each in page.heard("x")["value"]) == ["one", "two"]


@wpt("get-ids.https.window.js")
class TestGetIds:
    @case("BackgroundFetchManager.getIds() does not require an activated worker")
    def test_without_a_worker(self, make: Callable[..., Page], site: Site) -> None:
        """It is empty."""
        site.put("/never.js", 'oninstall = event => event.waitUntil(fetch("/slow"))')
        said = make(active=False).run("""
            const registration = await navigator.serviceWorker.register("/never.js")
            return registration.backgroundFetch.getIds()
        """)
        assert said == []

    @case("The BackgroundFetchManager exposes active fetches")
    def test_active(self, page: Page) -> None:
        """While they are active."""
        page.start(SLOW, id="b")
        page.start(SLOW, id="a")
        assert sorted(page.run("return (await manager()).getIds()")) == ["a", "b"]
        page.run("for (const it of kept) await it.abort()")
        page.heard("a")
        page.heard("b")
        assert page.run("return (await manager()).getIds()") == []

    @case("Ids come in the order in which their fetches began", native="in the order of their names")
    def test_order(self, page: Page) -> None:
        """As the standard's map of active fetches keeps them."""
        for id_ in ("b", "c", "a"):
            page.start(SLOW, id=id_)
        assert page.run("return (await manager()).getIds()") == ["b", "c", "a"]


@wpt("get.https.window.js")
class TestGet:
    @case("BackgroundFetchManager.get() does not require an activated worker")
    def test_without_a_worker(self, make: Callable[..., Page], site: Site) -> None:
        """It is undefined."""
        site.put("/never.js", 'oninstall = event => event.waitUntil(fetch("/slow"))')
        said = make(active=False).run("""
            const registration = await navigator.serviceWorker.register("/never.js")
            return (await registration.backgroundFetch.get("x")) === undefined
        """)
        assert said is True

    @case("Getting non-existing registrations yields `undefined`")
    def test_missing(self, page: Page) -> None:
        """No id and an empty one are a TypeError."""
        said = page.run("""
            const it = await manager()
            return [await refused(it.get()), await refused(it.get("")), (await it.get("x")) === undefined]
        """)
        assert said == ["TypeError", "TypeError", True]

    @case("Getting an existing registration has the expected values")
    def test_existing(self, page: Page) -> None:
        """A second object mirrors the first."""
        page.start([FEATURE, SLOW], {"title": "a title", "downloadTotal": 1234}, id="x")
        first, second = page.run("return [facts(kept.at(-1)), facts(await (await manager()).get('x'))]")
        assert (second["id"], second["downloadTotal"], second["result"]) == ("x", 1234, "")
        assert {**first, "downloaded": 0} == {**second, "downloaded": 0}

    @case(
        "One registration has one object in a page",
        native="each get() makes another object",
    )
    def test_identity(self, page: Page) -> None:
        """As the standard says: the same object each time."""
        page.start(SLOW, id="x")
        assert page.run("return (await (await manager()).get('x')) === kept.at(-1)") is True
