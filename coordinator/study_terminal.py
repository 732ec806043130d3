"""How studies are named on the command line, and shown on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from coordinator.api.values import PrivacyPromise, Study
from coordinator.metrics import BY_CLASS, class_names, in_words
from coordinator.store import tables
from coordinator.store.comparing import Comparison, RoundFigures
from coordinator.terminal import out, print_json, print_table
from crypto.parameters import DEFAULT_MINIMUM_CONTRIBUTORS
from crypto.schemes import SCHEMES

Reference = Annotated[str, typer.Argument(metavar="STUDY", help="Its name, its id, or the id's beginning.")]
Rounds = Annotated[int | None, typer.Option(help="Training rounds in all.")]
Fraction = Annotated[float | None, typer.Option(help="Share of the sites that a round asks, above 0 to 1.")]
Minimum = Annotated[int | None, typer.Option(help="Fewest contributors.")]
Expected = Annotated[int | None, typer.Option(help="Wait for so many sites before the first round.")]
Collect = Annotated[int | None, typer.Option(help="Time to train and upload.")]
Vote = Annotated[int | None, typer.Option(help="Time to vote for the ballot.")]
Open = Annotated[int | None, typer.Option(help="Time to open the sum.")]

_MEASURES: dict[str, Callable[[RoundFigures], str]] = {
    "Macro AUC": lambda each: in_words(
        {"macro_auc": each.macro_auc, "intervals": {"macro_auc": each.macro_auc_interval}}, "macro_auc"
    ),
    "Loss": lambda each: "" if each.loss is None else f"{each.loss:.3f}",
    "Contributors": lambda each: str(each.contributors),
    "Seconds": lambda each: f"{each.seconds:.0f}",
    "MB": lambda each: f"{each.received / 1e6:.1f}",
}


def study_json(row: tables.Study, waiting: str | None = None) -> dict[str, Any]:
    return Study.of(row, member=False, waiting=waiting).model_dump(mode="json")


def print_study(row: tables.Study, as_json: bool) -> None:
    if as_json:
        print_json(study_json(row))
        return
    out.print(f"{row.name} ({row.id}) is {row.state}{': ' + row.reason if row.reason else ''}", markup=False)
    held = ", held by the members only" if row.release == "members" and row.current_model != row.first_model else ""
    out.print(
        f"{row.completed} of {row.rounds} rounds, {row.scheme}, weighting by {row.weighting}, "
        f"at least {row.minimum_contributors} contributors; model {row.current_model[:12]}{held}"
    )
    expected = f"; the first with {row.expected_sites} sites or more" if row.expected_sites else ""
    out.print(
        f"a round asks {row.fraction:.4g} of the sites, waits {row.collect_seconds} s for contributions, "
        f"{row.vote_seconds} s for votes and {row.open_seconds} s for the opening{expected}"
    )
    out.print(f"{row.scheme}: {SCHEMES[row.scheme].trust}", markup=False)
    if (promise := PrivacyPromise.of(row)) is not None:
        out.print(
            f"differential privacy of whole sites: updates of length {promise.clip:g} at most, noise of deviation "
            f"{promise.deviation:.3g} in a sum; epsilon {promise.epsilon:.2f} over all rounds, delta {promise.delta:g}"
        )
    if row.minimum_contributors < DEFAULT_MINIMUM_CONTRIBUTORS:
        out.print(
            f"Sums of {row.minimum_contributors} contributors are opened: where two contribute, each can subtract its "
            "own part and learns the other's. Every site is told; one whose policy demands more does not join.",
            markup=False,
        )


def print_rounds(recipe: dict[str, Any], rounds: list[dict[str, Any]]) -> None:
    """All attempts of a study, and its classes as of the last that was measured."""
    print_table(
        ("Round", "Attempt", "State", "Contributors", "MB", "Macro AUC", "Loss", "Reason"), map(_round_row, rounds)
    )
    measured = [entry for entry in rounds if entry["state"] == "complete" and entry["metrics"]]
    if measured:
        out.print(f"by class, as of round {measured[-1]['round']}; 95 % intervals in brackets")
        print_table(("Class", *BY_CLASS.values()), _class_rows(recipe, measured[-1]["metrics"]))


def print_comparison(found: Comparison) -> None:
    """A table of the settings that differ, and one for each measure of the rounds."""
    names = tuple(each.name for each in found.studies)
    print_table(
        ("Setting", *names),
        [
            ("state", *(each.state for each in found.studies)),
            ("completed", *(str(each.completed) for each in found.studies)),
            *((setting, *map(_setting, values)) for setting, values in found.settings.items()),
        ],
    )
    for measure, words in _MEASURES.items():
        out.print(f"\n{measure}")
        rows = [tuple("" if each is None else words(each) for each in row) for row in found.rounds]
        print_table(("Round", *names), [(str(place), *row) for place, row in enumerate(rows, 1)])


def _setting(value: Any) -> str:
    return "" if value is None else str(value)


def _class_rows(recipe: dict[str, Any], found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for place, name in enumerate(class_names(recipe, len(found.get("auc") or ()))):
        yield (name, *(in_words(found, key, place) for key in BY_CLASS))


def _round_row(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{entry['round']}{' (evaluation)' if entry['kind'] == 'evaluation' else ''}",
        str(entry["attempt"]),
        entry["state"],
        str(len(entry["contributors"])),
        f"{entry['bytes_received'] / 1e6:.1f}",
        *(in_words(entry["metrics"], name) for name in ("macro_auc", "loss")),
        entry["reason"] or "",
    )
