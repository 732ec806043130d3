"""Hours in which training may run: over midnight, by the day they begin on, over a change to summer time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from participant.hours import ALWAYS, DAYS, Hours

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


def at(text: str) -> float:
    """Unix seconds of a time by a clock in Berlin; 2026-03-02 is a Monday."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


@pytest.mark.parametrize(
    ("hours", "when", "holds"),
    [
        ("08:00-17:30", "2026-03-02T08:00:00", True),
        ("08:00-17:30", "2026-03-02T07:59:59", False),
        ("08:00-17:30", "2026-03-02T17:30:00", False),
        ("22:00-06:00", "2026-03-02T21:59:00", False),
        ("22:00-06:00", "2026-03-02T23:30:00", True),
        ("22:00-06:00", "2026-03-03T05:59:00", True),
        ("22:00-06:00", "2026-03-03T06:00:00", False),
        ("18:00-24:00", "2026-03-02T23:59:59", True),
        ("18:00-24:00", "2026-03-03T00:00:00", False),
        (ALWAYS, "2026-03-03T00:00:00", True),
    ],
)
def test_hours_of_the_day(hours: str, when: str, holds: bool) -> None:
    assert Hours.parse(hours, DAYS).hold(at(when)) is holds


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("2026-03-06T23:00:00", True),  # Friday's night
        ("2026-03-07T05:00:00", True),  # which ends on Saturday
        ("2026-03-07T23:00:00", False),
        ("2026-03-09T05:00:00", False),  # Sunday's night, which is none
        ("2026-03-09T23:00:00", True),
    ],
)
def test_a_night_belongs_to_the_evening(when: str, holds: bool) -> None:
    weekdays = Hours.parse("22:00-06:00", DAYS[:5])
    assert weekdays.hold(at(when)) is holds


@pytest.mark.parametrize(
    ("hours", "days", "now", "begin"),
    [
        ("22:00-06:00", DAYS, "2026-03-02T12:00:00", "2026-03-02T22:00:00"),
        ("08:00-17:00", DAYS, "2026-03-02T17:00:00", "2026-03-03T08:00:00"),
        ("22:00-06:00", DAYS[:5], "2026-03-07T12:00:00", "2026-03-09T22:00:00"),
        ("08:00-09:00", ("mon",), "2026-03-02T10:00:00", "2026-03-09T08:00:00"),
        ("08:00-17:00", DAYS, "2026-03-28T18:00:00", "2026-03-29T08:00:00"),  # a night an hour shorter
    ],
)
def test_when_they_begin_next(hours: str, days: tuple, now: str, begin: str) -> None:
    assert Hours.parse(hours, days).begin_after(at(now)) == at(begin)


@pytest.mark.parametrize("text", ["", "22-6", "24:00-06:00", "8:00-17:00", "08:00-25:00", "08:00-17:60", "10:00-10:00"])
def test_what_are_no_hours(text: str) -> None:
    with pytest.raises(ValueError, match="hours"):
        Hours.parse(text, DAYS)
