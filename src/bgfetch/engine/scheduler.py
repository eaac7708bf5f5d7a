"""Who may transfer now, and over how many connections: one pacer a host, fair shares among its records."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bgfetch.core.model import State
from bgfetch.core.pacing import ConnectionPacer, share
from bgfetch.engine.tasks import RecordTask

__all__ = ["Caps", "Scheduler"]


@dataclass(frozen=True, slots=True)
class Caps:
    """Most connections.

    Args:
        per_host: To one host, >= 1.
        total: In all, >= 1.
        start: To a host nothing is known of yet, >= 1.
        per_record: For one file, or 0 for as many as help.
    """

    per_host: int = 26
    total: int = 64
    start: int = 4
    per_record: int = 0


@dataclass(slots=True)
class _Host:
    pacer: ConnectionPacer
    received: int = 0
    queued: deque[RecordTask] = field(default_factory=deque)
    running: dict[RecordTask, None] = field(default_factory=dict)


class Scheduler:
    """Admits records in the order of their priority and divides connections.

    Args:
        caps: The limits.
    """

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._hosts: dict[str, _Host] = {}

    def add(self, task: RecordTask) -> None:
        """Queue a record for its turn, behind those of the same or a higher priority."""
        queue = self._host(task.host).queued
        priority = task.job.row.options.priority
        place = len(queue)
        while place and queue[place - 1].job.row.options.priority < priority:
            place -= 1
        queue.insert(place, task)

    def wake(self, task: RecordTask) -> None:
        """Queue a record that waits for a network, unless it is queued already."""
        if task not in self._host(task.host).queued:
            self.add(task)

    def recall(self, host: str) -> None:
        """The host is away after all: take those that were woken out of the queue again; their timers go on."""
        queue = self._host(host).queued
        kept = [task for task in queue if task.machine.state is State.QUEUED]
        queue.clear()
        queue.extend(kept)

    def reorder(self, task: RecordTask) -> None:
        """Its priority is another one: find its place in the queue, if it is there."""
        queue = self._host(task.host).queued
        if task in queue:
            queue.remove(task)
            self.add(task)

    def resume(self, task: RecordTask) -> None:
        """Count a record that waited for a while among those that transfer again."""
        self._host(task.host).running[task] = None

    def remove(self, task: RecordTask) -> None:
        """Give up a record's place and its connections."""
        host = self._host(task.host)
        host.running.pop(task, None)
        if task in host.queued:
            host.queued.remove(task)

    def received(self, task: RecordTask, count: int) -> None:
        """Bytes that came from the record's host."""
        self._host(task.host).received += count

    def answered(self, task: RecordTask, seconds: float) -> None:
        """How long the host took from a request, or from the connection made for it, to its reply."""
        pacer = self._host(task.host).pacer
        pacer.rtt = min(pacer.rtt or seconds, seconds)

    def refused(self, task: RecordTask, now: float) -> None:
        """The host says it is too much."""
        self._host(task.host).pacer.refused(now)

    def tick(self, now: float) -> None:
        """Let each host's pacer learn from what came since the last time."""
        for host in self._hosts.values():
            if host.running:
                connections = sum(len(task.machine.flights) for task in host.running)
                # What was gathered counts too: a slow connection stores once in seconds, and the pacer looks oftener.
                gathered = sum(_gathered(task) for task in host.running)
                host.pacer.tick(now, host.received + gathered, connections)

    def admit(self) -> list[RecordTask]:
        """Records whose turn it is now; each has at least one connection."""
        free = self._caps.total - sum(len(host.running) for host in self._hosts.values())
        admitted: list[RecordTask] = []
        for host in self._hosts.values():
            while host.queued and free > 0 and len(host.running) < host.pacer.target:
                task = host.queued.popleft()
                host.running[task] = None
                admitted.append(task)
                free -= 1
        return admitted

    def grants(self) -> Mapping[RecordTask, int]:
        """Connections for each admitted record, at least one."""
        wants: dict[RecordTask, int] = {}
        for host in self._hosts.values():
            asked = {task: min(task.machine.wants_connections, self._most(task)) for task in host.running}
            wants.update(share(max(host.pacer.target, len(asked)), asked))
        return {task: max(1, given) for task, given in share(self._caps.total, wants).items()}

    @property
    def running(self) -> Iterable[RecordTask]:
        """Records that have been admitted and not removed."""
        return [task for host in self._hosts.values() for task in host.running]

    def _most(self, task: RecordTask) -> int:
        return task.job.row.options.connections or self._caps.per_record or self._caps.per_host

    def _host(self, name: str) -> _Host:
        if name not in self._hosts:
            start = min(self._caps.start, self._caps.per_host)
            self._hosts[name] = _Host(ConnectionPacer(start, self._caps.per_host))
        return self._hosts[name]


def _gathered(task: RecordTask) -> int:
    return sum(receiver.gathered for receiver in task.receivers.values())
