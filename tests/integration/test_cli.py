"""The other commands: what they show, what they change, and that they start at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command import Command

from bgfetch.cli.exits import Exit
from bgfetch.cli.main import COMMANDS
from bgfetch.core.model import Request
from bgfetch.database import Database
from bgfetch.registrations.sqlite import SqliteRegistrations
from bgfetch.testing import OriginServer

BODY = os.urandom(3 << 20)
_HEAVY = ("pycurl", "rich", "asyncio", "msgspec")
_LOADED = (
    "import sys; from bgfetch.cli.main import run; code = run(sys.argv[1:]);"
    f"print(code, *[name for name in {_HEAVY} if name in sys.modules], file=sys.stderr)"
)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command line with a fresh home."""
    return Command(tmp_path / "home")


@pytest.fixture
def server() -> Iterator[OriginServer]:
    """A correct origin."""
    with OriginServer({"/model.bin": BODY, "/other.bin": b"other" * 100}) as server:
        yield server


def paused(command: Command, server: OriginServer, id_: str = "mine") -> None:
    """A registration that holds some bytes and that nobody runs."""
    server.rate = 300_000.0
    assert command("get", server.url, "--id", id_, "--title", "Gemma", "--timeout", "1s").code == 75
    server.rate = 0.0


def store(command: Command) -> SqliteRegistrations:
    """The registrations of the home; its database is the caller's to close."""
    return SqliteRegistrations(Database.open(command.home / "state" / "bgfetch.sqlite3", now=0.0))


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["ls"], ["ls", "--json"], ["events"], ["cache", "ls"]]
)
def test_looking_imports_little(command: Command, server: OriginServer, args: list[str]) -> None:
    """What only looks imports no transfer library, no drawing, no event loop."""
    command("get", server.url)
    said = command.process(*args, python=("-c", _LOADED))
    assert said.err.split() == ["0"]


def test_cached_get_imports_little(command: Command, server: OriginServer) -> None:
    """Nor does a `get` of what is here already."""
    command("get", server.url)
    said = command.process("get", server.url, python=("-c", _LOADED))
    assert said.err.split() == ["0"]
    assert Path(said.out.strip()).read_bytes() == BODY


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(command: Command, name: str) -> None:
    """Each command has help, as a process of its own, and needs no home for it."""
    said = command.process(name, "--help")
    assert said.code == 0
    assert said.out.startswith(f"Usage: bgfetch {name}")
    assert "\\" not in said.out  # a mark for click that it did not understand
    assert not command.home.exists()


def test_ls(command: Command, server: OriginServer) -> None:
    """The newest comes first; each says how it stands; filters and ids only."""
    assert command("ls").out == ""
    command("get", server.url_of("/other.bin"), "--id", "other")
    paused(command, server)
    lines = command.process("ls").lines
    assert lines[0].split() == ["ID", "STATE", "SIZE", "AGE", "TITLE"]
    assert lines[1].split()[:2] == ["mine", "stopped"]
    assert "/3.0 MiB" in lines[1]
    assert lines[1].endswith("Gemma")
    assert lines[2].split()[:4] == ["other", "done", "500", "B"]
    assert command("ls", "-q").lines == ["mine", "other"]
    assert command("ls", "-q", "-a").lines == ["mine"]
    assert command("ls", "-q", "-n", "1").lines == ["mine"]
    assert command("ls", "-q", "--scope", "elsewhere").lines == []
    first, second = command("ls", "--json").objects
    assert (first["id"], first["title"], first["settled_at"]) == ("mine", "Gemma", None)
    assert (second["id"], second["result"], second["downloaded"]) == ("other", "success", 500)
    assert [each["download_total"] for each in (first, second)] == [len(BODY), 500]
    (shown,) = command("show", "other", "--json").objects
    assert (shown["download_total"], shown["promised_total"]) == (500, 0)


def test_ls_names_scopes(command: Command, server: OriginServer) -> None:
    """Scopes are shown as soon as there is more than the usual one."""
    command("get", server.url_of("/other.bin"), "--scope", "app")
    assert command("ls").lines[0].split()[-2:] == ["SCOPE", "TITLE"]
    assert command("get", server.url_of("/other.bin")).code == 0
    assert len(server.requests) == 2  # a scope does not see what another one has


def test_show(command: Command, server: OriginServer) -> None:
    """One registration with its records, in words and as an object."""
    paused(command, server)
    words = command.process("show", "mine").out
    assert "Gemma" in words
    assert server.url in words
    facts = command("show", "mine", "--json").objects[0]
    assert (facts["id"], facts["running"], facts["result"]) == ("mine", False, "")
    assert facts["records"][0]["url"] == server.url
    assert 0 < facts["records"][0]["downloaded"] < len(BODY)
    command("resume", "mine")
    facts = command("show", "mine", "--json").objects[0]
    assert Path(facts["records"][0]["path"]).read_bytes() == BODY


