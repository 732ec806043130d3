"""Makes `import torchvision` work beside a CPU-only torch. Import this before torchvision, or anything that imports it.

torchvision is published as a CUDA build only: beside a CPU-only torch its compiled part does not load, and its import
then fails because it describes two operators, nms and qnms, that nothing has declared. Declaring their schemas is
enough: classification networks and transforms never call them, and a call still fails plainly, as it has no kernel.
Where the compiled part loads, it declares them itself and nothing is done here.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_torch: Any = torch  # these parts of it have no types


def _declared() -> bool:
    return hasattr(torch.ops.torchvision, "nms")


def _load_compiled_part() -> None:
    """Loads torchvision's own operators if that is possible; a second load, by torchvision itself, changes nothing."""
    spec = find_spec("torchvision")
    folders = (spec.submodule_search_locations if spec else None) or []
    for library in [path for folder in folders for path in Path(folder).glob("_C.*")]:
        try:
            _torch.ops.load_library(library)
        except OSError:
            continue


def _declare() -> Any:
    if not _declared():
        _load_compiled_part()
    if _declared():
        return None
    library = _torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    return library


# torch forgets the schemas when this object is collected.
LIBRARY = _declare()
