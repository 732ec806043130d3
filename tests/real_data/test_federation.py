"""Short federations on real images: the agents' own readers, real HTTP, a process for each hospital.

They say that the pipeline holds, nothing about accuracy: of CT there are three patients.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from models.flatten import SavedModel, read_model
from models.recipe import load_recipe
from participant.case_data import CaseData
from simulation.federation import Federation, Hospital, StudySettings, new_model
from simulation.hospitals import split_hospitals
from simulation.processes import Processes
from simulation.report import Timing, read_timings

DATA = Path(__file__).parents[2].parent / "shared/data"
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.nightly,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not DATA.is_dir(), reason=f"the real images are not at {DATA}"),
]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Result:
    """What is left of a federation that has run."""

    first: SavedModel
    last: SavedModel
    history: list[dict[str, Any]]
    timings: dict[str, list[Timing]]
    validation_cases: int

    @property
    def upload_ratios(self) -> list[float]:
        """Of each site and training round, the bytes sent by the shared tensors' size as float32."""
        rounds = {row["round"] for row in self.history if row["kind"] == "training"}
        sent = [t for t in chain.from_iterable(self.timings.values()) if t.round in rounds]
        return [t.upload_bytes / t.fp32_bytes for t in sent if t.upload_bytes and t.fp32_bytes]


def federate(folder: Path, recipe: str, changes: dict[str, Any], hospitals: Sequence[Hospital], rounds: int) -> Result:
    """Run a study on the hospitals from its first to its last model."""
    first = folder / "first.safetensors"
    with Processes(folder / "logs", ENVIRONMENT) as processes, Federation(processes, folder) as federation:
        new_model(processes, recipe, first, changes, seed=1)
        federation.start_coordinator()
        study = StudySettings("real", "lwe-ckks", rounds, minimum_contributors=3)
        federation.create_study(study, first, len(hospitals))
        for hospital in hospitals:
            federation.start_site(hospital)
        federation.watch(lambda study, history: None)
        processes.wait_for("the agents' end", lambda: not any(processes.runs(h.name) for h in hospitals), 60)
        federation.fetch_model(hospitals[0], folder / "last.safetensors")
        history = federation.history()
        places = [federation.place(hospital) for hospital in hospitals]
    saved = read_model(first)
    cases = [CaseData.read(saved.recipe, place.data, place.cache, place.seed) for place in places]
    return Result(
        first=saved,
        last=read_model(folder / "last.safetensors"),
        history=history,
        timings={h.name: read_timings(federation.home(h.name) / "timings.jsonl") for h in hospitals},
        validation_cases=sum(len(each.validation) for each in cases),
    )


def check(result: Result, rounds: int, sites: int, largest_ratio: float) -> None:
    kinds = [row["kind"] for row in result.history if row["state"] == "complete"]
    assert kinds == ["training"] * rounds + ["evaluation"]
    assert all(len(row["contributors"]) == sites for row in result.history)
    assert result.last.layout == result.first.layout
    assert np.isfinite(result.last.vector).all()
    assert np.abs(result.last.vector - result.first.vector).max() > 1e-5
    assert result.validation_cases > 0
    assert [row["metrics"]["cases"] for row in result.history] == [result.validation_cases] * (rounds + 1)
    assert len(result.upload_ratios) == rounds * sites
    assert 1 < max(result.upload_ratios) <= largest_ratio


def test_resnet18_on_chest_films_of_three_hospitals(tmp_path: Path) -> None:
    classes = ["normal", "pneumonia", "covid"]
    changes = {
        "network.classes": classes,
        "input.size": [64, 64],
        "training.local_epochs": 1,
        "federation.rounds": 2,
        "federation.fraction": 1.0,
    }
    hospitals = split_hospitals(DATA / "xray-3class", classes, tmp_path / "hospitals", sites=3, seed=1, limit=12)
    result = federate(tmp_path, "fl-cxr-resnet18", changes, hospitals, rounds=2)
    assert result.first.layout.size > 11_000_000
    check(result, rounds=2, sites=3, largest_ratio=1.02)


SERIES = {"healthy": "normal/normal001", "covid-19": "covid/P001", "bacterial": "cap/cap001"}
SLAB = 16  # slices


def test_the_3d_densenet_on_slabs_of_real_ct_series(tmp_path: Path) -> None:
    classes = load_recipe("ucadi").network.classes
    hospitals = slab_hospitals(tmp_path / "hospitals", sites=3)
    changes = {"input.size": [16, 32, 32], "preprocessing.ct.subsets": 1, "training.batch": 4, "federation.rounds": 1}
    result = federate(tmp_path, "ucadi", changes, hospitals, rounds=1)
    assert result.first.recipe.network.classes == classes
    check(result, rounds=1, sites=3, largest_ratio=1.05)
    logs = [(tmp_path / "logs" / f"{hospital.name}.log").read_text() for hospital in hospitals]
    assert all("class other-viral has no cases" in log for log in logs)


def slab_hospitals(folder: Path, sites: int) -> list[Hospital]:
    """Each series cut into slabs that pass for cases, dealt out in turn; the first at each site is for validation."""
    rows: dict[int, list[tuple[str, str, str, str]]] = {site: [] for site in range(sites)}
    for label, series in SERIES.items():
        for number, (site, slab) in enumerate(
            zip(cycle(range(sites)), slabs(DATA / "ct-dicom" / series), strict=False)
        ):
            name = f"{label}/slab-{number:02}"
            place = folder / f"site-{site + 1}" / name
            place.mkdir(parents=True)
            for file in slab:
                (place / file.name).symlink_to(file)
            rows[site].append((name, label, place.name, "validation" if number < sites else "train"))
    for site, of_site in rows.items():
        with (folder / f"site-{site + 1}" / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label", "patient", "split"), *of_site])
    return [Hospital(f"site-{site + 1}", folder / f"site-{site + 1}") for site in range(sites)]


def slabs(series: Path) -> list[list[Path]]:
    """The files of a series in runs of SLAB neighbouring slices, from the feet upwards."""

    def height(file: Path) -> float:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["ImagePositionPatient"])
        return float(header.ImagePositionPatient[2])

    files = sorted(series.iterdir(), key=height)
    return [files[start : start + SLAB] for start in range(0, len(files) - SLAB + 1, SLAB)]
