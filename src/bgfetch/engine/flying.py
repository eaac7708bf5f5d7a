"""Makes an exchange of each flight the machine wants, with a receiver that stores what comes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial as bind

from bgfetch.cache.partials import Partial
from bgfetch.cache.room import Room
from bgfetch.cache.writer import BufferPool
from bgfetch.clock import Clock
from bgfetch.core import commands as do
from bgfetch.core import events as on
from bgfetch.core.model import ReplyHead
from bgfetch.core.ranges import Ask, range_headers
from bgfetch.core.urls import address_scope
from bgfetch.engine.receiver import FlightReceiver
from bgfetch.engine.tasks import RecordTask
from bgfetch.transports.base import Exchange, Transport

__all__ = ["Flights"]

_SMALL = 1 << 20
"""Bytes below which a whole file may share an HTTP/2 connection; large ranges want a TCP window each."""


class Flights:
    """The exchanges of all records.

    Args:
        transport: Makes them.
        clock: The time.
        post: Takes events for the driver.
        room: Where bodies get their room.
    """

    def __init__(
        self, transport: Transport, clock: Clock, post: Callable[[RecordTask, on.Event], None], room: Room
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._post = post
        self._room = room
        self._pool = BufferPool()

    def take_off(self, task: RecordTask, command: do.OpenFlight, partial: Partial) -> None:
        """Send the request of a flight; its bytes go to this partial."""
        machine = task.machine
        receiver = FlightReceiver(
            command,
            known=machine.known,
            partial=partial,
            generation=machine.generation,
            pool=self._pool,
            now=self._clock.now,
            post=bind(self._post, task),
            reached=bind(_reached, task),
            replied=bind(_replied, task),
            sent=bind(setattr, task, "uploaded"),
            room=self._room,
            needs=bind(setattr, task, "needs"),
        )
        task.receivers[command.flight] = receiver
        task.opened[command.flight] = self._clock.monotonic()
        self._transport.start(_exchange(task, command), receiver)

    def stop(self, task: RecordTask, flight: int) -> None:
        """Give a flight up; its end is heard of."""
        self._transport.stop(task.opened_as(flight))
        if flight in task.receivers:
            task.receivers[flight].settle(hopeless=True)

    def stop_all(self, task: RecordTask) -> None:
        """Give all flights of a record up, and hear of none."""
        for flight in list(task.machine.flights):
            self.stop(task, flight)
        task.machine.flights.clear()


def _exchange(task: RecordTask, command: do.OpenFlight) -> Exchange:
    ask, machine = command.ask, task.machine
    return Exchange(
        flight=task.opened_as(command.flight),
        url=ask.url,
        method=task.request.method,
        headers=[*command.headers.pairs, *range_headers(ask, machine.known)],
        body=task.request.body,
        multiplex=_is_small(task, ask),
        lane=task.job.row.uid,
        public_only=task.reached_public,
        named_by_person=command.hops == 0 and not ask.resolved,
        surroundings=task.job.surroundings,
    )


def _is_small(task: RecordTask, ask: Ask) -> bool:
    """Whether this asks for the whole of a small file."""
    total = task.machine.total if task.machine.total is not None else task.request.expected_size
    return total is not None and total < _SMALL and (ask.stop is None or ask.stop - ask.start >= total)


def _reached(task: RecordTask, address: str) -> None:
    task.reached_public = task.reached_public or address_scope(address) == "public"


def _replied(task: RecordTask, reply: ReplyHead, total: int | None) -> None:
    """Keep the most telling head: that of a whole body before that of a part of it."""
    if task.reply is None or task.reply.status != 206 or reply.status == 206:
        task.announced = total  # the head is looked at before the machine has heard of it
        task.reply = reply
