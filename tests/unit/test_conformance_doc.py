"""docs/conformance.md lists the cases and departures that the tests have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_not_stale() -> None:
    """Each case and departure is listed as it is, and passed: `python tools/write_conformance.py`."""
    command = [sys.executable, "tools/write_conformance.py", "--check"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=19, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
