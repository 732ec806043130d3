"""What a person sees while a federation runs: bars with the time left, and a line for each round that has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

MEGABYTE = 1e6
PHASES = {"collecting": "hospitals train and seal", "aggregating": "adding ciphertexts", "opening": "opening the sum"}


class Live:
    """Bars on a terminal; plain lines where the output goes to a file."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[words]}"))
        self._bars = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
        self._tasks: dict[str, TaskID] = {}
        self._told: set[tuple[int, int]] = set()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, words: str) -> None:
        """A line above the bars."""
        self._bars.console.print(words, highlight=False)

    def step(self, what: str, done: int, total: int, words: str = "") -> None:
        """How far one piece of work is; its bar appears with the first call."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, words=words)
        self._bars.update(self._tasks[what], completed=done, total=total, words=words)

    def rounds(self, study: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
        """The study's bar, and a line for each attempt that ended since the last call."""
        for row in history:
            place = (int(row["round"]), int(row["attempt"]))
            if row["state"] in ("complete", "failed") and place not in self._told:
                self._told.add(place)
                self.say(ended(row))
        self.step("rounds", int(study["round"]), int(study["rounds"]), running(history))


def running(history: Sequence[Mapping[str, Any]]) -> str:
    """The attempt that is under way, in words."""
    rows = [row for row in history if row["state"] in PHASES]
    if not rows:
        return "agreeing on keys" if not history else ""
    row = rows[-1]
    arrived = f", in: {', '.join(row['contributors'])}" if row["contributors"] else ""
    return f"{PHASES[row['state']]}{arrived}, {row['bytes_received'] / MEGABYTE:.1f} MB received"


def ended(row: Mapping[str, Any]) -> str:
    """One line about an attempt that has ended. Its AUC is of the model that the round started from."""
    if row["state"] == "failed":
        return f"round {row['round']}, attempt {row['attempt']}: [red]failed[/red]: {row['reason']}"
    what = "last evaluation" if row["kind"] == "evaluation" else f"round {row['round']}"
    area = (row["metrics"] or {}).get("macro_auc")
    metric = "" if area is None else f", model before it: pooled validation AUC {area:.3f}"
    received = f"{row['bytes_received'] / MEGABYTE:.1f} MB"
    return f"{what}: {', '.join(row['contributors'])} in {row['ended'] - row['started']:.0f} s, {received}{metric}"


def curve_of(history: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """(rounds done, macro AUC on the pooled validation cases): a round's counts describe the model it started from."""
    rows = sorted((row for row in history if row["state"] == "complete"), key=lambda row: int(row["round"]))
    training_before = 0
    curve = []
    for row in rows:
        area = (row["metrics"] or {}).get("macro_auc")
        if area is not None:
            curve.append((training_before, float(area)))
        training_before += row["kind"] == "training"
    return curve
