"""When an attempt has ended: its residual is committed or dropped, what was sealed deleted, its model fetched."""

from __future__ import annotations

import json
from typing import Final

from participant.documents import Ended
from participant.steps.agreement import tend_agreement
from participant.steps.desk import Desk

_FIGURES: Final = ("train_seconds", "seal_seconds", "open_seconds", "upload_bytes", "fp32_bytes")


def tend_endings(desk: Desk, last: Ended | None) -> None:
    """Settle every attempt of this site that is known to have ended."""
    if last is None:
        return
    site, study = desk.site, desk.study.id
    for number, attempt in site.sealed.under_way(study):
        if (number, attempt) <= (last.round, last.attempt):
            site.sealed.settle(study, number, attempt, counted=_counted(desk, last, number, attempt))
    site.opened.settle(study, last.round, last.attempt)
    for number, attempt, figures in list(site.record.figures(study)):
        if (number, attempt) <= (last.round, last.attempt):
            _write_figures(desk, number, attempt, figures)
            site.record.drop_figures(study, number, attempt)
    if desk.study.release == "members":
        tend_agreement(desk, last)
    elif last.model is not None and last.state == "complete":
        site.models.fetch(site.client, last.model)
    _say(desk, last)


def _counted(desk: Desk, last: Ended, number: int, attempt: int) -> bool:
    """Whether this site's contribution is in the sum of an attempt that completed.

    `last` tells only of the newest one; a site that was away asks for the older ones.
    """
    if (number, attempt) == (last.round, last.attempt):
        return last.state == "complete" and desk.site.me in last.contributors
    return any(
        (row.round, row.attempt, row.state) == (number, attempt, "complete") and desk.site.me in row.contributors
        for row in desk.site.client.rounds(desk.study.id)
    )


def _write_figures(desk: Desk, number: int, attempt: int, figures: dict[str, float]) -> None:
    """One JSON line an attempt. A figure that this site has none of is null."""
    line = {"study": str(desk.study.id), "round": number, "attempt": attempt}
    with desk.site.timings.open("a") as file:
        file.write(json.dumps(line | {key: figures.get(key) for key in _FIGURES}) + "\n")


def _say(desk: Desk, last: Ended) -> None:
    how = "complete" if last.state == "complete" else f"failed: {last.reason}"
    desk.say_once(f"round {last.round}, attempt {last.attempt}: {how}")
