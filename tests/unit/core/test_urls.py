"""One normal form of URLs, what is shown of them, where redirects may lead and what goes along."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.model import Fault, Headers
from bgfetch.core.urls import (
    Hop,
    address_scope,
    allowed_address,
    is_secret_header,
    next_hop,
    origin,
    parse_http_url,
    redacted,
)
from bgfetch.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://host", "http://host/"),
        ("  https://Host.Example/A  ", "https://host.example/A"),
        ("HTTPS://host:443/a#part", "https://host/a"),
        ("http://host:80", "http://host/"),
        ("http://host:/a", "http://host/a"),
        ("http://host:443/", "http://host:443/"),
        ("http://host:08080/", "http://host:8080/"),
        ("https://host?q", "https://host/?q"),
        ("https://host/?", "https://host/?"),
        ("https://host/a b.bin?x=a b", "https://host/a%20b.bin?x=a%20b"),
        ("https://host/a%20b%2Fc%zz", "https://host/a%20b%2Fc%zz"),
        ("https://host/é?é", "https://host/%C3%A9?%C3%A9"),
        ("https://host/a\\b", "https://host/a%5Cb"),
        ('https://host/<">`{}^|', "https://host/%3C%22%3E%60%7B%7D%5E|"),
        ("https://host/?'<>\"", "https://host/?%27%3C%3E%22"),
        ("https://host/@scope/x@1.0/f;v=1,2", "https://host/@scope/x@1.0/f;v=1,2"),
        ("https://host/?X-Amz-Signature=ab%2Fcd&e=1+1", "https://host/?X-Amz-Signature=ab%2Fcd&e=1+1"),
        ("https://host/a/./b/../c", "https://host/a/c"),
        ("https://host/../../a", "https://host/a"),
        ("https://host/a/..", "https://host/"),
        ("https://host/a/b/.", "https://host/a/b/"),
        ("https://host/a/%2e%2E/b/.%2e/c/%2e", "https://host/c/"),
        ("https://host//a", "https://host//a"),
        ("https://under_score.host.", "https://under_score.host./"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://\uff11\uff12\uff17。\uff10。\uff10。\uff11/", "https://127.0.0.1/"),
        ("http://0x7f.1:8000/", "http://127.0.0.1:8000/"),
        ("http://[2001:DB8:0::1]:8080/", "http://[2001:db8::1]:8080/"),
        ("http://[::FFFF:1.2.3.4]/", "http://[::ffff:102:304]/"),
    ],
)
def test_a_url_has_one_normal_form(text: str, expected: str) -> None:
    """Different spellings of a URL become one, and that one stays as it is."""
    assert parse_http_url(text) == expected
    assert parse_http_url(expected) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not an http:// or https:// URL"),
        ("example.com/file", "not an http:// or https:// URL"),
        ("/only/a/path", "not an http:// or https:// URL"),
        ("file:///etc/passwd", "not an http:// or https:// URL: file:///etc/passwd"),
        ("ftp://host/a", "not an http:// or https:// URL"),
        ("data:text/html,hello", "not an http:// or https:// URL: data:text/html"),
        ("javascript:alert(1)", "not an http:// or https:// URL"),
        ("localhost:8000/a", "not an http:// or https:// URL"),
        ("1http://host/", "not an http:// or https:// URL"),
        ("http:host", "names no host"),
        ("http:/host", "names no host"),
        ("http://", "names no host"),
        ("http:///path", "names no host"),
        ("http://?q", "names no host"),
        ("http://:80/", "not the name of a host"),
        ("http://host:port/", "port is not a number"),
        ("http://host:-1/", "port is not a number"),
        ("http://host:+80/", "port is not a number"),
        ("http://host:\uff18\uff10/", "port is not a number"),
        ("http://host:65536/", "port is not a number"),
        ("http://host:655360/", "port is not a number"),
        ("http://[::1]x/", "port is not a number"),
        ("http://[::1/", "port is not a number"),
        ("http://host:0/", "port 0 is not for HTTP"),
        ("http://host:25/", "port 25 is not for HTTP"),
        ("https://host:587/", "port 587 is not for HTTP"),
        ("http://host:6667/", "port 6667 is not for HTTP"),
        ("http://host:10080/", "port 10080 is not for HTTP"),
        ("http://host/a\nb", "line breaks"),
        ("http://host/a\r\nX: y", "line breaks"),
        ("http://host/<\n", "line breaks"),
        ("http://ho\tst/", "line breaks"),
        ("http://host/a\x00", "control characters"),
        ("http://host/\x85", "control characters"),
        ("http://host/\udc80", "control characters"),
        ("http://ho st/", "not the name of a host"),
        ("http://ho%73t/", "not the name of a host"),
        ("http://a..b/", "not the name of a host"),
        ("http://evil\\.example/", "not the name of a host"),
        ("http://host<script>/", "not the name of a host"),
        ("http://" + "a" * 64 + "/", "not the name of a host"),
        ("http://" + "a." * 200 + "b/", "not the name of a host"),
        ("http://256.0.0.1/", "not an IPv4 address"),
        ("http://1.2.3.4.5/", "not an IPv4 address"),
        ("http://127.0.0.08/", "not an IPv4 address"),
        ("http://4294967296/", "not an IPv4 address"),
        ("http://1.256.1/", "not an IPv4 address"),
        ("http://host.1/", "not an IPv4 address"),
        ("http://[::g]/", "not an IPv6 address"),
        ("http://[]/", "not an IPv6 address"),
        ("http://[fe80::1%25eth0]/", "not an IPv6 address"),
        ("http://[v1.x]/", "not an IPv6 address"),
        ("http://faß.de/", "xn-- form"),
        ("http://" + "ü" * 300 + "/", "xn-- form"),
        ("http://\u00ad/", "xn-- form"),
    ],
)
def test_a_bad_url_is_refused_with_its_fault(text: str, says: str) -> None:
    """The message names what is wrong, and shows no control character."""
    with pytest.raises(InvalidRequest) as caught:
        parse_http_url(text)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "http://user:hunter2@host/a",
        "https://hunter2@host/a",
        "http://user:hunter2@host:99999/",
        "http://a@b:hunter2@host/",
        "http://good.example\\hunter2@host/",
        "http://user:hunter2/x@host/",
        "http://us\ner:hunter2@host/",
        "user:hunter2@host/a",
        "ftp://user:hunter2@host/a",
        "file:///a?token=hunter2",
        "http://host:bad/?token=hunter2",
        "http://host\n/#hunter2",
        "data:,hunter2",
    ],
)
def test_no_message_repeats_a_secret(text: str) -> None:
    """Neither password, nor query, nor fragment of a refused URL is in the message."""
    with pytest.raises(InvalidRequest) as caught:
        parse_http_url(text)
    assert "hunter2" not in str(caught.value)


@given(
    st.text(max_size=60),
    st.sampled_from(["", "http://", "https://", "http://host", "http://host/", "http://["]),
)
def test_reading_is_total_and_settles(text: str, start: str) -> None:
    """Any text is refused with InvalidRequest or becomes printable ASCII that reads as itself."""
    try:
        url = parse_http_url(start + text)
    except InvalidRequest:
        return
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url
    assert parse_http_url(url) == url
    assert origin(url) == origin(start + text)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://Host/a", ("http", "host", 80)),
        ("https://host", ("https", "host", 443)),
        ("https://host:8443/", ("https", "host", 8443)),
        ("http://[::1]:8000/", ("http", "[::1]", 8000)),
    ],
)
def test_origin_is_scheme_host_and_port(url: str, expected: tuple[str, str, int]) -> None:
    """The port is there also when it is the default one."""
    assert origin(url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://host/a/b.bin?sig=x#y", "https://host/a/b.bin"),
        ("https://user:pw@host:8443/a", "https://host:8443/a"),
        ("https://host/@scope/x", "https://host/@scope/x"),
        ("http://user:p/w@host/", "http://user"),
        ("//user:pw@host/a", "//host/a"),
        ("user:pw@host/a?b", "host/a"),
        ("http://host/\x1b[31m\u202e", "http://host/\\x1b[31m\\u202e"),
        ("http://host/" + "a" * 300, "http://host/" + "a" * 188 + "…"),
        ("/a/b?c", "/a/b"),
        ("", ""),
    ],
)
def test_a_shown_url_has_no_secret(url: str, expected: str) -> None:
    """User, password, query and fragment are gone, controls are visible, length is bounded."""
    assert redacted(url) == expected


@given(st.text(max_size=80))
def test_anything_can_be_shown(text: str) -> None:
    """A shown URL never acts on the terminal and never has a query."""
    shown = redacted(text)
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in shown)
    assert "?" not in shown
    assert "#" not in shown


SCOPES = [
    # loopback, in every spelling that some resolver accepts
    ("127.0.0.1", "loopback"),
    ("127.0.0.2", "loopback"),
    ("127.255.255.254", "loopback"),
    ("127.1", "loopback"),
    ("127.0.1", "loopback"),
    ("2130706433", "loopback"),
    ("0x7f000001", "loopback"),
    ("0X7F000001", "loopback"),
    ("0x7f.0.0.1", "loopback"),
    ("0x7f.0x0.0x0.0x1", "loopback"),
    ("0177.0.0.1", "loopback"),
    ("017700000001", "loopback"),
    ("0177.0x0.1", "loopback"),
    ("000000177.0.0.01", "loopback"),
    ("127.0.0.1.", "loopback"),
    ("127.0x1", "loopback"),
    ("127.1.0x", "loopback"),
    ("\uff11\uff12\uff17.\uff10.\uff10.\uff11", "loopback"),
    ("127。0。0。1", "loopback"),
    ("①②⑦.0.0.1", "loopback"),
    ("localhost", "loopback"),
    ("LOCALHOST.", "loopback"),
    ("anything.localhost", "loopback"),
    ("::1", "loopback"),
    ("[::1]", "loopback"),
    ("0:0:0:0:0:0:0:1", "loopback"),
    ("::ffff:127.0.0.1", "loopback"),
    ("[::ffff:7f00:1]", "loopback"),
    ("0:0:0:0:0:ffff:7f00:0001", "loopback"),
    ("::127.0.0.1", "loopback"),
    ("64:ff9b::127.0.0.1", "loopback"),
    ("2002:7f00:1::", "loopback"),
    # the unspecified address reaches this machine too
    ("0.0.0.0", "unspecified"),  # noqa: S104 - nothing is bound
    ("0", "unspecified"),
    ("0x0", "unspecified"),
    ("0x", "unspecified"),
    ("00000000", "unspecified"),
    ("0.1.2.3", "unspecified"),
    ("::", "unspecified"),
    ("[::]", "unspecified"),
    ("::ffff:0.0.0.0", "unspecified"),
    # metadata servers and neighbours
    ("169.254.169.254", "link-local"),
    ("2852039166", "link-local"),
    ("0xa9fea9fe", "link-local"),
    ("0251.0376.0251.0376", "link-local"),
    ("169.254.43518", "link-local"),
    ("169.16689662", "link-local"),
    ("::ffff:169.254.169.254", "link-local"),
    ("[::ffff:a9fe:a9fe]", "link-local"),
    ("64:ff9b::a9fe:a9fe", "link-local"),
    ("2002:a9fe:a9fe::1", "link-local"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("[fe80::1%25eth0]", "link-local"),
    ("febf::1", "link-local"),
    ("168.63.129.16", "link-local"),
    # networks at home
    ("10.0.0.1", "private"),
    ("10.1", "private"),
    ("012.0.0.1", "private"),
    ("167772161", "private"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.168.0.1", "private"),
    ("0xc0a80001", "private"),
    ("::ffff:192.168.0.1", "private"),
    ("100.64.0.1", "private"),
    ("100.100.100.200", "private"),
    ("192.0.0.192", "private"),
    ("192.0.2.1", "private"),
    ("198.18.0.1", "private"),
    ("224.0.0.1", "private"),
    ("240.0.0.1", "private"),
    ("255.255.255.255", "private"),
    ("fc00::1", "private"),
    ("fd00:ec2::254", "private"),
    ("fec0::1", "private"),
    ("ff02::1", "private"),
    ("2001::1", "private"),
    ("2001:db8::1", "private"),
    ("64:ff9b:1::7f00:1", "private"),
    # the Internet
    ("8.8.8.8", "public"),
    ("134744072", "public"),
    ("010.8.8.8.", "public"),
    ("172.15.255.255", "public"),
    ("172.32.0.1", "public"),
    ("2606:4700::1111", "public"),
    ("::ffff:8.8.8.8", "public"),
    ("64:ff9b::808:808", "public"),
    # what only the DNS can tell
    ("example.com", "name"),
    ("127.0.0.1.example.com", "name"),
    ("metadata.google.internal", "name"),
    ("localhost.example.com", "name"),
    ("notlocalhost", "name"),
    ("256.0.0.1", "name"),
    ("127.0.0.1:8000", "name"),
    ("1.2.3.4.5", "name"),
    ("", "name"),
    ("fe80::zz", "name"),
]


@pytest.mark.parametrize(("host", "scope"), SCOPES)
def test_an_address_is_placed_in_every_spelling(host: str, scope: str) -> None:
    """Decimal, octal, hex, short, full-width, mapped and embedded spellings are one address."""
    assert address_scope(host) == scope


PUBLIC_REQUEST = "https://models.example/a"
LITERALS = [(host, scope) for host, scope in SCOPES if scope not in ("name", "public") and "%" not in host]


@pytest.mark.parametrize(("host", "scope"), LITERALS)
def test_a_public_server_never_sends_us_inside(host: str, scope: str) -> None:
    """No spelling of a non-public address is a redirect's target from a public host (60 spellings and more)."""
    literal = f"[{host}]" if ":" in host and not host.startswith("[") else host
    fault = next_hop(PUBLIC_REQUEST, f"https://{literal}/x", Headers(), granted_to=PUBLIC_REQUEST, hops=0)
    assert isinstance(fault, Fault), scope
    assert fault.kind == "redirect-private"
    assert not fault.transient


