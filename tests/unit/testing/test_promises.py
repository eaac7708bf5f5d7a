"""Each scenario's promise can be kept: a small careful client, one connection, keeps all of them.

It is no model for the engine (it waits for nobody and remembers nothing), only the proof that the table asks for
nothing impossible.
"""

from __future__ import annotations

import hashlib
import random
import re
import threading
from typing import Any

import pycurl
import pytest

from bgfetch.testing import SCENARIOS, FaultServer, Outcome

BODY = random.Random(11).randbytes(60_000)
MOST = 1_000_000  # what the person who downloads is ready to take
SHORT: dict[str, dict[str, Any]] = {
    "slow": {"seconds": 0.1},
    "outage-refuse": {"seconds": 0.2},
    "outage-silent": {"seconds": 0.2},
    "long-header": {"size": 1 << 20},
}


class Refused(Exception):
    """The client gives up, with a reason."""


class Client:
    """Downloads one URL, checking every reply against what is known already."""

    def __init__(self, url: str, *, sha256: str = "") -> None:
        self.url = url
        self.sha256 = sha256
        self.held = bytearray()
        self.total: int | None = None
        self.etag = ""
        self.modified = ""
        self.ranges = True
        self.head: dict[str, str] = {}
        self.status = 0
        self.whole_head = False
        self.verdict = ""

    def run(self) -> bytes:
        """The body, or Refused after eight attempts in a row that brought nothing new."""
        best = idle = 0
        while True:
            reason = self._attempt()
            if reason == "done":
                if not self.sha256 or hashlib.sha256(self.held).hexdigest() == self.sha256:
                    return bytes(self.held)
                reason = "other bytes than were promised"
                self._restart()
            idle = 0 if len(self.held) > best else idle + 1
            best = max(best, len(self.held))
            if idle >= 8:
                raise Refused(reason)

    def _restart(self, *, ranges: bool = True) -> None:
        self.held.clear()
        self.total, self.etag, self.modified, self.ranges = None, "", "", ranges

    def _attempt(self) -> str:
        asked = len(self.held) if self.held and self.ranges else None
        if asked is None:
            self._restart(ranges=self.ranges)
        self.verdict = ""
        curl = self._prepared(asked)
        try:
            curl.perform()
        except pycurl.error as error:
            if error.args[0] == pycurl.E_COULDNT_CONNECT:
                threading.Event().wait(0.05)
            return self.verdict or str(error)
        finally:
            curl.close()
        if not self.held:
            self._check(asked)
        return self.verdict or self._ended()

    def _prepared(self, asked: int | None) -> pycurl.Curl:
        curl = pycurl.Curl()
        curl.setopt(pycurl.URL, self.url)
        curl.setopt(pycurl.FOLLOWLOCATION, 1)
        curl.setopt(pycurl.MAXREDIRS, 10)
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.REDIR_PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.TIMEOUT_MS, 400)
        curl.setopt(pycurl.HTTP_TRANSFER_DECODING, 1)
        headers = ["Accept-Encoding: identity"]
        if asked is not None:
            headers.append(f"Range: bytes={asked}-")
            if self.etag and not self.etag.startswith("W/"):
                headers.append(f"If-Range: {self.etag}")
        curl.setopt(pycurl.HTTPHEADER, headers)
        curl.setopt(pycurl.HEADERFUNCTION, self._header)
        checked = False

        def write(data: bytes) -> int:
            nonlocal checked
            if not checked:
                checked = True
                self._check(asked)
            if self.verdict:
                return -1
            self.held += data
            if len(self.held) > (MOST if self.total is None else self.total):
                self.verdict = "more bytes than were promised"
                self._restart(ranges=False)
                return -1
            return len(data)

        curl.setopt(pycurl.WRITEFUNCTION, write)
        return curl

    def _header(self, line: bytes) -> None:
        text = line.decode("latin-1").strip()
        if text.startswith("HTTP/"):
            self.head, self.status, self.whole_head = {}, int(text.split()[1]), False
        elif not text:
            self.whole_head = True
        elif ":" in text:
            name, _, value = text.partition(":")
            key = name.strip().lower()
            if key == "content-length" and self.head.get(key, value.strip()) != value.strip():
                self.verdict = "two lengths"
            self.head[key] = value.strip()

    def _check(self, asked: int | None) -> None:
        """Set the verdict unless the reply's bytes may be stored at the end of what is held."""
        head = self.head
        if self.verdict:
            return
        if not self.whole_head:  # libcurl takes a head that breaks off with FIN for an empty body
            self.verdict = "the headers broke off"
        elif self.status == 416:
            match = re.fullmatch(r"bytes \*/(\d+)", head.get("content-range", ""))
            if match and asked == int(match[1]) and self.total in {None, asked}:
                self.verdict = "done"
            else:
                self.verdict = "no such range"
                self._restart(ranges=False)
        elif self.status not in {200, 206}:
            self.verdict = f"status {self.status}"
        elif head.get("content-type", "").startswith(("text/html", "multipart/")):
            self.verdict = f"not the file but {head['content-type']}"
            if self.status == 206:
                self._restart(ranges=False)
        elif head.get("content-encoding", "identity") != "identity":
            self.verdict = "an encoded answer"
        elif self.status == 206:
            self._check_partial(asked)
        else:
            self._restart(ranges=self.ranges)
            length = head.get("content-length")
            self.total = int(length) if length else None
            self.etag, self.modified = head.get("etag", ""), head.get("last-modified", "")

    def _check_partial(self, asked: int | None) -> None:
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", self.head.get("content-range", ""))
        length = int(self.head.get("content-length", -1))
        if not match or int(match[1]) != (asked or 0) or length != int(match[2]) - int(match[1]) + 1:
            self.verdict = "not the range that was asked for"
            self._restart(ranges=False)
            return
        total = self.total if match[3] == "*" else int(match[3])
        etag, modified = self.head.get("etag", ""), self.head.get("last-modified", "")
        same = (total, etag, modified) == (self.total, self.etag, self.modified)
        # With a digest in hand the bytes may come from any node; without, only under the same validators.
        if asked and not same and not (self.sha256 and total == self.total and self.ranges and not modified):
            self.verdict = "it changed on the server"
            self._restart()
            return
        self.total, self.etag, self.modified = total, etag, modified

    def _ended(self) -> str:
        if self.total is None:
            self.total = len(self.held)
        return "done" if len(self.held) == self.total else "short"


