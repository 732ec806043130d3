"""Networks: sizes, forms, and that each learns."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from models import registry
from models.densenet3d import DenseNet3d
from models.flatten import layout_of
from models.recipe import Recipe, load_recipe
from models.recipe_problems import RecipeError

SMALL = {"ucadi": (1, 8, 16, 16), "fl-cxr-resnet18": (1, 32, 32)}


def recipe(name: str, **network: object) -> Recipe:
    return load_recipe(name).overridden(
        {"input.size": list(SMALL[name][1:])} | {f"network.{key}": value for key, value in network.items()}
    )


def test_densenet3d_has_the_published_number_of_parameters() -> None:
    network = registry.build(load_recipe("ucadi"))
    assert sum(parameter.numel() for parameter in network.parameters()) == 726_972
    # One more than the 14 3D convolutions that follow it.
    assert sum(isinstance(module, nn.Conv3d) for module in network.modules()) == 15


def test_resnet18_travels_with_its_buffers_and_without_its_batch_counts() -> None:
    layout = layout_of(registry.build(load_recipe("fl-cxr-resnet18")))
    assert layout.size == 11_181_379
    assert not [tensor for tensor in layout.tensors if "num_batches" in tensor.name]
    assert {tensor.kind for tensor in layout.tensors} == {"parameter", "buffer"}


def test_one_grey_channel_does_what_three_equal_ones_do() -> None:
    grey = registry.build(recipe("fl-cxr-resnet18")).eval()
    colour = registry.build(recipe("fl-cxr-resnet18").overridden({"input.channels": 3})).eval()
    values = colour.state_dict()
    values["conv1.weight"] = values["conv1.weight"].sum(dim=1, keepdim=True)
    grey.load_state_dict(values)
    image = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(grey(image), colour(image.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_a_tiny_batch_is_learnt_by_heart(name: str) -> None:
    torch.manual_seed(0)
    wanted = recipe(name)
    network = registry.build(wanted)
    classes = len(wanted.network.classes)
    inputs, labels = torch.randn(classes, *SMALL[name]), torch.arange(classes)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < 0.8 < losses[0], losses


def test_densenet3d_trains_in_bf16_with_channels_last() -> None:
    network = DenseNet3d(4).to(memory_format=torch.channels_last_3d)
    volumes = torch.randn(2, 1, 16, 32, 32).to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        scores = network(volumes)
    assert scores.dtype == torch.bfloat16
    nn.functional.cross_entropy(scores.float(), torch.tensor([0, 3])).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("shape", [(1, 1, 3, 32, 32), (1, 32, 32), (1, 1, 32, 32)])
def test_densenet3d_says_what_it_takes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="sides of 4 or more"):
        DenseNet3d(2)(torch.zeros(shape))


def test_equal_seeds_give_equal_weights() -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(7)
        networks.append(registry.build(load_recipe("ucadi")).state_dict())
    assert all(torch.equal(values, networks[1][name]) for name, values in networks[0].items())


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        (
            {"network.name": "densenet3D"},
            "network.name",
            "perhaps you meant densenet3d; installed here: densenet3d, resnet18",
        ),
        ({"network.name": "vit"}, "network.name", "known are densenet3d, resnet18"),
        ({"network.options": {"depth": 4}}, "network.options", "has the options width, growth"),
        ({"network.options": {"stem_drop": 2}}, "network.options", "a share in"),
        ({"network.frozen": ["feature.*"]}, "network.frozen", "'feature.*'"),
        ({"network.name": "resnet18", "network.options": {}}, "input.size", "resnet18 takes 2 sides"),
    ],
)
def test_what_cannot_be_built_is_said_with_key_and_file(changes: dict[str, object], key: str, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        registry.build(load_recipe("ucadi").overridden(changes))
    assert [problem.key for problem in caught.value.problems] == [key]
    assert "ucadi.toml" in str(caught.value)
    assert says in str(caught.value)


class Own(nn.Module):
    def __init__(self, classes: int, channels: int, width: int = 2) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.Linear(width, classes))


def test_an_installed_package_adds_networks_but_replaces_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        def __init__(self, name: str) -> None:
            self.name = name

        def load(self) -> type[nn.Module]:
            return Own

    def entry_points(group: str) -> list[Entry]:
        return [Entry("own"), Entry("densenet3d")] if group == "pleura.networks" else []

    monkeypatch.setattr(registry, "entry_points", entry_points)
    assert registry.names() == ["densenet3d", "own", "resnet18"]
    own = registry.build(load_recipe("ucadi").overridden({"network.name": "own", "network.options": {"width": 3}}))
    assert isinstance(own, Own)
    assert isinstance(registry.build(load_recipe("ucadi")), DenseNet3d)


@pytest.mark.parametrize("declared_before", [False, True])
def test_torchvision_imports_and_an_operator_that_is_there_is_left_alone(declared_before: bool) -> None:
    """With the operators declared already, as by a torchvision whose compiled part loads, the shim declares nothing."""
    declare = (
        "kept = torch.library.Library('torchvision', 'DEF')\n"
        "for name in ('nms', 'qnms'):\n"
        "    kept.define(name + '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
    )
    script = (
        f"import torch\n{declare if declared_before else ''}"
        "import models.torchvision_shim as shim, torchvision, torchmetrics, gc\n"
        "gc.collect()\n"
        "assert torch.ops.torchvision.nms and torchvision.models.resnet18\n"
        f"assert {declared_before} <= (shim.LIBRARY is None)\n"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