def test_the_table_is_as_large_as_promised() -> None:
    """At least 60 spellings of addresses that are not public."""
    assert len(LITERALS) >= 60


@given(st.ip_addresses())
def test_every_address_has_a_scope(address: object) -> None:
    """No address is without a place, and an address is never a name."""
    assert address_scope(str(address)) in {"public", "private", "loopback", "link-local", "unspecified"}


@pytest.mark.parametrize("value", [0, 1, 0x7F000001, 0x08080808, 0xA9FEA9FE, 0xC0A80101, 0xFFFFFFFF])
def test_all_spellings_of_a_number_agree(value: int) -> None:
    """Decimal, hex, octal and dotted spellings have one scope and one normal form."""
    dotted = ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))
    for spelling in (str(value), hex(value), f"0{value:o}", dotted):
        assert address_scope(spelling) == address_scope(dotted)
        assert parse_http_url(f"http://{spelling}/") == f"http://{dotted}/"


@pytest.mark.parametrize(
    ("ip", "named", "public_before", "allowed"),
    [
        ("8.8.8.8", False, False, True),
        ("8.8.8.8", True, True, True),
        ("2606:4700::1111", False, True, True),
        ("127.0.0.1", True, False, True),
        ("127.0.0.1", True, True, False),
        ("127.0.0.1", False, False, False),
        ("::ffff:127.0.0.1", True, True, False),
        ("10.0.0.1", True, False, True),
        ("10.0.0.1", False, True, False),
        ("169.254.169.254", True, True, False),
        ("fe80::1%eth0", True, False, True),
        ("0.0.0.0", True, True, False),  # noqa: S104 - nothing is bound
        ("example.com", True, False, False),
        ("", True, False, False),
    ],
)
def test_the_connected_address_decides(ip: str, *, named: bool, public_before: bool, allowed: bool) -> None:
    """Inner addresses only where a person said so, and never after a public one (DNS rebinding)."""
    assert allowed_address(ip, named_by_person=named, came_from_public=public_before) is allowed


