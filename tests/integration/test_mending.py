"""Rows that are not what was written: `get`, `bgfetch.get` and the daemon make them good by themselves."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
from pathlib import Path

import pytest
from tests.command import Command

import bgfetch
from bgfetch.config import load
from bgfetch.core.model import Progress, Request, Result, State
from bgfetch.engine.admission import Admission
from bgfetch.mending import mend_rows
from bgfetch.testing import OriginServer
from bgfetch.wiring import Wiring

BODY = random.Random(21).randbytes(300_000)
LONG = random.Random(22).randbytes(5 << 20)

TITLE = "UPDATE registrations SET title = 'another'"
REQUEST = "UPDATE records SET request = replace(request, '/', '!')"
ENTRY = "UPDATE entries SET blob = 'bb'"
GARBLED = "UPDATE entries SET request = CAST(x'ff' AS TEXT)"
OUTBOX = "UPDATE outbox SET type = CAST(x'ff' AS TEXT), acknowledged_at = NULL"
LOG = "UPDATE log SET detail = CAST(x'ff' AS TEXT)"


def change(home: Path, *statements: str) -> None:
    """As a disk that rots would."""
    with contextlib.closing(sqlite3.connect(home / "state" / "bgfetch.sqlite3")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def copies(home: Path) -> list[str]:
    """What was kept aside."""
    return [each.name for each in (home / "state").glob("*.damaged-*[0-9]")]


@pytest.mark.parametrize("damage", [TITLE, REQUEST, ENTRY, GARBLED, OUTBOX, LOG])
def test_what_is_whole_is_given_again(tmp_path: Path, damage: str) -> None:
    """Whichever row rotted, the second `get` asks nobody; `doctor --repair` mends what it did not meet."""
    command = Command(tmp_path / "home")
    with OriginServer(BODY) as server:
        assert command("get", server.url).code == 0
        change(command.home, damage)
        asked = len(server.requests)
        said = command("get", server.url)
        assert said.code == 0, said.err
        assert Path(said.out.strip()).read_bytes() == BODY
        assert len(server.requests) == asked
    assert command("ls").code == command("events").code == 0
    command("doctor", "--repair")
    assert [line for line in command("doctor").lines if "database" in line and "is sound" in line]


def test_an_unfinished_one_goes_on(tmp_path: Path) -> None:
    """A registration whose rows rotted is made again from its partial, says so in its log, and asks for the rest only."""
    command = Command(tmp_path / "home")
    with OriginServer(LONG) as server:
        server.rate = 3e6
        assert command("get", server.url, "--id", "half", "--timeout", "1s").code == 75
        server.rate, before = 0.0, server.bytes_sent
        change(command.home, TITLE, REQUEST)
        said = command("get", server.url, "--id", "half")
        assert said.code == 0, said.err
        assert "damaged" in said.err
        assert server.bytes_sent - before < len(LONG)
    assert len(copies(command.home)) == 1
    assert "rebuilt" in command("events").out


def test_others_are_left_as_they_are(tmp_path: Path) -> None:
    """One damaged row costs no other registration anything, not even one that has no file yet."""
    wiring = Wiring(load({"home": tmp_path, "in_process": True}))
    store = wiring.registrations
    rows = [store.add("app", f"id-{n}", [(Request(f"https://host/{n}"), f"k{n}")], now=1.0) for n in range(3)]
    change(tmp_path, f"{TITLE} WHERE uid = {rows[1].uid}")
    assert store.unreadable() == [rows[1].uid]
    words = mend_rows(wiring.database, wiring.kept, now=7.0)
    assert "1 registrations, 0 cache entries and 0 events" in words
    assert [row.id for row in store.listing()] == ["id-2", "id-0"]
    assert mend_rows(wiring.database, wiring.kept, now=8.0) == ""
    assert copies(tmp_path) == ["bgfetch.sqlite3.damaged-7"]
    wiring.close()


def test_the_blocking_call_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bgfetch.get` gives the file that is here."""
    monkeypatch.setenv("BGFETCH_HOME", str(tmp_path))
    with OriginServer(BODY) as server:
        assert bgfetch.get(server.url).read_bytes() == BODY
        change(tmp_path, TITLE, ENTRY)
        assert bgfetch.get(server.url).read_bytes() == BODY
        assert server.bytes_sent < 2 * len(BODY)


def test_the_daemon_goes_on_with_the_others(tmp_path: Path) -> None:
    """What cannot be read keeps nobody waiting, and is mended while the daemon works."""
    wiring = Wiring(load({"home": tmp_path, "in_process": True}))
    with OriginServer(BODY) as server:
        wiring.manager("app").add("bad", [Request("http://127.0.0.1:9/")])
        good = wiring.manager("app").add("good", [Request(server.url)])
        change(tmp_path, f"{TITLE} WHERE id = 'bad'")
        done, mended = threading.Event(), threading.Event()

        def mend() -> None:
            assert mend_rows(wiring.database, wiring.kept, now=wiring.clock.now())
            mended.set()

        admission = Admission(wiring.registrations, wiring.runner, wiring.clock, mend=mend)
        admission.follow(lambda uid, progress: done.set() if _is_over(uid, progress, good.uid) else None)
        admission.start()
        try:
            assert mended.wait(10)
            assert done.wait(10)
        finally:
            admission.close()
    assert [(row.id, row.result) for row in wiring.registrations.listing()] == [("good", Result.SUCCESS)]
    wiring.close()


def _is_over(uid: int, progress: Progress, asked: int) -> bool:
    return uid == asked and progress.state is State.SETTLED
