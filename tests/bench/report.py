"""Figures for people: a table on the terminal, JSON for programs, and docs/bench.md made from that JSON."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.bench.lab import Goal, Row
from tests.bench.peers import TOOLS

__all__ = ["facts", "missed", "page", "row_as_json", "table"]

_UNITS = {"wall": "s", "cpu": "s CPU", "rss_mib": "MiB", "first_request": "s", "again_mib": "MiB"}
_WORDS = {
    "wall": "wall time",
    "cpu": "CPU time",
    "rss_mib": "peak memory",
    "first_request": "start to first request",
    "again_mib": "fetched again",
}
_COLUMNS = ("candidate", "runs", "wall s median / best", "CPU s median / best", "MiB peak", "noise")

_INTRODUCTION = """# Benchmarks

This page is written by the benchmark itself, from the figures of `{command}`.

## How to run it

    make bench                                   # everything; about ten minutes on two cores
    make bench ARGS="--rows https,verified"      # some rows
    make bench ARGS="--size 64M --reps 1"        # a quick look
    make bench ARGS="--page docs/bench.md"       # this page again

It needs `curl`, `wget`, `aria2c` and `nginx`, which the target installs on Debian and Ubuntu when it is run by root,
and, for the row with a lossy line, root and `/dev/net/tun`. The figures are kept in `build/bench.json`.

## How it is measured

* nginx serves from the same machine over loopback. Files come from the page cache and go to a real disk ({disk}).
* Each tool is a process of its own; its wall time includes its start, so for bgfetch that of the Python interpreter.
  Only bgfetch makes its bytes durable (fsync) before it says that it is done.
* CPU time is user and system time of the client with its children; the server's is not in it. In the rows `serve-…` it is the
  server's alone, what each sends goes to curl and nowhere, and *noise* has the clients in it.
* The candidates of a row run by turns, {reps} times, another one first each time. Medians are compared; no run is
  left out. Each output is compared with its source byte by byte, outside the measured time.
* Every run has an empty folder, bgfetch a new home, and begins after `sync` and after a file was written and deleted, so
  that all of them find memory that was in use a moment ago: what a virtual machine gave back to its host is up to
  eight times as slow to touch.
* *Noise* is how many cores something else kept busy meanwhile (median). Where it is not near 0, others worked on the
  machine too: read the ratios as preliminary.
* aria2c gets 16 connections, splits down to 1 MiB and `--file-allocation=falloc`. huggingface_hub downloads without Xet
  from an imitated hub; it looks at the length and computes no digest.
* Peaks of memory below {floor_mib:.0f} MiB cannot be seen: a child's figure starts with that of the bench.
* The lossy line is a pair of TUN devices in two network namespaces with a relay between them that delays, limits and drops
  packets, not a proxy: the kernel's own TCP meets the loss. It is plain HTTP; the row names the congestion control, which
  decides much: BBR hardly minds loss, cubic and reno do.

## Why goals are missed, where they are

Measured in other runs than the one below, some of them on another machine.

* The machine decides what an interpreter costs. On an Intel Xeon the same day the ratios to curl were 1.65 (https) and 1.54 (http), to aria2c
  0.46 (throttled) and 1.63 (1,000 files), `cached` took 0.08 s of CPU, `ls` 0.09 s. On the AMD EPYC of a later run a loop in Python takes twice as long.
* Python starts and imports for 0.2 s, against 1 s of curl's whole run for a GiB.
* bgfetch syncs: 0.4 s for a GiB that was not synced on the way. curl leaves it to the system.
* libcurl hands over 16 KiB at a time: 65,536 calls into Python for each GiB. They only gather; checksum and write follow once a turn of the
  loop, which took the CPU of a GiB over TLS from about 2 to about 1.7 times curl's.
* More connections than a loopback needs cost CPU: over HTTP 1.46 s for a GiB as it is, 1.15 s with one connection and one loop.
* Reading ranges past libcurl (`CONNECT_ONLY`, `recv_into`) was built and taken out again: in the engine it was slower.
* Small files: 2 ms of CPU each for what outlives a kill, that is a row, a settlement and a synced body, in batches; aria2c keeps nothing.
* `ls`: the interpreter and the command line take half of the 0.1 s.
* `serve-…` with ranges of 8 MiB: what could still change after the last look is copied, not sent with sendfile, so that no answer
  that looks whole is a mix of two versions; and each request costs 0.5 ms.

Machine: {machine}. Load at the start: {load}. Versions: {versions}.

