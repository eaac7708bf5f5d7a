"""The public names of bgfetch. Taking one away or renaming it breaks people: do it on purpose, here."""

from __future__ import annotations

import importlib
import inspect

import pytest

# Public modules and what each gives to the world, sorted. Everything else may change without notice.
PUBLIC: dict[str, list[str]] = {
    "bgfetch": [
        "Aborted",
        "AccessDenied",
        "App",
        "BackgroundFetchManager",
        "BackgroundFetchRecord",
        "BackgroundFetchRegistration",
        "BadStatus",
        "BgfetchError",
        "Cache",
        "CacheError",
        "CacheStorage",
        "DaemonError",
        "DaemonNotRunning",
        "DownloadTotalExceeded",
        "DuplicateId",
        "FailureReason",
        "FetchError",
        "Headers",
        "Icon",
        "IntegrityError",
        "InvalidPartialResponse",
        "InvalidRequest",
        "InvalidState",
        "NetworkError",
        "NotFound",
        "Progress",
        "ProtocolMismatch",
        "QueryOptions",
        "QuotaExceeded",
        "Request",
        "Response",
        "Result",
        "SourceError",
        "State",
        "Verified",
        "connect",
        "get",
    ],
    "bgfetch.blocking": ["Waiter", "connect"],
    "bgfetch.testing": [
        "Content",
        "Exchange",
        "FailingVfs",
        "Fate",
        "FaultServer",
        "ForgetfulVfs",
        "Fuse",
        "Handler",
        "OriginServer",
        "Outcome",
        "Reply",
        "SCENARIOS",
        "Scenario",
        "Seen",
        "SeenRequest",
        "fates",
        "plain",
        "probe",
        "text_reply",
    ],
    "bgfetch.worker": ["on"],
}


@pytest.mark.parametrize("module", PUBLIC)
def test_names_are_pinned(module: str) -> None:
    """A public module exports what is written here, no more and no less."""
    exported = getattr(importlib.import_module(module), "__all__", [])
    assert sorted(exported) == PUBLIC[module]


@pytest.mark.parametrize("module", PUBLIC)
def test_names_lead_somewhere_documented(module: str) -> None:
    """Each public name can be had (those loaded late, too), and says what it is."""
    home = importlib.import_module(module)
    for name in PUBLIC[module]:
        thing = getattr(home, name)
        assert name in dir(home)
        if inspect.isclass(thing) or inspect.isroutine(thing):
            assert (thing.__doc__ or "").strip(), name


def test_the_lazy_table_gives_exactly_the_public_names() -> None:
    """A name that is announced can be imported, and none is importable that is not announced."""
    import bgfetch

    assert sorted(name for names in bgfetch._HOMES.values() for name in names) == bgfetch.__all__
