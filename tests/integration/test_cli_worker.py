"""`bgfetch worker` as people call it, and an app's worker that is woken by a fetch in the same process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bgfetch.cli.exits import Exit
from bgfetch.cli.main import run
from bgfetch.testing import OriginServer

WORKER = """
from bgfetch.worker import on

@on("backgroundfetchsuccess")
async def downloaded(event):
    cache = await event.caches.open("downloads")
    for record in await event.registration.match_all():
        await cache.put(record.request, await record.response_ready)
        print("put", record.request.url)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and a folder with the app's worker in it."""
    (tmp_path / "app_worker.py").write_text(WORKER, "utf-8")
    monkeypatch.setenv("BGFETCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BGFETCH_IN_PROCESS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def objects(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """What was printed as JSON."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_worker_from_registration_to_its_end(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Registered, listed, woken by a fetch, unregistered."""
    assert run(["worker", "register", "--scope", "app", "app_worker", "--json"]) == Exit.DONE
    (told,) = objects(capsys)
    assert (told["scope"], told["state"], told["target"]) == ("app", "active", ["app_worker"])
    assert run(["worker", "ls"]) == Exit.DONE
    assert "app_worker" in capsys.readouterr().out
    with OriginServer(b"model" * 1000) as server:
        assert run(["get", "--scope", "app", "--quiet", server.url]) == Exit.DONE
        log = place / "home" / "daemon" / "log" / "workers" / "app.log"
        assert f"put {server.url}" in log.read_text("utf-8")
        assert run(["cache", "path", "--scope", "app", server.url]) == Exit.DONE
    capsys.readouterr()
    assert run(["worker", "unregister", "app", "--yes", "--json"]) == Exit.DONE
    assert objects(capsys) == [{"scope": "app", "purged": 1}]
    assert run(["worker", "ls", "--json"]) == Exit.DONE
    assert objects(capsys) == []


def test_a_rehearsal_shows_what_the_handler_says(capsys: pytest.CaptureFixture[str]) -> None:
    """On an event that never was, in a home that is thrown away."""
    assert run(["worker", "test", "app_worker", "--url", "https://host/x"]) == Exit.DONE
    said = capsys.readouterr()
    assert said.out == "put https://host/x\n"
    assert "backgroundfetchsuccess: handled" in said.err
    assert run(["worker", "test", "--json", "--command", "--", "sh", "-c", "echo no; exit 4"]) == Exit.BUG
    (told,) = objects(capsys)
    assert (told["exit_code"], told["output"]) == (4, "no\n")
    assert run(["worker", "ls", "--json"]) == Exit.DONE
    assert objects(capsys) == []


@pytest.mark.parametrize("name", ["no_such_module", "no_such.module:handle", "app_worker.no_such"])
def test_a_rehearsal_without_its_module_says_what_to_do(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named, with a way out, as a mistake of who asks and no bug of ours."""
    assert run(["worker", "test", name]) == Exit.USAGE
    said = capsys.readouterr()
    assert f"there is no module {name.partition(':')[0]!r} where Python looks" in said.err
    assert "Traceback" not in said.out + said.err


def test_a_rehearsal_of_what_imports_nonsense_shows_where(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a module of the app imports in vain is a fault in it: the traceback names the line."""
    (place / "hasty_worker.py").write_text("import no_such_module\n", "utf-8")
    assert run(["worker", "test", "hasty_worker"]) == Exit.BUG
    assert "import no_such_module" in capsys.readouterr().out


def test_a_scope_with_a_registration_only_can_be_unregistered(capsys: pytest.CaptureFixture[str]) -> None:
    """It needs no worker for that; afterwards there is none of that name."""
    with OriginServer(b"model" * 1000) as server:
        assert run(["get", "--scope", "app", "--quiet", server.url]) == Exit.DONE
    assert run(["worker", "unregister", "app"]) == Exit.USAGE  # nobody can be asked
    assert run(["worker", "unregister", "app", "--yes"]) == Exit.DONE
    assert "1 registrations were forgotten" in capsys.readouterr().err
    assert run(["worker", "unregister", "app", "--yes"]) == Exit.NOT_FOUND
    assert "there is no scope 'app'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["register", "no_such_module"], Exit.USAGE),
        (["register", "one", "two"], Exit.USAGE),
        (["register", "--command", "no-such-command"], Exit.USAGE),
        (["test", "--scope", "nobody"], Exit.NOT_FOUND),
        (["redeliver", "7"], Exit.NOT_FOUND),
        (["redeliver", "7", "--json"], Exit.NOT_FOUND),
        (["unregister", "app", "--yes"], Exit.NOT_FOUND),
        (["unregister", "app"], Exit.NOT_FOUND),
    ],
)
def test_what_cannot_be_done_says_so(arguments: list[str], code: Exit) -> None:
    """With the exit code that scripts know, and nothing changed."""
    assert run(["worker", *arguments]) == code
