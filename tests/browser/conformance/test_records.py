"""Records: what can be read of a fetch, when, and how it is found; and what a handler may do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.browser.conformance.page import FEATURE, SLOW, TEXT, Page

wpt = pytest.mark.wpt
case = pytest.mark.case


@wpt("abort.https.window.js")
class TestAbort:
    @case("Aborting the same registration twice fails")
    def test_twice(self, page: Page) -> None:
        """The first is true, the second false."""
        page.start(SLOW)
        assert page.run("return [await kept.at(-1).abort(), await kept.at(-1).abort()]") == [True, False]

    @case(
        "Calling BackgroundFetchRegistration.abort sets the correct fields and responses are still available"
    )
    def test_fields(self, page: Page) -> None:
        """The event is an abort, both objects say so, and the record that was complete is readable in it."""
        page.start([FEATURE, SLOW], id="x")
        said = page.run("""
            const it = kept.at(-1)
            await (await it.match("/feature.txt")).responseReady
            return [await it.abort(), await settled(it)]
        """)
        assert said[0] is True
        assert [said[1]["result"], said[1]["failureReason"]] == ["failure", "aborted"]
        told = page.heard("x")
        assert [told["type"], told["kind"]] == ["backgroundfetchabort", "BackgroundFetchEvent"]
        assert [told["result"], told["failureReason"]] == ["failure", "aborted"]
        of = {each["url"].removeprefix(page.url): each for each in told["value"]}
        assert [of[FEATURE]["status"], of[FEATURE]["text"]] == [200, TEXT]
        assert of[SLOW]["error"] == "AbortError"

    @case("An aborted fetch throws a DOM exception when accessing an incomplete record")
    def test_incomplete(self, page: Page) -> None:
        """It rejects with AbortError inside the abort event."""
        id_ = page.start(SLOW)
        page.run("await kept.at(-1).abort()")
        assert [each["error"] for each in page.heard(id_)["value"]] == ["AbortError"]


@wpt("match.https.window.js")
class TestMatch:
    @case("Matching to a single request should work")
    def test_single(self, make: Callable[..., Page]) -> None:
        """By its path."""
        page = make(handle="return read(await registration.match('/feature.txt'))")
        assert page.fetched([FEATURE, "/page.html"])["value"]["text"] == TEXT

    @case("Matching to a non-existing request should work")
    def test_missing(self, make: Callable[..., Page]) -> None:
        """It is undefined."""
        page = make(handle="return (await registration.match('/other.txt')) === undefined")
        assert page.fetched(FEATURE)["value"] is True

    @case("Matching multiple times on the same request works as expected.")
    def test_again(self, make: Callable[..., Page]) -> None:
        """Both can be read."""
        page = make(
            handle="""
            const one = await registration.match("/feature.txt"), two = await registration.match("/feature.txt")
            return [await read(one), await read(two)].map(it => it.text)
            """
        )
        assert page.fetched(FEATURE)["value"] == [TEXT, TEXT]

    @case("Access to active fetches is supported.")
    def test_active(self, page: Page) -> None:
        """A record that is complete can be read while another is on its way."""
        page.start([FEATURE, SLOW])
        said = page.run("""
            const it = kept.at(-1), record = await it.match("/feature.txt")
            const response = await record.responseReady
            return [await response.text(), record.request.url, it.result]
        """)
        assert said == [TEXT, page.site.url_of(FEATURE), ""]

    @case("Match with query options.")
    def test_options(self, make: Callable[..., Page]) -> None:
        """Search, method, both."""
        page = make(
            handle="""
            const counts = []
            for (const options of [{}, {ignoreSearch: true}, {ignoreMethod: true}, {ignoreSearch: true, ignoreMethod: true}])
                counts.push((await registration.matchAll("/feature.txt", options)).length)
            return counts
            """
        )
        page.run("""
            const put = new Request("/feature.txt", {method: "PUT"})
            kept.push(await start("x", ["/feature.txt", "/feature.txt", "/feature.txt?a", put]))
        """)
        assert page.heard("x")["value"] == [2, 3, 3, 4]

    @case("matchAll without a request gives all records")
    def test_all(self, page: Page) -> None:
        """Also of requests that differ in nothing but a query."""
        told = page.fetched([f"{FEATURE}?{number}" for number in range(7)])
        assert sorted(each["url"].rpartition("?")[2] for each in told["value"]) == list("0123456")

    @case(
        "Records keep the order of their requests while some are complete and others are not",
        native="those that are complete come last",
    )
    def test_order_on_the_way(self, page: Page) -> None:
        """The first is complete, the second is not."""
        page.start([FEATURE, SLOW])
        said = page.run("""
            const it = kept.at(-1)
            await (await it.match("/feature.txt")).responseReady
            return (await it.matchAll()).map(record => new URL(record.request.url).pathname)
        """)
        assert said == [FEATURE, SLOW]

    @case("A fragment does not matter")
    def test_fragment(self, make: Callable[..., Page]) -> None:
        """Neither in the request nor in the question."""
        page = make(handle="return (await registration.matchAll('/feature.txt#other')).length")
        assert page.fetched(f"{FEATURE}#one")["value"] == 1


BODIES = {
    "string": "'Background'",
    "ArrayBuffer": "bytes.buffer",
    "TypedArray": "bytes",
    "DataView": "new DataView(bytes.buffer)",
    "Blob": "new Blob([bytes])",
    "File": "new File([bytes], 'name')",
    "URLSearchParams": "new URLSearchParams('Background=1')",
    "FormData": "form",
}


@wpt("match-request-body.https.window.js")
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            name,
            marks=case(
                f"Match returns the request body for {name}.", native="the request in a record has no body"
            ),
        )
        for name in BODIES
    ],
)
def test_request_body(make: Callable[..., Page], body: str) -> None:
    """A record's request has the body that was given."""
    page = make(handle="const [it] = await registration.matchAll(); return it.request.text()")
    page.run(f"""
        const bytes = new TextEncoder().encode("Background"), form = new FormData()
        form.append("Background", "1")
        kept.push(await start("x", new Request("/echo", {{method: "POST", body: {BODIES[body]}}})))
    """)
    assert "Background" in page.heard("x")["value"]
    (uploaded,) = page.site.seen("/echo", "POST")
    assert b"Background" in uploaded.body


