"""The daemon's own log: a file that is rotated, or the journal, and never a secret in it."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from bgfetch.address import private_directory

__all__ = ["Redacting", "begin", "redacted_text", "under_systemd"]

_BYTES: Final = 2 << 20
_KEPT: Final = 3
_USERINFO: Final = re.compile(r"(?<=://)[^/\s@'\"]+@")
_QUERY: Final = re.compile(r"(https?://[^\s?#'\"<>]*)[?#][^\s'\"<>]*", re.IGNORECASE)
_SECRET_FIELD: Final = re.compile(
    r"(?i)\b(authorization|proxy-authorization|cookie|set-cookie|x-[a-z-]*(?:token|key)|token)(['\"]?\s*[:=,]\s*)[^\n]*"
)
# sd-daemon(3): journald takes the level from here.
_LEVELS: Final = {logging.CRITICAL: "<2>", logging.ERROR: "<3>", logging.WARNING: "<4>", logging.INFO: "<6>"}


def redacted_text(text: str) -> str:
    """The text without what may be a secret: queries of URLs, names and passwords in them, values of such fields."""
    text = _QUERY.sub(r"\1?…", _USERINFO.sub("…@", text))
    return _SECRET_FIELD.sub(r"\1\2…", text)


class Redacting(logging.Formatter):
    """Leaves secrets out of whole entries, what was raised included.

    Args:
        journal: Whether a journal reads this, which knows the time itself.
    """

    def __init__(self, *, journal: bool) -> None:
        super().__init__("%(message)s" if journal else "%(asctime)s %(levelname)s %(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """One entry."""
        text = redacted_text(super().format(record))
        return f"{_LEVELS.get(record.levelno, '<7>')}{text}" if self._journal else text


def under_systemd(environ: Mapping[str, str]) -> bool:
    """Whether a journal reads what is written to stderr."""
    return bool(environ.get("JOURNAL_STREAM"))


def begin(path: Path, environ: Mapping[str, str]) -> None:
    """Write what is logged from now on to the file, or to the journal.

    Raises:
        CacheError: Somebody else owns its directory.
    """
    journal = under_systemd(environ)
    handler: logging.Handler
    if journal:
        handler = logging.StreamHandler(sys.stderr)
    else:
        private_directory(path.parent)
        handler = _PrivateFile(path, maxBytes=_BYTES, backupCount=_KEPT, encoding="utf-8")
    handler.setFormatter(Redacting(journal=journal))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class _PrivateFile(RotatingFileHandler):
    """0600, and never through a link."""

    def _open(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 - as the handler it extends
        flags = (
            os.O_WRONLY
            | os.O_CREAT
            | os.O_APPEND
            | getattr(os, "O_NOFOLLOW", 0)
            | getattr(os, "O_CLOEXEC", 0)
        )
        return os.fdopen(os.open(self.baseFilename, flags, 0o600), "a", encoding=self.encoding)
