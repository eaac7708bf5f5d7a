"""Retrying: waits are bounded and obeyed, progress resets the budget, each status has one meaning."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.model import FailureReason, Headers
from bgfetch.core.retry import (
    RetryBudget,
    StatusClass,
    asked_to_wait,
    backoff,
    classify_status,
    fault_for_status,
    looks_offline,
    parse_rate_limit,
    parse_retry_after,
)

DAY = 24 * 3600.0
NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the instant RFC 9110 writes its dates of


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 1.0),
        ("1.5", 1.5),
        ("-5", 1.0),
        ("86401", DAY),
        ("9" * 5000, DAY),
        ("Sun, 06 Nov 1994 08:51:37 GMT", 120.0),
        ("Sunday, 06-Nov-94 08:51:37 GMT", 120.0),
        ("Sun Nov  6 08:51:37 1994", 120.0),
        ("Sun, 06 Nov 1994 08:51:37 -0000", 120.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 1.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 1.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", DAY),
    ],
)
def test_retry_after_is_seconds_or_a_date_from_a_second_to_a_day(value: str, seconds: float) -> None:
    """Both forms of RFC 9110 are obeyed, and no value leads to a busy loop or to a download parked for good."""
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "soon", "1e99", "inf", "nan", "0x10", "+5", "5, 10", "1_000", "٣", "5 seconds", "\x00"),
        "Sun, 99 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 99999999 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 +999999999999",
        "Sun, 06 Nov " + "9" * 5000 + " 08:49:37 GMT",
    ],
)
def test_a_retry_after_that_cannot_be_read_is_ignored(value: str) -> None:
    """Malformed values give None, so the ordinary backoff applies."""
    assert parse_retry_after(value, NOW) is None


def test_a_date_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The zone this machine is set to has no influence."""
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        assert parse_retry_after("Sun Nov  6 08:51:37 1994", NOW) == 120.0
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.text(), st.floats(min_value=0, max_value=1e10))
def test_no_retry_after_breaks_the_parser(value: str, now: float) -> None:
    """Hostile text never raises, and what is understood is within the bounds."""
    wait = parse_retry_after(value, now)
    assert wait is None or 1 <= wait <= DAY


@given(st.integers(min_value=2, max_value=86_400), st.integers(min_value=0, max_value=4_000_000_000))
def test_a_date_means_the_seconds_until_it(ahead: int, now: int) -> None:
    """A server that writes a date is obeyed exactly like one that writes seconds."""
    assert parse_retry_after(formatdate(now + ahead, usegmt=True), float(now)) == ahead


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"RateLimit": '"resolvers";r=0;t=55'}, 55.0),
        ({"RateLimit": '"resolvers";r=12;t=55'}, None),
        ({"RateLimit": '"api" ; t=9 ; r=0, "resolvers";r=0;t=300, "pages";r=1;t=900'}, 300.0),
        ({"RateLimit": '"a,b;r=0;t=99";r=3;t=55'}, None),
        ({"RateLimit": r'"say \"r=0\", twice";r=0;t=7'}, 7.0),
        ({"RateLimit": '"never closed;r=0;t=7'}, None),
        ({"RateLimit": '"resolvers";r=0'}, None),
        ({"RateLimit": '"resolvers";r=0;t=soon'}, None),
        ({"RateLimit": '"resolvers";r=0;t=0'}, 1.0),
        ({"RateLimit": '"resolvers";r=0;t=' + "9" * 400}, DAY),
        ({"RateLimit-Remaining": "0", "RateLimit-Reset": "40"}, 40.0),
        ({"ratelimit-remaining": "0;w=21600", "ratelimit-reset": "40;w=21600"}, 40.0),
        ({"RateLimit-Remaining": "0;w=21600"}, None),
        ({"RateLimit-Remaining": "7", "RateLimit-Reset": "40"}, None),
        ({"RateLimit-Reset": "40"}, None),
        ({}, None),
    ],
)
def test_a_used_up_quota_is_waited_for(fields: dict[str, str], seconds: float | None) -> None:
    """Only a quota at 0 with a known reset makes us wait; of several the slowest counts."""
    assert parse_rate_limit(Headers(fields.items())) == seconds


@given(st.text(alphabet='"\\;,=rt0159 '))
def test_no_rate_limit_breaks_the_parser(value: str) -> None:
    """Hostile text never raises, and what is understood is within the bounds."""
    wait = parse_rate_limit(Headers([("ratelimit", value)]))
    assert wait is None or 1 <= wait <= DAY


def test_a_rate_limit_of_open_quotes_costs_linear_time() -> None:
    """A field as long as a header block may be is read at once (the obvious pattern took 14 s)."""
    begun = time.process_time()
    assert parse_rate_limit(Headers([("ratelimit", '"\\' * 32_000)])) is None
    assert time.process_time() - begun < 1.0


