"""Published 2D networks as torchvision has them, without its weights."""

from __future__ import annotations

from typing import Any

from torch import nn

import models.torchvision_shim  # noqa: F401  (before torchvision)

# isort: split
import torchvision


def resnet18(classes: int, channels: int = 1) -> nn.Module:
    """ResNet-18 (He et al. 2016): scores [batch, classes] of images [batch, channels, height, width].

    With one channel the first convolution has one input channel. That loses nothing against a grey film repeated three
    times (there the three slices of each filter only ever act through their sum), and 6,272 values fewer travel.
    """
    network: Any = torchvision.models.resnet18(weights=None, num_classes=classes)
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.dimensions = 2
    network.heat_map_layer = "layer4.1"
    made: nn.Module = network
    return made
