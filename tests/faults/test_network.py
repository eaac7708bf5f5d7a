"""Every way in which a server can misbehave, through the whole engine, with and without a digest.

The rule: never a wrong file under a final name, never a hang; what can be finished finishes with the right bytes, what
must be refused ends in a named error; with a digest, what happened on the wire does not matter.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.lab import IMPATIENT, Ended, Lab, asking

from bgfetch.core.model import FailureReason, Result, State, Verified
from bgfetch.registrations.port import EventType
from bgfetch.testing import SCENARIOS, FaultServer, Outcome, Scenario

SMALL = random.Random(3).randbytes(300_001)  # one request has it all
LARGE = random.Random(4).randbytes((12 << 20) + 345)  # a first segment, then several at once
CANARY = "s3cr3t-canary"

# Where seconds are what a scenario is about, few of them.
SHORT: dict[str, dict[str, Any]] = {
    "slow": {"seconds": 0.3},
    "outage-refuse": {"seconds": 0.3},
    "outage-silent": {"seconds": 0.3},
    "drip-body": {"interval": 0.01},
    "long-header": {"size": 8 << 20},
}

# What runs in `make test`: each family, each outcome, each kind of decision.
SAMPLE = frozenset({
    "plain", "drop-rst", "drop-in-head", "outage-refuse", "stall-body", "drip-head", "200-on-range",
    "206-wrong-total", "206-too-little", "206-lying", "416-at-eof", "etag-change", "weak-etag-change", "bitflip",
    "node-skew", "if-range-dropped", "chunked-truncated", "length-long", "endless", "header-bomb", "garbage",
    "captive-html", "captive-redirect-midway", "gzip-bomb", "expired-url", "redirect-host-port", "redirect-file",
    "429-seconds", "401-once", "404-always",
})  # fmt: skip

# Bodies asked for again, as a multiple of the body. Every other scenario stays within three.
COSTLY = {
    "206-wrong-total": 5.0,  # three whole attempts before the totals are known to be lies
    "drop-rst": 8.0,  # an RST throws away what the kernel had and nobody had read
    "node-skew": 4.0,
    "etag-rotates": 4.0,
}
ATTEMPTS = IMPATIENT.attempts + 1  # of a refused body, each may bring all of it


@dataclass(frozen=True)
class Case:
    """A scenario, a body and whether its digest is known."""

    scenario: Scenario
    body: bytes
    digest: bool

    @property
    def name(self) -> str:
        """As pytest shows it."""
        size = "large" if self.body is LARGE else "small"
        return f"{self.scenario.name}-{size}-{'digest' if self.digest else 'bare'}"

    @property
    def in_sample(self) -> bool:
        """Whether it runs in `make test` too: with a digest in many pieces, without one in one."""
        return self.scenario.name in SAMPLE and self.digest == (self.body is LARGE)

    @property
    def query(self) -> str:
        """A secret in the URL, where the scenario does not tell requests by their query."""
        return "" if self.scenario.family in ("redirect", "mixed") else f"?token={CANARY}"


def cases() -> Iterator[Any]:
    """The whole table; what is not in the sample carries the mark."""
    for scenario in SCENARIOS.values():
        for body in (SMALL, LARGE):
            for digest in (False, True):
                case = Case(scenario, body, digest)
                if not scenario.needs_tls:  # those are in test_network_tls.py
                    yield pytest.param(case, id=case.name, marks=() if case.in_sample else pytest.mark.faults)


@pytest.mark.parametrize("case", list(cases()))
def test_scenario(case: Case, tmp_path: Path) -> None:
    """The rule above, bounded traffic, one event, and a failure told in a sentence without secrets."""
    scenario = case.scenario
    with (
        FaultServer(case.body, scenario.name, **SHORT.get(scenario.name, {})) as server,
        Lab(tmp_path) as lab,
    ):
        sha256 = server.sha256 if case.digest else ""
        ended = lab.fetch(asking(server.url + case.query, sha256=sha256))
        right = server.body
        others = [server.second] if scenario.family in ("redirect", "content") else []
        traffic = max(each.bytes_sent for each in (server, *others))

    told_well(ended)
    promise_kept(scenario.outcome, ended, right, digest=case.digest)
    if scenario.name == "endless":
        assert traffic < 3 * IMPATIENT.most_bytes
    else:
        most = COSTLY.get(scenario.name, 3.0) if ended.body is not None else ATTEMPTS
        assert traffic <= most * len(right)


def promise_kept(outcome: Outcome, ended: Ended, right: bytes, *, digest: bool) -> None:
    """What the scenario demands of a correct client."""
    if digest and ended.body is not None:
        assert ended.body == right
        assert ended.records[0].verified is Verified.DIGEST
    match outcome:
        case Outcome.FINISH:
            assert ended.row.failure_detail == ""
            assert ended.body == right
        case Outcome.REFUSE:
            assert ended.row.result is Result.FAILURE
            assert ended.body is None
        case Outcome.DIGEST:
            assert ended.body == right or not digest


def told_well(ended: Ended) -> None:
    """It is settled, announced once, and its words are for a person and hold no secret."""
    row, (record,) = ended.row, ended.records
    assert row.state is State.SETTLED
    assert (record.blob != "") == (row.result is Result.SUCCESS)
    (event,) = ended.outbox
    assert event.type is (EventType.SUCCESS if row.result is Result.SUCCESS else EventType.FAIL)
    if row.result is Result.FAILURE:
        assert row.failure_reason in (FailureReason.FETCH_ERROR, FailureReason.BAD_STATUS)
        assert record.failure_reason is row.failure_reason
        assert row.failure_detail.count(" ") >= 5
    said = "\n".join([row.failure_detail, *(f"{line.name} {line.detail}" for line in ended.log)])
    assert set(said) <= set(string.printable) | {"…"}
    for secret in (CANARY, "Signature=", "X-Amz-"):
        assert secret not in said
