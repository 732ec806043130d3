"""Worked snippets of Python that load an exported file and ask it about one image. Tests run them as they are."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import dedent

from models.export import Exported, Format
from models.recipe import Recipe

_TITLES: dict[Format, str] = {
    "onnx": "ONNX, with onnxruntime alone",
    "torch": "torch.export, with torch alone",
    "safetensors": "safetensors, with Pleura",
}


def snippets(
    files: Sequence[Exported], recipe: Recipe, statistics: tuple[float, float] | None = None
) -> dict[str, str]:
    """Title and program for each file, to be run in the files' folder."""
    prepared = _prepared(recipe, *(statistics or (recipe.preprocessing.mean, recipe.preprocessing.std)))
    return {_TITLES[each.format]: _PROGRAMS[each.format](each.path.name, prepared) for each in files}


def _prepared(recipe: Recipe, mean: float, std: float) -> str:
    size, ct = recipe.input.size, recipe.preprocessing.ct
    if ct is not None:
        low, high = ct.hu_window
        return dedent(f"""\
            # {size[0]} slices of your scan, resized to {size[1]} x {size[2]} pixels, in Hounsfield units
            scan = np.full({size}, -800.0)
            prepared = (np.clip(scan, {low}, {high}) - {mean}) / {std}
            inputs = np.float32(prepared)[None, None]  # [batch, channels, depth, height, width]""")
    shape = (1, recipe.input.channels, *size)
    return dedent(f"""\
        # your film, resized to {size[0]} x {size[1]} pixels, from 0 (black) to 1 (white)
        film = np.full({size}, 0.5)
        prepared = (film - {mean}) / {std}
        inputs = np.float32(np.broadcast_to(prepared, {shape}))  # [batch, channels, height, width]""")


def _onnx(name: str, prepared: str) -> str:
    return f"""\
import json
import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before it is loaded, or it calls its maker

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession({name!r}, providers=["CPUExecutionProvider"])
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])

{prepared}

probabilities, scores = session.run(None, {{"inputs": inputs}})
print(dict(zip(classes, probabilities[0].tolist())))"""


def _torch(name: str, prepared: str) -> str:
    return f"""\
import json

import numpy as np
import torch

extra = {{"description.json": ""}}
program = torch.export.load({name!r}, extra_files=extra).module()  # only of files that you trust
classes = json.loads(json.loads(extra["description.json"])["classes"])

{prepared}

with torch.inference_mode():
    probabilities, scores = program(torch.from_numpy(inputs))
print(dict(zip(classes, probabilities[0].tolist())))"""


def _safetensors(name: str, prepared: str) -> str:
    return f"""\
from pathlib import Path

import numpy as np
import torch

from models.export import read_network, read_recipe  # pip install 'pleura[participant]'

network = read_network(Path({name!r}))
classes = read_recipe(Path({name!r})).network.classes

{prepared}

with torch.inference_mode():
    probabilities = network(torch.from_numpy(inputs)).softmax(dim=1)
print(dict(zip(classes, probabilities[0].tolist())))"""


_PROGRAMS = {"onnx": _onnx, "torch": _torch, "safetensors": _safetensors}
