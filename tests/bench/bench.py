"""How fast bgfetch is beside other tools; docs/bench.md says how to run it and what was measured.

Usage: python tests/bench/bench.py [--rows a,b] [--reps 3] [--size 1G] [--json FILE] [--page FILE] [--directory DIR]
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import report
from tests.bench.lab import Lab, Row, say
from tests.bench.measure import BenchError
from tests.bench.rows import ROWS

_DISK = Path("/var/tmp")  # noqa: S108 - where large temporary files belong; /tmp is often memory
_POWERS = {"K": 10, "M": 20, "G": 30}


def main(words: list[str]) -> int:
    """Measure, print, write; 0 even where goals are missed: a figure is no failure."""
    options = _options(words)
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # so that servers and gigabytes go away all the same
    if options.replay is None:
        result = _measure(options)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
        say(f"figures: {options.json}")
    else:
        result = json.loads(options.replay.read_text("utf-8"))
    for row in result["rows"]:
        print(report.table(row))
    failures = report.missed(result["rows"])
    print("\n".join([f"goals missed: {len(failures)}", *failures]))
    if options.page is not None:
        options.page.parent.mkdir(parents=True, exist_ok=True)
        options.page.write_text(report.page(result), "utf-8")
    return 0


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    say(f"making a file of {options.size} bytes")
    lab = Lab(options.directory, options.size)
    try:
        command = " ".join(["python tests/bench/bench.py", *_told(options)])
        facts = report.facts(lab.folder, command=command, reps=options.reps)
        rows = [report.row_as_json(_row(lab, name, options.reps)) for name in options.rows]
    finally:
        lab.close()
    return {"facts": facts, "rows": rows}


def _row(lab: Lab, name: str, reps: int) -> Row:
    say(f"{name}: {ROWS[name].__doc__}")
    try:
        return ROWS[name](lab, reps)
    except BenchError as error:
        say(f"  {error}")
        reason = " ".join(str(error).replace(str(lab.folder), "").split())
        return Row(name, (ROWS[name].__doc__ or "").rstrip("."), skipped=f"it failed ({reason[-300:]})")


def _told(options: argparse.Namespace) -> list[str]:
    rows = [] if options.rows == list(ROWS) else [f"--rows {','.join(options.rows)}"]
    return [*rows, f"--reps {options.reps}", f"--size {options.size >> 20}M"]


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How fast bgfetch is beside other tools.")
    parser.add_argument("--rows", type=_rows, default=list(ROWS), help=f"some of {','.join(ROWS)}")
    parser.add_argument("--reps", type=int, default=3, help="runs of each candidate")
    parser.add_argument("--size", type=_size, default=1 << 30, help="of the large file, such as 64M or 1G")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="where the figures go")
    parser.add_argument("--page", type=Path, help="also write docs/bench.md, or another file, from them")
    parser.add_argument("--replay", type=Path, help="measure nothing: take the figures of this JSON file")
    parser.add_argument(
        "--directory", type=Path, default=_DISK, help="on the disk to measure on; not a tmpfs"
    )
    return parser.parse_args(words)


def _rows(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    return names


def _size(text: str) -> int:
    number, unit = text.rstrip("KMGkmg"), text[-1:].upper()
    return int(number) << _POWERS.get(unit, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
