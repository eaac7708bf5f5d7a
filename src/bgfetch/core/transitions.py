"""The life of a record as a table: which events mean something in which states, and where they may lead.

`RecordMachine` obeys it (an event without a row is ignored, a target that is not listed is a bug), docs/states.md is
drawn from it, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bgfetch.core import events as on
from bgfetch.core.model import State

__all__ = ["TRANSITIONS"]

_QUEUED, _RUNNING, _PAUSED, _VERIFYING, _OVER = (
    State.QUEUED,
    State.RUNNING,
    State.PAUSED,
    State.VERIFYING,
    State.SETTLED,
)
_AWAITING: Final = (State.WAITING_NETWORK, State.WAITING_RETRY)
_WAITING: Final = (*_AWAITING, State.PAUSED_DISK)
_UNFINISHED: Final = (_QUEUED, _RUNNING, *_WAITING, _PAUSED, _VERIFYING)

# in these states, this event, may lead to these other states
_ROWS: Final[tuple[tuple[tuple[State, ...], type[on.Event], tuple[State, ...]], ...]] = (
    ((_QUEUED,), on.Started, (_RUNNING, _VERIFYING, _OVER)),
    ((_RUNNING,), on.ConnectionsGranted, ()),
    ((_RUNNING,), on.ReplyJudged, (*_AWAITING, _VERIFYING, _OVER)),
    ((_RUNNING,), on.BytesStored, (_VERIFYING, _OVER)),
    ((_QUEUED, *_WAITING, _PAUSED), on.BytesStored, ()),  # of flights given up; kept
    ((_RUNNING,), on.FlightEnded, (*_AWAITING, _VERIFYING, _OVER)),
    ((_RUNNING,), on.FlightFailed, (*_WAITING, _OVER)),
    ((_RUNNING,), on.FlightLagged, _AWAITING),
    ((_RUNNING,), on.TimerRang, ()),
    (_AWAITING, on.TimerRang, (_RUNNING, _VERIFYING)),
    ((State.PAUSED_DISK,), on.TimerRang, (_RUNNING, *_AWAITING, _VERIFYING)),
    ((State.PAUSED_DISK,), on.StoreFailed, ()),  # there is no room yet
    (_AWAITING, on.NetworkReturned, (_RUNNING, _VERIFYING)),
    ((_QUEUED, _RUNNING, *_WAITING), on.PauseAsked, (_PAUSED,)),
    ((_VERIFYING,), on.PauseAsked, ()),  # remembered: a repair will not begin
    ((_PAUSED,), on.ResumeAsked, (_QUEUED,)),
    ((_VERIFYING,), on.ResumeAsked, ()),
    ((_VERIFYING,), on.DigestMatched, ()),
    ((_VERIFYING,), on.DigestMismatched, ()),
    ((_VERIFYING,), on.PiecesChecked, (_RUNNING, *_AWAITING, _PAUSED, _OVER)),
    ((_VERIFYING,), on.StoreFailed, (State.WAITING_RETRY, State.PAUSED_DISK, _PAUSED, _OVER)),
    ((_VERIFYING,), on.BlobCommitted, (_OVER,)),
    (_UNFINISHED, on.AbortAsked, (_OVER,)),
    (_UNFINISHED, on.LimitPassed, (_OVER,)),
)

TRANSITIONS: Final[Mapping[tuple[State, type[on.Event]], frozenset[State]]] = {
    (state, event): frozenset(targets) - {state} for states, event, targets in _ROWS for state in states
}