def hop(
    request_url: str, location: str, headers: Headers | None = None, *, granted_to: str = "", hops: int = 0
) -> Hop:
    """The hop that must be allowed."""
    decision = next_hop(
        request_url, location, headers or Headers(), granted_to=granted_to or request_url, hops=hops
    )
    assert isinstance(decision, Hop), decision
    return decision


@pytest.mark.parametrize(
    ("request_url", "location", "target"),
    [
        ("https://a.example/x/y?q=1", "z", "https://a.example/x/z"),
        ("https://a.example/x/y?q=1", "/z", "https://a.example/z"),
        ("https://a.example/x/y?q=1", "../z?r", "https://a.example/z?r"),
        ("https://a.example/x/y?q=1", "?r", "https://a.example/x/y?r"),
        ("https://a.example/x/y?q=1", "#f", "https://a.example/x/y?q=1"),
        ("https://a.example/x/y?q=1", "//b.example/z", "https://b.example/z"),
        ("http://a.example/x", "//b.example", "http://b.example/"),
        ("http://a.example/x", "https://a.example/x", "https://a.example/x"),
        ("http://a.example:8080/x", "/y", "http://a.example:8080/y"),
        ("https://a.example/", "  https://b.example/a b#f ", "https://b.example/a%20b"),
        ("https://a.example/", "HTTPS://B.example", "https://b.example/"),
        ("https://a.example/x/y", "./z:1", "https://a.example/x/z:1"),
        ("https://a.example/", "https://8.8.8.8/x", "https://8.8.8.8/x"),
        ("https://a.example/", "https://inner.lan/x", "https://inner.lan/x"),
        ("http://127.0.0.1:8000/a", "http://127.0.0.1:9000/b", "http://127.0.0.1:9000/b"),
        ("http://127.0.0.1:8000/a", "http://127.0.0.2:9000/b", "http://127.0.0.2:9000/b"),
        ("http://localhost:8000/a", "http://[::1]:9000/b", "http://[::1]:9000/b"),
        ("http://127.0.0.1:8000/a", "http://192.168.1.1/b", "http://192.168.1.1/b"),
        ("http://192.168.1.1/a", "http://8.8.8.8/b", "http://8.8.8.8/b"),
        ("http://192.168.1.1/a", "http://10.0.0.1/b", "http://10.0.0.1/b"),
        ("http://minio:9000/a", "http://172.18.0.3:9000/a", "http://172.18.0.3:9000/a"),
        ("http://mirror.lan/a", "http://192.168.1.9/a", "http://192.168.1.9/a"),
    ],
)
def test_a_redirect_is_resolved(request_url: str, location: str, target: str) -> None:
    """Location is relative to the URL that answered; a chain may go outwards or stay where it is."""
    assert hop(request_url, location).url == target


