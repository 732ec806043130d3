"""The network of Sainz-Pardo Diaz and Lopez Garcia 2023 (doi:10.1016/j.neucom.2022.11.011): pneumonia or not.

Five times convolution, ReLU, batch norm and max-pool, then two dense layers: 1,245,313 parameters at 150 x 150 grey
pixels (their Keras network: 1,246,401 with the 1,088 running statistics). Norms and start are Keras's usual ones: the
running statistics keep 0.99 of what they were with each batch, which over few batches may explain the poster's losses
above 1 at accuracies of 0.75.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Filters, and the dropout between convolution and batch norm.
LAYERS = ((32, 0.0), (64, 0.1), (64, 0.0), (128, 0.2), (256, 0.2))


class IntermittentCnn(nn.Module):
    """Scores [batch, 2] of images [batch, channels, height, width].

    The paper ends in one sigmoid. Its logit z becomes the two scores (-z/2, z/2): their softmax is (1 - s, s) with
    s = sigmoid(z), and cross entropy on them is binary cross entropy on s. Unlike (0, z), both classes have gradients,
    so that both have heat maps. A pool rounds up, as in Keras: 150, 75, 38, 19, 10, 5 pixels a side. The flattened map
    is 5 x 5 for other inputs too.

    Raises:
        ValueError: other than two classes.
    """

    dimensions = 2
    heat_map_layer = "features.4.3"  # before the last pool

    def __init__(self, classes: int, channels: int = 1) -> None:
        super().__init__()
        if classes != 2:
            raise ValueError(f"intermittent-cnn ends in one sigmoid, so it tells two classes apart, not {classes}")
        self.features = nn.Sequential()
        for filters, drop in LAYERS:
            self.features.append(_layer(channels, filters, drop))
            channels = filters
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(5),
            nn.Flatten(),
            nn.Linear(channels * 5 * 5, 128),
            nn.ReLU(inplace=True),
            nn.Dropout(0.2),
            nn.Linear(128, 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # none of these goes without

    def forward(self, images: Tensor) -> Tensor:
        half = self.head(self.features(images)) / 2
        return torch.cat([-half, half], dim=1)


def _layer(channels: int, filters: int, drop: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, filters, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Dropout(drop),
        nn.BatchNorm2d(filters, eps=1e-3, momentum=0.01),
        nn.MaxPool2d(2, ceil_mode=True),
    )
