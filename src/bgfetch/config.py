"""Every setting, once: its name, default, unit and meaning.

A value is looked for in this order: what the caller passes (a flag), the environment (`BGFETCH_<NAME>`), the file
`config.toml` in `BGFETCH_HOME`, the default here. Only wiring, daemon and cli read settings. docs/settings.md is
generated from this file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar

from bgfetch.core.timetable import Timetable
from bgfetch.errors import InvalidRequest

__all__ = ["Settings", "duration", "load", "size"]

T = TypeVar("T")

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?(?:/s)?", re.ASCII | re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII | re.IGNORECASE)
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off", "")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def size(text: str) -> int:
    """Bytes of a size such as "5M", "1.5G" or "65536"; K, M, G, T are powers of 1024, as in curl and aria2.

    Raises:
        InvalidRequest: It is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(f"not a size: {text[:40]!r}; write bytes, or a number with K, M, G or T")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


def duration(text: str) -> float:
    """Seconds of a duration such as "30", "500ms", "5m" or "1h".

    Raises:
        InvalidRequest: It is not a duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(
            f"not a duration: {text[:40]!r}; write seconds, or a number with ms, s, m, h or d"
        )
    return float(match[1]) * _SECONDS[(match[2] or "").lower()]


def _count(text: str) -> int:
    if not text.strip().isdecimal():
        raise InvalidRequest(f"not a whole number: {text[:40]!r}")
    return int(text)


def _reserve(text: str) -> int | None:
    return None if text.strip().lower() == "auto" else size(text)


def _timetable(text: str) -> str:
    Timetable.parse(text)
    return text


def _truth(text: str) -> bool:
    word = text.strip().lower()
    if word not in (*_TRUE, *_FALSE):
        raise InvalidRequest(f"neither yes nor no: {text[:40]!r}; write 1 or 0")
    return word in _TRUE


def _setting(default: T, read: Callable[[str], T], unit: str, meaning: str) -> T:
    return field(default=default, metadata={"read": read, "unit": unit, "meaning": meaning})


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set. `home` is where everything is kept; the rest says how to behave."""

    home: Path
    connections: int = _setting(0, _count, "connections", "for one file; 0 = as many as help")
    # 32 were an eighth faster over a lossy line, and took 85 MiB of memory where 80 are allowed.
    connections_per_host: int = _setting(26, _count, "connections", "most to one host")
    connections_total: int = _setting(64, _count, "connections", "most in all")
    limit_rate: int = _setting(0, size, "bytes a second", "most to receive in all; 0 = no limit")
    schedule: str = _setting(
        "", _timetable, "timetable", "when how fast, such as 08:00,512k 18:00,off; pause fetches nothing"
    )
    connect_timeout: float = _setting(
        15.0, duration, "seconds", "for name look-up, connection and TLS together"
    )
    head_timeout: float = _setting(30.0, duration, "seconds", "until the whole reply head must be there")
    silence_timeout: float = _setting(
        30.0, duration, "seconds", "without a byte until a connection is replaced"
    )
    attempts: int = _setting(
        12, _count, "attempts", "in a row without 64 KiB of progress until a download fails"
    )
    retry_scale: float = _setting(1.0, float, "factor", "on the delays between attempts")
    most_bytes: int = _setting(1 << 40, size, "bytes", "longest body that announces no length")
    daemon_linger: float = _setting(
        600.0, duration, "seconds", "until a daemon that nobody needs ends by itself; 0 = never"
    )
    in_process: bool = _setting(False, _truth, "0 or 1", "use no daemon: fetch in the process that asks")
    cache_quota: int = _setting(
        0, size, "bytes", "of all that is stored; the least recently used goes first; 0 = no quota"
    )
    disk_reserve: int | None = _setting(
        None,
        _reserve,
        "bytes",
        "of the disk that no download takes; auto = a fiftieth of it, 1 GiB at the most",
    )
    retention: float = _setting(
        7 * 86400.0,
        duration,
        "seconds",
        "records of what is over stay readable where no worker takes them away",
    )
    log_retention: float = _setting(
        30 * 86400.0, duration, "seconds", "until a registration that is over is forgotten, with its log"
    )
    ca_file: str = _setting("", str, "path", "certificates to trust instead of the usual ones")


"""A `Settings` field's metadata: `read` turns text into a value, `unit` and `meaning` are for people."""


def load(overrides: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in force.

    Args:
        overrides: What the caller passes, by field name; None values count as not passed.
        environ: The environment; the process's own when None.

    Raises:
        InvalidRequest: A value that cannot be read, with its name.
    """
    env = os.environ if environ is None else environ
    passed = {name: value for name, value in (overrides or {}).items() if value is not None}
    home = _home(passed, env)
    stored = _file(home / "config.toml")
    values: dict[str, object] = {"home": home}
    for each in fields(Settings):
        if each.name == "home":
            continue
        if each.name in passed:
            values[each.name] = passed[each.name]
        elif (text := env.get(f"BGFETCH_{each.name.upper()}")) is not None:
            values[each.name] = _read(each.metadata["read"], text, f"BGFETCH_{each.name.upper()}")
        elif each.name in stored:
            values[each.name] = _read(
                each.metadata["read"], str(stored.pop(each.name)), f"config.toml: {each.name}"
            )
    unknown = sorted(set(stored) - {each.name for each in fields(Settings)})
    if unknown:
        raise InvalidRequest(f"{home / 'config.toml'}: there is no setting {unknown[0]!r}")
    return Settings(**values)  # type: ignore[arg-type]  # each value was read by its own field's reader


def _home(passed: Mapping[str, object], env: Mapping[str, str]) -> Path:
    given = passed.get("home") or env.get("BGFETCH_HOME")
    if given:
        return Path(str(given)).expanduser().absolute()
    from platformdirs import user_data_path  # noqa: PLC0415 - 5 ms that most calls in tests and services do not need

    return user_data_path("bgfetch", appauthor=False)


def _file(path: Path) -> dict[str, object]:
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    import tomllib  # noqa: PLC0415 - only where there is such a file

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"{path} cannot be read: {error}") from error


def _read(read: Callable[[str], object], text: str, name: str) -> object:
    try:
        return read(text)
    except (InvalidRequest, ValueError) as error:
        raise InvalidRequest(f"{name}: {error}") from error
