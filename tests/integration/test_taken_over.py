"""A process that lost a registration to another one knows it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.integration.test_engine import BODY, SOON, Halt

from bgfetch.config import load
from bgfetch.core.identity import request_key
from bgfetch.core.model import Request
from bgfetch.testing import OriginServer
from bgfetch.wiring import Wiring


def test_what_another_process_runs_is_not_said_to_run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where locks lie, the loser stops, says it runs nothing, leaves the lock file alone, and may claim again."""
    halt, forgotten = Halt(3 << 20), threading.Event()
    wiring = Wiring(load({"home": tmp_path, "in_process": True}, environ={}))
    forget = wiring.runner._claims.forget

    def forgets(uid: int) -> None:
        forget(uid)
        forgotten.set()

    monkeypatch.setattr(wiring.runner._claims, "forget", forgets)
    with OriginServer(BODY, halt) as server:
        request = Request(server.url)
        row = wiring.registrations.add("default", "x", [(request, request_key(request))], now=0.0)
        assert wiring.runner.run(row.uid)
        assert halt.reached.wait(SOON)
        wiring.registrations.claim(row.uid, "somebody on another machine")
        halt.go_on()
        assert forgotten.wait(SOON)
        assert not wiring.runner.running(row.uid)
        assert (wiring.claims_root / f"{row.uid}.lock").exists()
        assert wiring.runner.run(row.uid)
        assert wiring.runner.running(row.uid)
        wiring.close()