@pytest.mark.parametrize(
    ("request_url", "location", "kind", "transient"),
    [
        ("https://a.example/", "http://a.example/", "redirect-scheme", False),
        ("https://a.example/", "http://127.0.0.1/", "redirect-scheme", False),
        ("https://a.example/", "file:///etc/passwd", "redirect-scheme", False),
        ("https://a.example/", "ftp://a.example/x", "redirect-scheme", False),
        ("https://a.example/", "data:text/html,x", "redirect-scheme", False),
        ("https://a.example/", "javascript:alert(1)", "redirect-scheme", False),
        ("https://a.example/", "gopher://127.0.0.1:25/x", "redirect-scheme", False),
        ("https://a.example/", "", "redirect-invalid", False),
        ("https://a.example/", "https://", "redirect-invalid", False),
        ("https://a.example/", "https:b.example", "redirect-invalid", False),
        ("https://a.example/", "///b.example", "redirect-invalid", False),
        ("https://a.example/", "https://user:hunter2@b.example/", "redirect-invalid", False),
        ("https://a.example/", "//hunter2@b.example/", "redirect-invalid", False),
        ("https://a.example/", "https://b.example:25/", "redirect-invalid", False),
        ("https://a.example/", "https://b.example/\r\nSet-Cookie: hunter2", "redirect-invalid", False),
        ("https://a.example/", "https://[::g]/?hunter2", "redirect-invalid", False),
        ("http://a.example/", "http://192.168.1.1/login?hunter2", "redirect-private", True),
        ("https://8.8.8.8/", "https://10.0.0.1/", "redirect-private", False),
        ("https://[2606:4700::1111]/", "https://10.0.0.1/", "redirect-private", False),
        ("http://192.168.1.1/a", "http://127.0.0.1/", "redirect-private", True),
        ("http://192.168.1.1/a", "http://169.254.169.254/", "redirect-private", True),
        ("http://mirror.lan/a", "http://localhost/", "redirect-private", True),
    ],
)
def test_a_redirect_is_refused(request_url: str, location: str, kind: str, *, transient: bool) -> None:
    """Other schemes, downgrades, nonsense, credentials and ways inside are faults, told without secrets."""
    fault = next_hop(request_url, location, Headers(), granted_to=request_url, hops=0)
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.transient) == (kind, transient)
    assert fault.detail.isprintable()
    if "hunter2" in location and "Set-Cookie" not in location:
        assert "hunter2" not in fault.detail


