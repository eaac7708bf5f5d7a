"""Bad input, from a person and from a server: a named error with its exit code, nothing written elsewhere, nothing lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.command import Command

from bgfetch.testing import Exchange, OriginServer

BODY = os.urandom(50_000)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command line with a fresh home."""
    return Command(tmp_path / "home")


@pytest.fixture
def server() -> Iterator[OriginServer]:
    """A correct origin."""
    with OriginServer(BODY) as server:
        yield server


def names_below(folder: Path) -> set[str]:
    """Every file and folder, relative."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["get"], "nothing to get"),
        (["get", ""], "URL"),
        (["get", "model.bin"], "URL"),
        (["get", "/etc/passwd"], "URL"),
        (["get", "file:///etc/passwd"], "http"),
        (["get", "ftp://host/file"], "http"),
        (["get", "hf://org/model"], "https://huggingface.co/ORG/REPO/resolve/main/FILE"),
        (["get", "javascript:alert(1)"], "http"),
        (["get", "http://"], "host"),
        (["get", "http://ho st/file"], "host"),
        (["get", "http://host:99999/file"], "port"),
        (["get", "http://host:22/file"], "port"),
        (["get", "http://user:hunter2@host/file"], "user or password"),
        (["get", "http://host/file", "--sha256", "abc"], "64 hex digits"),
        (["get", "http://host/file", "--sha256", "g" * 64], "not hexadecimal"),
        (["get", "http://host/file", "--checksum", "sha3:abcd"], "unknown digest"),
        (["get", "http://host/file", "--checksum", "md5:" + "0" * 31], "32 hex digits"),
        (["get", "http://host/file", "--checksum", "0" * 64], "say which digest"),
        (["get", "http://host/file", "--checksum", "name"], "carries no digits"),
        (["get", "http://host/file", "--sha256", "0" * 64, "--checksum", "name"], "one of them"),
        (["get", "http://h/a", "http://h/b", "--sha256", "0" * 64], "several files"),
        (["get", "http://host/file", "--size", "-1"], "expected_size"),
        (["get", "http://host/file", "--size", "many"], "integer"),
        (["get", "http://host/file", "-H", "no colon hunter2"], "Name: value"),
        (["get", "http://host/file", "-H", ": hunter2"], "Name: value"),
        (["get", "http://host/file", "-H", "Range: bytes=0-1"], "set by bgfetch"),
        (["get", "http://host/file", "-H", "X: hunter2\r\nY: z"], "characters"),
        (["get", "http://host/file", "--timeout", "soon"], "not a duration"),
        (["get", "http://host/file", "--limit-rate", "fast"], "not a size"),
        (["get", "http://host/file", "-x", "0"], "range"),
        (["get", "http://host/file", "-o", "-"], "standard output"),
        (["get", "http://host/file", "--nonsense"], "No such option"),
        (["get", "-i", "no such file"], "No such file"),
        (["nonsense"], "No such command"),
        (["cancel", "x"], "Did you mean 'bgfetch abort'?"),
        (["whatch"], "Did you mean 'bgfetch watch'?"),
        (["https://user:hunter2@host/file?hunter2"], "Did you mean 'bgfetch get URL'?"),
        (["show"], "Missing argument"),
        (["completion", "tcsh"], "tcsh"),
        (["cache", "rm"], "Missing argument"),
        (["cache", "path", "nonsense"], "URL"),
        (["ls", "--limit", "0"], "range"),
    ],
)
def test_usage(command: Command, tmp_path: Path, args: list[str], said: str) -> None:
    """What can never work is refused with code 2 before anything is made, and secrets in it are not repeated."""
    done = command(*args)
    assert done.code == 2, done.err
    assert said.lower() in done.err.lower()
    assert "hunter2" not in done.err
    assert done.out == ""
    assert names_below(tmp_path) == set()


@pytest.mark.parametrize(
    "args",
    [
        ["show", "x"],
        ["events", "x"],
        ["pause", "x"],
        ["resume", "x"],
        ["abort", "x"],
        ["cache", "path", "http://host/x"],
        ["cache", "rm", "http://host/x", "-y"],
        ["cache", "verify", "http://host/x"],
        ["cache", "repair", "http://host/x"],
        ["cache", "export", "http://host/x", "x"],
    ],
)
def test_not_found(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    """What does not exist is code 3, with a hint where to look."""
    monkeypatch.chdir(tmp_path)
    done = command(*args)
    assert (done.code, done.out) == (3, "")
    assert "`bgfetch " in done.err
    assert "Traceback" not in done.err


def test_same_id_for_other_requests(command: Command, server: OriginServer) -> None:
    """An id that is busy with other requests is named, and what it holds is left alone."""
    server.rate = 10_000.0
    assert command("get", server.url, "--id", "mine", "--timeout", "0.3").code == 75
    done = command("get", f"{server.url}?other", "--id", "mine")
    assert done.code == 2
    assert "'mine'" in done.err
    assert [row["id"] for row in command("ls", "--active", "--json").objects] == ["mine"]


def test_settled_cannot_be_changed(command: Command, server: OriginServer) -> None:
    """What is over cannot be paused, resumed or aborted; the message says how it ended."""
    command("get", server.url, "--id", "mine")
    for verb in ("pause", "resume", "abort"):
        done = command(verb, "mine")
        assert (done.code, done.out) == (2, "")
        assert "success" in done.err
    assert command("get", server.url).code == 0


def a_directory(at: Path) -> Path:
    """A folder."""
    at.mkdir()
    return at


def a_link(at: Path) -> Path:
    """A link to a file that somebody needs."""
    (at.parent / "precious").write_bytes(b"precious")
    at.symlink_to(at.parent / "precious")
    return at


def a_dangling_link(at: Path) -> Path:
    """A link to nothing."""
    at.symlink_to(at.parent / "nowhere")
    return at


def a_pipe(at: Path) -> Path:
    """A named pipe."""
    os.mkfifo(at)
    return at


def without_parent(at: Path) -> Path:
    """A file in a folder that is not there."""
    return at / "missing" / "file"


def below_a_file(at: Path) -> Path:
    """A file in what is no folder."""
    at.write_bytes(b"")
    return at / "file"


def too_long(at: Path) -> Path:
    """A name no file system takes."""
    return at.with_name("x" * 300)


def a_kernel_folder(_at: Path) -> Path:
    """A folder that not even an administrator writes to."""
    return Path("/proc/bgfetch-cannot-write-here")


@pytest.mark.parametrize(
    "make",
    [a_directory, a_link, a_dangling_link, a_pipe, without_parent, below_a_file, too_long, a_kernel_folder],
)
def test_target(command: Command, server: OriginServer, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """A target that cannot be is refused before the first byte is asked for, and nothing there is touched."""
    target = make(tmp_path / "target")
    before = names_below(tmp_path)
    done = command("get", server.url, "-o", target)
    assert (done.code, done.out) == (2, "")
    assert server.requests == []
    assert names_below(tmp_path) == before
    if (tmp_path / "precious").exists():
        assert (tmp_path / "precious").read_bytes() == b"precious"


def test_target_without_a_name(command: Command, server: OriginServer, tmp_path: Path) -> None:
    """A path that ends in a slash, or is empty, names no file."""
    for target in (f"{tmp_path}/new/", "", "."):
        assert command("get", server.url, "-o", target).code == 2
    assert server.requests == []


def test_several_need_a_directory(command: Command, server: OriginServer, tmp_path: Path) -> None:
    """Several files are not written over each other."""
    assert command("get", server.url, f"{server.url}?2", "-o", tmp_path / "file").code == 2
    assert server.requests == []


def test_home_that_cannot_be(command: Command, server: OriginServer, tmp_path: Path) -> None:
    """A home that is a file, or a setting that cannot be read, is a named error."""
    (tmp_path / "file").write_bytes(b"kept")
    done = command("--home", tmp_path / "file", "get", server.url)
    assert done.code == 7
    assert str(tmp_path / "file") in done.err
    assert (tmp_path / "file").read_bytes() == b"kept"
    command.settings["BGFETCH_ATTEMPTS"] = "several"
    done = command("get", server.url)
    assert done.code == 2
    assert "BGFETCH_ATTEMPTS" in done.err


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="../../../../tmp/evil"', "evil"),
        ('attachment; filename="..\\\\..\\\\evil.exe"', "evil.exe"),
        ('attachment; filename=".."', "model.bin"),
        ('attachment; filename="/etc/passwd"', "passwd"),
        ('attachment; filename=".bashrc"', "_.bashrc"),
        ('attachment; filename="-rf"', "_-rf"),
        ('attachment; filename="CON.txt"', "_CON.txt"),
        ("attachment; filename*=UTF-8''a%1b%5b31m%07%e2%80%aeb.bin", "a[31mb.bin"),
        ("attachment; filename*=UTF-8''%2e%2e%2fevil", "evil"),
        ('attachment; filename="C:evil"', "C_evil"),
    ],
)
def test_name_from_the_server(command: Command, tmp_path: Path, disposition: str, name: str) -> None:
    """A name from a server is one safe component below the home, whatever it tries."""

    def answer(exchange: Exchange) -> None:
        exchange.send(exchange.correct().but(content_disposition=disposition))

    with OriginServer(BODY, answer) as server:
        done = command("get", server.url)
    assert done.code == 0, done.err
    path = Path(done.out.rstrip("\n"))
    assert path.name == name
    assert path.is_relative_to(command.home / "names")
    assert path.read_bytes() == BODY
    assert [each.name for each in tmp_path.iterdir()] == ["home"]


def test_nothing_from_outside_acts_on_the_terminal(command: Command) -> None:
    """Escape sequences in titles, ids, addresses and reasons are shown, not obeyed."""
    evil = "\x1b]0;owned\x07\x1b[2J\u202ered"

    def answer(exchange: Exchange) -> None:
        exchange.send(exchange.correct().but(content_type="text/html\x1b[2J", etag='"\x1b[31m"'))

    with OriginServer(BODY, answer) as server:
        said = [command("get", server.url, "--title", evil, "--id", f"id{evil}", "--timeout", "5")]
        looks = (["ls"], ["ls", "-q"], ["show", f"id{evil}"], ["events"], ["cache", "ls"])
        said += [command(*args) for args in looks]
        said.append(command("pause", f"no{evil}"))
        said.append(command(evil))
        said += [command("ls", "--json"), command("show", f"id{evil}", "--json"), command("events", "--json")]
    for each in said:
        assert not {"\x1b", "\x07", "\u202e"} & set(each.out + each.err), each


def test_refused_input_costs_nothing_that_is_here(command: Command, server: OriginServer) -> None:
    """After a series of bad calls what was fetched before is still here."""
    path = command("get", server.url).out
    for args in (
        ["get", "nonsense"],
        ["get", server.url, "--size", "3"],
        ["abort", "x"],
        ["cache", "rm", "http://h/"],
    ):
        assert command(*args).code != 0
    assert command("get", server.url).out == path
    assert Path(path.strip()).read_bytes() == BODY
