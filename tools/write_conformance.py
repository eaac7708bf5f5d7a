"""Writes the cases into docs/conformance.md from the tests of conformance and how they ended.

python tools/write_conformance.py           runs all, about 6 minutes, and writes what came of each
python tools/write_conformance.py python    those in tests/conformance only; `browsers`: those in tests/browser/conformance
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


@dataclass(frozen=True, slots=True)
class Part:
    """Tests that make one chapter of tables.

    Args:
        name: Of the chapter; stands in the document where its tables begin and end.
        tests: Their folder.
        columns: Head of each column by the runner in the tests' names.
    """

    name: str
    tests: Path
    columns: dict[str, str]

    @property
    def begin(self) -> str:
        """The line before its tables."""
        return f"<!-- cases of {self.name}: written by tools/write_conformance.py -->\n"

    @property
    def end(self) -> str:
        """The line after them."""
        return f"<!-- end of cases of {self.name} -->\n"


PARTS = (
    Part("python", ROOT / "tests" / "conformance", {"in-process": "in-process", "daemon": "daemon"}),
    Part(
        "browsers",
        ROOT / "tests" / "browser" / "conformance",
        {
            "native": "Chromium itself",
            "polyfill": "polyfill in Chromium",
            "firefox": "in Firefox",
            "webkit": "in WebKit",
        },
    ),
)
DIFFERS, UNTESTED = "differs", "not tried"


@dataclass(slots=True)
class Case:
    """A case, and how it ended, by who fetched; "" where that does not matter."""

    file: str
    title: str
    departs: str
    results: dict[str, str] = field(default_factory=dict)


class Collected:
    """A plug-in of pytest: what the markers say, and what came of it."""

    def __init__(self, part: Part) -> None:
        self.cases: dict[tuple[str, str], Case] = {}
        self._part = part
        self._of: dict[str, tuple[Case, str]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Each test is a case, run by one runner."""
        for item in session.items:
            said, of = item.get_closest_marker("case"), item.get_closest_marker("wpt")
            if said is None or of is None:
                raise pytest.UsageError(f"{item.nodeid} says no case or file of web-platform-tests")
            key = (str(of.args[0]), str(said.args[0]))
            case = self.cases.setdefault(key, Case(*key, _departures(said)))
            runner = next((each for each in self._part.columns if f"[{each}" in item.nodeid), "")
            untested = runner == "native" and said.kwargs.get("untested")
            result = UNTESTED if untested else DIFFERS if said.kwargs.get(runner) else "pass"
            case.results.setdefault(runner, result)
            self._of[item.nodeid] = (case, runner)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A case passes where set-up, test and tear-down of all its tests do; one that differs has to fail."""
        if not report.passed and not hasattr(report, "wasxfail"):
            case, runner = self._of[report.nodeid]
            if case.results[runner] != UNTESTED:
                case.results[runner] = "FAIL"


def _departures(said: pytest.Mark) -> str:
    why = said.kwargs.get("native") or said.kwargs.get("untested")
    native = f"Chromium itself: {why}" if why else ""
    return "; ".join(filter(None, [str(said.kwargs.get("departs", "")), native]))


def cases(part: Part, *, run: bool) -> list[Case]:
    """All cases of a part, in the order of the tests.

    Raises:
        SystemExit: The tests could not be collected.
    """
    found = Collected(part)
    options = ["-q", "-p", "no:cacheprovider", str(part.tests)] + ([] if run else ["--collect-only", "-qq"])
    code = pytest.main(options, plugins=[found])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(int(code))
    return list(found.cases.values())


def tables(part: Part, found: Iterable[Case]) -> str:
    """A table for each file of web-platform-tests."""
    files: dict[str, list[Case]] = {}
    for case in found:
        files.setdefault(case.file, []).append(case)
    lines: list[str] = []
    for file, those in files.items():
        # In the document's order, whatever the order of the runs.
        runners = [each for each in part.columns if each in those[0].results] or [""]
        heads = [part.columns.get(each, "result") for each in runners]
        head = ["case", *heads, "departure, and why"]
        lines += ["", f"### {file}", "", _row(head), _row(["---"] * len(head))]
        lines += [_row([each.title, *(each.results[who] for who in runners), each.departs]) for each in those]
    return "\n".join([*lines, "", ""])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;').replace('*', '&#42;') for cell in cells)} |"


def written(text: str, part: Part, found: Iterable[Case]) -> str:
    """The document with these cases in it."""
    before, _, rest = text.partition(part.begin)
    return f"{before}{part.begin}{tables(part, found)}{part.end}{rest.partition(part.end)[2]}"


def main() -> int:
    """0 when the document is (now) right and every case passes."""
    check = "--check" in sys.argv[1:]
    wanted = [each for each in PARTS if each.name in sys.argv[1:]] or PARTS
    text = DOCUMENT.read_text("utf-8")
    new = text
    for part in wanted:
        new = written(new, part, cases(part, run=not check))
    if check:
        if new != text:
            print("docs/conformance.md is stale: run python tools/write_conformance.py", file=sys.stderr)
        return int(new != text)
    DOCUMENT.write_text(new, encoding="utf-8")
    return int(re.search(r"\| FAIL \|", new) is not None)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
