"""When to try again, how long to wait first, and when to give up.

The rule kept here: progress resets the budget, and waiting for somebody else costs none of it. A server that names
a time is obeyed (within bounds); being offline is no failure at all. Only failures in a row, without one new byte
between them, use the budget up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import assert_never

from bgfetch.core.model import FailureReason, Fault, Headers

__all__ = [
    "RetryBudget",
    "StatusClass",
    "asked_to_wait",
    "backoff",
    "classify_status",
    "fault_for_status",
    "http_date",
    "looks_offline",
    "parse_rate_limit",
    "parse_retry_after",
]

SHORTEST_WAIT = 1.0  # "0", a negative number or a date gone by must not become a busy loop
LONGEST_WAIT = (
    24 * 3600.0
)  # Android's DownloadManager clamps here too: a typing error must not park a download
FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 60.0

_SECONDS = re.compile(
    r"-?[0-9]+(\.[0-9]+)?"
)  # RFC 9110 has digits only; fractions and signs are seen in the field
_QUOTED = re.compile(
    r'"(?:\\.|[^"])*(?:"|\Z)'
)  # an open quote ends with the value, else hostile input costs n**2
_OFFLINE = frozenset({"dns", "connect", "network-unreachable", "status-511"})


def parse_retry_after(value: str, now: float) -> float | None:
    """Seconds a `Retry-After` asks to wait, 1 s to 24 h, or None when it cannot be read.

    Args:
        value: One field value: seconds, or an HTTP-date in any of its three forms.
        now: The instant the reply was made, seconds since the epoch.

    Returns:
        A negative number or a date gone by means "now" and becomes 1 s; more than a day becomes a day.

    Source: RFC 9110 sections 10.2.3 and 5.6.7.
    """
    if _SECONDS.fullmatch(value):
        return _clamped(
            float(value)
        )  # float, not int: thousands of digits become infinity instead of an error
    until = http_date(value)
    return None if until is None else _clamped(until - now)


def parse_rate_limit(headers: Headers) -> float | None:
    """Seconds until a used-up request quota is refilled, 1 s to 24 h; None while some of it is left.

    Reads `RateLimit: "resolvers";r=0;t=55` and its predecessor, `RateLimit-Remaining: 0` with `RateLimit-Reset: 55`
    (registries append a window to the former: `0;w=21600`). Of several used-up quotas the slowest decides.

    Source: draft-ietf-httpapi-ratelimit-headers (fields since -08; RateLimit-Reset until -06).
    """
    resets = [item.get("t", "") for item in _items(headers.get("ratelimit", "")) if item.get("r") == "0"]
    if headers.get("ratelimit-remaining", "").partition(";")[0].strip() == "0":
        resets.append(headers.get("ratelimit-reset", "").partition(";")[0].strip())
    waits = [float(reset) for reset in resets if _SECONDS.fullmatch(reset)]
    return _clamped(max(waits)) if waits else None


def asked_to_wait(headers: Headers, now: float) -> float | None:
    """Seconds the server wants to be left alone, 1 s to 24 h, or None when it does not say.

    A date is measured against the reply's own `Date` where there is one, so a wrong clock here changes nothing.
    `Retry-After` goes before `RateLimit`, as the draft demands; of repeated fields the longest wait is obeyed.

    Args:
        headers: Of a reply that refused to serve (429, 503 and the like).
        now: Seconds since the epoch.
    """
    server_now = http_date(headers.get("date", ""))
    reference = now if server_now is None else server_now
    waits = [parse_retry_after(value, reference) for value in headers.get_all("retry-after")]
    return max((wait for wait in waits if wait is not None), default=None) or parse_rate_limit(headers)


def backoff(failures: int, chance: float) -> float:
    """Seconds to pause after this many failures in a row: 0.5 to 1 s, then doubling up to 30 to 60 s.

    Half is certain and half is chance: whole-range ("full") jitter may say 0 s, which hits a server that has just
    failed at once; without jitter a thousand clients come back together.

    Args:
        failures: Failures in a row, >= 1.
        chance: A random number in [0, 1).

    Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015 ("equal jitter").
    """
    doublings = min(failures - 1, 6)  # 2**6 s is over the cap, and a huge exponent would overflow
    ceiling = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0**doublings)
    return ceiling * (1 + chance) / 2


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How many failures in a row, without progress between them, are borne.

    Call `failed` for a failure that is ours to bear. Do not call it when the server named a time (`asked_to_wait`)
    nor while offline (`looks_offline` and a probe agrees): such waiting is free.

    Args:
        limit: Failures in a row after which to give up, >= 1.
        failures: Failures since the last progress, >= 0.
    """

    limit: int
    failures: int = 0

    def failed(self) -> RetryBudget:
        """The budget after one more failure."""
        return replace(self, failures=self.failures + 1)

    def progressed(self) -> RetryBudget:
        """The budget after bytes were stored: whole again."""
        return replace(self, failures=0) if self.failures else self

    @property
    def exhausted(self) -> bool:
        """Whether to give up."""
        return self.failures >= self.limit


