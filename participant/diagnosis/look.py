"""What a model makes of a case: a probability for each class, and where in the scan what speaks for each lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from models.heatmaps import Explained, heat_maps
from participant.data.preprocessing import CTSettings, prepare_ct, prepare_xray, xray_tensor
from participant.data.volume import Volume
from participant.diagnosis.models import Model
from participant.diagnosis.windows import Window, windows
from participant.policy import Refused

Progress = Callable[[int, int], None]
"""Called with (windows done, windows in all); may raise to end the work early."""


@dataclass(frozen=True, eq=False)
class Opinion:
    """One model's.

    subsets: probabilities [windows, classes], one row a subset of slices (a film has one). maps: [classes, slices,
    height, width] in [0, 1] of the network's own fineness, each slice as wide as the scan's; a film is one slice. A
    class's map is 1 where in the whole scan most speaks for it.
    """

    model: Model
    subsets: NDArray[np.float32]
    maps: NDArray[np.float16]

    @property
    def mean(self) -> NDArray[np.float32]:
        """Probability of each class: the case's prediction."""
        return np.asarray(self.subsets.mean(axis=0), np.float32)

    @property
    def spread(self) -> NDArray[np.float32]:
        """Standard deviation over the subsets, of each class; 0 where there is one subset."""
        return np.asarray(self.subsets.std(axis=0, ddof=1 if len(self.subsets) > 1 else 0), np.float32)

    @property
    def likeliest(self) -> int:
        """Number of the class with the highest probability."""
        return int(self.mean.argmax())


def look(volume: Volume, model: Model, progress: Progress = lambda done, total: None) -> Opinion:
    """The model's opinion of a case.

    Raises:
        Refused: the model takes another kind of image.
    """
    if volume.modality != model.recipe.input.modality:
        kinds = {"ct": "CTs", "xray": "X-rays"}
        words = f"{model.file.title} looks at {kinds[model.recipe.input.modality]}, and this is none"
        raise Refused("other-modality", words)
    return _of_ct(volume, model, progress) if volume.modality == "ct" else _of_film(volume, model, progress)


def _of_film(volume: Volume, model: Model, progress: Progress) -> Opinion:
    settings = model.settings
    if isinstance(settings, CTSettings):
        raise TypeError("a film's model has a film's settings")
    inputs = xray_tensor(prepare_xray(volume, settings), settings)[None]
    found = _explained(model, inputs)
    progress(1, 1)
    return Opinion(model, softmax(found.scores)[None], found.maps[:, None].astype(np.float16))


def _of_ct(volume: Volume, model: Model, progress: Progress) -> Opinion:
    settings = model.settings
    if not isinstance(settings, CTSettings) or model.recipe.preprocessing.ct is None:
        raise TypeError("a CT's model has a CT's settings")
    prepared = prepare_ct(volume, settings)
    laid = windows(len(prepared), settings, model.recipe.preprocessing.ct.subsets)
    sums = np.zeros((len(model.classes), len(prepared), *prepared.shape[1:]), np.float32)
    share, subsets = np.zeros(len(prepared), np.float32), []
    for done, window in enumerate(laid, start=1):
        found = _explained(model, window.inputs(prepared, settings))
        subsets.append(softmax(found.scores))
        _lay_back(sums, share, window, found, subsets[-1])
        progress(done, len(laid))
    maps = sums / share[:, None, None]
    loudest = maps.max(axis=(1, 2, 3), keepdims=True)
    return Opinion(model, np.stack(subsets), (maps / np.maximum(loudest, 1e-6)).astype(np.float16))


def _explained(model: Model, inputs: Tensor) -> Explained:
    return heat_maps(model.network, inputs.to(next(model.network.parameters()).device))


def _lay_back(
    sums: NDArray[np.float32],
    share: NDArray[np.float32],
    window: Window,
    found: Explained,
    probabilities: NDArray[np.float32],
) -> None:
    """Add a window's maps to the scan's, each as loud as the window takes the class for probable.

    By itself each map reaches 1, also in a window that shows nothing of the class.
    """
    weights = window.weights(sums.shape[1])
    sums += np.einsum("sd,cdhw,c->cshw", weights, found.maps, probabilities)
    share += weights.sum(axis=1)
