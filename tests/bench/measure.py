"""One run of one program: how long, how much processor, how much memory, and how busy the machine was beside it.

Wall time is from the moment before the process is made until its end is known. Processor time and memory come from
`wait4` and cover the program and everything it waited for. Linux counts what the parent held at the fork into a
child's peak, so peaks below the bench's own few MiB cannot be seen.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BenchError", "Sample", "busy_machine", "busy_processes", "clean_environment", "measured"]

_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE = (3, 4, 8, 9)  # idle, iowait, and guests, which are counted in user and nice already


class BenchError(Exception):
    """What is to be measured does not work; no figure is better than a wrong one."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run took.

    Args:
        wall: Seconds.
        cpu: Seconds of user and system time, children included.
        rss_mib: Largest resident memory, MiB.
        noise: Cores that were kept busy meanwhile by neither the program nor the server.
    """

    wall: float
    cpu: float
    rss_mib: float
    noise: float


_NOT_KEPT = (
    "BGFETCH_",
    "HF_",
    "SSL_CERT",
    "PYTHON",
)  # without its bytecode cache Python starts at half speed


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment for a program under test: no proxies, no settings of this user's tools."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(_NOT_KEPT)
    }
    return {**kept, **extra}


def measured(
    argv: Sequence[str], *, env: Mapping[str, str], output: Path, server: Sequence[int] = ()
) -> Sample:
    """Run `argv` to its end.

    Args:
        argv: The program and its arguments.
        env: Its whole environment.
        output: Where its standard output goes; its standard error goes beside it.
        server: Processes whose work is part of the job and not noise.

    Raises:
        BenchError: It failed; with the end of what it said.
    """
    errors = output.with_suffix(".stderr")
    busy, served = busy_machine(), busy_processes(server)
    with output.open("wb") as out, errors.open("wb") as err:
        began = time.perf_counter()
        process = subprocess.Popen(argv, env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _pid, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        said = errors.read_text(errors="replace")[-2000:]
        raise BenchError(f"{' '.join(argv)} ended with {process.returncode}: {said}")
    cpu = usage.ru_utime + usage.ru_stime
    others = busy_machine() - busy - (busy_processes(server) - served) - cpu
    return Sample(wall, cpu, usage.ru_maxrss / 1024, max(0.0, others / wall))


def busy_machine() -> float:
    """Seconds all cores together were not idle, stolen ones included."""
    fields = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:]
    return sum(int(ticks) for column, ticks in enumerate(fields) if column not in _IDLE) / _TICKS


def busy_processes(pids: Sequence[int]) -> float:
    """Seconds of user and system time that these processes have taken so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS
