"""What is told arrives as it was meant, and what was not meant does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch import errors
from bgfetch.core.model import FailureReason, Headers, Icon, Progress, ReplyHead, Request, Result, State
from bgfetch.database import Damaged
from bgfetch.errors import BadStatus, BgfetchError, CacheError, DaemonError, FetchError, InvalidRequest
from bgfetch.registrations.port import LoggedEvent, RegistrationOptions, Wish
from bgfetch.running import Look
from bgfetch.wire import (
    Amendment,
    Asked,
    Hello,
    Json,
    Run,
    ToldProgress,
    dump,
    load,
    pack_error,
    pack_line,
    pack_look,
    pack_options,
    unpack_error,
    unpack_line,
    unpack_look,
    unpack_options,
)

TEXTS = st.text(max_size=20)
NUMBERS = st.integers(0, 1 << 60)
ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=10)
REQUESTS = st.builds(
    Request,
    TEXTS,
    TEXTS,
    st.lists(st.tuples(ASCII, ASCII), max_size=3).map(Headers),
    st.none() | st.binary(max_size=20),
    TEXTS,
    st.none() | NUMBERS,
)
ICONS = st.lists(st.builds(Icon, TEXTS, TEXTS, TEXTS, TEXTS), max_size=2)
PROGRESS = st.builds(
    Progress,
    NUMBERS,
    NUMBERS,
    rate=st.floats(0, 1e12),
    eta=st.none() | st.floats(0, 1e9),
    state=st.sampled_from(State),
    until=st.none() | st.floats(0, 1e12),
    connections=NUMBERS,
    result=st.sampled_from(Result),
    failure_reason=st.sampled_from(FailureReason),
    failure_detail=TEXTS,
)


def travelled(value: object) -> Json:
    """The value as it arrives."""
    return load(dump(value), "it")


@given(st.builds(Asked, TEXTS, TEXTS, st.lists(REQUESTS, max_size=3), TEXTS, ICONS, NUMBERS))
def test_asked(asked: Asked) -> None:
    """A registration arrives whole, secrets and bodies included."""
    assert Asked.unpack(travelled(asked.pack())) == asked


@given(st.none() | st.lists(REQUESTS, max_size=3), st.none() | st.dictionaries(TEXTS, TEXTS))
def test_run(requests: list[Request] | None, environment: dict[str, str] | None) -> None:
    """What is said of an old one arrives; nothing said stays nothing."""
    run = Run(requests, environment)
    assert Run.unpack(travelled(run.pack())) == run


@given(PROGRESS)
def test_progress(progress: Progress) -> None:
    """How it stands arrives to the last digit."""
    told = ToldProgress(7, "app", "x", progress)
    assert ToldProgress.unpack(travelled(told.pack())) == told


@pytest.mark.parametrize(
    "amendment",
    [
        Amendment(),
        Amendment(Wish.PAUSE),
        Amendment(title="", icons=[]),
        Amendment(options={"priority": 3, "metadata": {"a": "b"}}),
    ],
)
def test_amendment(amendment: Amendment) -> None:
    """Only what is to change arrives as such."""
    assert Amendment.unpack(travelled(amendment.pack())) == amendment


def test_options_change_one_by_one() -> None:
    """An option that is not said stays as it was."""
    before = RegistrationOptions(priority=1, limit_rate=5)
    assert unpack_options({"limit_rate": 7}, before) == replace(before, limit_rate=7)
    assert unpack_options(travelled(pack_options(before)), RegistrationOptions()) == before


def test_looks_and_lines() -> None:
    """Looks, lines and handshakes arrive."""
    head = ReplyHead("https://host/", 206, Headers([("etag", '"x"')]))
    for look in (Look(head, 1, 5, 9), Look(None, 0, 0, None)):
        assert unpack_look(travelled(pack_look(look))) == look
    line = LoggedEvent(1, 2, "app", "x", 3.5, "registered", "1 request")
    assert unpack_line(travelled(pack_line(line))) == line
    hello = Hello("1.0", 1, 5, "/h", 2.0, 3, ["the secrets of 'x'"])
    assert Hello.unpack(travelled(hello.pack())) == hello
    assert not hello.restartable


def test_a_newer_daemon_is_understood_that_far() -> None:
    """A handshake of a version to come is read for what never changes."""
    assert Hello.unpack({"version": "9.1", "protocol": 9, "pid": 5, "news": True}).protocol == 9


@pytest.mark.parametrize(
    ("unpack", "value"),
    [
        (Asked.unpack, {"requests": []}),
        (Asked.unpack, {"id": "x", "requests": {}}),
        (Asked.unpack, {"id": "x", "requests": [5]}),
        (Asked.unpack, {"id": "x", "requests": [{"url": "u", "body": "%%"}]}),
        (Asked.unpack, {"id": "x", "requests": [{"url": "u", "headers": [["a"]]}]}),
        (Asked.unpack, {"id": "x", "requests": [], "download_total": True}),
        (Asked.unpack, {"id": "x", "requests": [], "download_total": 1.5}),
        (Asked.unpack, {"id": "x", "requests": [], "environment": {"a": 1}}),
        (Asked.unpack, {"id": "x", "requests": [], "extra": 1}),
        (Amendment.unpack, {"wish": "dance"}),
        (Amendment.unpack, {"options": {"speed": 1}}),
        (Amendment.unpack, {"options": {"priority": "high"}}),
        (Run.unpack, []),
        (
            ToldProgress.unpack,
            {"uid": 1, "scope": "", "id": "", "downloaded": 1, "download_total": 1, "state": "odd"},
        ),
    ],
)
def test_what_is_wrong_is_named(unpack: object, value: object) -> None:
    """A field of another type, too few or too many are refused."""
    with pytest.raises(InvalidRequest):
        unpack(value)  # type: ignore[operator]  # each is a function


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":' * 100_000, "nul"])
def test_not_json(text: str) -> None:
    """Bytes that are no object of JSON are refused, however deep."""
    with pytest.raises(InvalidRequest):
        load(text, "it")


@pytest.mark.parametrize("name", errors.__all__)
def test_errors_keep_their_class(name: str) -> None:
    """Each public error arrives as itself."""
    kind = getattr(errors, name)
    error = kind("bad", registration_id="x", url="u") if issubclass(kind, FetchError) else kind("bad")
    again = unpack_error(travelled(pack_error(error)))
    assert (type(again), str(again)) == (kind, "bad")
    if isinstance(again, FetchError):
        assert (again.registration_id, again.url) == ("x", "u")


def test_errors_that_are_not_public() -> None:
    """One of ours within arrives as the public one it is; one nobody knows as the daemon's."""
    assert type(unpack_error(travelled(pack_error(Damaged("bad"))))) is CacheError
    assert type(unpack_error({"error": {"class": "Newer", "message": "bad"}})) is DaemonError
    assert type(unpack_error({"error": {"class": "__all__", "message": "bad"}})) is DaemonError
    assert isinstance(BadStatus("x"), BgfetchError)
