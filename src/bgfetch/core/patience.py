"""How much more a record bears: every count that ends a record, and what makes it whole again.

Invariant 5: progress resets the retry budget; being offline costs none of it, nor does waiting that a server asked
for. Progress is `LEAST_PROGRESS` more of the body than was ever held: a server which always breaks at the same byte,
or one which sends a byte and falls silent, uses the budget up instead of being asked for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bgfetch.core.model import Fault
from bgfetch.core.policy import Policy
from bgfetch.core.retry import RetryBudget, backoff, looks_offline

__all__ = ["LEAST_PROGRESS", "LONGEST_OFFLINE_WAIT", "Patience", "awaits_network"]

LEAST_PROGRESS = 64 << 10
"""Bytes that make an attempt worth another: a model comes in fewer attempts than it has such steps, in any case."""

LONGEST_OFFLINE_WAIT = 3.0
"""Seconds between looks for a network: with the time a look takes, what is back is noticed within 5 s."""

# What a network that wants a login first does to those who already had better replies from this server.
_PORTAL = frozenset({"not-the-file", "redirect-private", "certificate"})


def awaits_network(kind: str) -> bool:
    """Whether what is waited for after a `Fault.kind` is a network: any at all, or one without a login before it."""
    return looks_offline(kind) or kind in _PORTAL


@dataclass(frozen=True, slots=True)
class Patience:
    """What was borne since the last progress.

    Args:
        policy: The limits.
        answered: Whether anybody ever replied.
        served: Whether bytes ever came.
        failures: Failures in a row that count.
        server_waits: Times in a row the server asked to wait.
        offline_waits: Times in a row the network was away.
        resolves: Times in a row the source was asked for a fresh URL in vain.
        changes: Times the body was another version, ever.
        most: Bytes held when the budget was last whole.
    """

    policy: Policy
    answered: bool = False
    served: bool = False
    failures: int = 0
    server_waits: int = 0
    offline_waits: int = 0
    resolves: int = 0
    changes: int = 0
    most: int = 0

    def heard(self) -> Patience:
        """After any reply."""
        return self if self.answered else replace(self, answered=True)

    def progressed(self, held: int) -> Patience:
        """After bytes came: whole again once enough more are held than ever before."""
        if held < self.most + LEAST_PROGRESS:
            return self if self.served else replace(self, answered=True, served=True)
        return Patience(self.policy, answered=True, served=True, changes=self.changes, most=held)

    def measured_from(self, held: int) -> Patience:
        """After bytes were given up on purpose: progress counts from here."""
        return replace(self, most=held)

    def changed(self) -> Patience:
        """After the body turned out to be another version."""
        return replace(self, changes=self.changes + 1, most=0)

    def resolved(self) -> Patience:
        """After a URL fresh from the source was refused."""
        return replace(self, resolves=self.resolves + 1)

    @property
    def unstable(self) -> bool:
        """Whether it changed too often."""
        return self.changes > self.policy.restarts

    def bears(self, fault: Fault) -> bool:
        """Whether another attempt may help after this fault."""
        return fault.transient or self._away(fault)

    def after(
        self, fault: Fault, *, asked: float | None, chance: float, progressed: bool
    ) -> tuple[Patience, float | None]:
        """What is left after a failure, and how many seconds to wait; None when it was tried often enough.

        Args:
            fault: What failed; `bears` said that another attempt may help.
            asked: Seconds the server asked to wait, or None.
            chance: A number in [0, 1) for jitter.
            progressed: Whether the attempt brought something new; then the first failure costs no time.
        """
        if asked is not None:
            later = replace(self, server_waits=self.server_waits + 1)
            exhausted = later.server_waits > self.policy.server_waits
            return later, None if exhausted else asked * (1 + chance / 10)
        if progressed and not self.failures:
            return self, 0.0
        if self._away(fault):
            later = replace(self, offline_waits=self.offline_waits + 1)
            wait = min(LONGEST_OFFLINE_WAIT, backoff(later.offline_waits, chance)) * self.policy.retry_scale
            ended = later.offline_waits > self.policy.offline_waits and not self.policy.patient
            return later, None if ended else wait
        budget = RetryBudget(self._limit(fault), self.failures).failed()
        later = replace(self, failures=budget.failures)
        wait = backoff(budget.failures, chance) * self.policy.retry_scale
        return later, None if budget.exhausted else wait

    def _away(self, fault: Fault) -> bool:
        if fault.kind == "resources":  # descriptors that others give back: no attempt was made
            return True
        if self.policy.patient and looks_offline(fault.kind):
            return True
        return self.served and awaits_network(fault.kind)

    def _limit(self, fault: Fault) -> int:
        if self.policy.patient and awaits_network(fault.kind):
            return self.policy.portal_waits
        return self.policy.attempts if self.answered else self.policy.first_attempts
