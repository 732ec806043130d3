"""Small volumes whose class is where they are dense, a small recipe for them, and what trains it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from crypto.layout import Layout
from models.flatten import Vector, study_layout, to_vector
from models.recipe import Recipe, load_recipe
from models.registry import build
from participant.training import Trainer, site_trainer

CLASSES = ("front", "back", "left")
SMALL: dict[str, Any] = {
    "network.classes": list(CLASSES),
    "network.options.width": 4,
    "network.options.growth": 4,
    "network.options.stem_drop": 0.0,
    "input.size": [8, 16, 16],
    "preprocessing.ct.subsets": 2,
    "training.class_weights": "none",
    "training.batch": 4,
    "training.lr": 0.05,
    "training.precision": "32",
}

LASTING: dict[str, Any] = {"network__options__stem_drop": 0.1, "training__local_epochs": 2}  # ten steps that draw


def silent(done: int, total: int) -> None:
    """Nobody watches."""


def recipe(**changes: Any) -> Recipe:
    return load_recipe("ucadi").overridden({**SMALL, **{key.replace("__", "."): v for key, v in changes.items()}})


def write_case(path: Path, label: int, rng: np.random.Generator) -> None:
    """A NIfTI of noise near -800 HU with a dense slab at the class's place; nibabel's axes are (x, y, z)."""
    voxels = rng.normal(-800, 30, (16, 16, 12)).astype(np.float32)
    place = [np.s_[:, 9:, :], np.s_[:, :7, :], np.s_[:7, :, :]][label]
    voxels[place] += 700
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)


def write_site(root: Path, counts: tuple[int, ...], seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for label, count in enumerate(counts):
        for number in range(count):
            write_case(root / CLASSES[label] / f"p{label}{number:02}.nii.gz", label, rng)
    return root


def first_model(of: Recipe, folder: Path | None = None) -> tuple[Vector, Layout]:
    torch.manual_seed(3)
    network = build(of, folder=folder)
    layout = study_layout(network, of)
    return to_vector(network, layout), layout


def trainer(of: Recipe, site: Path, home: Path, seed: int = 0) -> Trainer:
    return site_trainer(of, site, site / ".." / "cache", seed, state_dir=home)
