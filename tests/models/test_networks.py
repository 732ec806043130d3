"""Networks: sizes, forms, and that each learns."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

from models import registry
from models.covidnet import CovidNet
from models.densenet3d import DenseNet3d
from models.flatten import study_layout
from models.intermittent_cnn import IntermittentCnn
from models.recipe import Recipe, available, load_recipe

# Of torchvision's networks at 1,000 classes and three channels its documentation states the parameters. Ours have a
# head for fewer classes, and the first convolution's filters have one slice instead of three.
COUNTS = {
    "resnet18": 11_689_512 - 997 * (512 + 1) - 2 * 64 * 7 * 7,
    "resnext50": 25_028_904 - 997 * (2048 + 1) - 2 * 64 * 7 * 7,
    "mobilenetv2": 3_504_872 - 997 * (1280 + 1) - 2 * 32 * 3 * 3,
    "densenet121": 7_978_856 - 998 * (1024 + 1) - 2 * 64 * 7 * 7,
}
VGG16 = 138_357_544  # with its own head of 4096, 4096 and 1000
SMALL = {
    "resnet18": (1, 32, 32),
    "resnext50": (1, 32, 32),
    "mobilenetv2": (1, 32, 32),
    "densenet121": (1, 32, 32),
    "vgg16": (1, 32, 32),
    "covidnet": (1, 32, 32),
    "intermittent-cnn": (1, 32, 32),
    "densenet3d": (1, 8, 16, 16),
}
RATES = {"covidnet": 3e-5, "vgg16": 2e-4, "mobilenetv2": 2e-3, "densenet3d": 1e-2}  # others: 1e-3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two processes may test at a time on two cores, and waiting for one another takes longer than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def using(network: str, size: tuple[int, ...] | None = None) -> Recipe:
    """The first recipe with that network, nothing frozen."""
    found = next(each for name in available() if (each := load_recipe(name)).network.name == network)
    changes = {"network.frozen": []} | ({"input.size": list(size)} if size else {})
    return found.overridden(changes)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_torchvisions_networks_have_the_published_number_of_parameters(name: str) -> None:
    assert parameters(registry.build(using(name))) == COUNTS[name]


def test_densenet3d_has_the_published_number_of_parameters() -> None:
    network = registry.build(load_recipe("ucadi"))
    assert parameters(network) == 726_972
    # One more than the 14 3D convolutions that follow it.
    assert sum(isinstance(module, nn.Conv3d) for module in network.modules()) == 15
    # Three grades instead of four classes, from 120 channels.
    assert parameters(registry.build(load_recipe("ucadi-severity"))) == 726_972 - (120 + 1)


def test_vgg16_scores_tell_films_apart_before_training() -> None:
    """It has no norms: a start that shrinks what goes through leaves scores near zero, and nothing is learnt."""
    torch.manual_seed(1)
    network = registry.build(load_recipe("vgg16-transfer-all")).eval()
    films = torch.rand(8, 1, 64, 64)
    with torch.no_grad():
        kept = network.features(films).square().mean() / films.square().mean()
    assert 0.2 < float(kept) < 20


def test_vgg16_has_the_published_convolutions_and_the_papers_head() -> None:
    network = registry.build(load_recipe("vgg16-transfer"))
    own_head = (7 * 7 * 512 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
    papers_head = (7 * 7 * 512 + 1) * 1024 + (1024 + 1) * 1024 + (1024 + 1) * 3
    assert parameters(network) == VGG16 - own_head - 2 * 64 * 3 * 3 + papers_head
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert trained == papers_head == study_layout(network, load_recipe("vgg16-transfer")).size


def test_the_intermittent_cnn_has_as_many_parameters_as_its_keras_original() -> None:
    network = registry.build(load_recipe("intermittent-cnn"))
    kept = 2 * (32 + 64 + 64 + 128 + 256)  # Keras counts the running means and variances
    assert parameters(network) == 1_246_401 - kept
    assert study_layout(network, load_recipe("intermittent-cnn")).size == 1_246_401


def pepx(channels: int, width: int) -> int:
    """Weights of its five convolutions, and two for each channel of a batch norm."""
    low, high = channels // 2, 3 * channels // 4
    weights = channels * low + low * high + 9 * high + high * low + low * width
    return weights + 2 * (low + high + high + low + width)


def test_covidnet_has_the_parameters_of_its_blocks() -> None:
    stages = [(56, 56, 3), (56, 112, 4), (112, 216, 6), (216, 424, 3)]
    count = 7 * 7 * 56 + 2 * 56
    for before, width, blocks in stages:
        count += before * width + 2 * width  # around the stage
        count += pepx(before, width) + (blocks - 1) * pepx(width, width)
    count += (424 * 7 * 7 + 1) * 512 + (512 + 1) * 3
    network = registry.build(load_recipe("fl-cxr-covidnet"))
    assert parameters(network) == count == 12_067_195
    depthwise = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert len(depthwise) == 3 + 4 + 6 + 3
    assert all(m.kernel_size == (3, 3) and m.groups == m.in_channels == m.out_channels for m in depthwise)


def test_covidnets_and_the_cnns_maps_are_as_large_as_described_at_the_published_sizes() -> None:
    with torch.inference_mode():
        network = CovidNet(3).eval()
        assert network.stages(network.stem(torch.zeros(1, 1, 224, 224))).shape == (1, 424, 7, 7)
        assert IntermittentCnn(2).eval().features(torch.zeros(1, 1, 150, 150)).shape == (1, 256, 5, 5)


def test_a_covidnet_block_sees_the_sum_of_all_before_it() -> None:
    stage = CovidNet(3).stages[2].double().eval()
    features = torch.rand(1, 56, 4, 4, dtype=torch.float64)
    outputs = [stage.around(features), stage.first(features)]
    for block in stage.others:
        outputs.append(block(torch.stack(outputs).sum(dim=0)))
    torch.testing.assert_close(stage(features), torch.stack(outputs).sum(dim=0))
    assert len(outputs) == 1 + 4


def test_two_scores_of_one_logit_are_its_sigmoid() -> None:
    network = IntermittentCnn(2).eval().double()
    scores = network(torch.randn(3, 1, 40, 40, dtype=torch.float64))
    logit = scores[:, 1] - scores[:, 0]
    torch.testing.assert_close(scores.softmax(dim=1)[:, 1], logit.sigmoid())
    labels = torch.tensor([0, 1, 1])
    ours = functional.cross_entropy(scores, labels)
    torch.testing.assert_close(ours, functional.binary_cross_entropy_with_logits(logit, labels.double()))


def test_the_cnn_tells_two_classes_apart_and_no_more() -> None:
    with pytest.raises(ValueError, match="two classes apart, not 3"):
        IntermittentCnn(3)


def test_resnet18_travels_with_its_buffers_and_without_its_batch_counts() -> None:
    layout = study_layout(registry.build(load_recipe("fl-cxr-resnet18")), load_recipe("fl-cxr-resnet18"))
    assert layout.size == 11_181_379
    assert not [tensor for tensor in layout.tensors if "num_batches" in tensor.name]
    assert {tensor.kind for tensor in layout.tensors} == {"parameter", "buffer"}


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("resnet18", "conv1"),
        ("mobilenetv2", "features.0.0"),
        ("densenet121", "features.conv0"),
        ("vgg16", "features.0"),
    ],
)
def test_one_grey_channel_does_what_three_equal_ones_do(name: str, first: str) -> None:
    grey = registry.build(using(name, SMALL[name][1:])).eval()
    colour = registry.build(using(name, SMALL[name][1:]).overridden({"input.channels": 3})).eval()
    values = colour.state_dict()
    values[f"{first}.weight"] = values[f"{first}.weight"].sum(dim=1, keepdim=True)
    grey.load_state_dict(values)
    image = torch.rand(2, *SMALL[name])
    with torch.inference_mode():
        torch.testing.assert_close(grey(image), colour(image.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_a_tiny_batch_is_learnt_by_heart(name: str) -> None:
    torch.manual_seed(0)
    wanted = using(name, SMALL[name][1:])
    network = registry.build(wanted)
    classes = len(wanted.network.classes)
    inputs, labels = torch.randn(classes, *SMALL[name]), torch.arange(classes)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATES.get(name, 1e-3))
    losses: list[float] = []
    while (not losses or losses[-1] > 0.1) and len(losses) < 40:
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < 0.5 < losses[0], losses


def test_densenet3d_trains_in_bf16_with_channels_last() -> None:
    network = DenseNet3d(4).to(memory_format=torch.channels_last_3d)
    volumes = torch.randn(2, 1, 16, 32, 32).to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        scores = network(volumes)
    assert scores.dtype == torch.bfloat16
    functional.cross_entropy(scores.float(), torch.tensor([0, 3])).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("shape", [(1, 1, 3, 32, 32), (1, 32, 32), (1, 1, 32, 32)])
def test_densenet3d_says_what_it_takes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="sides of 4 or more"):
        DenseNet3d(2)(torch.zeros(shape))


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
