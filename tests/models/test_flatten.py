"""The flat vector and model files: order, exactness, what stays home, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from torch import nn

from crypto.canonical import canonical
from crypto.layout import CountField, Layout, Tensor
from models.densenet3d import DenseNet3d
from models.flatten import (
    LayoutMismatch,
    controls,
    freeze,
    layout_of,
    load_local_state,
    load_vector,
    local_state,
    read_model,
    save_model,
    study_layout,
    to_vector,
)
from models.pooled import count_fields
from models.recipe import load_recipe


class Net(nn.Module):
    """Parameters, float and integer buffers, a scalar, and a tensor that does not lie in C order."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.tensor(2.0))
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)


LAYOUT = Layout(
    (
        Tensor("scale", (), "parameter"),
        Tensor("conv.weight", (4, 3, 3, 3), "parameter"),
        Tensor("conv.bias", (4,), "parameter"),
        Tensor("norm.weight", (4,), "parameter"),
        Tensor("norm.bias", (4,), "parameter"),
        Tensor("norm.running_mean", (4,), "buffer"),
        Tensor("norm.running_var", (4,), "buffer"),
    )
)


def test_the_layout_is_in_state_dict_order_without_integers() -> None:
    assert layout_of(Net()) == LAYOUT
    assert layout_of(Net(1)).digest == LAYOUT.digest


def test_counts_go_into_the_layout() -> None:
    counts = (CountField("cases", ()),)
    assert layout_of(Net(), counts=counts) == Layout(LAYOUT.tensors, counts)


@pytest.mark.parametrize("make", [Net, lambda: DenseNet3d(3)])
def test_the_round_trip_is_exact(make: type[nn.Module]) -> None:
    source, target = make(), make()
    with torch.no_grad():
        for name, value in source.state_dict().items():
            drawn = torch.randn(value.shape) * 3
            value.copy_(drawn.abs() if name.endswith("running_var") else drawn)
    layout = layout_of(source)
    before = local_state(target, layout)
    load_vector(target, layout, to_vector(source, layout))
    for name, value in target.state_dict().items():
        assert torch.equal(value, before[name] if name in before else source.state_dict()[name]), name
    assert np.array_equal(to_vector(target, layout), to_vector(source, layout))


def test_a_variance_that_noise_carried_below_zero_is_zero() -> None:
    target = Net()
    vector = to_vector(target, LAYOUT)
    vector[-4:] = [1, -1e-4, 2, -1]
    load_vector(target, LAYOUT, vector)
    assert target.norm.running_var.tolist() == [1, 0, 2, 0]
    assert torch.isfinite(target.norm.eval()(torch.randn(2, 4, 3, 3))).all()


def test_tensors_lie_in_c_order_whatever_their_memory_format() -> None:
    network = Net()
    places = {tensor.name: place for tensor, place in LAYOUT.slices()}
    weight = network.conv.weight.detach().contiguous().numpy()
    assert np.array_equal(to_vector(network, LAYOUT)[places["conv.weight"]], weight.ravel())


def test_what_is_frozen_stays_home_and_a_pattern_for_nothing_is_refused() -> None:
    network = Net()
    layout = layout_of(network, ["conv.*", "scale"])
    assert [tensor.name for tensor in layout.tensors] == [t.name for t in LAYOUT.tensors if t.name.startswith("norm")]
    vector = np.arange(layout.size, dtype=np.float32)
    weight = network.conv.weight.clone()
    load_vector(network, layout, vector)
    assert torch.equal(network.conv.weight, weight)
    assert torch.equal(network.norm.weight, torch.arange(4.0))
    freeze(network, ["conv.*"])
    assert {name for name, p in network.named_parameters() if p.requires_grad} == {"scale", "norm.weight", "norm.bias"}
    for refused in (lambda: layout_of(network, ["features.*"]), lambda: freeze(network, ["features.*"])):
        with pytest.raises(LayoutMismatch, match=r"features\.\*"):
            refused()


def test_what_is_local_stays_home_though_it_trains() -> None:
    network = Net()
    layout = layout_of(network, ["conv.*"], local=["norm.*"])
    assert [tensor.name for tensor in layout.tensors] == ["scale"]
    assert set(local_state(network, layout, ["conv.*"])) == {name for name in network.state_dict() if "norm" in name}
    freeze(network, ["conv.*"])
    assert all(p.requires_grad for p in network.norm.parameters())
    with pytest.raises(LayoutMismatch, match=r"head\.\*"):
        layout_of(network, local=["head.*"])
    with pytest.raises(LayoutMismatch, match=r"norm\.weight cannot be frozen and local"):
        layout_of(network, ["norm.w*"], local=["norm.*"])


def test_control_variates_travel_beside_the_parameters_and_touch_no_network(tmp_path: Path) -> None:
    network = Net()
    layout = layout_of(network, ["conv.*"], scaffold=True)
    shared = [t for t in LAYOUT.tensors if not t.name.startswith("conv")]
    variates = [Tensor(f"control/{t.name}", t.shape, t.kind) for t in shared if t.kind == "parameter"]
    assert layout.tensors == (*shared, *variates)
    assert [name for name, _ in controls(layout)] == ["scale", "norm.weight", "norm.bias"]
    vector = to_vector(network, layout)
    places = {tensor.name: place for tensor, place in layout.slices()}
    assert not vector[places["control/norm.weight"]].any()
    before = to_vector(network, LAYOUT)
    vector[places["control/scale"]], vector[places["scale"]] = 7, -1
    load_vector(network, layout, vector)
    assert network.scale == -1
    np.testing.assert_array_equal(np.delete(to_vector(network, LAYOUT), 0), np.delete(before, 0))
    save_model(tmp_path / "model", vector, layout, load_recipe("ucadi"))
    assert np.array_equal(read_model(tmp_path / "model").vector, vector)