class StatusClass(StrEnum):
    """What a status that is no success means for the next attempt."""

    TRANSIENT = "transient"  # the same request may work later
    AUTH = "auth"  # once more from the unresolved source: a signed URL may just have expired
    FINAL = "final"  # asking again changes nothing


def classify_status(status: int) -> StatusClass:
    """What to do about a reply that is neither 2xx nor a redirect that was followed.

    501 and 505 say that the server never learnt this; 511 is a captive portal, which goes away like being offline
    does. A status over 599 counts as 5xx.

    Source: RFC 9110 section 15 (and 15.5.9 for 408), RFC 6585 (429, 511), RFC 8470 (425).
    """
    match status:
        case 408 | 425 | 429:
            return StatusClass.TRANSIENT
        case 401 | 403 | 407 | 410:
            return StatusClass.AUTH
        case 501 | 505:
            return StatusClass.FINAL
        case _:
            return StatusClass.TRANSIENT if status >= 500 else StatusClass.FINAL


def fault_for_status(status: int, url: str) -> Fault:
    """The failure a bad status is: kind "status-404", reason bad-status, a sentence for a person.

    An AUTH status is not `transient`: ask `classify_status` whether one more attempt from the source is due.

    Args:
        status: As received; neither 2xx nor a redirect that was followed.
        url: The URL that answered, already without its query.
    """
    kind = classify_status(status)
    detail = f"{url} answered {status}: {_ADVICE.get(status) or _advice(kind)}."
    return Fault(
        f"status-{status}", detail, FailureReason.BAD_STATUS, transient=kind is StatusClass.TRANSIENT
    )


def looks_offline(kind: str) -> bool:
    """Whether a `Fault.kind` suggests that there is no network here at all, rather than trouble at the server.

    A hint, not a proof (a refused connection has the same kind): ask a probe before waiting without end.
    """
    return kind in _OFFLINE


_ADVICE = {
    401: "it wants credentials; pass a token for this host",
    403: "it refuses access; check the token, and whether the terms of the model were accepted",
    404: "nothing is there; check the name",
    407: "the proxy wants credentials; add them to the proxy setting",
    408: "it waited too long for the request; trying again helps as a rule",
    410: "it was removed for good; look for another copy",
    429: "too many requests; it is asked again later",
    451: "it is withheld for legal reasons",
    511: "this network wants you to sign in first; open any page in a browser",
}


def _advice(kind: StatusClass) -> str:
    match kind:
        case StatusClass.TRANSIENT:
            return "the server is in trouble; trying again later may help"
        case StatusClass.AUTH | StatusClass.FINAL:
            return "asking again will not change that"
        case _:
            assert_never(kind)


def _clamped(seconds: float) -> float:
    return min(max(seconds, SHORTEST_WAIT), LONGEST_WAIT)


def http_date(value: str) -> float | None:
    """The instant, seconds since the epoch; None for anything that is no date. The value is hostile input."""
    try:
        moment = parsedate_to_datetime(value)
        # A date without a zone is UTC by RFC 9110; timestamp() alone would take this machine's zone.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _items(value: str) -> list[dict[str, str]]:
    """The parameters of each member of a structured-field list; names in quotes, where commas may hide, are dropped."""
    members = _QUOTED.sub("", value).split(",")
    pairs = [[parameter.partition("=") for parameter in member.split(";")] for member in members]
    return [{key.strip(): number.strip() for key, _, number in member} for member in pairs]
