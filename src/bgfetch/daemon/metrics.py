"""Figures in Prometheus's text format.

Source: Prometheus, "Exposition formats", text format 0.0.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Figures", "text_of"]


@dataclass(frozen=True, slots=True)
class Figures:
    """How a daemon does.

    Args:
        version: Of bgfetch.
        uptime: Seconds.
        registrations: How many are in each state; of settled ones by result.
        received: Bytes stored since the daemon began.
        rate: Bytes a second now, all together.
        connections: Transfers open now.
        pending: Events not acknowledged yet.
        parked: Events that were given up, until somebody asks again.
        streams: Streams of events open now.
        disk_free: Bytes.
    """

    version: str
    uptime: float
    registrations: Mapping[str, int] = field(default_factory=dict)
    received: int = 0
    rate: float = 0.0
    connections: int = 0
    pending: int = 0
    parked: int = 0
    streams: int = 0
    disk_free: int = 0


def text_of(figures: Figures) -> str:
    """The figures as Prometheus reads them."""
    by_state = [({"state": state}, count) for state, count in sorted(figures.registrations.items())]
    families = (
        _family("info", "gauge", "What runs.", [({"version": figures.version}, 1)]),
        _family("uptime_seconds", "gauge", "Since it began.", [({}, figures.uptime)]),
        _family("registrations", "gauge", "By state.", by_state),
        _family("received_bytes_total", "counter", "Stored since it began.", [({}, figures.received)]),
        _family("receive_rate_bytes", "gauge", "A second, now.", [({}, figures.rate)]),
        _family("connections", "gauge", "Transfers open now.", [({}, figures.connections)]),
        _family("events_pending", "gauge", "Not acknowledged yet.", [({}, figures.pending)]),
        _family("events_parked", "gauge", "Given up until asked for.", [({}, figures.parked)]),
        _family("streams", "gauge", "Streams of events open now.", [({}, figures.streams)]),
        _family("disk_free_bytes", "gauge", "Where bodies are kept.", [({}, figures.disk_free)]),
    )
    return "".join(families)


def _family(name: str, kind: str, meaning: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> str:
    head = f"# HELP bgfetch_{name} {meaning}\n# TYPE bgfetch_{name} {kind}\n"
    return head + "".join(f"bgfetch_{name}{_labels(labels)} {value:.17g}\n" for labels, value in samples)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
