"""`bgfetch get` against a real server: what is printed, what is kept, how it ends."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.command import Command, Said

import bgfetch
from bgfetch.database import Database
from bgfetch.registrations.sqlite import SqliteRegistrations
from bgfetch.testing import Exchange, FaultServer, OriginServer, text_reply

BODY = os.urandom(700_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command line with a fresh home."""
    return Command(tmp_path / "home")


@pytest.fixture
def server() -> Iterator[OriginServer]:
    """A correct origin."""
    with OriginServer({"/model.bin": BODY, "/a/b.bin": b"b" * 1000, "/c/b.bin": b"c" * 1000}) as server:
        yield server


def slow(body: bytes = BODY * 30, rate: float = 400_000.0) -> OriginServer:
    """A server that needs a minute for this body."""
    return OriginServer(body, rate=rate)


def eventually(held: Callable[[], bool], *, within: float = 10.0) -> None:
    """Wait for something another process brings about."""
    until = time.monotonic() + within
    while not held():
        assert time.monotonic() < until, "it never came about"
        threading.Event().wait(0.02)


def downloaded(command: Command) -> int:
    """Bytes held by what is unfinished, as `ls` says."""
    return sum(row["downloaded"] for row in command("ls", "--active", "--json").objects)


def ended(process: subprocess.Popen[str]) -> Said:
    """How a process ended."""
    with process:
        out, err = process.communicate(timeout=15)
    return Said(process.returncode, out, err)


def test_path_on_stdout(command: Command, server: OriginServer) -> None:
    """The path of the finished file is all of stdout; without a terminal nothing is drawn."""
    said = command.process("get", server.url, "--sha256", SHA256)
    assert said.code == 0, said.err
    assert said.err == ""
    (line,) = said.lines
    assert Path(line).name == "model.bin"
    assert Path(line).read_bytes() == BODY


def test_second_get_asks_nobody(command: Command, server: OriginServer) -> None:
    """What is here is given again without a request."""
    first = command("get", server.url)
    asked = len(server.requests)
    second = command("get", server.url, "--sha256", SHA256)
    assert (second.code, second.out) == (0, first.out)
    assert len(server.requests) == asked


def test_json(command: Command, server: OriginServer) -> None:
    """One object a file says where it is, how long, and how it was checked."""
    (facts,) = command("get", server.url, "--sha256", SHA256, "--json").objects
    assert facts["url"] == server.url
    assert facts["size"] == len(BODY)
    assert (facts["verified"], facts["digest"]) == ("digest", f"sha256:{SHA256}")
    assert Path(facts["path"]).is_file()


def test_several_are_one_registration(command: Command, server: OriginServer) -> None:
    """Several SOURCEs are fetched together, and their paths come in the order they were named."""
    urls = [server.url_of(path) for path in ("/c/b.bin", "/model.bin", "/a/b.bin", "/c/b.bin")]
    said = command("get", *urls)
    assert said.code == 0, said.err
    assert [Path(line).read_bytes()[:1] for line in said.lines] == [b"c", BODY[:1], b"b", b"c"]
    assert len(command("ls", "-q").lines) == 1


def test_some_failed(command: Command, server: OriginServer) -> None:
    """Of several, what came is given, the code is 10, and the message names what did not."""
    said = command("get", server.url, server.url_of("/nothing.bin"))
    assert said.code == 10
    assert len(said.lines) == 1
    assert "/nothing.bin" in said.err


def test_input_file(command: Command, server: OriginServer, tmp_path: Path) -> None:
    """SOURCEs may come from a file, one a line; empty lines do not count."""
    (tmp_path / "list").write_text(f"{server.url}\n\n{server.url_of('/a/b.bin')}\n")
    assert len(command("get", "-i", tmp_path / "list").lines) == 2


def test_output_replaces_whole(command: Command, server: OriginServer, tmp_path: Path) -> None:
    """What stood at the target is replaced, and nothing else is left beside it."""
    target = tmp_path / "out" / "here.bin"
    target.parent.mkdir()
    target.write_bytes(b"old")
    said = command("get", server.url, "-o", target)
    assert (said.code, said.out) == (0, f"{target}\n")
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["here.bin"]