@wpt("update-ui.https.window.js")
class TestUpdateUI:
    @case("Background Fetch updateUI resolves")
    def test_once(self, make: Callable[..., Page]) -> None:
        """Once, with undefined."""
        page = make(handle="return (await event.updateUI({title: 'new'})) === undefined")
        assert page.fetched(FEATURE)["value"] is True

    @case("Background Fetch updateUI called twice fails")
    def test_twice(self, make: Callable[..., Page]) -> None:
        """The second is an InvalidStateError."""
        page = make(
            handle="await event.updateUI({}); return event.updateUI({title: 'b'}).then(() => '', it => it.name)"
        )
        assert page.fetched(FEATURE)["value"] == "InvalidStateError"

    @case("Background Fetch updateUI fails when event is not active")
    def test_late(self, make: Callable[..., Page]) -> None:
        """Once the handler and all that it waits for have ended."""
        late = """
            event.waitUntil = () => {}
            setTimeout(() => event.updateUI({title: "late"}).then(() => tell({late: ""}), it => tell({late: it.name})), 1000)
        """
        page = make(handle="return ''", also=late)
        page.start(FEATURE)
        assert page.site.hears(late="InvalidStateError")

    @case(
        "Background Fetch updateUI is refused to events made by script",
        native="it returns undefined, not a promise",
    )
    def test_untrusted(self, make: Callable[..., Page]) -> None:
        """An event of an app's own has no user interface."""
        page = make(
            handle="""
            const own = new BackgroundFetchUpdateUIEvent("backgroundfetchsuccess", {registration})
            const late = new Promise(done => setTimeout(done, 500, "never settles"))
            return Promise.race([own.updateUI({title: "x"}).then(() => "", it => it.name), late])
            """
        )
        assert page.fetched(FEATURE)["value"] == "InvalidStateError"
