"""How long the phases of an attempt took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from coordinator.rounds.steps import AskOpener, Close, ShowBallot, Step, Sweep

Phase = Literal["collect", "add", "vote", "open", "whole"]


@dataclass(frozen=True, slots=True)
class Times:
    """When an attempt's phases began and ended, in Unix seconds; None where they have not. `asked` is when each opener
    was asked."""

    started: float
    closed: float | None
    opened: float | None
    asked: tuple[float, ...]
    ended: float | None
    complete: bool


def ended_by(step: Step, times: Times) -> dict[Phase, float]:
    """Seconds of the phases that this step has ended; an attempt that failed has no whole.

    Args:
        times: as they are after the step.
    """
    closed, opened = times.closed or times.started, times.opened or times.started
    match step:
        case Close():
            return {"collect": closed - times.started}
        case ShowBallot():
            return {"add": opened - closed}
        case AskOpener() if len(times.asked) == 1:
            return {"vote": times.asked[0] - opened}
        case Sweep():
            return {}
    if times.ended is None or not times.complete:
        return {}
    return {"open": times.ended - (times.asked[0] if times.asked else opened), "whole": times.ended - times.started}
