"""Checkpoint files: what is read, how names meet, what is taken, and what is refused in words."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from models import registry
from models.checkpoints import (
    Checkpoint,
    CheckpointError,
    Loaded,
    digest_of,
    find_checkpoint,
    load_checkpoint,
    read_checkpoint,
)
from models.flatten import save_model, study_layout
from models.recipe import load_recipe
from models.torchvision_nets import densenet121, vgg16


class Net(nn.Module):
    def __init__(self, classes: int = 2, channels: int = 1, width: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, classes)


def equal(network: nn.Module, expected: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(values, expected[name]) for name, values in network.state_dict().items())


def taken_over(tmp_path: Path, network: nn.Module, content: object) -> Loaded:
    torch.save(content, tmp_path / "checkpoint")
    return load_checkpoint(network, read_checkpoint(tmp_path / "checkpoint"))


def test_chexnets_known_checkpoint_gives_a_grey_network_the_same_features(tmp_path: Path) -> None:
    """As in arnoweng/CheXNet: DataParallel, a wrapper, DenseNet's old names, 14 classes before a sigmoid."""
    chexnet, ours = densenet121(14, 3).eval(), densenet121(2, 1).eval()
    for module in chexnet.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
    theirs = {}
    for name, values in chexnet.state_dict().items():
        old = re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name)
        if "num_batches_tracked" not in name:
            theirs["module.densenet121." + old.replace("classifier.", "classifier.0.")] = values
    assert any("norm.1.running_var" in name for name in theirs)
    content = {"epoch": 4, "state_dict": theirs, "best_loss": np.float64(0.15), "optimizer": {"param_groups": [{}]}}
    loaded = taken_over(tmp_path, ours, content)
    film = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        expected = chexnet.features(film.expand(-1, 3, -1, -1))
        torch.testing.assert_close(ours.features(film), expected, rtol=1e-4, atol=1e-5)
    assert loaded.fresh == {
        "classifier.weight": "it has the shape [14, 1024] in the file, and [2, 1024] here",
        "classifier.bias": "it has the shape [14] in the file, and [2] here",
    }
    assert loaded.summed == "features.conv0.weight"
    assert not loaded.unused
    assert "604 tensors taken" in str(loaded)
    assert "three input channels were added up" in str(loaded)


def test_torchxrayvisions_densenet_fits_as_it_is(tmp_path: Path) -> None:
    xrv, ours = densenet121(18, 1), densenet121(18, 1)
    loaded = taken_over(tmp_path, ours, xrv.state_dict() | {"op_threshs": torch.rand(18)})
    assert equal(ours, xrv.state_dict())
    assert loaded.unused == ("op_threshs",)
    assert not loaded.fresh
    assert loaded.summed is None
    assert "1 in the file are of no use here: op_threshs" in str(loaded)


def test_kerass_vgg16_fits_in_its_own_names_and_axes(tmp_path: Path) -> None:
    source, ours = vgg16(3, 3), vgg16(3, 3)
    depth = [2, 2, 3, 3, 3]
    convolutions = [module for module in source.features if isinstance(module, nn.Conv2d)]
    content = {}
    for block, count in enumerate(depth, start=1):
        for number in range(1, count + 1):
            layer = convolutions[sum(depth[: block - 1]) + number - 1]
            content[f"block{block}_conv{number}/kernel:0"] = layer.weight.detach().permute(2, 3, 1, 0).contiguous()
            content[f"block{block}_conv{number}/bias:0"] = layer.bias.detach() + block
    save_file(content, tmp_path / "keras.safetensors")
    loaded = load_checkpoint(ours, read_checkpoint(tmp_path / "keras.safetensors"))
    assert len(loaded.taken) == 26
    assert torch.equal(ours.features[10].weight, source.features[10].weight)
    assert torch.equal(ours.features[28].weight, source.features[28].weight)
    assert torch.equal(ours.features[28].bias, source.features[28].bias + 5)
    assert sorted(loaded.fresh) == [f"head.{n}.{kind}" for n in (2, 4, 6) for kind in ("bias", "weight")]


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda own: own,
        lambda own: {"state_dict": own, "epoch": 3},
        lambda own: {"model": {f"module.{name}": values for name, values in own.items()}},
        lambda own: {"model_state_dict": {f"net.backbone.{name}": values for name, values in own.items()}},
        lambda own: {"net": {"state_dict": own, "lr": np.float32(0.1)}},
        lambda own: {name.replace("head.", "head.0."): values.double() for name, values in own.items()},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrappers_prefixes_and_a_head_before_a_sigmoid_are_seen_through(
    tmp_path: Path, wrapped: Callable[[dict[str, Tensor]], object], zipped: bool
) -> None:
    source, ours = Net(), Net()
    torch.save(wrapped(source.state_dict()), tmp_path / "net.pth.tar", _use_new_zipfile_serialization=zipped)
    loaded = load_checkpoint(ours, read_checkpoint(tmp_path / "net.pth.tar"))
    assert equal(ours, source.state_dict())
    assert sorted(loaded.taken) == sorted(source.state_dict())
    assert not loaded.fresh
    assert not loaded.unused


def test_three_input_channels_become_one_by_their_sum(tmp_path: Path) -> None:
    colour, grey = Net(channels=3), Net()
    loaded = taken_over(tmp_path, grey, colour.state_dict())
    image = torch.rand(2, 1, 5, 5)
    assert loaded.summed == "body.0.weight"
    torch.testing.assert_close(grey.body[0](image), colour.body[0](image.expand(-1, 3, -1, -1)))


