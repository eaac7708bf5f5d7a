"""A model larger than a browser's memory should be: it comes whole, and the browser stays as small as it was."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from tests.browser.lab import running
from tests.browser.models import Seeded
from tests.browser.sites import Site

MODEL = "/models/m/model.bin"
MIB = 1 << 20


class Memory:
    """The most that a group of processes held in anonymous memory, looked at all the time.

    Args:
        group: Its id.
    """

    def __init__(self, group: int) -> None:
        self.all = 0
        self.page = 0
        self._group = group
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.25):
            held = [_anonymous(pid) for pid in _group(self._group)]
            self.all, self.page = max(self.all, sum(held)), max(self.page, *held, 0)


def _group(group: int) -> list[int]:
    """Processes of a session; browsers give their children groups of their own, but not sessions."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            session = int((each / "stat").read_text().rpartition(")")[2].split()[3])
        except OSError:
            continue
        if session == group:
            found.append(int(each.name))
    return found


def _anonymous(pid: int) -> int:
    """Bytes of its memory that are no file's."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    named = dict(line.split(":", 1) for line in lines if ":" in line)
    return sum(int(named.get(name, "0 kB").split()[0]) for name in ("RssAnon", "RssShmem")) * 1024


@pytest.mark.timeout(900)  # the whole size; the sample takes a few seconds
@pytest.mark.parametrize("kind", ["bare", "firefox"])
@pytest.mark.parametrize(
    "mib", [pytest.param(160, id="sample"), pytest.param(2560, id="whole", marks=pytest.mark.whole)]
)
def test_memory_is_flat(kind: str, mib: int, tmp_path: Path) -> None:
    """Whatever the size, no process of the browser grows by more than a few segments for each connection."""
    with Site() as site, running(kind, tmp_path / kind) as browser:
        model = site.model(MODEL, mib * MIB)
        assert isinstance(model.content, Seeded)
        tab = browser.open(site.url_of("/pages/large.html"))
        tab.run("await ready")
        os.sync()
        memory = Memory(browser.process.pid)
        begun = time.monotonic()
        tab.run("await begin(url)", url=MODEL)
        told = site.wait(lambda: next((it for it in site.told if "ended" in it), None), within=850)
        took = time.monotonic() - begun
        memory.end()
        assert told == {"ended": "success", "size": model.size}
        print(
            f"{kind}, {mib} MiB: {took:.0f} s, {mib / took:.0f} MiB/s; largest process {memory.page / MIB:.0f} MiB, "
            f"all {memory.all / MIB:.0f} MiB; {model.sent / model.size:.2f} x the bytes"
        )
        assert memory.page < 700 * MIB
        assert model.sent <= 1.05 * model.size
