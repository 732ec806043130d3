"""A thousand simulated sites in one process: seconds and peak memory, for several numbers of sites.

The agents, the protocol (lwe-ckks) and the coordinator are the real ones; only the training is not: each site adds
noise to a model of so many parameters. Every number of sites runs in a process of its own, so that the peaks are its
own, and prints one JSON line. Linux alone: memory is read from /proc. Run it from the repository root:

    python -m benchmarks.thousand_sites --sites 100 300 1000 --rounds 10 --parameters 100000
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from crypto.parallel import cores
from models.recipe import Recipe, load_recipe
from simulation.engine import RoundDone, Spec, run
from simulation.engine.standin import StandIns, save_stand_in
from simulation.federation import Hospital

BINS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sites", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--parameters", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where runs lie while they are made; without it, the system's own")
    parser.add_argument("--here", action="store_true", help="one number of sites, in this process")
    given = parser.parse_args()
    for sites in given.sites:
        if given.here:
            with tempfile.TemporaryDirectory(dir=given.folder) as folder:
                print(
                    json.dumps(measure(sites, given.rounds, given.parameters, given.workers, Path(folder))), flush=True
                )
        else:
            same = [f"--{name}={getattr(given, name)}" for name in ("rounds", "parameters", "workers")]
            place = [f"--folder={given.folder}"] if given.folder else []
            command = [sys.executable, "-m", "benchmarks.thousand_sites", "--here", f"--sites={sites}", *same, *place]
            subprocess.run(command, check=True)


def measure(sites: int, rounds: int, parameters: int, workers: int, folder: Path) -> dict[str, object]:
    """One federation, and what it took. Rounds are counted without the first one's enrolment and approvals."""
    recipe = _recipe(rounds)
    model = folder / "first.safetensors"
    save_stand_in(model, recipe, parameters)
    hospitals = [Hospital(f"site-{number}", folder) for number in range(sites)]
    spec = Spec(recipe, model, hospitals, "lwe-ckks", "open", 1, rounds, trainers=StandIns(), workers=workers)
    seconds: list[float] = []

    def note(done: RoundDone) -> None:
        seconds.append(round(done.seconds, 1))
        print(
            f"{sites} sites: round {done.row['round']} of {rounds + 1}: {done.seconds:.0f} s",
            file=sys.stderr,
            flush=True,
        )

    started = time.perf_counter()
    federated = run(spec, folder / "run", note)
    wall = time.perf_counter() - started
    contributors = {len(row["contributors"]) for row in federated.history}
    if contributors != {sites}:
        raise RuntimeError(f"not every site was in every round: {contributors}")
    return {
        "sites": sites,
        "rounds": rounds,
        "parameters": parameters,
        "scheme": "lwe-ckks",
        "workers": workers,
        "seconds": round(wall, 1),
        "seconds_of_rounds": seconds,
        "peak_rss_mb": round(_peak_bytes() / 1e6),
        "machine": f"{platform.machine()}, {cores()} cores, Python {platform.python_version()}",
    }


def _recipe(rounds: int) -> Recipe:
    """Any will do: nothing of it but the federation's part is used."""
    federation = {"federation.rounds": rounds, "federation.fraction": 1.0, "federation.minimum_contributors": 3}
    changes = federation | {"evaluation.bins": BINS}
    return load_recipe("fl-cxr-resnet18").overridden(changes)


def _peak_bytes() -> int:
    """The largest resident memory that this process ever had."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
