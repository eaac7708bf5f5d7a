"""The fields of an answer, for whatever file and span: well-formed, and in agreement with each other."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.digests import digests_from_headers
from bgfetch.core.model import Headers
from bgfetch.core.ranges import parse_content_range
from bgfetch.core.spans import Span
from bgfetch.web.fields import Cors, Resource, content_type, digest_field, file_fields, range_fields

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(
    name=NAMES,
    size=st.integers(1, 1 << 50),
    ends=st.tuples(st.integers(0, 1 << 50), st.integers(0, 1 << 50)),
    known=st.booleans(),
    versioned=st.booleans(),
)
def test_fields_agree(name: str, size: int, ends: tuple[int, int], known: bool, versioned: bool) -> None:  # noqa: FBT001
    """No name breaks out of a field; length, range and digests are those of the bytes sent, as our own client reads them."""
    start, stop = sorted((ends[0] % size, ends[1] % size))
    span = Span(start, stop + 1)
    sha256 = hashlib.sha256(name.encode()).hexdigest() if known else ""
    file = Resource(name, size, 1_700_000_000, sha256, versioned)
    pairs = [*file_fields(file, '"tag"'), *range_fields(file, 206, span, sha256)]
    for field, value in pairs:
        assert field == field.lower()
        assert value.isascii()
        assert value.isprintable()
    assert len({field for field, _ in pairs}) == len(pairs)
    headers = Headers(pairs)
    assert int(headers["content-length"]) == span.length
    found = parse_content_range(headers.get_all("content-range"))
    assert found is not None
    assert (found.start, found.stop, found.total) == (span.start, span.stop, size)
    digests = digests_from_headers(headers, status=206)
    assert [digest.hex for digest in digests] == ([sha256] if known else [])
    assert ("immutable" in headers["cache-control"]) == versioned
    assert headers["link"].count("<") == headers["link"].count(">") == 1


@given(
    origin=st.text(max_size=40), allowed=st.sets(st.sampled_from(["https://a.example", "https://b.example"]))
)
def test_only_named_origins_are_allowed(origin: str, allowed: set[str]) -> None:
    """An origin is repeated only when it was named: nothing that a page makes up comes back in a field."""
    fields = dict(Cors(allowed).fields(origin))
    assert ("access-control-allow-origin" in fields) == (origin in allowed)
    assert ("vary" in fields) == bool(allowed)


def test_types() -> None:
    """By the last suffix, in any case; nothing that a browser would show as a page."""
    assert content_type("a.WASM") == "application/wasm"
    for name in ("a.html", "a.svg", "a.xml", "a.js.html", "a", "a.gguf"):
        assert content_type(name) == "application/octet-stream"


def test_digest_field() -> None:
    """RFC 9530, of the empty string."""
    empty = hashlib.sha256(b"").hexdigest()
    assert digest_field(empty) == "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"


@pytest.mark.parametrize(
    ("allowed", "sent", "foreign"),
    [
        ("", {}, False),  # curl
        ("", {"sec-fetch-site": "none"}, False),
        ("", {"sec-fetch-site": "same-origin", "origin": "https://here"}, False),
        ("", {"sec-fetch-site": "same-site"}, True),  # another port of this machine
        ("", {"sec-fetch-site": "cross-site"}, True),
        ("", {"origin": "https://here"}, False),
        ("", {"origin": "https://elsewhere"}, True),
        ("", {"origin": "null"}, True),
        ("https://app", {"sec-fetch-site": "cross-site", "origin": "https://app"}, False),
        ("https://app", {"sec-fetch-site": "cross-site"}, True),  # an image of it: it may not read
        ("*", {"sec-fetch-site": "cross-site"}, False),
    ],
)
def test_pages_of_other_sites(allowed: str, sent: dict[str, str], foreign: bool) -> None:  # noqa: FBT001
    """Only those are foreign that a browser says to be, and that `cors` does not name."""
    cors = Cors(frozenset({allowed} - {""}))
    assert cors.is_foreign(Headers([("host", "here"), *sent.items()])) is foreign
