"""Writing and reading back each format."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from models.export.agreement import Scores
from models.export.predictor import INPUTS, OUTPUTS, Inputs, Predictor, scores_of, trial_inputs
from models.export.tensors import read_network, write_network
from models.recipe import Recipe

Format: TypeAlias = Literal["safetensors", "torch", "onnx"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)
SUFFIXES: Final[Mapping[Format, str]] = {"safetensors": ".safetensors", "torch": ".pt2", "onnx": ".onnx"}

_BATCH: Final = "batch"
_DESCRIPTION: Final = "description.json"  # torch.export's files have others beside the program
_OWN: Final = r"`isinstance\(treespec, LeafSpec\)` is deprecated"  # torch's own use of it, in torch.onnx


class ExportUnavailable(Exception):
    """A package that a format needs is not installed."""


@dataclass(frozen=True)
class Source:
    """What is written: the network within `predictor`, and what files say of it.

    folder: of the Python file of a researcher's own network.
    """

    predictor: Predictor
    recipe: Recipe
    described: Mapping[str, str]
    folder: Path | None = None

    @cached_property
    def program(self) -> ExportedProgram:
        """The traced network: batches of any size, other sides fixed."""
        example = torch.from_numpy(np.ascontiguousarray(trial_inputs(self.recipe)[1]))
        with _quiet():
            return torch.export.export(self.predictor, (example,), dynamic_shapes={INPUTS: {0: Dim(_BATCH, min=1)}})


def write(chosen: Format, path: Path, source: Source) -> None:
    """Write the file.

    Raises:
        ExportUnavailable: naming what is to be installed.
    """
    _WRITERS[chosen](path, source)


def read(chosen: Format, path: Path, source: Source) -> Scores:
    """The scores that the written file gives, by the software that its users have."""
    return _READERS[chosen](path, source)


def _write_tensors(path: Path, source: Source) -> None:
    write_network(path, source.predictor.network, source.described)


def _read_tensors(path: Path, source: Source) -> Scores:
    return partial(scores_of, Predictor(read_network(path, source.folder)))


def _write_program(path: Path, source: Source) -> None:
    torch.export.save(source.program, path, extra_files={_DESCRIPTION: _text(source.described)})


def _read_program(path: Path, source: Source) -> Scores:
    module: nn.Module = torch.export.load(path).module()
    return partial(scores_of, module)


def _write_onnx(path: Path, source: Source) -> None:
    _need("onnx", "onnxscript", "onnxruntime")
    import onnx

    import models.onnx_runtime  # noqa: F401 - before anything else loads it

    with _quiet():
        made: Any = torch.onnx.export(
            source.program,
            input_names=[INPUTS],
            output_names=list(OUTPUTS),
            dynamic_shapes={INPUTS: {0: _BATCH}},
            dynamo=True,
            verbose=False,
        )
    proto = made.model_proto
    onnx.helper.set_model_props(proto, dict(source.described))
    onnx.checker.check_model(proto)
    onnx.save(proto, path)


def _read_onnx(path: Path, source: Source) -> Scores:
    from models.onnx_runtime import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def scores(inputs: Inputs) -> Inputs:
        (found,) = session.run([OUTPUTS[1]], {INPUTS: np.ascontiguousarray(inputs)})
        return np.asarray(found, np.float32)

    return scores


def _need(*packages: str) -> None:
    if missing := [name for name in packages if find_spec(name) is None]:
        raise ExportUnavailable(
            f"ONNX files are written with {' and '.join(missing)}, not installed here: "
            f"pip install {' '.join(missing)}, or leave this format out"
        )


def _text(described: Mapping[str, str]) -> str:
    return json.dumps(dict(described), indent=1)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _OWN, FutureWarning)
        yield


_WRITERS: Final[Mapping[Format, Callable[[Path, Source], None]]] = {
    "safetensors": _write_tensors,
    "torch": _write_program,
    "onnx": _write_onnx,
}
_READERS: Final[Mapping[Format, Callable[[Path, Source], Scores]]] = {
    "safetensors": _read_tensors,
    "torch": _read_program,
    "onnx": _read_onnx,
}
