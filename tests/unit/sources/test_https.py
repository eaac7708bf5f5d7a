"""What can be registered, and what is refused with a name."""

from __future__ import annotations

import pytest

from bgfetch.errors import InvalidRequest
from bgfetch.sources.https import checked_request

URL = "https://host/model.bin"


def test_a_request_is_normalised() -> None:
    """What is stored is what is sent: one spelling of URL, method, header names and digest."""
    request = checked_request(
        "HTTPS://Host:443/model.bin",
        method="get",
        headers=[("X-Extra", " a ")],
        integrity="SHA256:" + "AB" * 32,
    )
    assert request.url == URL
    assert request.method == "GET"
    assert request.headers.pairs == (("x-extra", "a"),)
    assert request.integrity == "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"url": "ftp://host/x"}, "http"),
        ({"url": "https://user:pw@host/x"}, "password"),
        ({"method": "CONNECT"}, "CONNECT"),
        ({"method": "GE T"}, "GE T"),
        ({"method": ""}, "''"),
        ({"body": b"x"}, "no body"),
        ({"expected_size": -1}, "-1"),
        ({"headers": [("Range", "bytes=0-")]}, "range"),
        ({"headers": [("Host", "other")]}, "host"),
        ({"headers": [("a b", "c")]}, "a b"),
        ({"headers": [("x", "a\r\nInjected: yes")]}, "'x'"),
        ({"integrity": "sha256:12"}, "64"),
        ({"integrity": "nosuch:12"}, "nosuch"),
    ],
)
def test_bad_requests_are_refused_by_name(given: dict[str, object], named: str) -> None:
    """The message says which part is wrong."""
    arguments = {"url": URL, **given}
    with pytest.raises(InvalidRequest, match=named):
        checked_request(**arguments)  # type: ignore[arg-type] # the table holds wrong ones on purpose


def test_a_secret_is_not_repeated() -> None:
    """A refused URL or header does not put its secret into the message, which may be logged."""
    for arguments in (
        {"url": "https://user:hunter2@host/x"},
        {"url": URL, "headers": [("Authorization", "hunter2\n")]},
    ):
        with pytest.raises(InvalidRequest) as refused:
            checked_request(**arguments)
        assert "hunter2" not in str(refused.value)
