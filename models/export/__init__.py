"""Trained networks as files that other software reads: safetensors, torch.export and ONNX, each checked as written.

TorchScript is not among them: torch 2.13 deprecates it (`torch.jit.trace`, `script`, `save` and `load` all warn) and
names `torch.export` in its place.
"""

from __future__ import annotations

from models.export.agreement import ExportDisagrees
from models.export.description import describe
from models.export.formats import FORMATS, ExportUnavailable, Format
from models.export.predictor import INPUTS, OUTPUTS, Predictor
from models.export.tensors import read_network, read_recipe
from models.export.write import Exported, export_network

__all__ = [
    "FORMATS",
    "INPUTS",
    "OUTPUTS",
    "ExportDisagrees",
    "ExportUnavailable",
    "Exported",
    "Format",
    "Predictor",
    "describe",
    "export_network",
    "read_network",
    "read_recipe",
]
