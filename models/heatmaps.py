"""Where a network looked: Grad-CAM++ (Chattopadhay et al. 2018, arXiv:1710.11063), in 2D and 3D."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import models.torchvision_shim  # noqa: F401  (pytorch_grad_cam imports torchvision)

# isort: split
from pytorch_grad_cam import GradCAMPlusPlus
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget


def heat_map(model: nn.Module, inputs: torch.Tensor, target_class: int) -> NDArray[np.float32]:
    """What speaks for `target_class` in one input [1, channels, *size]: [*size] in [0, 1], 1 where it speaks loudest.

    The map is that of the submodule that the model names in `heat_map_layer`, interpolated to the input's size. Where
    nothing there speaks for the class, all of it is zero. Gradients of the model are cleared; mode and parameters stay.

    Raises:
        ValueError: more than one input, or a model that names no such layer.
    """
    if len(inputs) != 1:
        raise ValueError(f"a heat map is of one input, not of {len(inputs)}")
    if not hasattr(model, "heat_map_layer"):
        raise ValueError(f"{type(model).__name__} names no layer for heat maps; give it an attribute heat_map_layer")
    was_training = model.training
    cam = GradCAMPlusPlus(model, [model.get_submodule(str(model.heat_map_layer))])
    try:
        with torch.inference_mode(False), torch.enable_grad():
            # An input with a gradient makes maps of frozen networks possible too.
            found = cam(inputs.detach().clone().requires_grad_(), [ClassifierOutputTarget(target_class)])
    finally:
        cam.activations_and_grads.release()
        model.zero_grad()
        model.train(was_training)
    return np.asarray(found[0], np.float32)
