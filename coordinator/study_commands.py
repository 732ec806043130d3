"""`pleura-coordinator study`: create studies, steer them, look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from sqlalchemy.orm import Session

from coordinator import model_files, study_life_commands
from coordinator.api.wishes import StudyWish
from coordinator.store import beginnings, epochs, history, memberships, studies, tables
from coordinator.store.beginnings import Beginning
from coordinator.store.instance import check_blobs
from coordinator.store.waiting import waiting
from coordinator.study_terminal import Fraction, Reference, print_rounds, print_study, study_json
from coordinator.terminal import AsJson, ConfigFile, DataDir, actor, opened, out, print_json, print_table
from crypto.schemes import SCHEMES

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False, help="Create studies and steer them.")
_SCHEMES = "Aggregation scheme. " + " ".join(f"{name}: {each.trust}" for name, each in SCHEMES.items())
_BOTH = "'--model' / '--from'"
app.add_typer(study_life_commands.app)


class _Shown(NamedTuple):
    """What `study show` prints. `begins`: the study and the round that made the first model."""

    row: tables.Study
    waits: str | None
    begins: tuple[str, int] | None
    members: list[str]
    rounds: list[dict[str, Any]]


@app.command("create")
def study_create(
    name: Annotated[str, typer.Option(help="What people call the study.")],
    model: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="As `pleura-participant model new` wrote it.")
    ] = None,
    earlier: Annotated[
        str | None, typer.Option("--from", metavar="STUDY[:ROUND]", help="Or begin with a model of that study.")
    ] = None,
    scheme: Annotated[str, typer.Option(help=_SCHEMES)] = "lwe-ckks",
    release: Annotated[
        str, typer.Option(help="Who can read the models: open, also this coordinator; members, the hospitals alone.")
    ] = "open",
    rounds: Annotated[int | None, typer.Option(help="Training rounds (else the recipe's).")] = None,
    minimum_contributors: Annotated[int | None, typer.Option(help="Fewest contributors (else the recipe's).")] = None,
    fraction: Fraction = None,
    expected_sites: Annotated[int | None, typer.Option(help="Wait for so many sites before the first round.")] = None,
    weighting: Annotated[str | None, typer.Option(help="samples, equal or dynamic (else the recipe's).")] = None,
    k_max: Annotated[int | None, typer.Option(help="Most contributors a round has room for.")] = None,
    collect_seconds: Annotated[int, typer.Option(help="Time to train and upload.")] = 3600,
    vote_seconds: Annotated[int, typer.Option(help="Time to vote for the ballot.")] = 300,
    open_seconds: Annotated[int, typer.Option(help="Time to open the sum.")] = 300,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a study, in state draft, of a first model or of one that another study made, whose recipe it then has."""
    if (model is None) == (earlier is None):
        raise typer.BadParameter("give either a model's file or the study whose model it begins with", param_hint=_BOTH)
    asked = {
        "name": name,
        "model": "0" * 64,  # known once it is taken or found; the rest is checked before
        "scheme": scheme,
        "release": release,
        "rounds": rounds,
        "fraction": fraction,
        "minimum_contributors": minimum_contributors,
        "expected_sites": expected_sites,
        "weighting": weighting,
        "k_max": k_max,
        "collect_seconds": collect_seconds,
        "vote_seconds": vote_seconds,
        "open_seconds": open_seconds,
    }
    with opened(data_dir, config) as services:
        check_blobs(services.store, services.blobs)
        wish = StudyWish.model_validate(asked)
        now = services.clock.now()
        if model is not None:
            found = Beginning(model_files.take(services.store, services.blobs, model, actor(), now).digest)
        else:
            found = services.store.read("find model", lambda session: _found(session, earlier or ""))
        file, wishes = model_files.stored(services.blobs, found.model), wish.wishes(found)
        study = services.store.run(
            "create study", lambda session: studies.create(session, wishes, file.layout, file.recipe, actor(), now)
        )
    print_study(study, as_json)


def _found(session: Session, earlier: str) -> Beginning:
    name, _, number = earlier.rpartition(":")
    if not name or not number.isdecimal():
        name, number = earlier, ""
    return beginnings.of_round(session, studies.by_reference(session, name), int(number) if number else None)


def _move(action: studies.Action, reference: str, data_dir: Path | None, config: Path | None, as_json: bool) -> None:
    def move(session: Session) -> tables.Study:
        study = studies.by_reference(session, reference)
        studies.move(session, study, action, actor(), services.clock.now())
        return study

    with opened(data_dir, config) as services:
        study = services.store.run(f"{action} study", move)
    print_study(study, as_json)


@app.command("start")
def study_start(study: Reference, data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Rounds begin as soon as enough sites are there."""
    _move("start", study, data_dir, config, as_json)


@app.command("pause")
def study_pause(study: Reference, data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """No new round begins; the one that is running ends."""
    _move("pause", study, data_dir, config, as_json)


@app.command("rekey")
def study_rekey(study: Reference, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Give up the study's key, as it is old or may be known: a member deals a new one before the next round."""

    def rekey(session: Session) -> tables.Study:
        row = studies.by_reference(session, study)
        epochs.retire(session, row.id, services.clock.now(), actor(), "an operator asked for a new key")
        return row

    with opened(data_dir, config) as services:
        row = services.store.run("rekey study", rekey)
    has_keys = row.scheme != "lwe-shamir"
    words = "a member deals a new key before the next round" if has_keys else f"{row.scheme} has no key that lasts"
    out.print(f"{row.name}: {words}", markup=False)


@app.command("resume")
def study_resume(
    study: Reference, data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Rounds go on after a pause."""
    _move("resume", study, data_dir, config, as_json)


@app.command("stop")
def study_stop(study: Reference, data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """For good: a running attempt fails, the last model stays."""
    _move("stop", study, data_dir, config, as_json)


@app.command("list")
def study_list(data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """All studies, oldest first."""
    with opened(data_dir, config) as services:
        found = services.store.read("studies", studies.everyone)
    if as_json:
        print_json([study_json(row) for row in found])
    else:
        rows = [(row.name, row.state, f"{row.completed} of {row.rounds}", row.scheme, str(row.id)) for row in found]
        print_table(("Study", "State", "Rounds", "Scheme", "Id"), rows)


@app.command("show")
def study_show(study: Reference, data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """One study, its members and how its rounds went."""

    with opened(data_dir, config) as services:
        now, recent = services.clock.now(), services.settings.recent_seen_seconds

        def look(session: Session) -> _Shown:
            row = studies.by_reference(session, study)
            members = [site.name for _, site in memberships.members(session, row.id)]
            waits = waiting(session, row.id, now, recent)
            return _Shown(row, waits, _begins(session, row), members, history.rounds(session, row.id))

        row, waits, begins, members, rounds = services.store.read("study", look)
    if as_json:
        print_json({**study_json(row, waits), "members": members, "history": rounds})
        return
    print_study(row, False)
    if waits is not None:
        out.print(f"the next round waits: {waits}", markup=False)
    if begins is not None:
        out.print(f"begins with the model of round {begins[1]} of {begins[0]}", markup=False)
    out.print(f"members: {', '.join(members) or 'none yet'}", markup=False)
    print_rounds(row.recipe, rounds)


def _begins(session: Session, row: tables.Study) -> tuple[str, int] | None:
    """The study and the round that made its first model, unless that was uploaded."""
    first = session.get_one(tables.Model, row.first_model)
    if first.study_id is None or first.round is None:
        return None
    return studies.get(session, first.study_id).name, first.round
