"""What a second Ray worker gains: the same federation with one and with two single-threaded workers.

Real training (ResNet-18 on X-ray phantoms) at each site, on a Ray cluster of this machine. Seconds are those of the
rounds after the first one, in which workers start and cases are prepared; the models have to be the same bit for bit.
Prints one JSON line. Run it on an idle machine, from the repository root:

    python -m benchmarks.ray_speed --sites 4 --rounds 4 --epochs 4
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path

from crypto.parallel import cores
from models.first_model import first_model
from models.flatten import read_model, save_model
from models.recipe import load_recipe
from simulation.engine import Federated, RoundDone, Spec, run
from simulation.federation import Hospital
from simulation.hospitals import Population, phantom_hospitals

SEED = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4, help="local epochs of a round")
    parser.add_argument("--cases", type=int, default=64, help="training cases a site")
    parser.add_argument("--side", type=int, default=64, help="of a film, in pixels")
    parser.add_argument("--engine", choices=("ray", "local"), default="ray")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(given, Path(folder))))


def measure(given: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Both runs, and how much faster the second one was."""
    population = Population(given.cases, 8, 8)
    hospitals = phantom_hospitals(folder / "hospitals", given.sites, SEED, "xray", population)
    specs = {workers: _spec(given, folder, hospitals, workers) for workers in (1, 2)}
    seconds: dict[int, list[float]] = {workers: [] for workers in specs}
    runs: dict[int, Federated] = {}
    for workers, spec in specs.items():

        def note(done: RoundDone, workers: int = workers) -> None:
            seconds[workers].append(round(done.seconds, 2))
            print(f"{workers} workers: round {done.row['round']}: {done.seconds:.1f} s", file=sys.stderr, flush=True)

        runs[workers] = run(spec, folder / f"run-{workers}", note)
    same = read_model(runs[1].model).vector.tobytes() == read_model(runs[2].model).vector.tobytes()
    one, two = (sum(seconds[workers][1:-1]) for workers in (1, 2))  # without start-up and the last evaluation
    return {
        "engine": given.engine,
        "sites": given.sites,
        "rounds": given.rounds,
        "seconds_of_rounds": seconds,
        "speedup": round(one / two, 2),
        "same_models": same,
        "train_seconds": {workers: round(found.seconds["train"], 1) for workers, found in runs.items()},
        "machine": f"{platform.machine()}, {cores()} cores, Python {platform.python_version()}",
    }


def _spec(given: argparse.Namespace, folder: Path, hospitals: list[Hospital], workers: int) -> Spec:
    recipe = load_recipe("fl-cxr-resnet18").overridden(
        {
            "input.size": [given.side, given.side],
            "federation.rounds": given.rounds,
            "federation.fraction": 1.0,
            "training.local_epochs": given.epochs,
            "training.precision": "32",
        }
    )
    model = folder / "first.safetensors"
    if not model.exists():
        first = first_model(recipe, SEED)
        save_model(model, first.vector, first.layout, first.recipe)
    return Spec(
        recipe,
        model,
        hospitals,
        "lwe-ckks",
        "open",
        SEED,
        given.rounds,
        engine=given.engine,
        workers=workers,
        threads=1,
        noise_seed=SEED,
        cache=folder / "cache",
    )


if __name__ == "__main__":
    main()
