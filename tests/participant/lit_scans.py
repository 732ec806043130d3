"""Scans with one bright spot at a known place, and a network that sees nothing else."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
import torch
from numpy.typing import NDArray
from torch import nn

from models.recipe import Recipe, load_recipe
from participant.case_data import input_settings
from participant.diagnosis.models import Model, ModelFile
from simulation.phantoms.files import PatientLabel, write_dicom_series
from simulation.phantoms.geometry import Grid

SPACING = (5.0, 4.0, 4.0)  # mm
SIDE = 48  # pixels of a slice
RECIPE: Recipe = load_recipe("ucadi").overridden(
    {
        "input.size": [16, 24, 24],
        "network.classes": ["healthy", "covid-19"],
        "network.options.width": 4,
        "network.options.growth": 4,
        "training.class_weights": "none",
    }
)
Spot = tuple[int, int, int]
Turned = Literal["", "half", "rows"]
TURNED: tuple[Turned, ...] = ("", "half", "rows")


class Bright(nn.Module):
    """Class 1 is how much of the volume is brighter than soft tissue."""

    heat_map_layer = "light"

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv3d(1, 1, 1)
        nn.init.constant_(conv.weight, 1.0)
        nn.init.constant_(conv.bias, -1.6)
        self.light = nn.Sequential(conv, nn.ReLU())

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        light = 50 * self.light(volumes).mean(dim=(1, 2, 3, 4))
        return torch.stack([-light, light], dim=1)


def bright_model(recipe: Recipe = RECIPE) -> Model:
    return Model(ModelFile(Path("none"), "bright", "0" * 64), recipe, Bright().eval(), input_settings(recipe))


def volume(slices: int, spot: Spot, radius: int = 3) -> NDArray[np.float32]:
    """HU (slices, SIDE, SIDE): lung, and a block of bone about `spot`, in the patient's directions."""
    hu = np.full((slices, SIDE, SIDE), -850, np.float32)
    hu[tuple(slice(max(0, at - radius), at + radius + 1) for at in spot)] = 700
    return hu


def write_series(folder: Path, hu: NDArray[np.float32], turned: Turned = "") -> Path:
    """One DICOM file a slice. turned: which axes of the files run the other way, as of a patient who lay on the face
    ("half", rows and columns) or in files from some workstations ("rows"); the headers say so, the patient is the same.
    """
    write_dicom_series(hu, Grid(hu.shape, SPACING, (0.0, -90.0, -95.0)), folder, PatientLabel("P-77", "F", 60), "s", 1)
    for file in folder.iterdir() if turned else ():
        _turn(file, turned)
    return folder


def as_stored(frames: NDArray[np.generic], turned: Turned) -> NDArray[np.generic]:
    """Frames [slices, SIDE, SIDE] in the patient's directions as the files of `write_series` have them."""
    return {"": frames, "half": frames[:, ::-1, ::-1], "rows": frames[:, ::-1]}[turned]


def _turn(file: Path, turned: Turned) -> None:
    dataset = pydicom.dcmread(file)
    x, y, z = (float(value) for value in dataset.ImagePositionPatient)
    dataset.PixelData = np.ascontiguousarray(as_stored(dataset.pixel_array[None], turned)).tobytes()
    dataset["PixelData"].VR = "OW"
    across = -1 if turned == "half" else 1
    dataset.ImageOrientationPatient = [across, 0, 0, 0, -1, 0]
    dataset.ImagePositionPatient = [x + (SIDE - 1) * SPACING[2] * (across < 0), y + (SIDE - 1) * SPACING[1], z]
    dataset.save_as(file)


def zipped(folder: Path, archive: Path, rename: Callable[[str], str] = lambda name: f"PAT/ST/{name}") -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for each in sorted(folder.iterdir()):
            file.write(each, rename(each.name))
    return archive


def centre(heat: NDArray[np.floating]) -> NDArray[np.float64]:
    """Centre of mass in voxels."""
    places = np.stack(np.meshgrid(*map(np.arange, heat.shape), indexing="ij"), axis=-1)
    return np.asarray((places * heat[..., None]).sum(axis=(0, 1, 2)) / heat.sum(), np.float64)
