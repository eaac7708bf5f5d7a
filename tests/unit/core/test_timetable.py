"""The timetable: rclone's own examples mean what they mean there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.timetable import Allowed, Timetable
from bgfetch.errors import InvalidRequest

K, M = 1024.0, 1024.0**2
DAILY = "08:00,512k 12:00,10M 13:00,512k 18:00,30M 23:00,off"
WEEKLY = "Mon-00:00,512 Fri-23:59,10M Sat-10:00,1M Sun-20:00,off"
MONDAY, TUESDAY, FRIDAY, SATURDAY, SUNDAY = 0, 1, 4, 5, 6


def clock(hour: int, minute: int = 0) -> int:
    """Minute of the day."""
    return hour * 60 + minute


@pytest.mark.parametrize(
    ("text", "weekday", "minute", "expected"),
    [
        ("", MONDAY, 0, Allowed()),
        ("off", MONDAY, 0, Allowed()),
        ("pause", MONDAY, 0, Allowed(None, paused=True)),
        ("0", MONDAY, 0, Allowed(None, paused=True)),
        ("10M", SUNDAY, 1439, Allowed(10 * M)),
        ("1.5M:100k", MONDAY, 0, Allowed(100 * K)),
        ("10M:off", MONDAY, 0, Allowed()),
        ("100B", MONDAY, 0, Allowed(100.0)),
        ("2MiB", MONDAY, 0, Allowed(2 * M)),
        (DAILY, MONDAY, clock(8), Allowed(512 * K, minutes=4 * 60)),
        (DAILY, SUNDAY, clock(12, 30), Allowed(10 * M, minutes=30)),
        (DAILY, FRIDAY, clock(17, 59), Allowed(512 * K, minutes=1)),
        (DAILY, FRIDAY, clock(22), Allowed(30 * M, minutes=60)),
        (DAILY, SUNDAY, clock(23, 30), Allowed(None, minutes=8 * 60 + 30)),
        (DAILY, MONDAY, clock(7), Allowed(None, minutes=60)),
        (WEEKLY, MONDAY, 0, Allowed(512 * K, minutes=5 * 1440 - 1)),
        (WEEKLY, FRIDAY, clock(23, 59), Allowed(10 * M, minutes=10 * 60 + 1)),
        (WEEKLY, SUNDAY, clock(20), Allowed(None, minutes=4 * 60)),
        ("Tuesday-09:00,pause tue-17:00,off", TUESDAY, clock(10), Allowed(None, paused=True, minutes=7 * 60)),
        ("Tue-09:00,pause Tue-17:00,off", MONDAY, 0, Allowed(None, minutes=1440 + 9 * 60)),
        ("08:00,1M:512k 20:00,off:pause", MONDAY, clock(20), Allowed(None, paused=True, minutes=12 * 60)),
        ("08:00,1M 12:00,1M", MONDAY, clock(9), Allowed(M)),
    ],
)
def test_what_holds_when(text: str, weekday: int, minute: int, expected: Allowed) -> None:
    """Each entry holds until another rate does, over midnight and over the end of the week."""
    assert Timetable.parse(text).at(weekday, minute) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("08:00", "08:00"),
        ("fast", "fast"),
        ("08:00,fast", "fast"),
        ("08:00,1M:fast", "1M:fast"),
        ("24:00,1M", "24:00"),
        ("12:60,1M", "12:60"),
        ("Xyz-12:00,1M", "Xyz"),
        ("Mondy-12:00,1M", "Mondy"),
        ("08:00,1M 8:00,2M", "again"),
        ("08:00,1M;rm", "1M;rm"),
        ("-1", "-1"),
        ("08:00,1M " * 200, "characters"),
    ],
)
def test_what_is_no_timetable(text: str, complaint: str) -> None:
    """It says which entry is wrong, instead of guessing a rate."""
    with pytest.raises(InvalidRequest, match=complaint):
        Timetable.parse(text)


TIMES = st.tuples(st.integers(0, 6), st.integers(0, 1439), st.sampled_from(["1M", "2M", "off", "pause"]))


@given(
    st.lists(TIMES, min_size=2, max_size=12, unique_by=lambda each: each[:2]),
    st.integers(0, 6),
    st.integers(0, 1439),
)
def test_nothing_changes_before_it_is_said_to(
    times: list[tuple[int, int, str]], weekday: int, minute: int
) -> None:
    """Until `minutes` have passed the same holds, and then something else does."""
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    table = Timetable.parse(
        " ".join(f"{days[day]}-{at // 60:02}:{at % 60:02},{rate}" for day, at, rate in times)
    )

    def later(minutes: int) -> tuple[float | None, bool]:
        at = (weekday * 1440 + minute + minutes) % (7 * 1440)
        found = table.at(*divmod(at, 1440))
        return found.rate, found.paused

    held = table.at(weekday, minute)
    if held.minutes is None:
        assert {later(each) for each in range(0, 7 * 1440, 97)} == {later(0)}
        return
    assert later(held.minutes - 1) == later(0)
    assert later(held.minutes) != later(0)
    assert all(later(each) == later(0) for each in range(0, held.minutes, max(1, held.minutes // 50)))