def download(name: str, *, digest: bool) -> tuple[bytes | None, FaultServer]:
    """What the careful client ends with under this scenario; None when it refuses."""
    with FaultServer(BODY, name, **SHORT.get(name, {})) as server:
        try:
            return Client(server.url, sha256=server.sha256 if digest else "").run(), server
        except Refused:
            return None, server


def names(outcome: Outcome) -> list[str]:
    """The scenarios with this outcome that speak http."""
    return [name for name, item in SCENARIOS.items() if item.outcome is outcome and not item.needs_tls]


@pytest.mark.parametrize("digest", [False, True], ids=["without", "with"])
@pytest.mark.parametrize("name", names(Outcome.FINISH))
def test_finish_can_be_kept(name: str, digest: bool) -> None:  # noqa: FBT001  a parameter of the test
    """Every "finish" can be finished, with and without a digest, on one connection at a time."""
    body, server = download(name, digest=digest)
    assert body == server.body


@pytest.mark.parametrize("digest", [False, True], ids=["without", "with"])
@pytest.mark.parametrize("name", names(Outcome.REFUSE))
def test_refuse_can_be_kept(name: str, digest: bool) -> None:  # noqa: FBT001  a parameter of the test
    """Every "refuse" can be told from the file."""
    body, _ = download(name, digest=digest)
    assert body is None


@pytest.mark.parametrize("name", names(Outcome.DIGEST))
def test_digest_can_be_kept(name: str) -> None:
    """Every "digest" can be finished by who knows the digest, by starting over at the worst."""
    body, server = download(name, digest=True)
    assert body == server.body
