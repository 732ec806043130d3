"""What precision and memory format cost on this machine: a training step of a recipe's network, float32 against bf16.

Four ways, step after step in turn, so that whatever else the machine does slows all of them: medians of seconds a step.
Each way's loss after the same steps is printed beside, as a speed-up that does not train is none. Prints one JSON line
a recipe. Run it on an idle machine, from the repository root:

    python -m benchmarks.precision ucadi fl-cxr-resnet18 --batch 4 --steps 7
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from lightning_fabric import Fabric

from crypto.parallel import cores
from models.recipe import Recipe, load_recipe
from models.registry import build
from participant.optimise import Precision, optimizer_for, weighted_loss

WAYS: dict[str, tuple[Precision, bool]] = {
    "float32, contiguous": ("32-true", False),
    "float32, channels last": ("32-true", True),
    "bf16, contiguous": ("bf16-mixed", False),
    "bf16, channels last": ("bf16-mixed", True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--batch", type=int, default=4, help="cases in a step")
    parser.add_argument("--steps", type=int, default=7, help="timed steps of each way, after one that warms up")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in given.recipes:
        recipe = load_recipe(name).overridden({"network.pretrained": None})
        figures = measure(recipe, given.device, given.batch, given.steps)
        machine = f"{platform.processor() or platform.machine()}, torch {torch.__version__}"
        head = {"recipe": name, "batch": given.batch, "threads": given.threads, "machine": machine}
        print(json.dumps(head | {"ways": figures}), flush=True)


def measure(recipe: Recipe, device: str, batch: int, steps: int) -> dict[str, dict[str, float]]:
    """Each way's median seconds a step, and its loss at the last one."""
    ways = {name: _step(recipe, device, batch, *way) for name, way in WAYS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    losses = dict.fromkeys(ways, 0.0)
    for number in range(steps + 1):
        for name, step in ways.items():
            start = time.perf_counter()
            losses[name] = step()
            seconds[name].append(time.perf_counter() - start)
        print(f"{recipe.name}: step {number} of {steps}", file=sys.stderr, flush=True)
    del ways
    gc.collect()
    return {
        name: {"seconds": round(median(times[1:]), 3), "loss": round(losses[name], 4)}
        for name, times in seconds.items()
    }


def _step(recipe: Recipe, device: str, batch: int, precision: Precision, last: bool) -> Callable[[], float]:
    """A training step on one batch of noise, the same for every way; it gives its loss."""
    torch.manual_seed(0)
    fabric = Fabric(accelerator=device, devices=1, precision=precision)
    network = build(recipe)
    channels_last = torch.channels_last_3d if recipe.input.modality == "ct" else torch.channels_last
    memory_format = channels_last if last else torch.contiguous_format
    network.to(memory_format=memory_format)  # type: ignore[call-overload]  # missing in torch's stubs
    model, optimizer = fabric.setup(network, optimizer_for(network, recipe.training, recipe.training.lr))
    model.train()
    inputs = torch.randn(batch, recipe.input.channels, *recipe.input.size).to(fabric.device)
    inputs = inputs.contiguous(memory_format=memory_format)
    labels = (torch.arange(batch) % len(recipe.network.classes)).to(fabric.device)

    def step() -> float:
        optimizer.zero_grad()
        loss = weighted_loss(model(inputs).float(), labels, None)
        fabric.backward(loss)
        optimizer.step()
        return loss.item()

    return step


if __name__ == "__main__":
    main()