def test_output_stays_when_it_fails(command: Command, server: OriginServer, tmp_path: Path) -> None:
    """A download that fails leaves the target as it was."""
    target = tmp_path / "here.bin"
    target.write_bytes(b"old")
    assert command("get", server.url_of("/nothing"), "-o", target).code == 3
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.bin", "home"]


def test_output_directory_for_several(command: Command, server: OriginServer, tmp_path: Path) -> None:
    """Two files of one name get two names in the directory."""
    target = tmp_path / "out"
    target.mkdir()
    said = command("get", server.url_of("/a/b.bin"), server.url_of("/c/b.bin"), "-o", target)
    assert said.lines == [str(target / "b.bin"), str(target / "b-2.bin")]
    assert [path.read_bytes()[:1] for path in map(Path, said.lines)] == [b"b", b"c"]


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_goes_on(command: Command, name: signal.Signals) -> None:
    """Ctrl-C and SIGTERM stop cleanly with 130 and say how to go on; the same command asks for the rest only."""
    with slow() as server:
        process = command.start("get", server.url)
        eventually(lambda: downloaded(command) > 0)
        process.send_signal(name)
        said = ended(process)
        assert (said.code, said.out) == (130, "")
        assert "are kept" in said.err
        assert "bgfetch resume model.bin-" in said.err
        assert "Traceback" not in said.err
        kept = downloaded(command)
        assert kept > 0
        (row,) = command("ls", "--json").objects
        assert row["running"] is False
        server.rate = 0.0
        before = server.bytes_sent
        said = command("get", server.url)
        assert said.code == 0, said.err
        assert Path(said.out.strip()).read_bytes() == server.body
        assert server.bytes_sent - before <= len(server.body) - kept + (2 << 20)


def test_timeout(command: Command) -> None:
    """When the time is up the code is 75, what came is kept, and `resume` ends it."""
    with slow() as server:
        said = command("get", server.url, "--timeout", "1500ms", "--id", "big")
        assert said.code == 75, said.err
        assert downloaded(command) > 0
        server.rate = 0.0
        said = command("resume", "big", "-q")
        assert said.code == 0, said.err
        assert Path(said.out.strip()).read_bytes() == server.body


def test_follows_another_process(command: Command) -> None:
    """A second `get` of the same waits for the process that fetches it, and fetches nothing itself."""
    with slow(BODY * 2) as server:
        other = command.start("get", server.url)
        eventually(lambda: downloaded(command) > 0)
        follower = command.start("get", server.url)
        server.rate = 0.0
        first, second = ended(other), ended(follower)
        assert (first.code, second.code) == (0, 0), second.err
        assert first.out == second.out
    database = Database.open(command.home / "state" / "bgfetch.sqlite3", now=0.0)
    (row,) = SqliteRegistrations(database).listing()
    database.close()
    assert row.epoch == 1  # one process ever claimed it


def test_takes_over_with_secrets(command: Command) -> None:
    """When the process that fetches is killed, the one that waits goes on, with the header fields it was given."""
    with slow() as server:
        other = command.start("get", server.url, "-H", "Authorization: Bearer secret")
        eventually(lambda: downloaded(command) > 0)
        follower = command.start("get", server.url, "-H", "Authorization: Bearer secret")
        eventually(lambda: bool(command("ls", "--json").objects[0]["running"]))
        other.kill()
        ended(other)
        before = len(server.requests)
        server.rate = 0.0
        said = ended(follower)
        assert said.code == 0, said.err
        assert Path(said.out.strip()).read_bytes() == server.body
        later = server.requests[before:]
        assert later
        assert all(request.headers.get("authorization") == "Bearer secret" for request in later)