def test_ten_redirects_and_no_more() -> None:
    """The eleventh redirect is a loop, whatever it points to."""
    url = "https://a.example/?secret"
    assert hop(url, "/b", hops=9).url == "https://a.example/b"
    fault = next_hop(url, "/b", Headers(), granted_to=url, hops=10)
    assert fault == Fault(
        "redirect-loop", "too many redirects (more than 10), the last from https://a.example/"
    )
    assert isinstance(next_hop(url, "/b", Headers(), granted_to=url, hops=3, max_hops=3), Fault)


SENT = Headers(
    [
        ("Authorization", "Bearer x"),
        ("Cookie", "a=b"),
        ("Proxy-Authorization", "Basic x"),
        ("X-Api-Key", "x"),
        ("PRIVATE-TOKEN", "x"),
        ("Host", "virtual.example"),
        ("Range", "bytes=0-1"),
        ("User-Agent", "bgfetch"),
    ]
)
HARMLESS = Headers([("Range", "bytes=0-1"), ("User-Agent", "bgfetch")])


@pytest.mark.parametrize(
    ("granted_to", "request_url", "location", "kept"),
    [
        # the same origin, in any spelling
        ("https://a.example/x", "https://a.example/x", "https://a.example/y", True),
        ("https://a.example/x", "https://a.example/x", "/y", True),
        ("https://a.example/x", "https://a.example/x", "y?z", True),
        ("https://a.example/x", "https://a.example/x", "//a.example/y", True),
        ("https://a.example/x", "https://a.example/x", "https://a.example:443/y", True),
        ("https://a.example/x", "https://a.example/x", "https://A.EXAMPLE/y", True),
        ("http://a.example/x", "http://a.example/x", "http://a.example:80/y", True),
        ("http://a.example:8080/x", "http://a.example:8080/x", "/y", True),
        ("http://127.0.0.1:8000/x", "http://127.0.0.1:8000/x", "http://2130706433:8000/y", True),
        ("http://[::1]:8000/x", "http://[::1]:8000/x", "http://[0:0::1]:8000/y", True),
        # another scheme
        ("http://a.example/x", "http://a.example/x", "https://a.example/x", False),
        ("http://a.example:8443/x", "http://a.example:8443/x", "https://a.example:8443/x", False),
        # another host
        ("https://a.example/x", "https://a.example/x", "https://b.example/x", False),
        ("https://a.example/x", "https://a.example/x", "//b.example/x", False),
        ("https://a.example/x", "https://a.example/x", "https://a.example.evil.example/x", False),
        ("https://a.example/x", "https://a.example/x", "https://evila.example/x", False),
        ("https://a.example/x", "https://a.example/x", "https://a.example./x", False),
        ("http://127.0.0.1:8000/x", "http://127.0.0.1:8000/x", "http://127.0.0.2:8000/x", False),
        ("http://127.0.0.1:8000/x", "http://127.0.0.1:8000/x", "http://localhost:8000/x", False),
        # a host below, above, beside
        ("https://a.example/x", "https://a.example/x", "https://cdn.a.example/x", False),
        ("https://cdn.a.example/x", "https://cdn.a.example/x", "https://a.example/x", False),
        ("https://cdn.a.example/x", "https://cdn.a.example/x", "https://api.a.example/x", False),
        # another port
        ("https://a.example/x", "https://a.example/x", "https://a.example:8443/x", False),
        ("https://a.example:8443/x", "https://a.example:8443/x", "https://a.example/x", False),
        ("http://127.0.0.1:8000/x", "http://127.0.0.1:8000/x", "http://127.0.0.1:8001/x", False),
        # later hops: away and on, away and back, round about
        ("https://a.example/x", "https://b.example/x", "https://b.example/y", False),
        ("https://a.example/x", "https://b.example/x", "https://c.example/x", False),
        ("https://a.example/x", "https://b.example/x", "https://a.example/x", False),
        ("http://a.example/x", "https://a.example/x", "https://a.example/y", False),
        ("https://a.example/x", "https://a.example/y", "https://a.example/z", True),
    ],
)
def test_credentials_stay_at_home(granted_to: str, request_url: str, location: str, *, kept: bool) -> None:
    """Secrets go to the exact scheme, host and port they were given for, other headers go along (30 ways)."""
    headers = hop(request_url, location, SENT, granted_to=granted_to).headers
    assert headers == (SENT if kept else HARMLESS)


