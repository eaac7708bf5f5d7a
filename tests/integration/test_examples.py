"""The examples do what they say: fetch, print the path, go on after a kill, give what is here."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.daemons import DaemonProcess

from bgfetch.testing import Exchange, OriginServer, plain

ROOT = Path(__file__).resolve().parents[2]
BODY = random.Random(6).randbytes(3_000_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
EXAMPLES = ("01_get.py", "02_background_fetch.py")


def start(example: str, home: Path, *arguments: str) -> subprocess.Popen[str]:
    """The example, running."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / example), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "BGFETCH_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(example: str, home: Path, *arguments: str) -> tuple[int, str, str]:
    """Its exit code, what it printed, and what it said beside that."""
    with start(example, home, *arguments) as process:
        out, err = process.communicate(timeout=15)
    return process.returncode, out, err


@pytest.mark.parametrize("example", EXAMPLES)
def test_prints_the_path_and_asks_only_once(example: str, tmp_path: Path) -> None:
    """The path holds the bytes under the file's own name; a second run asks nobody."""
    with OriginServer({"/llm.gguf": BODY}) as origin:
        first = run(example, tmp_path, origin.url)
        asked = len(origin.requests)
        second = run(example, tmp_path, origin.url)
        assert len(origin.requests) == asked
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert first[1] == second[1]
    path = Path(first[1].strip())
    assert (path.name, path.read_bytes()) == ("llm.gguf", BODY)
    assert "3,000,000 of 3,000,000" in first[2]


@pytest.mark.parametrize("example", EXAMPLES)
def test_goes_on_after_a_kill(example: str, tmp_path: Path) -> None:
    """Killed on the way, it does not ask again for what it has."""
    reached = threading.Event()

    def stuck(exchange: Exchange) -> None:
        reply = exchange.correct()
        exchange.write(exchange.closing(reply).head())
        exchange.stream(reply.content.chunks(0, 2_500_000))
        reached.set()
        exchange.hold()

    with OriginServer(BODY, stuck) as origin:
        with start(example, tmp_path, origin.url) as process:
            assert reached.wait(10)
            wait_for(process, "2,500,000 of")
            process.kill()
            process.communicate()
        origin.answer_with(plain)
        before = origin.bytes_sent
        code, out, err = run(example, tmp_path, origin.url)
        assert code == 0, err
        assert Path(out.strip()).read_bytes() == BODY
        assert origin.bytes_sent - before < 1_100_000  # what is missing, and at most a piece


def test_an_app_hands_over_and_leaves(tmp_path: Path) -> None:
    """It ends before its model is here; the daemon runs its worker; run again, the app prints the path."""
    home = DaemonProcess(tmp_path / "home")
    with OriginServer({"/llm.gguf": BODY}, rate=1e6) as origin:

        def app() -> tuple[int, str, str]:
            said = subprocess.run(
                [sys.executable, "03_app.py", origin.url, SHA256],
                env=home.environ, cwd=ROOT / "examples", capture_output=True, text=True, timeout=15, check=False,
            )  # fmt: skip
            return said.returncode, said.stdout, said.stderr

        try:
            assert app()[:2] == (0, "model is on its way; this app ends now\n")
            home.logged("acknowledged")
            assert len(home.call("GET", "/v1/registrations")["registrations"]) == 1
            code, out, err = app()
        finally:
            assert home.command("daemon", "stop").returncode == 0
    assert code == 0, err
    assert Path(out.strip()).read_bytes() == BODY
    assert "3,000,000 bytes are in the cache" in home.address.worker_log("example-app").read_text("utf-8")


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Return when the process has said this."""
    assert process.stderr is not None
    said = ""
    while text not in said:
        more = process.stderr.read(1)
        assert more, said
        said += more


def test_get_takes_a_digest(tmp_path: Path) -> None:
    """Bytes of another digest are refused, and no path is printed."""
    with OriginServer(BODY) as origin:
        code, out, err = run("01_get.py", tmp_path, origin.url, "0" * 64)
        assert (code, out) == (1, "")
        assert "IntegrityError" in err
        assert run("01_get.py", tmp_path, origin.url, SHA256)[0] == 0


def test_failure_is_told(tmp_path: Path) -> None:
    """A 404 ends the second example with the standard's reason and what exactly happened."""
    with OriginServer(BODY) as origin:
        code, out, err = run("02_background_fetch.py", tmp_path, origin.url_of("/nothing"))
    assert (code, out) == (1, "")
    assert "bad-status: status-404" in err
