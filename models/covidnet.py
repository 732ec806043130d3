"""COVID-Net (Wang, Lin and Wong 2020, doi:10.1038/s41598-020-76550-z): 12.1 million parameters.

As drawn in the paper: 3, 4, 6 and 3 PEPX blocks of 56, 112, 216 and 424 channels behind a 7 x 7 convolution, and 1 x 1
convolutions around each stage (the variant that PyTorch versions call "large"; "small" has none). Its authors state
11.7 million parameters for it at 480 x 480 pixels (COVIDNet-CXR4-B), and 117.4 and 127.4 million for the first releases
at 224 x 224 (COVIDNet-CXR Small and Large), the size that Yan et al. 2020 train. The later and smaller one is taken
here, for 224 x 224, as every parameter is encrypted and sent in every round.

The paper leaves open how blocks are joined and what follows a convolution. Here outputs are added (so the two blocks
drawn with 224 and 400 channels have their stage's), each convolution has batch norm and ReLU instead of a bias, and a
dense layer of 512 lies before the scores, with which the number of parameters comes near the stated one.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

WIDTHS = (56, 112, 216, 424)
BLOCKS = (3, 4, 6, 3)


class CovidNet(nn.Module):
    """Scores (logits) [batch, classes] of images [batch, channels, height, width], 32 pixels or more a side.

    The flattened map is 7 x 7, as it is at 224 pixels; other sizes are averaged or repeated to it.
    """

    dimensions = 2
    heat_map_layer = "stages.6"

    def __init__(self, classes: int, channels: int = 1) -> None:
        super().__init__()
        first, *_, last = WIDTHS
        self.stem = nn.Sequential(*_convolution(channels, first, kernel=7, stride=2), nn.MaxPool2d(2))
        self.stages = nn.Sequential(_Stage(first, first, BLOCKS[0]))
        for (before, width), blocks in zip(pairwise(WIDTHS), BLOCKS[1:], strict=True):
            self.stages.append(nn.MaxPool2d(2))
            self.stages.append(_Stage(before, width, blocks))
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(7),
            nn.Flatten(),
            nn.Linear(last * 7 * 7, 512),
            nn.ReLU(inplace=True),
            nn.Linear(512, classes),
        )
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.stages(self.stem(images)))
        return scores


class _Stage(nn.Module):
    """PEPX blocks of which each sees the sum of all before it and of the 1 x 1 convolution around them."""

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.around = nn.Sequential(*_convolution(channels, width))
        self.first = _pepx(channels, width)
        self.others = nn.ModuleList(_pepx(width, width) for _ in range(blocks - 1))

    def forward(self, features: Tensor) -> Tensor:
        total: Tensor = self.around(features) + self.first(features)
        for block in self.others:
            total = total + block(total)
        return total


def _pepx(channels: int, width: int) -> nn.Sequential:
    """Projection, expansion, depthwise 3 x 3, projection, extension. How far, as in its known PyTorch versions."""
    low, high = channels // 2, channels * 3 // 4
    return nn.Sequential(
        *_convolution(channels, low),
        *_convolution(low, high),
        *_convolution(high, high, kernel=3, groups=high),
        *_convolution(high, low),
        *_convolution(low, width),
    )


def _convolution(
    channels: int, width: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module, nn.Module]:
    convolution = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
