"""Writes the cases into docs/conformance.md from the tests in tests/conformance and how they ended.

python tools/write_conformance.py           runs them, and writes what came of each
python tools/write_conformance.py --check   runs nothing: are the cases and departures listed those of the tests?
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "conformance.md"
TESTS = ROOT / "tests" / "conformance"
BEGIN, END = "<!-- cases: written by tools/write_conformance.py -->\n", "<!-- end of cases -->\n"
RUNNERS = ("in-process", "daemon")


@dataclass(slots=True)
class Case:
    """A case, and how it ended, by who fetched; "" where that does not matter."""

    file: str
    title: str
    departs: str
    results: dict[str, str] = field(default_factory=dict)


class Collected:
    """A plug-in of pytest: what the markers say, and what came of it."""

    def __init__(self) -> None:
        self.cases: dict[tuple[str, str], Case] = {}
        self._of: dict[str, tuple[Case, str]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Each test is a case, run by one runner."""
        for item in session.items:
            said, of = item.get_closest_marker("case"), item.get_closest_marker("wpt")
            if said is None or of is None:
                raise pytest.UsageError(f"{item.nodeid} says no case or file of web-platform-tests")
            key = (str(of.args[0]), str(said.args[0]))
            case = self.cases.setdefault(key, Case(*key, str(said.kwargs.get("departs", ""))))
            runner = next((each for each in RUNNERS if f"[{each}" in item.nodeid), "")
            case.results.setdefault(runner, "pass")
            self._of[item.nodeid] = (case, runner)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A case passes where set-up, test and tear-down of all its tests do."""
        if not report.passed:
            case, runner = self._of[report.nodeid]
            case.results[runner] = "FAIL"


def cases(*, run: bool) -> list[Case]:
    """All cases, in the order of the tests.

    Raises:
        SystemExit: The tests could not be collected.
    """
    found = Collected()
    options = ["-q", "-p", "no:cacheprovider", str(TESTS)] + ([] if run else ["--collect-only", "-qq"])
    code = pytest.main(options, plugins=[found])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(int(code))
    return list(found.cases.values())


def tables(found: Iterable[Case]) -> str:
    """A table for each file of web-platform-tests."""
    files: dict[str, list[Case]] = {}
    for case in found:
        files.setdefault(case.file, []).append(case)
    lines: list[str] = []
    for file, those in files.items():
        twice = RUNNERS[0] in those[0].results
        runners = RUNNERS if twice else ("",)
        head = ["case", *(RUNNERS if twice else ("result",)), "departure, and why"]
        lines += ["", f"### {file}", "", _row(head), _row(["---"] * len(head))]
        lines += [_row([each.title, *(each.results[who] for who in runners), each.departs]) for each in those]
    return "\n".join([*lines, "", ""])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;').replace('*', '&#42;') for cell in cells)} |"


def written(text: str, found: Iterable[Case]) -> str:
    """The document with these cases in it."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{tables(found)}{END}{rest.partition(END)[2]}"


def main() -> int:
    """0 when the document is (now) right and every case passes."""
    check = "--check" in sys.argv[1:]
    found = cases(run=not check)
    text = DOCUMENT.read_text("utf-8")
    new = written(text, found)
    if check:
        if new != text:
            print("docs/conformance.md is stale: run python tools/write_conformance.py", file=sys.stderr)
        return int(new != text)
    DOCUMENT.write_text(new, encoding="utf-8")
    return int(re.search(r"\| FAIL \|", new) is not None)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