def test_credentials_do_not_come_back() -> None:
    """A chain that leaves and returns has lost its secrets for good."""
    home, away = "https://a.example/x", "https://b.example/x"
    first = hop(home, away, SENT, granted_to=home)
    second = hop(first.url, home, first.headers, granted_to=home, hops=1)
    third = hop(second.url, "/y", second.headers, granted_to=home, hops=2)
    assert third == Hop("https://a.example/y", HARMLESS)


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "proxy-authorization",
        "Cookie",
        "Cookie2",
        "X-API-Key",
        "apikey",
        "X-Goog-Api-Key",
        "Ocp-Apim-Subscription-Key",
        "X-Amz-Security-Token",
        "X-Amz-Server-Side-Encryption-Customer-Key",
        "X-Amz-Server-Side-Encryption-Customer-Key-MD5",
        "X-Auth-Token",
        "X-Auth",
        "Private-Token",
        "X-Client-Secret",
        "X-Hub-Signature-256",
        "Signature",
        "X-Password",
        "X-CSRFToken",
        "X-Xsrf",
        "X-Session-Id",
        "X-JWT",
        "X-Credential",
    ],
)
def test_a_header_that_may_be_secret_is_one(name: str) -> None:
    """In doubt a header is a credential, in any letter case."""
    assert is_secret_header(name)
    assert is_secret_header(name.upper())


@pytest.mark.parametrize(
    "name",
    [
        "accept",
        "accept-encoding",
        "content-type",
        "if-match",
        "if-range",
        "keep-alive",
        "range",
        "referer",
        "user-agent",
        "want-repr-digest",
        "x-amz-checksum-mode",
        "x-keyframe",
        "x-request-id",
    ],
)
def test_ordinary_headers_are_no_secrets(name: str) -> None:
    """What a download needs goes along on every hop."""
    assert not is_secret_header(name)
