"""The directions of imports between the parts of bgfetch, and the purity of the core, read from the source.

The picture is in ARCHITECTURE.md; this table is the same thing for a machine. A part is the first name after
`bgfetch`: a folder or a module. Imports for type checking and imports inside functions count like all others.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"

# Lowest first. A part imports only from rows above its own, never from a sibling in its row.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors"}),
    frozenset({"core"}),
    frozenset(
        {"vfs", "clock", "database", "stored", "environment"}
    ),  # the platform, one small class of a kind
    frozenset({"network", "sources", "transports", "cache", "registrations"}),  # adapters behind ports
    frozenset({"running"}),  # who runs registrations, as those see it who want them run
    frozenset({"wire", "address"}),  # what client and daemon agree on
    frozenset({"engine", "worker", "client"}),  # what runs downloads, handlers, and the far end
    frozenset({"response", "inbox"}),
    frozenset({"caches", "eviction"}),
    frozenset({"registration"}),
    frozenset({"manager", "event"}),  # the standard's own objects end here
    frozenset({"errand", "mending"}),  # what caches fetch with; a damaged database made good
    frozenset({"wiring"}),  # the one place that picks implementations
    frozenset({"shelf", "handling", "rehearsal"}),  # files that are here; one event in a process of its own
    frozenset({"getting"}),  # the main job, whole
    frozenset({"api"}),  # what an application calls
    frozenset({"blocking"}),  # the same for programs that are not asynchronous
    frozenset({"daemon"}),  # the process that fetches for all of them
    frozenset({"web"}),  # how browsers reach it
    frozenset({"cli"}),  # how people reach it
)

# Parts beside the rows: what each may import, and who may import it.
BESIDE: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "config": (
        frozenset({"errors", "core"}),
        frozenset({"wiring", "handling", "rehearsal", "api", "daemon", "cli", "web"}),
    ),
    "terminal": (frozenset({"errors", "core"}), frozenset({"api", "cli"})),
    "version": (frozenset(), frozenset({"wiring", "cli", "client", "daemon"})),
    "testing": (frozenset().union(*LAYERS), frozenset()),  # public fakes; nothing shipped may need them
    "__init__": (
        frozenset().union(*LAYERS, {"version"}),
        frozenset(),
    ),  # the public names; bgfetch itself uses the parts
    "__main__": (frozenset({"cli"}), frozenset()),
}

# All that the core may import from elsewhere. Before adding a name ask: does it give the same answer each time,
# from its arguments alone? `module.name` permits one name of a module that also does impure things.
PURE = frozenset({
    "__future__", "abc", "base64", "binascii", "bisect", "collections", "collections.abc", "dataclasses", "datetime",
    "email.utils.parsedate_to_datetime", "enum", "functools", "hashlib", "heapq", "ipaddress", "itertools", "json",
    "math", "operator", "pathlib.PurePosixPath", "re", "statistics", "string", "struct", "typing", "unicodedata",
    "urllib.parse",
    "blake3", "google_crc32c",  # checksums of bytes that are handed in
})  # fmt: skip

# Calls that need no import and still reach the world, or ask a clock.
IMPURE_CALLS = frozenset({"open", "print", "input", "now", "utcnow", "today", "getenv"})


def part(module: str) -> str:
    """The part of a dotted module: `bgfetch.core.spans` is in `core`, `bgfetch` itself in `__init__`."""
    _, _, rest = module.partition(".")
    return rest.partition(".")[0] or "__init__"


def allowed(part_name: str) -> frozenset[str]:
    """The other parts that this one may import."""
    if part_name in BESIDE:
        return BESIDE[part_name][0]
    (row,) = (number for number, layer in enumerate(LAYERS) if part_name in layer)
    below: frozenset[str] = frozenset().union(*LAYERS[:row])
    return below | {name for name, (_, importers) in BESIDE.items() if part_name in importers}


def known(part_name: str) -> bool:
    """Whether the tables above say where the part is."""
    return part_name in BESIDE or any(part_name in layer for layer in LAYERS)


def absolute(node: ast.ImportFrom, module: str, *, package: bool) -> str:
    """The dotted name after `from`, with leading dots resolved."""
    if not node.level:
        return node.module or ""
    parents = module.split(".")
    base = parents[: len(parents) - node.level + package]
    return ".".join([*base, *([node.module] if node.module else [])])


def imports(module: str, text: str, *, package: bool) -> Iterator[tuple[int, str]]:
    """Each import of a module as (line, dotted name); `from a import b` gives `a.b`."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = absolute(node, module, package=package)
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def impure_calls(text: str) -> Iterator[tuple[int, str]]:
    """Each call by a name that reaches the world, as (line, name)."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name in IMPURE_CALLS:
                yield node.lineno, name


def is_pure(name: str) -> bool:
    """Whether the core may import this dotted name from outside bgfetch."""
    return name in PURE or name.rpartition(".")[0] in PURE


def violations(modules: Mapping[str, str]) -> list[str]:
    """What breaks the rules, one line each.

    Args:
        modules: Source text by dotted name; a package stands there as `bgfetch.core.__init__`.
    """
    found: list[str] = []
    for path, text in modules.items():
        module = path.removesuffix(".__init__")
        here = part(module)
        if not known(here):
            found.append(f"{path}: say in tests/unit/test_layers.py which layer `{here}` is in")
            continue
        for line, name in imports(module, text, package=path.endswith(".__init__")):
            found.extend(f"{path}:{line}: {reason}" for reason in wrong_with(name, here))
        if here == "core":
            found.extend(f"{path}:{line}: the core calls {name}()" for line, name in impure_calls(text))
    return found


def wrong_with(name: str, here: str) -> Iterator[str]:
    """Why a part may not import this dotted name; nothing when it may."""
    if name.partition(".")[0] == "bgfetch":
        there = part(name) if known(part(name)) else "__init__"  # `from bgfetch import get`: a public name
        if there not in {here, *allowed(here)}:
            yield f"`{here}` may not import `{there}`"
    elif here == "core" and not is_pure(name):
        yield f"the core may not import {name}"


def shipped() -> dict[str, str]:
    """Every module of the package: source text by dotted name."""
    files = sorted((SOURCE / "bgfetch").rglob("*.py"))
    return {
        ".".join(file.relative_to(SOURCE).with_suffix("").parts): file.read_text("utf-8") for file in files
    }


def test_imports_follow_the_layers() -> None:
    """What is lower never learns of what is higher, siblings stay apart, and the core stays pure."""
    modules = shipped()
    assert "bgfetch.core.spans" in modules
    found = violations(modules)
    assert not found, "\n".join(found)


def test_each_part_has_one_place() -> None:
    """A part stands in one row only, so that there is one answer to what it may import."""
    placed = [name for layer in LAYERS for name in layer] + list(BESIDE)
    assert sorted(placed) == sorted(set(placed))


def test_pure_modules_exist() -> None:
    """The list of what the core may import holds no spelling mistake that would permit nothing."""
    assert all(importlib.util.find_spec(name.partition(".")[0]) for name in PURE)


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("bgfetch.core.spans", "import bgfetch.engine.driver", "`core` may not import `engine`"),
        ("bgfetch.core.spans", "from bgfetch import vfs", "`core` may not import `vfs`"),
        ("bgfetch.core.spans", "from ..vfs import Vfs", "`core` may not import `vfs`"),
        ("bgfetch.core.__init__", "from ..vfs import Vfs", "`core` may not import `vfs`"),
        ("bgfetch.core.spans", "from .. import clock", "`core` may not import `clock`"),
        ("bgfetch.cache.blobs", "from bgfetch.sources.hf import hf", "`cache` may not import `sources`"),
        (
            "bgfetch.engine.driver",
            "def run():\n    import bgfetch.client",
            "`engine` may not import `client`",
        ),
        ("bgfetch.engine.driver", "from bgfetch.config import Settings", "`engine` may not import `config`"),
        ("bgfetch.web.server", "from bgfetch.cli import main", "`web` may not import `cli`"),
        ("bgfetch.cli.main", "from bgfetch.testing import Faulty", "`cli` may not import `testing`"),
        ("bgfetch.daemon.app", "from bgfetch import get", "`daemon` may not import `__init__`"),
        ("bgfetch.core.retry", "import random", "the core may not import random"),
        ("bgfetch.core.retry", "from time import monotonic", "the core may not import time.monotonic"),
        ("bgfetch.core.names", "from pathlib import Path", "the core may not import pathlib.Path"),
        ("bgfetch.core.names", "import os.path", "the core may not import os.path"),
        ("bgfetch.core.retry", "def f(x):\n    return x.now()", "the core calls now()"),
        ("bgfetch.core.retry", "open('x')", "the core calls open()"),
        ("bgfetch.novelty", "", "say in tests/unit/test_layers.py which layer `novelty` is in"),
    ],
)
def test_the_checker_sees(path: str, text: str, complaint: str) -> None:
    """The rules can fail: each made-up violation is found, once, and named."""
    (found,) = violations({path: text})
    assert found.startswith(path)
    assert found.endswith(complaint)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("bgfetch.core.segments", "from bgfetch.core.spans import Span\nfrom .model import Request"),
        ("bgfetch.core.names", "from pathlib import PurePosixPath\nfrom urllib.parse import urlsplit"),
        ("bgfetch.engine.driver", "import asyncio\nfrom bgfetch.transports.base import Transport"),
        ("bgfetch.wiring", "from bgfetch.config import Settings\nfrom bgfetch import cache, errors"),
        ("bgfetch.testing.faulty", "from bgfetch.transports.base import Transport"),
        ("bgfetch.__init__", "from bgfetch.core.model import Request"),
    ],
)
def test_the_checker_permits(path: str, text: str) -> None:
    """The rules forbid nothing that the design draws."""
    assert violations({path: text}) == []