def test_events(command: Command, server: OriginServer) -> None:
    """What happened, oldest first, to the worker's acknowledgement; after a number only what is new; of one or of all."""
    command("get", server.url_of("/other.bin"), "--id", "one")
    command("get", server.url_of("/nothing"), "--id", "two")
    names = [line["name"] for line in command("events", "one", "--json").objects]
    assert names == ["registered", "backgroundfetchsuccess", "acknowledged"]
    all_lines = command("events", "--json").objects
    assert [line["seq"] for line in all_lines] == sorted(line["seq"] for line in all_lines)
    of_two = ["registered", "backgroundfetchfail", "acknowledged"]
    assert [line["name"] for line in all_lines] == [*names, *of_two]
    assert [line["detail"] for line in all_lines if line["name"] == "registered"] == ["1 request"] * 2
    last = all_lines[-2]["seq"]
    assert command("events", "--after", str(last), "--json").objects == all_lines[-1:]
    assert "backgroundfetchfail" in command.process("events", "two").out


def test_pause_reaches_another_process(command: Command, server: OriginServer) -> None:
    """A download that another process runs rests within a second, keeps its bytes, and `resume` ends it."""
    server.rate = 200_000.0
    process = command.start("get", server.url, "--id", "mine")
    while not command("ls", "-a", "--json").objects:
        assert process.poll() is None
    assert command.process("pause", "mine").code == 0
    while command("show", "mine", "--json").objects[0]["state"] != "paused":
        assert process.poll() is None
    process.terminate()
    process.communicate(timeout=15)
    assert process.returncode == Exit.DETACHED
    assert command("ls", "-a").lines[1].split()[:2] == ["mine", "paused"]
    server.rate = 0.0
    said = command.process("resume", "mine")
    assert said.code == 0, said.err
    assert Path(said.out.strip()).read_bytes() == BODY


def test_abort_reaches_another_process(command: Command, server: OriginServer) -> None:
    """A download that another process runs ends there, with the code that says so."""
    server.rate = 200_000.0
    process = command.start("get", server.url, "--id", "mine")
    while not command("ls", "-a", "--json").objects:
        assert process.poll() is None
    assert command.process("abort", "mine").code == 0
    process.communicate(timeout=15)
    assert process.returncode == Exit.ABORTED
    assert command("show", "mine", "--json").objects[0]["failure_reason"] == "aborted"


def test_abort_of_what_nobody_runs(command: Command, server: OriginServer) -> None:
    """It is settled at once, asks the server for nothing, and its bytes are deleted."""
    paused(command, server)
    asked = len(server.requests)
    said = command("abort", "mine")
    assert said.code == 0, said.err
    assert len(server.requests) == asked
    assert list((command.home / "partials").glob("*/data")) == []
    assert command("ls", "-a", "-q").lines == []


def test_resume_of_several(command: Command, server: OriginServer) -> None:
    """Several are waited for together; one that is unknown is named and nothing is begun."""
    paused(command, server)
    with OriginServer({"/second.bin": BODY}, rate=300_000.0) as other:
        assert command("get", other.url, "--id", "second", "--timeout", "1s").code == 75
        other.rate = 0.0
        assert command("resume", "mine", "unknown").code == 3
        said = command("resume", "mine", "second", "--json")
        assert said.code == 0, said.err
        assert [Path(each["path"]).name for each in said.objects] == ["model.bin", "second.bin"]


def test_cache_commands(command: Command, server: OriginServer, tmp_path: Path) -> None:
    """What is stored can be listed, found, exported and removed."""
    path = command("get", server.url).out
    assert command.process("cache", "path", server.url).out == path
    (row,) = command("cache", "ls", "--json").objects
    assert (row["url"], row["size"], row["cache"]) == (server.url, len(BODY), "downloads")
    assert server.url in command("cache", "ls").out
    target = tmp_path / "out.bin"
    assert command("cache", "export", server.url, target).out == f"{target}\n"
    assert target.read_bytes() == BODY
    assert command("cache", "rm", server.url, "--dry-run").code == 0
    assert command("cache", "path", server.url).code == 0
    refused = command.process("cache", "rm", server.url)
    assert (refused.code, "--yes" in refused.err) == (2, True)
    said = command("cache", "rm", server.url, "--yes")
    assert (said.code, said.err) == (0, "bgfetch: 3.0 MiB freed\n")
    assert command("cache", "path", server.url).code == 3
    assert target.read_bytes() == BODY


def test_cache_commands_for_programs(command: Command, server: OriginServer, tmp_path: Path) -> None:
    """Whatever `bgfetch cache` does it also says as JSON, and nothing else on stdout."""
    path, size = command("get", server.url).out.strip(), len(BODY)
    target = str(tmp_path / "out.bin")
    here = {"url": server.url, "path": path, "size": size, "verified": "validators", "digest": ""}
    said = {
        ("path", server.url): here,
        ("export", server.url, target): {"url": server.url, "path": target, "size": size},
        ("pin", server.url): {"url": server.url, "cache": "downloads", "pinned": True},
        ("unpin", server.url): {"url": server.url, "cache": "downloads", "pinned": False},
        ("rm", server.url, "--dry-run"): {"entries": 1, "freed": 0, "dry_run": True},
        ("rm", server.url, "--yes"): {"entries": 1, "freed": size, "dry_run": False},
    }
    for args, facts in said.items():
        assert command("cache", *args, "--json").objects == [facts], args


