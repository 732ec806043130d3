"""Whether heat maps lie where the lesion is: on phantoms that no training saw, whose lesions are known voxel by voxel.

Counted are true positives whose lesions lie in one lung (nine tenths of them or more): there "the lesion's lung" is one
place. Of the brightest 5 % of a scan's heat map the centre of mass has to lie in that lung itself, not merely on that
side. Of diseases of both lungs the centre lies between them however good the map is; for those the share of the
brightest 5 % that lies in the lungs, and in lesions, is told beside that of the lungs in the whole scan.

Prints one JSON line a class and one of all. Train the model first, and run this from the repository root:

    pleura-simulate demo --out runs/demo
    python -m benchmarks.heatmaps runs/demo/federated.safetensors --cases 100
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass

from models.statistics import wilson
from participant.data.volume import Volume
from participant.diagnosis.look import Opinion, look
from participant.diagnosis.models import Model, given_file, load
from participant.diagnosis.pictures import resized
from simulation.phantoms import SITES, Difficulty, Phantom, ct_phantom

BRIGHTEST = 0.05
ONE_LUNG = 0.9  # share of the lesions from which they are of one lung
FIRST_SEED = 7_000_000  # far from the seeds of tests; the demo's are random numbers of 32 bits
DIFFICULTY = Difficulty(0.5)  # the demo's


@dataclass(frozen=True)
class Found:
    """Of one true positive. in_lung, on_side: where the centre of mass lies, None where no lung is the lesion's alone.
    lungs, lesions: shares of the brightest voxels; scan: of the lungs in all voxels."""

    label: str
    in_lung: bool | None
    on_side: bool | None
    lungs: float
    lesions: float
    scan: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="of four CT classes, as the demo leaves one")
    parser.add_argument("--cases", type=int, default=100, help="phantoms of each disease")
    parser.add_argument("--layer", help="another layer than the network's own, to compare")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = load(given_file(given.model), device="cpu")
    if given.layer:
        model.network.heat_map_layer = given.layer
    diseases = [name for name in model.classes if name != "healthy"]
    every: list[Found] = []
    for label in diseases:
        found = list(_of_class(model, label, given.cases))
        every += found
        print(json.dumps({"class": label, "cases": given.cases, **_figures(found)}), flush=True)
    layer = str(model.network.heat_map_layer)
    head = {"class": "all", "model": model.file.digest, "recipe": model.recipe.name, "layer": layer}
    print(json.dumps({**head, "cases": given.cases * len(diseases), **_figures(every)}))


def _of_class(model: Model, label: str, cases: int) -> Iterator[Found]:
    number = model.classes.index(label)
    for case in range(cases):
        seed = FIRST_SEED + 10_000 * number + case
        phantom = ct_phantom(label, SITES[case % len(SITES)], seed, DIFFICULTY)
        voxels = np.asarray(phantom.hu, np.float32)
        opinion = look(Volume(voxels, phantom.grid.spacing, "ct", "LPS", Path(label)), model)
        if opinion.likeliest == number:
            yield _found(phantom, label, _brightest(opinion, number, voxels.shape[1:]))


def _brightest(opinion: Opinion, label: int, size: tuple[int, ...]) -> NDArray[np.bool_]:
    fine = np.stack([resized(each, (size[0], size[1])) for each in opinion.maps[label]])
    return fine >= np.quantile(fine, 1 - BRIGHTEST)


def _found(phantom: Phantom, label: str, bright: NDArray[np.bool_]) -> Found:
    lungs, lesions = phantom.lungs > 0.5, phantom.lesions > 0.1
    right, left = (float(phantom.lesions[phantom.side == side].sum()) for side in (-1, 1))
    share = max(right, left) / (right + left)
    centre = tuple(np.rint(center_of_mass(bright)).astype(int))
    on_side = bool((phantom.side[centre] > 0) == (left > right)) if share >= ONE_LUNG else None
    return Found(
        label,
        None if on_side is None else on_side and bool(lungs[centre]),
        on_side,
        float(lungs[bright].mean()),
        float(lesions[bright].mean()),
        float(lungs.mean()),
    )


def _figures(found: list[Found]) -> dict[str, Any]:
    one = [each for each in found if each.in_lung is not None]
    hits = sum(bool(each.in_lung) for each in one)
    interval = wilson(hits, len(one))
    return {
        "true_positives": len(found),
        "of_one_lung": len(one),
        "centre_in_lesions_lung": None if interval is None else interval.to_json(),
        "centre_on_lesions_side": sum(bool(each.on_side) for each in one) / len(one) if one else None,
        "brightest_in_lungs": _mean([each.lungs for each in found]),
        "brightest_in_lesions": _mean([each.lesions for each in found]),
        "lungs_in_scan": _mean([each.scan for each in found]),
    }


def _mean(values: list[float]) -> float | None:
    return round(float(np.mean(values)), 3) if values else None


if __name__ == "__main__":
    main()
