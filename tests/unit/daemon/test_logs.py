"""No secret in a log, and the journal gets no time twice."""

from __future__ import annotations

import logging

import pytest

from bgfetch.daemon.logs import Redacting, redacted_text, under_systemd


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("at https://host/a?sig=s3cret&x=1 now", "at https://host/a?… now"),
        ("at https://user:s3cret@host/a", "at https://…@host/a"),
        ("Authorization: Bearer s3cret", "Authorization: …"),
        ("{'cookie': 'a=s3cret'}", "{'cookie': …"),
        ("proxy http://u:s3cret@proxy:3128/#s3cret", "proxy http://…@proxy:3128/?…"),
        ("X-Api-Key=s3cret", "X-Api-Key=…"),
        ("https://host/a and 3 of 4?", "https://host/a and 3 of 4?"),
    ],
)
def test_secrets_are_left_out(text: str, kept: str) -> None:
    """What may be a secret is not written; what is none is."""
    assert redacted_text(text) == kept


def test_what_was_raised_is_redacted() -> None:
    """Also in a traceback."""
    try:
        raise ValueError("https://host/?token=s3cret")  # noqa: TRY301 - for its traceback
    except ValueError:
        record = logging.getLogger("x").makeRecord("x", logging.ERROR, "f", 1, "bad", (), None)
        import sys

        record.exc_info = sys.exc_info()
    assert "s3cret" not in Redacting(journal=False).format(record)


def test_the_journal_knows_the_time() -> None:
    """Under systemd an entry has its level and no time."""
    record = logging.getLogger("x").makeRecord("x", logging.ERROR, "f", 1, "bad %s", ("thing",), None)
    assert Redacting(journal=True).format(record) == "<3>bad thing"
    assert Redacting(journal=False).format(record).endswith("ERROR bad thing")
    assert under_systemd({"JOURNAL_STREAM": "8:1"})
    assert not under_systemd({})
