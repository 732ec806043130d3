"""Heat maps in 2D and 3D."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from models import registry
from models.heatmaps import heat_map, heat_maps
from models.recipe import load_recipe

INPUTS = {
    "ucadi": (1, 1, 16, 24, 32),
    "fl-cxr-resnet18": (1, 1, 64, 96),
    "fl-cxr-resnext50": (1, 1, 64, 96),
    "fl-cxr-mobilenetv2": (1, 1, 64, 96),
    "fl-cxr-covidnet": (1, 1, 64, 96),
    "intermittent-cnn": (1, 1, 64, 96),
    "vgg16-transfer": (1, 1, 64, 96),
    "chexnet-transfer": (1, 1, 64, 96),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(name: str) -> nn.Module:
    torch.manual_seed(1)
    return registry.build(load_recipe(name))


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("training", [True, False])
def test_a_map_has_the_inputs_size_and_something_to_show(name: str, training: bool) -> None:
    model, inputs = network(name).train(training), torch.randn(INPUTS[name])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = heat_map(model, inputs, 1)
    assert found.shape == INPUTS[name][2:]
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert 0.9 < found.max() <= 1
    assert found.std() > 0.01
    assert model.training is training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name", INPUTS)
def test_frozen_networks_and_inference_mode_make_the_same_map(name: str) -> None:
    model, inputs = network(name).eval(), torch.randn(INPUTS[name])
    expected = heat_map(model, inputs, 0)
    assert expected.max() > 0.9
    model.requires_grad_(False)
    with torch.inference_mode():
        assert np.allclose(heat_map(model, inputs.clone(), 0), expected)


@pytest.mark.parametrize("name", INPUTS)
def test_one_pass_gives_the_scores_and_every_map(name: str) -> None:
    model, inputs = network(name).eval(), torch.randn(INPUTS[name])
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    found = heat_maps(model, inputs)
    assert passes == [1]
    with torch.inference_mode():
        assert np.allclose(found.scores, model(inputs)[0].numpy(), atol=1e-6)
    for label in range(len(found.scores)):
        assert np.array_equal(found.maps[label], heat_map(model, inputs, label))


class Quadrant(nn.Module):
    """Class 1 is the brightness of the image's dark-to-light convolution, so its map shows where the light is."""

    heat_map_layer = "conv"

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        nn.init.ones_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        light = self.conv(images).relu().mean(dim=(1, 2, 3))
        return torch.stack([-light, light], dim=1)


def test_the_map_shows_what_speaks_for_the_class() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[..., 5:, 5:] = 1
    light = image[0, 0].numpy().astype(bool)
    found = heat_map(Quadrant(), image, 1)
    assert found[light].min() > 0.99
    assert found[~light].max() == 0
    assert not heat_map(Quadrant(), image, 0).any()


class Signed(Quadrant):
    """The same without what keeps dark places from counting against the class."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        light = self.conv(images).mean(dim=(1, 2, 3))
        return torch.stack([-light, light], dim=1)


def test_what_speaks_against_the_class_is_left_out() -> None:
    image = torch.ones(1, 1, 8, 8)
    image[..., :4] = -1
    found = heat_map(Signed(), image, 1)
    assert not found[:, :4].any()
    assert found[:, 4:].min() > 0.99


def test_what_cannot_have_a_map_is_refused() -> None:
    with pytest.raises(ValueError, match="of one input, not of 2"):
        heat_map(Quadrant(), torch.zeros(2, 1, 8, 8), 1)
    with pytest.raises(ValueError, match="Identity names no layer"):
        heat_map(nn.Identity(), torch.zeros(1, 1, 8, 8), 1)
    model = Quadrant()
    with pytest.raises(IndexError):
        heat_map(model, torch.zeros(1, 1, 8, 8), 5)
    assert not model.conv._forward_hooks
