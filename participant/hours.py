"""When training may run here: hours of the day and days of the week, by this machine's own clock and time zone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, Self, get_args

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

DAYS: Final[tuple[Day, ...]] = get_args(Day)
ALWAYS: Final = "00:00-24:00"
_FORM: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)")
_DAY: Final = 24 * 60  # minutes


@dataclass(frozen=True, slots=True)
class Hours:
    """From `start` to `end`, minutes after midnight. Where they end on the next day, they are of the day they began on.

    `days`: counted from Monday, 0.
    """

    start: int
    end: int
    days: frozenset[int]

    @classmethod
    def parse(cls, hours: str, days: Iterable[Day]) -> Self:
        """Of a text such as "22:00-06:00".

        Raises:
            ValueError: it is not of that form, or from an hour to itself.
        """
        found = _FORM.fullmatch(hours)
        if found is None:
            raise ValueError('hours are written as "22:00-06:00", from 00:00 to 24:00')
        numbers = [int(each) for each in found.groups() if each is not None]
        start, end = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3] if len(numbers) == 4 else _DAY
        if start == end:
            raise ValueError(f'hours from a time to itself could be none or all: for all of the day write "{ALWAYS}"')
        return cls(start, end, frozenset(DAYS.index(day) for day in days))

    def hold(self, now: float) -> bool:
        """Whether training may run at that time, in Unix seconds."""
        at = datetime.fromtimestamp(now)
        return any(begins <= at < ends for begins, ends in self._windows(at, range(-1, 1)))

    def begin_after(self, now: float) -> float:
        """When training may run next, in Unix seconds, where it may not now."""
        at = datetime.fromtimestamp(now)
        return min(begins for begins, _ in self._windows(at, range(8)) if begins > at).timestamp()

    def _windows(self, at: datetime, offsets: Iterable[int]) -> Iterable[tuple[datetime, datetime]]:
        """Those that begin on the days around `at`, by the clock on the wall: summer time begins and ends unseen."""
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        lasts = (self.end - self.start) % _DAY or _DAY
        for day in (midnight + timedelta(days=offset) for offset in offsets):
            if day.weekday() in self.days:
                begins = day + timedelta(minutes=self.start)
                yield begins, begins + timedelta(minutes=lasts)
