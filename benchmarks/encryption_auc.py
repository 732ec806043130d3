"""Does encryption change how good a model gets? The same federations with and without it, at several seeds.

Each seed draws a first model and all that is random in training; hospitals, cases and splits stay the same. Each
federation is run through the agents, the protocol (lwe-ckks) and the coordinator, and with the same agents'
updates averaged in float64 in plaintext. The claim: the two areas under the ROC curve differ by less than those of
plaintext seeds do. For comparison, in plaintext once more, from a first model whose values are each the next float32:
what training makes of the last bit. The tables are written to docs/results. From the repository root:

    python -m benchmarks.encryption_auc --data ../shared/data
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from crypto.parallel import cores
from models.bootstrap import macro_auc
from models.first_model import first_model
from models.flatten import read_model, save_model
from models.recipe import Recipe, load_recipe
from participant.case_data import CaseData
from simulation.datasets import Phantoms
from simulation.engine import Federated, RoundDone, Spec, run
from simulation.experiments.cohort import Cohort, Sources, settle
from simulation.experiments.examine import examine
from simulation.experiments.papers import fl_cxr, ucadi
from simulation.federation import Hospital
from simulation.phantoms import SITES

OUT = Path("docs/results")
DATA_SEED = 1  # of hospitals and splits, whatever the federation's seed
CTS = dict.fromkeys(ucadi.CLASSES, 12)


@dataclass(frozen=True)
class Setting:
    """A recipe, made small, and whose cases it is tried on. All sites are asked in every round: a draw of some would
    come of the study's id, which no two runs share."""

    recipe: str
    cohort: Cohort
    changes: Mapping[str, Any]


SETTINGS = (
    Setting(
        "ucadi",
        Cohort(Phantoms("ct", 16, SITES), 3, "source", shares=ucadi.HALF, caps={"train": CTS, "validation": CTS}),
        {**ucadi.SCALES["small"], "federation.rounds": 4},
    ),
    Setting(
        "fl-cxr-resnet18",
        Cohort("xray-3class", 3),
        {
            **fl_cxr.SCALES["small"],
            "federation.fraction": 1.0,
            "federation.minimum_contributors": 3,
            "federation.n_max": 128,
        },
    ),
)


@dataclass(frozen=True)
class Pair:
    """Macro AUC on the pooled test cases of all sites, and seconds, of one federation in each way.

    nudged: in plaintext, from a first model with another last bit. largest: the greatest difference of any value of the
    last models, plaintext and encrypted.
    """

    recipe: str
    seed: int
    plaintext: float
    nudged: float
    encrypted: float
    largest: float
    plaintext_seconds: float
    nudged_seconds: float
    encrypted_seconds: float

    @property
    def difference(self) -> float:
        return self.encrypted - self.plaintext

    @property
    def nudge(self) -> float:
        return self.nudged - self.plaintext


@dataclass(frozen=True)
class Verdict:
    """Of one recipe: how far seeds lie apart (largest less smallest, standard deviation), the two ways at most, and
    plaintext with another last bit at most."""

    recipe: str
    spread: float
    deviation: float
    difference: float
    nudge: float

    @property
    def holds(self) -> bool:
        return self.difference < self.spread


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the real sets")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where runs lie, to go on with; without it, a temporary one")
    parser.add_argument("--recipes", nargs="+", default=[setting.recipe for setting in SETTINGS])
    given = parser.parse_args()
    chosen = [setting for setting in SETTINGS if setting.recipe in given.recipes]
    with tempfile.TemporaryDirectory() as temporary:
        pairs = [pair for setting in chosen for pair in measure(setting, given, given.folder or Path(temporary))]
    write(chosen, pairs)
    sys.exit(0 if all(verdict.holds for verdict in verdicts(pairs)) else 1)


def measure(setting: Setting, given: argparse.Namespace, work: Path) -> Iterator[Pair]:
    """A pair for each seed, shown as they come."""
    recipe = load_recipe(setting.recipe).overridden(setting.changes)
    folder = work / setting.recipe
    place = folder / "hospitals"
    sources = Sources(given.data, work / "drawn")
    hospitals = settle(setting.cohort, recipe.network.classes, sources, place, DATA_SEED)
    for seed in range(1, given.seeds + 1):
        pair = compare(recipe, hospitals, seed, folder)
        print(json.dumps(asdict(pair)), flush=True)
        yield pair


def compare(recipe: Recipe, hospitals: Sequence[Hospital], seed: int, folder: Path) -> Pair:
    """The same federation in each way."""
    own = folder / f"seed-{seed}"
    runs = {way: _run(way, recipe, hospitals, seed, own) for way in ("plain", "nudged", "sealed")}
    last = {name: read_model(each.model) for name, each in runs.items()}
    cases = {each.name: CaseData.read(recipe, each.data, folder / "cache" / each.name, seed) for each in hospitals}
    areas = {}
    for name, saved in last.items():
        found = examine(saved, cases, list(cases), ("test",), own / "examined", None).test
        areas[name] = macro_auc(found.probabilities, found.labels) if found is not None else None
    if None in areas.values():
        raise RuntimeError(f"{recipe.name}: the test cases are of one class only")
    return Pair(
        recipe.name,
        seed,
        float(areas["plain"] or 0),
        float(areas["nudged"] or 0),
        float(areas["sealed"] or 0),
        float(np.abs(last["plain"].vector - last["sealed"].vector).max()),
        runs["plain"].seconds["wall"],
        runs["nudged"].seconds["wall"],
        runs["sealed"].seconds["wall"],
    )