def test_digest_of_a_sidecar(command: Command) -> None:
    """`--checksum sidecar` takes SOURCE.sha256, and leaves nothing of it behind."""
    files = {"/d/model.bin": BODY, "/d/model.bin.sha256": f"{SHA256}  model.bin\n".encode()}
    with OriginServer(files) as server:
        said = command("get", server.url, "--checksum", "sidecar", "--json")
        assert said.code == 0, said.err
        assert said.objects[0]["digest"] == f"sha256:{SHA256}"
        asked = len(server.requests)
        assert command("get", server.url, "--checksum", "sidecar").code == 0
        assert len(server.requests) == asked
    assert len(command("ls", "-q").lines) == 1
    assert len(command("cache", "ls", "--json").lines) == 1


def test_digest_of_a_list(command: Command) -> None:
    """Without SOURCE.sha256 the folder's SHA256SUMS is taken; one that does not fit is an integrity error."""
    with OriginServer({"/d/m.bin": BODY, "/d/SHA256SUMS": f"{SHA256} *m.bin\n".encode()}) as server:
        assert command("get", server.url, "--checksum", "sidecar").code == 0
    with OriginServer({"/d/m.bin": BODY, "/d/SHA256SUMS": f"{'0' * 64} *m.bin\n".encode()}) as server:
        said = command("get", server.url, "--checksum", "sidecar")
        assert (said.code, said.out) == (6, "")


def test_no_sidecar(command: Command, server: OriginServer) -> None:
    """Where nothing is published the error says where was looked, and the file is not fetched."""
    said = command("get", server.url, "--checksum", "sidecar")
    assert said.code == 3
    assert "/model.bin.sha256" in said.err
    assert "/SHA256SUMS" in said.err
    assert all(request.path != "/model.bin" for request in server.requests)


def test_digest_in_the_name(command: Command) -> None:
    """The digits that torch.hub puts into names are checked, now and when it is here already."""
    good, bad = f"/net-{SHA256[:8]}.pth", "/net-0badc0de.pth"
    with OriginServer({good: BODY, bad: BODY}) as server:
        assert command("get", server.url_of(good), "--checksum", "name").code == 0
        asked = len(server.requests)
        assert command("get", server.url_of(good), "--checksum", "name").code == 0
        assert len(server.requests) == asked
        said = command("get", server.url_of(bad), "--checksum", "name")
        assert (said.code, said.out) == (6, "")
        assert "0badc0de" in said.err
        assert command("cache", "path", server.url_of(bad)).code == 3


def test_stored_file_that_does_not_fit(command: Command, server: OriginServer) -> None:
    """A digest that the stored file has not makes it be fetched again, and is an error when that does not help."""
    command("get", server.url)
    said = command("get", server.url, "--sha256", "0" * 64)
    assert (said.code, said.out) == (6, "")


@pytest.mark.parametrize(("scenario", "code"), [("status-403", 4), ("status-404", 3), ("status-500", 5)])
def test_exit_codes(command: Command, scenario: str, code: int) -> None:
    """The code tells what went wrong."""
    status = int(scenario.rpartition("-")[2])

    def answer(exchange: Exchange) -> None:
        exchange.send(text_reply(status, "no"))

    with OriginServer(BODY, answer) as server:
        assert command("get", server.url).code == code


def test_survives_a_bad_day(command: Command) -> None:
    """Busy servers, dropped connections and expired addresses end in the right file."""
    with FaultServer(BODY, "bad-day") as server:
        said = command("get", server.url, "--sha256", SHA256)
        assert said.code == 0, said.err


def test_api_in_a_running_loop(server: OriginServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bgfetch.get` works in a notebook, where a loop runs in the very thread that calls it."""
    monkeypatch.setenv("BGFETCH_HOME", str(tmp_path / "home"))
    seen: list[int] = []

    async def cell() -> Path:
        return bgfetch.get(server.url, sha256=SHA256, progress=lambda now: seen.append(now.downloaded))

    assert asyncio.run(cell()).read_bytes() == BODY
    assert seen[-1] == len(BODY)


def test_api_errors(server: OriginServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocking call raises what went wrong by its name."""
    monkeypatch.setenv("BGFETCH_HOME", str(tmp_path / "home"))
    with pytest.raises(bgfetch.BadStatus, match="404"):
        bgfetch.get(server.url_of("/nothing"))
    with pytest.raises(bgfetch.InvalidRequest):
        bgfetch.get("ftp://host/file")
