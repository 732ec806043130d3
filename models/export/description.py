"""What a file says of itself, so that whoever has nothing but it can prepare an image and read the answer."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any, Final

import torch

from crypto.canonical import canonical
from models.export.predictor import INPUTS, OUTPUTS
from models.recipe import Recipe

EXPORT_FORMAT: Final = "pleura/export/v1"
USE: Final = "research use, not a medical device"

_SIDES: Final = {2: ("height", "width"), 3: ("depth", "height", "width")}
_ORIENTATION: Final = {
    "ct": "slices from the feet to the head, rows from front to back, columns from the patient's right to the left",
    "xray": "rows from top to bottom, columns as the film is looked at, the patient's right at the left",
}
_INTENSITIES: Final = {
    "ct": "Hounsfield units",
    "xray": "0 (black) to 1 (white), dense tissue bright: MONOCHROME1 is inverted",
}
_RESIZE: Final = (
    "bilinear with antialiasing, corners not aligned (torch.nn.functional.interpolate with antialias=True), "
    "in the plane only, the sides stretched to fit"
)


def describe(recipe: Recipe, digest: str, statistics: tuple[float, float] | None = None) -> dict[str, str]:
    """Names and values for a file's metadata; what is no text is JSON.

    Args:
        digest: SHA-256 of the study's model file that the network came from.
        statistics: mean and deviation that inputs are normalised with, where they are not the recipe's.
    """
    mean, std = statistics or (recipe.preprocessing.mean, recipe.preprocessing.std)
    value: dict[str, Any] = {
        "format": EXPORT_FORMAT,
        "use": USE,
        "network": recipe.network.name,
        "classes": recipe.network.classes,
        "modality": recipe.input.modality,
        INPUTS: ["batch", "channels", *_SIDES[len(recipe.input.size)]],
        "size": recipe.input.size,
        "channels": recipe.input.channels,
        "outputs": OUTPUTS,
        **_preprocessing(recipe),
        "mean": mean,
        "std": std,
        "model": digest,
        "recipe": canonical(recipe.to_json()).decode(),
        "recipe_digest": recipe.digest,
        "written_by": f"pleura {version('pleura')}, torch {torch.__version__}",
    }
    return {name: each if isinstance(each, str) else json.dumps(each) for name, each in value.items()}


def _preprocessing(recipe: Recipe) -> dict[str, Any]:
    given = recipe.preprocessing
    value: dict[str, Any] = {
        "orientation": _ORIENTATION[recipe.input.modality],
        "intensities": _INTENSITIES[recipe.input.modality],
        "resize": _RESIZE,
        "normalisation": "(value - mean) / std",
    }
    if given.statistics == "site":
        value["normalisation"] += ", mean and std being of the training cases of the site that wrote this file"
    if given.ct is not None:
        value["hu_window"] = given.ct.hu_window
        value["subsets"] = given.ct.subsets
        value["slice_steps"] = given.ct.steps
        value["slice_steps_up_to"] = given.ct.steps_up_to
        value["prediction"] = (
            "the mean of the probabilities of so many subsets: each of every n-th slice from a random start, n from "
            "slice_steps by the number of slices; shorter scans repeat slices evenly"
        )
    return value
