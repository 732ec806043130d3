"""What a model card is made of, and how it is found out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.statistics import Interval
from participant.documents import Measures, RoundRow
from participant.picked import Picked
from participant.session import Problem
from participant.steps.desk import Site

Figure = Interval | float | None


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class against the others, on the validation cases of all hospitals that took part."""

    name: str
    cases: int | None
    auc: Figure
    sensitivity: Figure
    specificity: Figure


@dataclass(frozen=True, slots=True)
class RoundFigures:
    """What the pooled counts of a round told of the model that it began with: by `round`, on `cases` cases."""

    round: int
    cases: int | None
    loss: float | None
    accuracy: Figure
    macro_auc: Figure
    epsilon: float | None
    classes: tuple[ClassFigures, ...]


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """The study that made a model. hospitals: whose updates are in it, by name; none of a first model.

    training_cases: of all of them together, where the coordinator tells. measured: of this very model; None as long as
    no round began with it. rounds: of all that were measured.
    """

    name: str
    id: str
    round: int
    rounds_planned: int
    hospitals: tuple[str, ...]
    training_cases: int | None
    scheme: str
    trust: str
    release: str
    weighting: str
    minimum_contributors: int
    privacy: Mapping[str, Any] | None
    epsilon: float | None
    measured: RoundFigures | None
    rounds: tuple[RoundFigures, ...]


def study_facts(site: Site, picked: Picked) -> StudyFacts:
    """What the coordinator and the study's members make known of the model."""
    study, made = picked.study, picked.made
    classes = [str(name) for name in study.recipe["network"]["classes"]]
    return StudyFacts(
        name=study.name,
        id=str(study.id),
        round=picked.round,
        rounds_planned=study.rounds,
        hospitals=_names(site, picked, made) if made is not None else (),
        training_cases=_training_cases(site, picked, made) if made is not None else None,
        scheme=study.scheme,
        trust=study.trust,
        release=study.release,
        weighting=str(study.weighting),
        minimum_contributors=study.minimum_contributors,
        privacy=study.privacy,
        epsilon=made.epsilon if made is not None else None,
        measured=_figures(picked.measured, classes) if picked.measured is not None else None,
        rounds=tuple(_figures(row, classes) for row in picked.history if row.metrics is not None),
    )


def _names(site: Site, picked: Picked, made: RoundRow) -> tuple[str, ...]:
    """Of the contributors; one that has left since goes by the start of its id."""
    members = site.client.roster(picked.study.id).members if picked.study.member else ()
    names = {member.site: member.name for member in members}
    return tuple(sorted(names.get(each, f"site {str(each)[:8]}") for each in (*made.contributors, *made.carried)))


def _training_cases(site: Site, picked: Picked, made: RoundRow) -> int | None:
    """The pooled count; a site that was not on that round's roster is not told."""
    try:
        return site.client.counts(site.client.plan(picked.study.id, made.round, made.attempt)).samples
    except Problem:
        return None


def _figures(row: RoundRow, classes: Sequence[str]) -> RoundFigures:
    found = row.metrics or Measures()
    return RoundFigures(
        round=row.round,
        cases=found.cases,
        loss=found.loss,
        accuracy=_figure(found, "accuracy"),
        macro_auc=_figure(found, "macro_auc"),
        epsilon=row.epsilon,
        classes=tuple(
            ClassFigures(
                name=name,
                cases=found.class_cases[place] if found.class_cases else None,
                auc=_figure(found, "auc", place),
                sensitivity=_figure(found, "sensitivity", place),
                specificity=_figure(found, "specificity", place),
            )
            for place, name in enumerate(classes)
        ),
    )


def _figure(found: Measures, name: str, place: int | None = None) -> Figure:
    """A measure, with its interval where it has one; with `place`, that of the class there."""
    value, ends = getattr(found, name), (found.intervals or {}).get(name)
    if place is not None:
        value, ends = (each[place] if each else None for each in (value, ends))
    return Interval(value, *ends) if value is not None and ends else value
