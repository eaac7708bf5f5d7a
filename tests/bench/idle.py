"""What a daemon with ten thousand registrations costs: start, memory, idle CPU, and `bgfetch ls` beside it.

`python tests/bench/idle.py [COUNT]`, from the root. All of them rest, as they do while a person lets them; then as many
wait for a server that nobody answers at.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bgfetch.core.identity import request_key
from bgfetch.core.model import Request, State
from bgfetch.registrations.port import StateChanged, Wish

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.daemons import DaemonProcess

_SETTLES = 5.0  # s
_WATCHED = 10.0  # s
_LOOKS = 20


def filled(daemon: DaemonProcess, count: int, *, paused: bool) -> None:
    """A store of so many registrations that nobody has finished."""
    with daemon.store() as store, store._database.write():
        for number in range(count):
            request = Request(f"http://127.0.0.1:65009/model-{number}.bin")
            row = store.add("app", f"r{number}", [(request, request_key(request))], now=1.0)
            if paused:
                store.set_wish(row.uid, Wish.PAUSE)
                store.commit([StateChanged(row.uid, store.claim(row.uid, "bench"), State.PAUSED)])


def cpu(pid: int) -> float:
    """Seconds of CPU a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text("latin-1").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """Bytes of RAM that it has now."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measured(count: int, *, paused: bool) -> dict[str, float]:
    """The figures."""
    with tempfile.TemporaryDirectory() as folder:
        daemon = DaemonProcess(Path(folder) / "home", {"BGFETCH_RETRY_SCALE": "1"})
        filled(daemon, count, paused=paused)
        began = time.monotonic()
        process = daemon.start()
        started = time.monotonic() - began
        try:
            time.sleep(_SETTLES)
            before, at = cpu(process.pid), time.monotonic()
            time.sleep(_WATCHED)
            used = (cpu(process.pid) - before) / (time.monotonic() - at)
            looks = sorted(look(daemon) for _ in range(_LOOKS))
            peak = memory(process.pid)
            ending = time.monotonic()
            daemon.close()
            return {
                "registrations": count,
                "start_s": round(started, 3),
                "idle_cpu_percent": round(used * 100, 2),
                "memory_mib": round(peak / (1 << 20), 1),
                "ls_p95_s": round(looks[int(_LOOKS * 0.95) - 1], 3),
                "stop_s": round(time.monotonic() - ending, 3),
            }
        finally:
            daemon.close()


def look(daemon: DaemonProcess) -> float:
    """Seconds of one `bgfetch ls`."""
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "bgfetch", "ls", "-q"],
        env=daemon.environ,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - began


if __name__ == "__main__":
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for resting in (True, False):
        print(json.dumps({"paused": resting, **measured(total, paused=resting)}), flush=True)
