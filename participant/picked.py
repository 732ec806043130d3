"""Which of a study's models a command is about, and how its rounds went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from participant.documents import RoundRow, Study
from participant.policy import Refused
from participant.steps.desk import Site


@dataclass(frozen=True, slots=True)
class Picked:
    """A study's model: `round` made it, 0 being what the study began with. history: all completed rounds, in order."""

    study: Study
    digest: str
    round: int
    history: tuple[RoundRow, ...]

    @property
    def made(self) -> RoundRow | None:
        """The attempt that made it."""
        return next((row for row in self.history if row.kind == "training" and row.model == self.digest), None)

    @property
    def measured(self) -> RoundRow | None:
        """The newest attempt that measured it, as the base that it began with."""
        bases = _with_bases(self.study, self.history)
        return next((row for base, row in reversed(bases) if base == self.digest and row.metrics is not None), None)


def pick(site: Site, study: Study, number: int | None) -> Picked:
    """The model of that round (0: what the study began with), or the current one.

    Raises:
        Refused: no such round made a model, or only members hold it and this site does not.
    """
    rows = sorted(site.client.rounds(study.id), key=lambda row: (row.round, row.attempt))
    history = tuple(row for row in rows if row.state == "complete")
    made = {row.round: row.model for row in history if row.kind == "training" and row.model is not None}
    made[0] = study.first_model
    if number is None:
        digest = study.model
        number = max((each for each, made_then in made.items() if made_then == digest), default=study.round)
    elif number in made:
        digest = str(made[number])
    else:
        known = f"0 to {max(made)}" if len(made) > 1 else "0, the first model, alone"
        raise Refused("no-such-round", f"no round {number} of {study.name} made a model; there is {known}")
    check_held(site, study, digest)
    return Picked(study, digest, number, history)


def check_held(site: Site, study: Study, digest: str) -> None:
    """Raises Refused where the model is one that members alone hold, and this site does not."""
    if study.release == "members" and digest != study.first_model and not site.models.holds(digest):
        words = "only members hold this model, and this site has not got it yet: start the agent first"
        raise Refused("model-missing", words)


def file_of(site: Site, picked: Picked) -> Path:
    """The model's file, fetched where it is not here yet."""
    return site.models.fetch(site.client, picked.digest)


def _with_bases(study: Study, history: Sequence[RoundRow]) -> list[tuple[str, RoundRow]]:
    """Each completed round with the model that it began with: the one that the round before it made."""
    found, base = [], study.first_model
    for row in history:
        found.append((base, row))
        base = row.model or base
    return found
