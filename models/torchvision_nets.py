"""Published 2D networks as torchvision has them, without its weights.

With one channel the first convolution has one input channel. That loses nothing against a grey film repeated three
times (there the three slices of each filter only ever act through their sum), and fewer values travel.
"""

from __future__ import annotations

from typing import Any

from torch import nn

import models.torchvision_shim  # noqa: F401  (before torchvision)

# isort: split
import torchvision
from torchvision.models.vgg import cfgs, make_layers


def resnet18(classes: int, channels: int = 1) -> nn.Module:
    """ResNet-18 (He et al. 2016): scores [batch, classes] of images [batch, channels, height, width]."""
    network = torchvision.models.resnet18(weights=None, num_classes=classes)
    return _finished(network, "conv1", channels, heat_map_layer="layer4.1")


def resnext50(classes: int, channels: int = 1) -> nn.Module:
    """ResNeXt-50 32x4d (Xie et al. 2017): scores [batch, classes] of images [batch, channels, height, width]."""
    network = torchvision.models.resnext50_32x4d(weights=None, num_classes=classes)
    return _finished(network, "conv1", channels, heat_map_layer="layer4.2")


def mobilenetv2(classes: int, channels: int = 1) -> nn.Module:
    """MobileNet v2 (Sandler et al. 2018): scores [batch, classes] of images [batch, channels, height, width]."""
    network = torchvision.models.mobilenet_v2(weights=None, num_classes=classes)
    return _finished(network, "features.0.0", channels, heat_map_layer="features.18")


def densenet121(classes: int, channels: int = 1) -> nn.Module:
    """DenseNet-121 (Huang et al. 2017), the network of CheXNet (Rajpurkar et al. 2017, which ends in 14 classes).

    Scores [batch, classes] of images [batch, channels, height, width].
    """
    network = torchvision.models.densenet121(weights=None, num_classes=classes)
    return _finished(network, "features.conv0", channels, heat_map_layer="features.denseblock4")


def vgg16(classes: int, channels: int = 1) -> nn.Module:
    """VGG-16's convolutions (Simonyan and Zisserman 2015) under a head of 1024, 1024 and `classes` units.

    The head is that of Ljung et al. 2020, "Transfer Learning for COVID-19 Detection": flatten, two dense layers with
    ReLU, softmax (here left to the loss), initialised as Keras does. Scores [batch, classes] of images
    [batch, channels, height, width], 32 pixels or more a side; the flattened map is 7 x 7, as it is at 224 pixels.
    """
    return _finished(_Vgg16(classes), "features.0", channels, heat_map_layer="features.29")


class _Vgg16(nn.Module):
    """The last part is not called `classifier`: torchvision's has other widths, so no checkpoint of it may match."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = make_layers(cfgs["D"])
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(7),
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, 1024),
            nn.ReLU(inplace=True),
            nn.Linear(1024, 1024),
            nn.ReLU(inplace=True),
            nn.Linear(1024, classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # forward, as nothing norms: backward scores start near zero and stay
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, images: Any) -> Any:
        return self.head(self.features(images))


def _finished(network: Any, first: str, channels: int, heat_map_layer: str) -> nn.Module:
    """The network with `channels` input channels in its convolution `first`, and what the registry asks of it."""
    if channels != 3:
        parent, _, name = first.rpartition(".")
        setattr(network.get_submodule(parent), name, _with_channels(network.get_submodule(first), channels))
    network.dimensions = 2
    network.heat_map_layer = heat_map_layer
    made: nn.Module = network
    return made


def _with_channels(convolution: nn.Conv2d, channels: int) -> nn.Conv2d:
    replaced = nn.Conv2d(
        channels,
        convolution.out_channels,
        kernel_size=convolution.kernel_size,  # type: ignore[arg-type]  # a pair, as of any 2D convolution
        stride=convolution.stride,  # type: ignore[arg-type]
        padding=convolution.padding,  # type: ignore[arg-type]
        bias=convolution.bias is not None,
    )
    nn.init.kaiming_normal_(replaced.weight, mode="fan_in", nonlinearity="relu")
    if replaced.bias is not None:
        nn.init.zeros_(replaced.bias)
    return replaced