def test_a_studys_layout_follows_its_recipe() -> None:
    changes = {"network.frozen": ["stem.*"], "network.local": ["head.*"], "training.momentum": 0.0}
    recipe = load_recipe("ucadi").overridden({**changes, "federation.scaffold": True, "evaluation.bins": 4})
    layout = study_layout(DenseNet3d(4), recipe)
    names = [tensor.name for tensor in layout.tensors]
    assert not [name for name in names if "stem." in name or "head." in name]
    assert any(name.startswith("control/") for name in names)
    assert layout.counts == count_fields(4, 4)


def test_the_schedule_of_dropblock_stays_home_and_is_kept_from_round_to_round() -> None:
    first, second = DenseNet3d(2), DenseNet3d(2)
    layout = layout_of(first)
    first(torch.rand(2, 1, 4, 4, 4))
    kept = local_state(first, layout)
    assert int(kept["head.2.taken"]) == 1
    assert all(not value.is_floating_point() for value in kept.values())
    load_local_state(second, kept)
    assert int(second.head[2].taken) == 1
    with pytest.raises(LayoutMismatch, match="this network has not"):
        load_local_state(Net(), kept)


@pytest.mark.parametrize(
    ("vector", "says"),
    [
        (np.zeros(LAYOUT.size - 1, np.float32), "wants 129 float32 values"),
        (np.zeros((LAYOUT.size, 1), np.float32), "wants 129 float32 values"),
        (np.zeros(LAYOUT.size, np.float64), "not float64"),
        (np.full(LAYOUT.size, np.nan, np.float32), "scale has values that are not finite"),
        (np.r_[np.zeros(LAYOUT.size - 1), np.inf].astype(np.float32), "norm.running_var has values"),
    ],
)
def test_a_vector_that_does_not_fit_is_refused_and_changes_nothing(
    vector: np.ndarray, says: str, tmp_path: Path
) -> None:
    network = Net()
    before = to_vector(network, LAYOUT)
    with pytest.raises(LayoutMismatch, match=says):
        load_vector(network, LAYOUT, vector)
    assert np.array_equal(to_vector(network, LAYOUT), before)
    with pytest.raises(LayoutMismatch, match=says):
        save_model(tmp_path / "model.safetensors", vector, LAYOUT, load_recipe("ucadi"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("tensor", "says"),
    [(Tensor("other", (1,), "parameter"), "no tensor other"), (Tensor("scale", (1,), "parameter"), "scale has shape")],
)
def test_a_layout_of_another_network_is_refused(tensor: Tensor, says: str) -> None:
    with pytest.raises(LayoutMismatch, match=says):
        to_vector(Net(), Layout((tensor,)))
    with pytest.raises(LayoutMismatch, match=says):
        load_vector(Net(), Layout((tensor,)), np.zeros(1, np.float32))


def test_a_model_file_holds_tensors_layout_and_recipe(tmp_path: Path) -> None:
    path, network, recipe = tmp_path / "model.safetensors", Net(), load_recipe("ucadi")
    save_model(path, network, LAYOUT, recipe)
    saved = read_model(path)
    assert np.array_equal(saved.vector, to_vector(network, LAYOUT))
    assert (saved.layout, saved.recipe) == (LAYOUT, recipe)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]
    # As the coordinator reads it: numpy and the layout value alone.
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pleura/model/v1"
    assert Layout.from_json(json.loads(metadata["layout"])).digest == LAYOUT.digest
    assert metadata["recipe"].encode() == canonical(recipe.to_json())
    assert np.array_equal(load_file(path)["conv.weight"], network.conv.weight.detach().numpy())


def test_a_model_gives_one_file_byte_by_byte(tmp_path: Path) -> None:
    for number in range(8):  # safetensors itself writes the metadata in an order that changes
        save_model(tmp_path / str(number), Net(), LAYOUT, load_recipe("ucadi"))
    assert len({(tmp_path / str(number)).read_bytes() for number in range(8)}) == 1


def test_a_vector_is_saved_as_its_model_is(tmp_path: Path) -> None:
    network, recipe = Net(), load_recipe("ucadi")
    save_model(tmp_path / "a", network, LAYOUT, recipe)
    save_model(tmp_path / "b", to_vector(network, LAYOUT), LAYOUT, recipe)
    first, second = read_model(tmp_path / "a"), read_model(tmp_path / "b")
    assert np.array_equal(first.vector, second.vector)
    assert (first.layout, first.recipe) == (second.layout, second.recipe)


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, Net(), LAYOUT, load_recipe("ucadi"))
    tensors = load_file(path)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    whole = path.read_bytes()

    def refused(says: str) -> None:
        with pytest.raises(LayoutMismatch, match=says):
            read_model(path)

    path.write_bytes(whole[:-10])
    refused("cut short")
    save_file(tensors, path)
    refused("its format is None")
    save_file(tensors, path, metadata | {"layout": "{}"})
    refused("no layout or recipe")
    save_file(tensors, path, metadata | {"recipe": json.dumps(json.loads(metadata["recipe"]), indent=1)})
    refused("canonical")
    save_file({name: value for name, value in tensors.items() if name != "scale"}, path, metadata)
    refused("does not hold the tensors")
    save_file(tensors | {"conv.bias": np.zeros(4)}, path, metadata)
    refused("does not hold the tensors")
    save_file(tensors | {"conv.bias": np.full(4, np.nan, np.float32)}, path, metadata)
    refused(r"conv\.bias has values")
    with pytest.raises(FileNotFoundError):
        read_model(tmp_path / "none")
