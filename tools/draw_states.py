"""Draws docs/states.md from the table that the machine obeys: `python tools/draw_states.py`."""

from __future__ import annotations

from pathlib import Path

from bgfetch.core.events import Event
from bgfetch.core.model import State
from bgfetch.core.transitions import TRANSITIONS

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "states.md"

AWAITS = {
    State.QUEUED: "its turn: a connection to its host",
    State.RUNNING: "bytes; at least one request is under way",
    State.WAITING_NETWORK: "a network, one without a login before it, or the server's return; looks every few seconds",
    State.WAITING_RETRY: "`until`: after a failure, or because the server asked for it",
    State.PAUSED_DISK: "room on the disk; looks again at `until`",
    State.PAUSED: "a person, who resumes it",
    State.VERIFYING: "the digest, or the body's final name",
    State.SETTLED: "nothing: it succeeded or failed, for a reason that it names",
}

HEAD = """\
# The states of a record

<!-- Drawn by tools/draw_states.py from bgfetch.core.transitions; change the table, then draw again. -->

A registration shows the state of its records that says most; each state says what is awaited and until when. The
picture is what the machine obeys: an event that is not listed for a state means nothing there, and a way that is not
drawn is not taken. `paused-schedule` and `paused-metered` are states of a registration that a timetable or the network holds
back (engine/steering); its records are `paused`.

"""

FOOT = """
Two rules hold in every state, and a simulation of server, line and disk tests them. Requests are under way while a
record is `running`, and then only. Whatever waits is woken: by a timer, by the check it waits for, by the scheduler or
by a person.
"""


def picture() -> str:
    """The diagram, in Mermaid."""
    ways: dict[tuple[State, State], list[str]] = {}
    for (state, event), targets in TRANSITIONS.items():
        for target in targets:
            ways.setdefault((state, target), []).append(event.__name__)
    order = list(AWAITS)
    lines = ["stateDiagram-v2", f"    [*] --> {name(State.QUEUED)}"]
    lines += [f'    state "{state}" as {name(state)}' for state in order if "-" in state]
    for state, target in sorted(ways, key=lambda way: (order.index(way[0]), order.index(way[1]))):
        lines.append(f"    {name(state)} --> {name(target)} : {' · '.join(ways[state, target])}")
    lines.append(f"    {name(State.SETTLED)} --> [*]")
    return "\n".join(["```mermaid", *lines, "```", ""])


def name(state: State) -> str:
    """A state as Mermaid can write it."""
    return state.replace("-", "_")


def table() -> str:
    """What each state awaits and which events mean something in it."""
    events: tuple[type[Event], ...] = Event.__args__
    rows = ["| state | awaits | heeds |", "|---|---|---|"]
    for state, awaited in AWAITS.items():
        heeded = ", ".join(event.__name__ for event in events if (state, event) in TRANSITIONS)
        rows.append(f"| `{state}` | {awaited} | {heeded or 'nothing'} |")
    return "\n".join([*rows, ""])


def document() -> str:
    """The whole of docs/states.md."""
    return f"{HEAD}{picture()}\n{table()}{FOOT}"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
