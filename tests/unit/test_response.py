"""What a Response promises, whatever its body is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bgfetch.core.model import Headers
from bgfetch.errors import Aborted, CacheError, InvalidRequest, NetworkError
from bgfetch.response import Body, BytesBody, FileBody, GrowingBody, Response, Stand

MIB = 1 << 20
DATA = b"".join(bytes([number]) * MIB for number in range(3)) + b"end"


def read(data: bytes) -> Callable[[memoryview, int], int]:
    """Reads from these bytes as from a file."""

    def read_into(buffer: memoryview, offset: int) -> int:
        chunk = data[offset : offset + len(buffer)]
        buffer[: len(chunk)] = chunk
        return len(chunk)

    return read_into


def following(*stands: Stand) -> Callable[[int], Awaitable[Stand]]:
    """A download that stands so, one after the other."""
    left = iter(stands)

    async def advanced(_position: int) -> Stand:
        return next(left)

    return advanced


def bodies(folder: Path) -> list[Body]:
    """The same bytes, each way."""
    file = folder / "x"
    file.write_bytes(DATA)
    size = len(DATA)
    stands = [Stand(10, None, over=False), Stand(2 * MIB, size, over=False), Stand(size, size, over=True)]
    return [BytesBody(DATA), FileBody(file, "", size), GrowingBody(read(DATA), following(*stands))]


@pytest.mark.parametrize("kind", range(3))
def test_body_comes_whole_in_chunks(tmp_path: Path, kind: int) -> None:
    """All bytes in order, at most 1 MiB at a time; then it is used."""
    response = Response(bodies(tmp_path)[kind])

    async def chunks() -> list[bytes]:
        return [chunk async for chunk in response]

    found = asyncio.run(chunks())
    assert b"".join(found) == DATA
    assert max(map(len, found)) <= MIB
    assert response.body_used
    with pytest.raises(InvalidRequest, match="clone"):
        asyncio.run(response.read())
    with pytest.raises(InvalidRequest, match="clone"):
        response.clone()


def test_clone_is_independent() -> None:
    """Both can be read, in any order."""
    response = Response("héllo", status=201, headers={"x": "1"}, url="https://host/")
    other = response.clone()
    assert (other.status, other.headers, other.url) == (201, response.headers, "https://host/")
    assert asyncio.run(other.text()) == asyncio.run(response.text()) == "héllo"


def test_no_body_is_never_used() -> None:
    """It reads as nothing, as often as one likes."""
    response = Response()
    assert [asyncio.run(response.read()) for _ in range(2)] == [b"", b""]
    assert not response.body_used
    assert response.path is None
    assert response.take() is None


def test_text_and_json() -> None:
    """UTF-8 without its mark, errors shown; JSON parsed, and what is none a ValueError."""
    assert asyncio.run(Response(b"\xef\xbb\xbfa\xff").text()) == "a\ufffd"
    assert asyncio.run(Response('{"a": [1]}').json()) == {"a": [1]}
    with pytest.raises(ValueError, match="Expecting"):
        asyncio.run(Response("{").json())


def test_head() -> None:
    """Headers in any form; text has a type unless it is given; the URL is shown without its query."""
    assert Response("x").headers == Headers([("content-type", "text/plain;charset=UTF-8")])
    assert Response("x", headers=[("Content-Type", "a/b")]).headers["content-type"] == "a/b"
    assert Response(b"x", headers=Headers([("a", "1"), ("a", "2")])).headers.get_all("a") == ["1", "2"]
    assert [Response(status=status).ok for status in (0, 199, 200, 299, 300)] == [
        False,
        False,
        True,
        True,
        False,
    ]
    assert repr(Response(url="https://host/a?secret")) == "<Response 200 https://host/a>"


def test_path_is_the_final_file(tmp_path: Path) -> None:
    """Asking uses nothing up; a proper name is given only when it is asked for; a lost file is said to be lost."""
    file = tmp_path / "x"
    assert Response(FileBody(file, "", 3)).path == file
    named = Response(FileBody(file, "", 3, publish=lambda: tmp_path / "name.bin"))
    assert named.path == tmp_path / "name.bin"
    assert not named.body_used
    assert Response(b"x").path is None
    assert Response(GrowingBody(read(b""), following())).path is None

    def lost() -> Path:
        raise FileNotFoundError(2, "No such file")

    with pytest.raises(CacheError, match="fetch it again"):
        _ = Response(FileBody(file, "", 3, publish=lost)).path


@pytest.mark.parametrize("content", [None, b"12"])
def test_file_that_is_not_whole(tmp_path: Path, content: bytes | None) -> None:
    """A body never ends early without an error."""
    file = tmp_path / "x"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CacheError, match="fetch it again"):
        asyncio.run(Response(FileBody(file, "", 3)).read())


@pytest.mark.parametrize(
    ("stands", "data", "error", "says"),
    [
        ([Stand(1, 9, over=True, error=Aborted("a"))], b"x", Aborted, "a"),
        ([Stand(1, 9, over=True, error=NetworkError("reset"))], b"x", InvalidRequest, "reset"),
        ([Stand(1, 9, over=True)], b"x", InvalidRequest, "byte 1 of 9"),
        ([Stand(5, 9, over=False), Stand(2, 9, over=False)], b"12345", InvalidRequest, "began again"),
        ([Stand(5, 9, over=False)], b"", InvalidRequest, "began again"),
        (
            [Stand(1, 1, over=False), Stand(1, 1, over=True, error=NetworkError("wrong digest"))],
            b"x",
            InvalidRequest,
            "digest",
        ),
    ],
    ids=["aborted", "failed", "short", "restarted", "truncated", "wrong"],
)
def test_growing_body_that_breaks(
    stands: list[Stand], data: bytes, error: type[Exception], says: str
) -> None:
    """An abort, a failure, a restart and a wrong digest reach the reader; none of them looks like the end."""
    with pytest.raises(error, match=says):
        asyncio.run(Response(GrowingBody(read(data), following(*stands))).read())


def test_growing_body_that_cannot_be_read_back() -> None:
    """A disk that refuses is an error of the body."""

    def broken(_buffer: memoryview, _offset: int) -> int:
        raise OSError(5, "Input/output error")

    with pytest.raises(InvalidRequest, match="read back"):
        asyncio.run(Response(GrowingBody(broken, following(Stand(1, 1, over=True)))).read())