def test_cache_prune(command: Command, server: OriginServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what nobody refers to goes, and only after a yes."""
    monkeypatch.setattr("bgfetch.cli.cache._LEAST_AGE", -60.0)
    command("get", server.url)
    stray = command.home / "blobs" / "sha256" / "ab" / ("ab" * 32)
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"stray")
    assert command("cache", "prune", "--older-than", "0", "--dry-run", "--json").objects[0]["freed"] == 5
    assert stray.exists()
    assert command("cache", "prune", "--older-than", "0", "--yes", "--json").objects[0]["freed"] == 5
    assert not stray.exists()
    assert command("cache", "path", server.url).code == 0


def test_cache_verify_and_repair(command: Command, server: OriginServer) -> None:
    """A bit that flipped on the disk is found, and only the piece around it is fetched again."""
    sha256 = hashlib.sha256(BODY).hexdigest()
    command("get", server.url, "--sha256", sha256)
    assert command("cache", "verify").code == 0
    blob = command.home / "blobs" / "sha256" / sha256[:2] / sha256
    blob.chmod(0o600)
    with blob.open("r+b") as file:
        file.seek(1 << 20)
        file.write(bytes([BODY[1 << 20] ^ 1]))
    said = command.process("cache", "verify", "--json")
    assert said.code == 6
    assert [each["sound"] for each in said.objects] == [False]
    before = server.bytes_sent
    (mended,) = command("cache", "repair", "--json").objects
    assert (mended["urls"], mended["damaged"], mended["repaired"]) == ([server.url], 1 << 20, True)
    assert server.bytes_sent - before < len(BODY) + 1
    assert command("cache", "verify", server.url).code == 0
    path = Path(command("cache", "path", server.url).out.strip())
    assert path.read_bytes() == BODY


def test_doctor(command: Command, server: OriginServer) -> None:
    """Each finding is an object; all is well in a fresh home and after a download."""
    command("get", server.url)
    said = command.process("doctor", "--json")
    assert said.code == 0, said.out
    checks = {each["check"] for each in said.objects}
    assert checks >= {"bgfetch", "libcurl", "home", "disk", "database", "clock", "proxy", "certificates"}
    assert "ok" in command("doctor").out


def test_doctor_finds(command: Command, server: OriginServer) -> None:
    """Certificates that are not there, a proxy's password, and rights of others are found; no secret is shown."""
    command("get", server.url)
    command.home.chmod(0o777)
    command.settings["BGFETCH_CA_FILE"] = str(command.home / "nothing.pem")
    command.settings["https_proxy"] = "http://me:hunter2@proxy:3128"
    said = command("doctor", "--json")
    assert said.code == 10
    assert {each["check"] for each in said.objects if each["verdict"] == "wrong"} == {"home", "certificates"}
    assert "hunter2" not in said.out


def test_doctor_repairs_the_database(command: Command, server: OriginServer) -> None:
    """A damaged database is told, and with --repair set aside and made again: no file is fetched twice for it."""
    path = command("get", server.url).out
    database = command.home / "state" / "bgfetch.sqlite3"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'log'").fetchone()
    data = bytearray(database.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    database.write_bytes(data)
    assert command("doctor").code == 10
    said = command("doctor", "--repair")
    assert said.code == 0, said.out
    assert list(database.parent.glob("*.damaged-*"))
    asked = len(server.requests)
    assert command("get", server.url).out == path
    assert len(server.requests) == asked


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(command: Command, shell: str) -> None:
    """The script for a shell names the program and the variable that it asks with."""
    out = command.process("completion", shell).out
    assert "bgfetch" in out
    assert "_BGFETCH_COMPLETE" in out


def test_completion_offers_ids(command: Command, server: OriginServer) -> None:
    """Ids of what is not over are completed."""
    paused(command, server)
    command.settings |= {
        "_BGFETCH_COMPLETE": "bash_complete",
        "COMP_WORDS": "bgfetch resume mi",
        "COMP_CWORD": "2",
    }
    assert command.process().out == "plain,mine\n"


def test_output_may_be_cut(command: Command) -> None:
    """`bgfetch ls | head -1` ends quietly."""
    command("ls")
    registrations = store(command)
    for number in range(5000):
        registrations.add("default", f"id-{number}", [(Request("http://h/"), "k")], now=1.0)
        if number == 0:
            registrations._database._connection().execute("PRAGMA synchronous = OFF")
    registrations._database.close()
    process = command.start("ls")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("ID")
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert (process.wait(timeout=15), err) == (0, "")
    process.stderr.close()


def test_python_dash_m(command: Command) -> None:
    """`python -m bgfetch` is the same program."""
    said = command.process("--version")
    assert said.out.startswith("bgfetch ")
