"""Which requests share bytes, and what a fetch without an id is called."""

from __future__ import annotations

import pytest

from bgfetch.core.identity import default_id, request_key
from bgfetch.core.model import Headers, Request

PLAIN = Request("https://host/a/model.bin?rev=1")


@pytest.mark.parametrize(
    "same",
    [
        Request("https://host/a/model.bin?rev=1#part"),
        Request(PLAIN.url, headers=Headers([("Authorization", "Bearer x")])),
        Request(PLAIN.url, integrity="sha256:" + "0" * 64, expected_size=5),
    ],
)
def test_one_source_has_one_key(same: Request) -> None:
    """A fragment, a token and a later-known digest do not make other bytes of it."""
    assert request_key(same) == request_key(PLAIN)


@pytest.mark.parametrize(
    "other",
    [
        Request("https://host/a/model.bin?rev=2"),
        Request(PLAIN.url, method="POST", body=b""),
        Request(PLAIN.url, method="POST", body=b"a"),
        Request(PLAIN.url, headers=Headers([("Accept", "text/plain")])),
    ],
)
def test_another_source_has_another_key(other: Request) -> None:
    """What may bring other bytes has a key of its own."""
    assert request_key(other) != request_key(PLAIN)


def test_a_nonce_sets_equal_requests_apart() -> None:
    """Two uploads of the same bytes are two uploads."""
    assert request_key(PLAIN, nonce="0") != request_key(PLAIN, nonce="1")


def test_key_is_64_hex_digits() -> None:
    """It names a directory, so nothing of the request may shine through."""
    assert set(request_key(PLAIN)) <= set("0123456789abcdef")
    assert len(request_key(PLAIN)) == 64


def test_default_id_is_readable_and_tells_requests_apart() -> None:
    """A person sees the file's name; two files of that name get two ids."""
    other = Request("https://elsewhere/model.bin")
    assert default_id([PLAIN]).startswith("model.bin-")
    assert default_id([PLAIN]) != default_id([other])
    assert default_id([PLAIN, other]) != default_id([PLAIN])
