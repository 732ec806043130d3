"""The whole report of an experiment, from what its units left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from simulation.experiments.describe import Experiment
from simulation.experiments.report import (
    confusions,
    costs,
    crossing,
    curves,
    data,
    differences,
    heat,
    papers,
    roc,
    secrecy,
    sweeps,
)
from simulation.experiments.report.data import Sheet
from simulation.experiments.report.document import Report, Section
from simulation.experiments.report.estimates import Units


def report_of(
    experiment: Experiment,
    units: Units,
    facts: Sequence[tuple[str, str]],
    sheets: Mapping[str, Sheet],
    panel: Path | None = None,
) -> Report:
    """The paper's tables first, the data last; a section without anything to show is left out.

    Args:
        facts: for the head. sheets: of the cohorts. panel: a picture of films before and after marks were painted over.
    """
    sections = [
        make(experiment, units)
        for make in (
            papers.section,
            curves.section,
            roc.section,
            differences.section,
            confusions.section,
            crossing.section,
            heat.section,
            sweeps.section,
            secrecy.section,
            costs.section,
        )
    ]
    sections.append(data.section(sheets, panel))
    warnings = dict.fromkeys(sheet["warning"] for sheet in sheets.values() if sheet["warning"])
    return Report(
        experiment.title, [*experiment.lead, *warnings], facts, [section for section in sections if _shows(section)]
    )


def _shows(section: Section) -> bool:
    return any(not isinstance(part, str) for part in section.parts)