@pytest.mark.parametrize(
    ("pairs", "seconds"),
    [
        ([("Retry-After", "10"), ("RateLimit", '"q";r=0;t=55')], 10.0),
        ([("Retry-After", "soon"), ("RateLimit", '"q";r=0;t=55')], 55.0),
        ([("Retry-After", "5"), ("Retry-After", "30"), ("Retry-After", "x")], 30.0),
        ([("RateLimit", '"q";r=0;t=55')], 55.0),
        ([], None),
    ],
)
def test_retry_after_goes_before_the_rate_limit(pairs: list[tuple[str, str]], seconds: float | None) -> None:
    """The draft gives Retry-After precedence; one that cannot be read does not hide the rate limit."""
    assert asked_to_wait(Headers(pairs), NOW) == seconds


@pytest.mark.parametrize("wrong", [-10 * 365 * DAY, -DAY, 0.0, DAY, 10 * 365 * DAY])
def test_a_wrong_clock_here_does_not_change_a_date(wrong: float) -> None:
    """A date is measured against the reply's own Date."""
    pairs = [("Date", formatdate(NOW, usegmt=True)), ("Retry-After", formatdate(NOW + 60, usegmt=True))]
    assert asked_to_wait(Headers(pairs), NOW + wrong) == 60.0


@pytest.mark.parametrize(
    ("failures", "low", "high"),
    [(1, 0.5, 1), (2, 1, 2), (3, 2, 4), (6, 16, 32), (7, 30, 60), (8, 30, 60), (10**9, 30, 60)],
)
def test_backoff_doubles_up_to_a_minute(failures: int, low: float, high: float) -> None:
    """From half to the whole of a pause that doubles from 1 s and stays at 60 s."""
    assert backoff(failures, 0.0) == low
    assert backoff(failures, 0.5) == (low + high) / 2
    assert high - 0.001 < backoff(failures, 0.999_999) < high


def test_the_budget_counts_failures_in_a_row() -> None:
    """It is used up by `limit` failures without progress between them."""
    budget = RetryBudget(3)
    assert not budget.failed().failed().exhausted
    assert budget.failed().failed().failed().exhausted
    assert budget.failed().failed().failed().failed().exhausted


@given(st.lists(st.booleans(), max_size=50), st.integers(min_value=1, max_value=6))
def test_progress_makes_the_budget_whole(history: list[bool], limit: int) -> None:
    """However much went wrong before, only the failures since the last stored byte count."""
    budget = RetryBudget(limit)
    for progressed in history:
        budget = budget.progressed() if progressed else budget.failed()
    since = next((n for n, progressed in enumerate(reversed(history)) if progressed), len(history))
    assert budget.exhausted == (since >= limit)


@pytest.mark.parametrize(
    ("expected", "statuses"),
    [
        (StatusClass.TRANSIENT, [408, 425, 429, 500, 502, 503, 504, 507, 511, 520, 599, 999]),
        (StatusClass.AUTH, [401, 403, 407, 410]),
        (StatusClass.FINAL, [0, 300, 304, 400, 402, 404, 405, 409, 412, 416, 418, 451, 501, 505]),
    ],
)
def test_each_status_has_one_meaning(expected: StatusClass, statuses: list[int]) -> None:
    """What helps is tried again, what may be an expired signature is resolved again, the rest ends."""
    assert [classify_status(status) for status in statuses] == [expected] * len(statuses)


@pytest.mark.parametrize(
    ("status", "transient", "says"),
    [
        (404, False, "check the name"),
        (401, False, "token"),
        (403, False, "terms"),
        (429, True, "too many requests"),
        (503, True, "in trouble"),
        (418, False, "will not change"),
        (511, True, "sign in"),
    ],
)
def test_a_bad_status_is_a_fault_a_person_can_act_on(status: int, transient: bool, says: str) -> None:  # noqa: FBT001
    """It names the status and the address and says what to do; the reason is the standard's."""
    fault = fault_for_status(status, "https://host/model.bin")
    assert fault.kind == f"status-{status}"
    assert fault.reason is FailureReason.BAD_STATUS
    assert fault.transient is transient
    assert f"https://host/model.bin answered {status}" in fault.detail
    assert says in fault.detail


@given(st.integers(min_value=0, max_value=999))
def test_a_fault_is_transient_just_when_its_status_is(status: int) -> None:
    """The two ways to ask never disagree, and every status has a sentence."""
    fault = fault_for_status(status, "u")
    assert fault.transient == (classify_status(status) is StatusClass.TRANSIENT)
    assert fault.detail.endswith(".")


@pytest.mark.parametrize(
    ("kind", "offline"),
    [
        ("dns", True),
        ("connect", True),
        ("network-unreachable", True),
        ("status-511", True),
        ("status-503", False),
        ("stall", False),
        ("reset", False),
        ("", False),
    ],
)
def test_some_faults_suggest_that_there_is_no_network(kind: str, offline: bool) -> None:  # noqa: FBT001
    """No name, no route, no connection, or a captive portal."""
    assert looks_offline(kind) is offline
