"""The networks whose updates are aggregated: names and shapes of what travels, parameters and float buffers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CLASSES = 3


@dataclass(frozen=True)
class Size:
    """A network, by its shapes.

    Attributes:
        parameters: trained ones.
        shapes: of every tensor that travels, in order.
    """

    name: str
    title: str
    parameters: int
    shapes: list[tuple[str, tuple[int, ...]]]


def sizes() -> list[Size]:
    """From the smallest to the largest. Nothing is allocated: the networks are built without values."""
    import models.torchvision_shim  # noqa: F401  # before torchvision

    # isort: split
    from torchvision import models as nets

    from models.densenet3d import DenseNet3d

    return [
        _size("ucadi", "UCADI's 3D-DenseNet", lambda: DenseNet3d(classes=4, channels=1)),
        _size("densenet121", "DenseNet-121", lambda: nets.densenet121(num_classes=CLASSES)),
        _size("resnet18", "ResNet-18", lambda: nets.resnet18(num_classes=CLASSES)),
        _size("vgg16", "VGG-16", lambda: nets.vgg16(num_classes=CLASSES)),
    ]


def _size(name: str, title: str, build: Callable[[], Any]) -> Size:
    import torch

    with torch.device("meta"):
        network = build()
    shapes = [(key, tuple(value.shape)) for key, value in network.state_dict().items() if value.is_floating_point()]
    return Size(name, title, sum(value.numel() for value in network.parameters()), shapes)
