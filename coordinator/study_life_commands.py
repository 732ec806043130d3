"""`pleura-coordinator study change|clone|rollback|compare`: what is done with studies that there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter
from sqlalchemy.orm import Session

from coordinator.api.wishes import CloneWish, RollbackWish, StudyChange
from coordinator.store import changes, comparing, copies, studies, tables
from coordinator.study_terminal import (
    Collect,
    Expected,
    Fraction,
    Minimum,
    Open,
    Reference,
    Rounds,
    Vote,
    print_comparison,
    print_study,
)
from coordinator.terminal import AsJson, ConfigFile, DataDir, actor, opened, print_json

app = typer.Typer(pretty_exceptions_show_locals=False)
_FEWEST, _MOST = 2, 6  # studies to compare


def _done(
    name: str,
    work: Callable[[Session, tables.Study, float], tables.Study],
    study: str,
    data_dir: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Do `work` with the study in one transaction, and show the study that comes of it."""
    with opened(data_dir, config) as services:
        now = services.clock.now()
        row = services.store.run(name, lambda session: work(session, studies.by_reference(session, study), now))
    print_study(row, as_json)


@app.command("change")
def study_change(
    study: Reference,
    rounds: Rounds = None,
    fraction: Fraction = None,
    minimum_contributors: Minimum = None,
    expected_sites: Expected = None,
    collect_seconds: Collect = None,
    vote_seconds: Vote = None,
    open_seconds: Open = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Other settings from the next plan on; an attempt under way keeps to its own. What is not given stays."""

    def change(session: Session, row: tables.Study, now: float) -> tables.Study:
        wish = StudyChange(
            rounds=rounds,
            fraction=fraction,
            minimum_contributors=minimum_contributors,
            expected_sites=expected_sites,
            collect_seconds=collect_seconds,
            vote_seconds=vote_seconds,
            open_seconds=open_seconds,
        )
        changes.change(session, row, wish.change(), actor(), now)
        return row

    _done("change study", change, study, data_dir, config, as_json)


@app.command("clone")
def study_clone(
    study: Reference,
    name: Annotated[str, typer.Option(help="What people call the copy.")],
    rounds: Rounds = None,
    fraction: Fraction = None,
    minimum_contributors: Minimum = None,
    expected_sites: Expected = None,
    collect_seconds: Collect = None,
    vote_seconds: Vote = None,
    open_seconds: Open = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a draft with the same first model and settings, apart from those that are given."""

    def clone(session: Session, row: tables.Study, now: float) -> tables.Study:
        wish = CloneWish(
            name=name,
            rounds=rounds,
            fraction=fraction,
            minimum_contributors=minimum_contributors,
            expected_sites=expected_sites,
            collect_seconds=collect_seconds,
            vote_seconds=vote_seconds,
            open_seconds=open_seconds,
        )
        return copies.clone(session, row, wish.name, wish.change(), actor(), now)

    _done("clone study", clone, study, data_dir, config, as_json)


@app.command("rollback")
def study_rollback(
    study: Reference,
    number: Annotated[int, typer.Option("--round", help="The training round whose model to go back to.")],
    name: Annotated[str | None, typer.Option(help="Of the study that goes on (else STUDY-from-ROUND).")] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a draft that goes on from an earlier model, in the place of this study, which is stopped. Pause it first."""

    def roll_back(session: Session, row: tables.Study, now: float) -> tables.Study:
        wish = RollbackWish(round=number, name=name)
        return copies.roll_back(session, row, wish.round, wish.name, wish.change(), actor(), now)

    _done("roll back study", roll_back, study, data_dir, config, as_json)


@app.command("compare")
def study_compare(
    references: Annotated[list[str], typer.Argument(metavar="STUDY STUDY...", help="Two to six, by name or id.")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """The settings in which studies differ, and their rounds side by side. Metrics are of a round's base model."""
    if not _FEWEST <= len(references) <= _MOST:
        raise typer.BadParameter(f"name {_FEWEST} to {_MOST} studies", param_hint="'STUDY STUDY...'")
    with opened(data_dir, config) as services:
        found = services.store.read(
            "compare",
            lambda session: comparing.compare(session, [studies.by_reference(session, each) for each in references]),
        )
    if as_json:
        print_json(TypeAdapter(comparing.Comparison).dump_python(found, mode="json"))
    else:
        print_comparison(found)
