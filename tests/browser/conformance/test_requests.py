"""Which requests may be fetched at all, and what other origins have to say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.browser.conformance.page import ECHO, FEATURE, TEXT, Page, cors, preflight
from tests.browser.sites import KIT, Site
from tests.certificates import server_context

from bgfetch.testing import Exchange, text_reply

wpt = pytest.mark.wpt
case = pytest.mark.case

TRIES = "it tries again for more than 20 s before it fails"
BLOCKS = "what needs a preflight fails without one"


def registers(page: Page, url: str) -> str:
    """What a fetch of a URL is refused with; "" where it is not. It is aborted."""
    return str(
        page.run(
            """
            const found = start("x", url)
            const name = await refused(found)
            if (!name) await (await found).abort()
            return name
            """,
            url=url,
        )
    )


@wpt("mixed-content-and-allowed-schemes.https.window.js")
class TestSchemes:
    @pytest.mark.parametrize(
        "url",
        [
            pytest.param("https://127.0.0.1:1/", marks=case("https: fetch should register ok")),
            pytest.param("http://127.0.0.1:8/", marks=case("loopback IPv4 http: fetch should register ok")),
            pytest.param("http://[::1]:8/", marks=case("loopback IPv6 http: fetch should register ok")),
            pytest.param("http://localhost:8/", marks=case("localhost http: fetch should register ok")),
        ],
    )
    def test_allowed(self, page: Page, url: str) -> None:
        """It begins, whatever becomes of it."""
        assert registers(page, url.replace(":1/", ":8443/").replace(":8/", ":8080/")) == ""

    @pytest.mark.parametrize(
        "url",
        [
            pytest.param("wss://127.0.0.1", marks=case("wss: fetch should reject")),
            pytest.param("file:///", marks=case("file: fetch should reject")),
            pytest.param("data:text/plain, foo", marks=case("data: fetch should reject")),
            pytest.param("foobar:bazqux", marks=case("unknown scheme: fetch should reject")),
        ],
    )
    def test_refused(self, page: Page, url: str) -> None:
        """A TypeError at once."""
        assert registers(page, url) == "TypeError"


@wpt("port-blocking.https.window.js")
class TestPorts:
    @pytest.mark.parametrize(
        "url",
        [
            pytest.param("https://127.0.0.1", marks=case("fetch to default https port should register ok")),
            pytest.param("http://127.0.0.1", marks=case("fetch to default http port should register ok")),
            pytest.param("https://127.0.0.1:443", marks=case("fetch to port 443 should register ok")),
            pytest.param(
                "https://127.0.0.1:80", marks=case("fetch to port 80 should register ok, even over https")
            ),
            pytest.param(
                "https://127.0.0.1:8080",
                marks=case("fetch to non-default non-bad port (8080) should register ok"),
            ),
        ],
    )
    def test_allowed(self, page: Page, url: str) -> None:
        """It begins, whatever becomes of it."""
        assert registers(page, url) == ""

    @case("fetch to bad port (SMTP) should reject")
    def test_refused(self, page: Page) -> None:
        """Ports of other protocols cannot be reached."""
        assert registers(page, "https://127.0.0.1:587") == "TypeError"


@wpt("credentials-in-url.https.window.js")
class TestCredentials:
    @pytest.mark.parametrize(
        ("user", "name"),
        [
            pytest.param("", "", marks=case("fetch without credentials in URL should register ok")),
            pytest.param(
                "user:pass@", "TypeError", marks=case("fetch with username and password in URL should reject")
            ),
            pytest.param(
                "user:@",
                "TypeError",
                marks=case("fetch with username and empty password in URL should reject"),
            ),
            pytest.param(
                ":pass@",
                "TypeError",
                marks=case("fetch with empty username and password in URL should reject"),
            ),
        ],
    )
    def test_each(self, page: Page, user: str, name: str) -> None:
        """Names and passwords in URLs are refused."""
        assert registers(page, f"https://{user}127.0.0.1:8443/") == name


@wpt("dangling-markup.https.window.js")
@case("fetch to a URL with dangling markup should reject")
def test_dangling_markup(page: Page) -> None:
    """A line break and "<" in a URL are how markup that is not closed smuggles text out."""
    assert registers(page, "https://127.0.0.1:8443/?\n<") == "TypeError"


@wpt("permissions/test-background-fetch-permission.html")
@case(
    "Test Background Fetch Permission.",
    departs="Firefox and WebKit do not know the name in permissions.query; nothing is defined for it",
)
def test_permission(page: Page) -> None:
    """Where the browser knows the permission it can be asked for."""
    said = page.run("""
        if (!("permissions" in navigator)) return "none"
        return navigator.permissions.query({name: "background-fetch"}).then(it => it.constructor.name, it => it.name)
    """)
    assert (
        said == "PermissionStatus"
        if page.native
        else said in ("PermissionStatus", "TypeError", "NotSupportedError", "none")
    )


def other_with(other: Site, origin: str, *, path: str = FEATURE, **headers: str) -> str:
    """The URL of a text on another origin, which a page of `origin` may read ("" = nobody may)."""

    def answer(exchange: Exchange) -> None:
        reply = text_reply(200, TEXT).but(**headers)
        exchange.send(cors(reply, origin) if origin else reply)

    other.answer(path, answer)
    return other.url_of(path)


@wpt("cors.https.window.js")
class TestCors:
    @case(
        "Cross-origin response type is cors and non-CORS-exposed headers are filtered",
        native="exposed headers are hidden, too",
    )
    def test_filtered(self, page: Page, other: Site) -> None:
        """Only what is exposed is to be seen."""
        url = other_with(other, "*", secret="no", open="yes", access_control_expose_headers="open")  # noqa: S106
        told = page.fetched(url)
        (record,) = told["value"]
        assert [record["status"], record["type"], record["text"]] == [200, "cors", TEXT]
        assert [record["open"], record["secret"]] == ["yes", None]

    @case("Cross-origin Background Fetch fails without CORS headers", native=TRIES)
    def test_without(self, page: Page, other: Site) -> None:
        """The fetch fails, and tells nothing of the response."""
        told = page.fetched(other_with(other, ""))
        assert [told["type"], told["failureReason"]] == ["backgroundfetchfail", "fetch-error"]

    @case("Cross-origin Background Fetch with custom headers fails without preflight approval")
    def test_preflight(self, page: Page, other: Site) -> None:
        """A header that the other origin does not allow is never sent."""
        other_with(other, "*")
        page.run(
            "kept.push(await start('x', new Request(url, {headers: {'X-Own': '1'}})))",
            url=other.url_of(FEATURE),
        )
        assert page.heard("x")["type"] == "backgroundfetchfail"

    @case(
        "Cross-origin Background Fetch with credentials mode include fails against wildcard Origin",
        native=TRIES,
    )
    def test_credentials(self, page: Page, other: Site) -> None:
        """With credentials the other origin must name ours."""
        url = other_with(other, "*")
        page.run("kept.push(await start('x', new Request(url, {credentials: 'include'})))", url=url)
        assert page.heard("x")["type"] == "backgroundfetchfail"

    @case("Cross-origin Background Fetch with credentials mode omit succeeds against wildcard Origin")
    def test_no_credentials(self, page: Page, other: Site) -> None:
        """Without credentials "*" is enough."""
        url = other_with(other, "*")
        page.run("kept.push(await start('x', new Request(url, {credentials: 'omit'})))", url=url)
        assert page.heard("x")["type"] == "backgroundfetchsuccess"


@wpt("fetch.https.window.js")
class TestAcrossOrigins:
    @case("Requests with PUT method require CORS Preflight and succeed.", native=BLOCKS)
    def test_put(self, page: Page, other: Site) -> None:
        """The other origin is asked first."""
        _upload(page, other, "new Request(url, {method: 'PUT', body: 'put'})", "PUT", b"put")

    @case("Requests with text/json content type require CORS Preflight and succeed.", native=BLOCKS)
    def test_json(self, page: Page, other: Site) -> None:
        """So it is for this type."""
        request = "new Request(url, {method: 'POST', body: '{}', headers: {'Content-Type': 'text/json'}})"
        _upload(page, other, request, "POST", b"{}")

    @case("Responses failing CORS checks are not leaked", native=TRIES)
    def test_no_leak(self, page: Page, other: Site) -> None:
        """No response, and not even its size."""
        told = page.fetched([FEATURE, other_with(other, "", path="/secret.txt")])
        assert [told["type"], told["failureReason"]] == ["backgroundfetchfail", "fetch-error"]
        assert told["value"][0]["text"] == TEXT
        assert told["downloaded"] <= len(TEXT)
        assert "text" not in told["value"][1]
        assert told["value"][1]["error"] == "TypeError"


@wpt("fetch.https.window.js")
@case("Fetches with mixed content should fail.", native="what else was asked for cannot be read either")
def test_mixed_content(make: Callable[..., Page], tmp_path: Path) -> None:
    """A page that is encrypted fetches nothing that is not; what else was asked for can be read."""
    with Site(server_context(tmp_path / "server.pem")) as encrypted:
        told = make(encrypted).fetched([FEATURE, "http://example.test/model.bin"])
    assert [told["type"], told["failureReason"]] == ["backgroundfetchfail", "fetch-error"]
    assert told["value"][0]["text"] == TEXT
    assert told["value"][1]["error"] == "TypeError"


@wpt("content-security-policy.https.window.js")
@case(
    "fetch blocked by CSP should reject",
    departs="it resolves, and fails, in WebKit after ten tries; the policy that counts is that of `engine.js`, which is a worker",
    native="the page's own policy counts, and `fetch()` itself rejects",
)
def test_policy(make: Callable[..., Page], site: Site) -> None:
    """At the first try, where the browser tells the worker why; nothing is sent."""
    policy = "connect-src https://example.test"
    page = make()
    if page.native:
        page.run(
            "const meta = document.createElement('meta'); meta.httpEquiv = 'Content-Security-Policy'; meta.content = policy; document.head.append(meta)",
            policy=policy,
        )
    else:
        site.put("/bgfetch/engine.js", (KIT / "engine.js").read_text("utf-8"), Content_Security_Policy=policy)
    if page.engine == "webkit":
        site.alter("reply.js", "limit = 10", "limit = 1")
    told = page.fetched([FEATURE])
    assert [told["type"], told["failureReason"]] == ["backgroundfetchfail", "fetch-error"]
    assert told["value"][0]["error"] == "TypeError"
    assert not site.seen(FEATURE)


def _upload(page: Page, other: Site, request: str, method: str, body: bytes) -> None:
    def answer(exchange: Exchange) -> None:
        allowed = {"access_control_allow_methods": method, "access_control_allow_headers": "content-type"}
        if not preflight(exchange, **allowed):
            exchange.send(cors(text_reply(200, exchange.request.body.decode()), "*"))

    other.answer(ECHO, answer)
    page.run(f"kept.push(await start('x', {request}))", url=other.url_of(ECHO))
    told = page.heard("x")
    assert [told["type"], told["value"][0]["text"]] == ["backgroundfetchsuccess", body.decode()]
    assert len(other.seen(ECHO, "OPTIONS")) >= 1
    assert [each.body for each in other.seen(ECHO, method)] == [body]