def _run(way: str, recipe: Recipe, hospitals: Sequence[Hospital], seed: int, folder: Path) -> Federated:
    own = folder / way
    own.mkdir(parents=True, exist_ok=True)
    model = own / "first.safetensors"
    if not model.exists():
        first = first_model(recipe, seed)
        vector = np.nextafter(first.vector, np.float32(np.inf)) if way == "nudged" else first.vector
        save_model(model, vector, first.layout, first.recipe)
    spec = Spec(recipe, model, hospitals, "lwe-ckks", "open", seed, recipe.federation.rounds)
    spec = replace(spec, cache=folder.parent / "cache", threads=1, plaintext=way != "sealed")
    return run(spec, own / "run", _shown)


def verdicts(pairs: Sequence[Pair]) -> list[Verdict]:
    """One for each recipe."""
    found = []
    for recipe in dict.fromkeys(pair.recipe for pair in pairs):
        own = [pair for pair in pairs if pair.recipe == recipe]
        areas = [pair.plaintext for pair in own]
        most, nudge = max(abs(pair.difference) for pair in own), max(abs(pair.nudge) for pair in own)
        found.append(Verdict(recipe, max(areas) - min(areas), float(np.std(areas, ddof=1)), most, nudge))
    return found


def write(settings: Sequence[Setting], pairs: Sequence[Pair]) -> None:
    """Both files under docs/results."""
    OUT.mkdir(parents=True, exist_ok=True)
    about = {
        "command": f"python -m benchmarks.encryption_auc --seeds {max(pair.seed for pair in pairs)}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{cores()} cores, CPU, {platform.machine()}, Python {platform.python_version()}",
        "seconds": round(sum(pair.plaintext_seconds + pair.nudged_seconds + pair.encrypted_seconds for pair in pairs)),
    }
    found: dict[str, Any] = {
        "about": about,
        "settings": [
            {"recipe": each.recipe, "cohort": repr(each.cohort), "changes": each.changes} for each in settings
        ],
        "pairs": [asdict(pair) for pair in pairs],
        "verdicts": [asdict(verdict) | {"holds": verdict.holds} for verdict in verdicts(pairs)],
    }
    (OUT / "encryption.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (OUT / "encryption.md").write_text("\n".join(_page(about, settings, pairs)) + "\n", encoding="utf-8")


def _page(about: Mapping[str, Any], settings: Sequence[Setting], pairs: Sequence[Pair]) -> Iterator[str]:
    yield "# What encryption costs in accuracy\n"
    yield (
        "The same federations, once through the agents, the protocol (`lwe-ckks`) and the coordinator, once with the\n"
        "same agents' updates averaged in float64 without any cryptography, and that once more from a first model\n"
        "whose values are each the next float32 (last bit changed). A seed draws the first model and all that\n"
        "is random in training; hospitals, cases and splits are the same for all. Figures are the mean of the\n"
        "classes' areas under the ROC curve, on the test cases of all sites together. Small settings, so\n"
        "that everything runs on a laptop: no figure here is clinical performance.\n"
    )
    yield "| recipe | seed | plaintext | last bit changed | encrypted | less plaintext | largest of a weight |"
    yield "|---|---|---|---|---|---|---|"
    for pair in pairs:
        areas = f"{pair.plaintext:.4f} | {pair.nudged:.4f} | {pair.encrypted:.4f}"
        figures = f"{areas} | {pair.difference:+.1e} | {pair.largest:.1e}"
        yield f"| {pair.recipe} | {pair.seed} | {figures} |"
    yield "\n| recipe | largest difference | of the last bit | spread of seeds | deviation | difference below spread |"
    yield "|---|---|---|---|---|---|"
    for each in verdicts(pairs):
        figures = f"{each.difference:.1e} | {each.nudge:.1e} | {each.spread:.4f} | {each.deviation:.4f}"
        yield f"| {each.recipe} | {figures} | {'yes' if each.holds else '**no**'} |"
    yield (
        "\nSpread: the largest less the smallest, of the plaintext runs. Where the last column says no, these runs do\n"
        "not show that encryption costs nothing; where changing the last bit moves as much, they could not. What\n"
        "encryption changes in one mean is measured by `benchmarks/encryption_error.py`; training magnifies it, as it\n"
        "does the last bit, from round to round.\n"
    )
    yield "Settings, beside the recipes' own:\n"
    for setting in settings:
        yield f"- `{setting.recipe}`: {_words(setting)}"
    yield f"\n`{about['command']}`, {about['date']}, {about['machine']}, {about['seconds']} s for all runs."


def _words(setting: Setting) -> str:
    source, changes = setting.cohort.source, ", ".join(f"`{key}` {value}" for key, value in setting.changes.items())
    drawn = f"{source.cases} drawn CTs of each class a site" if isinstance(source, Phantoms) else f"`{source}`"
    caps = "; ".join(f"{split}: at most {caps}" for split, caps in setting.cohort.caps.items())
    return f"{setting.cohort.sites} sites, {drawn}{f' ({caps})' if caps else ''}; {changes}"


def _shown(done: RoundDone) -> None:
    print(f"round {done.row['round']}: {done.row['state']}, {done.seconds:.1f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