## What was measured
"""


def facts(folder: Path, *, command: str, reps: int) -> dict[str, Any]:
    """Where and with what it is measured."""
    return {
        "command": command,
        "reps": reps,
        "machine": f"{_processor()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "disk": _file_system(folder),
        "load": f"{os.getloadavg()[0]:.1f}",
        "floor_mib": _own_peak_mib(),
        "versions": ", ".join(_versions()),
    }


def row_as_json(row: Row) -> dict[str, Any]:
    """A row with its goals and whether they are met."""
    goals = [{**asdict(goal), "reached": row.reached(goal), "met": _met(row, goal)} for goal in row.goals]
    return {
        "name": row.name,
        "title": row.title,
        "skipped": row.skipped,
        "goals": goals,
        "figures": row.figures,
    }


def missed(rows: list[dict[str, Any]]) -> list[str]:
    """A sentence for each goal that was measured and not met."""
    return [
        f"{row['name']}: {_goal_in_words(goal)}"
        for row in rows
        for goal in row["goals"]
        if goal["met"] is False
    ]


def table(row: dict[str, Any]) -> str:
    """A row in Markdown."""
    lines = [f"### {row['name']}: {row['title']}", ""]
    if row["skipped"]:
        return "\n".join([*lines, f"Skipped: {row['skipped']}.", ""])
    body = [_cells(name, figures) for name, figures in row["figures"].items()]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *body, strict=True)]
    rule = tuple("-" * width for width in widths)
    for cells in (_COLUMNS, rule, *body):
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        lines.append(f"| {' | '.join(padded)} |")
    lines += ["", *(f"* {_goal_in_words(goal)}" for goal in row["goals"]), ""]
    return "\n".join(lines)


def page(result: dict[str, Any]) -> str:
    """docs/bench.md."""
    rows = result["rows"]
    failures = missed(rows)
    verdict = [f"Goals missed: {len(failures)}." if failures else "All goals measured are met.", ""]
    verdict += [f"* {failure}" for failure in failures] + [""] * bool(failures)
    return "\n".join([_INTRODUCTION.format(**result["facts"]), *verdict, *map(table, rows)])


def _cells(name: str, figures: dict[str, list[float]]) -> tuple[str, ...]:
    def pair(metric: str) -> str:
        values = figures.get(metric)
        return f"{statistics.median(values):.2f} / {min(values):.2f}" if values else ""

    peak = figures.get("rss_mib")
    noise = figures.get("noise")
    return (
        name,
        str(len(figures["wall"])),
        pair("wall"),
        pair("cpu"),
        f"{max(peak):.0f}" if peak else "",
        f"{statistics.median(noise):.1f}" if noise else "",
    )


def _met(row: Row, goal: Goal) -> bool | None:
    reached = row.reached(goal)
    return None if reached is None else reached <= goal.most


def _goal_in_words(goal: dict[str, Any]) -> str:
    word = _WORDS[goal["metric"]]
    if goal["against"]:
        what, unit = f"{word} against {goal['against']}", "x"
    else:
        what, unit = f"{word} ({goal['statistic']})", f" {_UNITS[goal['metric']]}"
    if goal["reached"] is None:
        return f"{what}: not measured; goal at most {goal['most']:g}{unit}"
    mark = "met" if goal["met"] else "**MISSED**"
    return f"{what}: {goal['reached']:.2f}{unit}, goal at most {goal['most']:g}{unit}: {mark}"


def _versions() -> list[str]:
    found = [f"Python {platform.python_version()}"]
    for name in ("bgfetch", "pycurl", "huggingface_hub"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} (from source)")
    for tool in TOOLS:
        program = shutil.which(tool, path=os.defpath + ":/usr/sbin:/usr/local/bin:" + os.environ["PATH"])
        if program is None:
            continue
        flag = "-v" if tool == "nginx" else "--version"
        done = subprocess.run([program, flag], check=False, capture_output=True, text=True)
        words = (done.stdout or done.stderr).split("\n", 1)[0].replace("/", " ").split()
        number = next((word for word in words if word[0].isdigit()), "?")
        found.append(f"{tool} {number}")
    return found


def _processor() -> str:
    for text in _read("/proc/cpuinfo").splitlines():
        if text.startswith("model name"):
            return text.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    best = ("", "unknown")
    for mount in _read("/proc/self/mounts").splitlines():
        _device, point, kind, *_rest = mount.split()
        if folder.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def _own_peak_mib() -> float:
    for text in _read("/proc/self/status").splitlines():
        if text.startswith("VmHWM"):
            return int(text.split()[1]) / 1024
    return 0.0


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except OSError:
        return ""