def test_half_precision_becomes_the_networks_own(tmp_path: Path) -> None:
    source, ours = Net(channels=3).half(), Net()
    taken_over(tmp_path, ours, source.state_dict())
    assert ours.head.weight.dtype == torch.float32
    assert torch.equal(ours.head.weight, source.head.weight.float())
    assert torch.equal(ours.body[0].weight, source.body[0].weight.float().sum(dim=1, keepdim=True))


def test_a_model_of_an_earlier_study_is_a_checkpoint_for_other_classes(tmp_path: Path) -> None:
    recipe = load_recipe("ucadi")
    earlier = registry.build(recipe)
    save_model(tmp_path / "model.safetensors", earlier, study_layout(earlier, recipe), recipe)
    digest = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    other = load_recipe("ucadi-severity").overridden({"network.pretrained": digest})
    network = registry.build(other, folder=tmp_path)
    theirs = earlier.state_dict()
    same = [name for name, values in network.state_dict().items() if torch.equal(values, theirs[name])]
    assert set(network.state_dict()) - set(same) == {"head.5.weight", "head.5.bias"} - set(same)
    assert "head.5.weight" not in same
    assert "stages.4.1.layers.5.weight" in same


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda own: {}, "holds no tensors by name"),
        (lambda own: [own], "holds no tensors by name"),
        (lambda own: {"model": Net()}, r"pickled Python objects.*torch\.save\(model\.state_dict\(\), FILE\)"),
        (
            lambda own: {"fc.weight": torch.ones(1)},
            r"none of this network's tensors: it has fc\.weight; the network has",
        ),
        (lambda own: {"head.weight": torch.ones(7, 3)}, "nothing but a head of another size"),
        (lambda own: own | {"body.1.bias": torch.ones(4)}, r"another network; .* body\.1\.bias \[4\] for \[3\]$"),
        (
            lambda own: own | {"body.0.weight": torch.ones(3, 4, 3, 3)},
            r"body\.0\.weight \[3, 4, 3, 3\] for \[3, 1, 3, 3\]",
        ),
        (lambda own: own | {"head.bias": torch.tensor([0, torch.nan])}, r"head\.bias has values that are not finite"),
    ],
)
def test_what_does_not_fit_is_refused_in_words_and_changes_nothing(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], says: str
) -> None:
    ours, source = Net(), Net()
    before = {name: values.clone() for name, values in ours.state_dict().items()}
    with pytest.raises(CheckpointError, match=says):
        taken_over(tmp_path, ours, change(source.state_dict()))
    assert equal(ours, before)


def test_every_tensor_of_another_shape_is_named_up_to_five(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"body\.0\.bias \[4\] for \[3\].*body\.1\.running_mean \[4\] for \[3\] and 1 more$"
    ):
        taken_over(tmp_path, Net(width=3), Net(width=4).state_dict())


@pytest.mark.parametrize(
    "content", [b"", b"no model", b"PK\x03\x04", b"\x80\x02K\x01.", b"\x09" + b"\x00" * 7 + b'{"a":1']
)
def test_what_is_no_checkpoint_is_said_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cut short|other things than tensors"):
        read_checkpoint(tmp_path / "file")


@pytest.mark.parametrize("save", [torch.save, save_file])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, save: Callable[[object, Path], None]) -> None:
    save(Net().state_dict(), tmp_path / "file")
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="cut short"):
        read_checkpoint(tmp_path / "file")


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pth cannot be read: No such file"):
        read_checkpoint(tmp_path / "nowhere.pth")


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"state_dict": Net().state_dict(), "extra": Trap()}, tmp_path / "file")
    with pytest.raises(CheckpointError, match="runs nothing of a file"):
        read_checkpoint(tmp_path / "file")
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_prints_without_its_values(tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "file")
    assert "tensor" not in repr(read_checkpoint(tmp_path / "file"))


def test_a_file_is_found_by_its_digest_whatever_its_name(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "one")
    save_file({"a": torch.zeros(2)}, tmp_path / "two.bin")
    (tmp_path / "folder").mkdir()
    digest = hashlib.sha256((tmp_path / "two.bin").read_bytes()).hexdigest()
    assert find_checkpoint(tmp_path, digest) == tmp_path / "two.bin"
    assert read_checkpoint(tmp_path / "two.bin").digest == digest == digest_of(tmp_path / "two.bin")
    with pytest.raises(
        CheckpointError, match=rf"SHA-256 {'0' * 64}; there is one \(\w{{12}}\.\.\.\), two\.bin \({digest[:12]}"
    ):
        find_checkpoint(tmp_path, "0" * 64)
    with pytest.raises(CheckpointError, match=r"there is no file\. Ask for the file"):
        find_checkpoint(tmp_path / "missing", digest)


def test_a_changed_file_gets_its_new_digest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    assert digest_of(path) == hashlib.sha256(b"before").hexdigest()
    path.write_bytes(b"afterwards")
    assert digest_of(path) == hashlib.sha256(b"afterwards").hexdigest()


def test_taking_over_leaves_gradients_and_training_possible(tmp_path: Path) -> None:
    ours = Net()
    load_checkpoint(ours, Checkpoint(tmp_path, "", Net().state_dict()))
    loss = functional.cross_entropy(ours.head(ours.body(torch.rand(2, 1, 3, 3)).flatten(1)), torch.tensor([0, 1]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())
