"""A digest that a person got wrong costs one download, where the server itself says what the file is."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.test_engine import BODY
from tests.lab import Lab

from bgfetch.core.model import Request
from bgfetch.testing import OriginServer


def tagging(tag: str) -> OriginServer:
    """A server that gives the body this entity tag."""
    server = OriginServer(BODY)
    server.contents.update(
        {path: replace(content, etag=f'"{tag}"') for path, content in server.contents.items()}
    )
    return server


@pytest.mark.parametrize("by_tag", [False, True])
def test_one_download_is_enough(tmp_path: Path, *, by_tag: bool) -> None:
    """The bytes are compared with what the server says of them, and not fetched again."""
    md5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()  # as S3 does
    server = tagging(md5) if by_tag else OriginServer(BODY, repr_digest=True)
    with server, Lab(tmp_path) as lab:
        ended = lab.fetch(Request(server.url, integrity=f"sha512:{'0' * 128}"))
        assert ended.row.failure_detail.startswith("integrity: the file is what the server says it is")
        assert server.bytes_sent < len(BODY) + (1 << 20)
        assert not list((tmp_path / "blobs").rglob("*"))


def test_a_tag_that_is_no_digest_proves_nothing(tmp_path: Path) -> None:
    """Then all is compared, over a line that may have changed any byte."""
    with tagging("ab" * 16) as server, Lab(tmp_path) as lab:
        ended = lab.fetch(Request(server.url, integrity=f"sha512:{'0' * 128}"))
        assert ended.row.failure_detail.startswith("integrity: ")
        assert len(BODY) * 2 <= server.bytes_sent < len(BODY) * 2 + (1 << 20)
