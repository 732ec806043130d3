"""How files of known origin spell the names of a network's tensors.

Known: wrappers around the network (`module.`, `model.densenet121.`, whatever stands before most names), torchvision's
DenseNet before torch 0.4 (`denselayer1.norm.1`), a head before a sigmoid (`classifier.0`, as in the known CheXNet files
of the repositories arnoweng/CheXNet and jrzech/reproduce-chexnet), and Keras's VGG-16 (`block1_conv1/kernel`).
TorchXRayVision's DenseNet has torchvision's names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from torch import Tensor

_OLD_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
_KERAS_VGG = re.compile(r"block(\d)_conv(\d)(?:/block\d_conv\d)?[/_](kernel|bias|W|b)(?::0)?$")
_VGG_FIRST = (0, 5, 10, 17, 24)  # each block's first convolution in torchvision's `features`; the others follow by twos


def spelled_as_here(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file's tensors under the names and in the axes of torchvision's networks today, its wrappers still before."""
    return dict(_respelled(name, tensor) for name, tensor in tensors.items())


def wrapper(names: Collection[str], found: Iterable[str]) -> str:
    """What a file puts before a network's own `names`, such as "module.": before most of those that it has."""
    votes: Counter[str] = Counter()
    for key in found:
        parts = key.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in names:
                votes["".join(f"{part}." for part in parts[:cut])] += 1
    return max(votes, key=lambda prefix: (votes[prefix], -len(prefix)), default="")


def before_a_sigmoid(name: str) -> str:
    """The name that a layer has where it is the first of two: classifier.weight, classifier.0.weight."""
    layer, dot, last = name.rpartition(".")
    return f"{layer}.0{dot}{last}"


def _respelled(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    if match := _KERAS_VGG.search(name):
        block, convolution, kind = int(match[1]), int(match[2]), match[3]
        layer = f"features.{_VGG_FIRST[block - 1] + 2 * (convolution - 1)}"
        # Keras has height, width, in, out.
        return (f"{layer}.weight", tensor.permute(3, 2, 0, 1)) if kind in "kernelW" else (f"{layer}.bias", tensor)
    return _OLD_DENSE_LAYER.sub(r"\1\2.", name), tensor
