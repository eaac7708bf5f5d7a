"""A wrong digest: how little the machine fetches again before it says so, and when it must fetch all."""

from __future__ import annotations

import pytest
from tests.unit.core.test_machine import Script, of

from bgfetch.core import commands as do
from bgfetch.core import events as on
from bgfetch.core.digests import Digest
from bgfetch.core.machine import Recovered
from bgfetch.core.model import Request, State
from bgfetch.core.ranges import Accept
from bgfetch.core.segments import PIECE
from bgfetch.core.spans import Spans

TOTAL = 200 * PIECE
NONE = Spans()
WRONG = Digest("sha256", b"w" * 32)
MD5 = Digest("md5", b"m" * 16)
CRC = Digest("crc32c", b"crc!")
PLAIN, TLS = "http://host/model.bin", "https://host/model.bin"


def whole(
    url: str, *, etag: str = '"v1"', said: Digest | None = None, digest: Digest | None = WRONG
) -> Script:
    """A machine that holds every byte of what came from this URL, and verifies it."""
    script = Script(Request(url), digest=digest)
    script.send(on.Started(1))
    script.judge(Accept(0, TOTAL, TOTAL, etag, "", "application/x", ranges=True), digest=said)
    script.store(0, TOTAL, script.flights[0])
    assert script.state is State.VERIFYING
    return script


def asked_again(script: Script) -> int:
    """Bytes in doubt after the digest was wrong and the disk was not."""
    script.send(on.DigestMismatched("sha256:00"))
    script.send(on.PiecesChecked(NONE))
    return script.machine._transfer.repair.doubtful.length


@pytest.mark.parametrize(
    ("url", "said", "digest", "pieces"),
    [
        (TLS, None, WRONG, 64),  # nobody on the way can have changed a byte
        (PLAIN, None, WRONG, 200),  # anybody can
        (TLS, WRONG, WRONG, 200),  # the server means what the person means: it is the bytes that are wrong
        (TLS, WRONG, None, 200),  # it is the server's own promise
        (TLS, MD5, WRONG, 64),
    ],
)
def test_how_much_is_fetched_again(url: str, said: Digest | None, digest: Digest | None, pieces: int) -> None:
    """A sample where only the digest can be wrong, all where bytes can be."""
    assert asked_again(whole(url, said=said, digest=digest)) == pieces * PIECE


def test_a_sample_that_is_the_same_ends_it() -> None:
    """The words say what was compared."""
    script = whole(TLS)
    asked_again(script)
    for span in script.machine._transfer.repair.doubtful:
        script.store(span.start, span.stop)
    script.send(on.DigestMismatched("sha256:00"))
    (finish,) = of(do.Finish, script.send(on.PiecesChecked(NONE)))
    assert finish.kind == "integrity"
    assert finish.detail.endswith("a sample of them was fetched again and is the same")


def test_bytes_of_an_earlier_process_may_have_come_in_any_way() -> None:
    """Nobody wrote down how, so all is compared."""
    script = Script(Request(TLS), digest=WRONG)
    script.machine.adopt(Recovered(Spans.of([(0, TOTAL)]), TOTAL, '"v1"'))
    script.send(on.Started(1))
    assert asked_again(script) == TOTAL


@pytest.mark.parametrize(
    ("etag", "said", "digest", "witness"),
    [
        ('"v1"', None, WRONG, None),
        ('"v1"', MD5, WRONG, MD5),
        ('"v1"', CRC, WRONG, None),  # 4 bytes may fit by accident
        (f'"{MD5.hex}"', None, WRONG, MD5),
        (f'"{"ab" * 32}"', CRC, WRONG, Digest("sha256", b"\xab" * 32)),
        (f'"{MD5.hex}-3"', None, WRONG, None),  # of an upload in parts
        (f'W/"{MD5.hex}"', None, WRONG, None),
        (f'"{MD5.hex}"', WRONG, WRONG, None),  # the server vouches for the person's digest
        (f'"{MD5.hex}"', WRONG, None, None),  # nobody gave another one
    ],
)
def test_what_bears_witness(
    etag: str, said: Digest | None, digest: Digest | None, witness: Digest | None
) -> None:
    """Another digest that the server itself says, also as an entity tag; strong enough to be no accident."""
    assert whole(TLS, etag=etag, said=said, digest=digest).machine.witness == witness


def test_a_witness_ends_it_at_once() -> None:
    """The bytes are what the server has: asking again would bring the same ones."""
    script = whole(PLAIN, said=MD5)
    script.send(on.DigestMismatched("sha256:00"))
    (finish,) = of(do.Finish, script.send(on.PiecesChecked(NONE, witnessed=True)))
    assert (finish.kind, str(MD5) in finish.detail, str(WRONG) in finish.detail) == ("integrity", True, True)
