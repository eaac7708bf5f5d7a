"""The nouns: fields of HTTP are looked up as HTTP means it, and a request knows whether it may be sent again."""

from __future__ import annotations

import pytest

from bgfetch.core.model import Headers, Request

FIELDS = Headers([("ETag", ' "v1" '), ("Via", "a"), ("via", "b")])


def test_names_are_looked_up_in_lower_case_and_repetitions_joined() -> None:
    """RFC 9110 section 5.3; blanks around a value are no part of it."""
    assert (FIELDS["etag"], FIELDS["via"], FIELDS.get("x")) == ('"v1"', "a, b", None)
    assert FIELDS.get_all("VIA") == ["a", "b"]
    assert (len(FIELDS), list(FIELDS)) == (2, ["etag", "via"])


def test_fields_are_values() -> None:
    """Equal when each field is, in order; shown as they are."""
    again = Headers(FIELDS.pairs)
    assert again == FIELDS
    assert hash(again) == hash(FIELDS)
    assert Headers([("via", "b"), ("via", "a")]) != Headers([("via", "a"), ("via", "b")])
    assert repr(Headers([("A", "b")])) == "Headers([('a', 'b')])"


@pytest.mark.parametrize(
    ("request_", "resumable"),
    [
        (Request("https://host/"), True),
        (Request("https://host/", method="POST"), False),
        (Request("https://host/", body=b""), False),
    ],
)
def test_only_a_get_without_a_body_may_be_sent_again(request_: Request, resumable: bool) -> None:  # noqa: FBT001 - a table
    """Everything else may have effects at the server."""
    assert request_.resumable == resumable
