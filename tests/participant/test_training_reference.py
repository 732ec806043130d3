"""A plain round on a CPU is what a plain loop over the same batches gives, bit for bit, draws of dropout included."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_volumes import first_model, recipe, silent, trainer
from torch import nn
from torch.nn import functional

from crypto.layout import Layout
from models.flatten import Vector, load_vector, to_vector
from models.recipe import Recipe
from models.registry import build
from participant.data.dataset import CaseDataset
from participant.optimise import seed_of
from participant.terms import RoundTerms


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def reference(made: Recipe, cases: CaseDataset, base: Vector, layout: Layout, number: int) -> tuple[Vector, float]:
    """What training was before it could do anything else: one device, whole batches, no checkpoints."""
    network = build(made)
    load_vector(network, layout, base)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = optimizer_of(made, network)
    network.train()
    seed, losses, batch = seed_of(0, "round", number), [], made.training.batch
    torch.manual_seed(seed)
    for epoch in range(made.training.local_epochs):
        cases.set_epoch(seed_of(seed, epoch))
        torch.empty((), dtype=torch.int64).random_()  # which torch's DataLoader drew
        order = torch.randperm(len(cases), generator=torch.Generator().manual_seed(seed_of(seed, epoch))).tolist()
        for chosen in (order[start : start + batch] for start in range(0, len(order) - 1, batch)):
            inputs, labels = zip(*(cases[index] for index in chosen), strict=True)
            optimizer.zero_grad()
            given = torch.stack(inputs).contiguous(memory_format=torch.channels_last_3d)
            loss = functional.cross_entropy(network(given), torch.tensor(labels))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
    return to_vector(network, layout), math.fsum(losses) / len(losses)


def optimizer_of(made: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    if made.training.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), lr=made.training.lr)
    return torch.optim.SGD(network.parameters(), lr=made.training.lr, momentum=0.9)


@pytest.mark.parametrize("optimizer", [{"training__momentum": 0.9}, {"training__optimizer": "adam"}])
def test_a_plain_round_is_a_plain_loop_bit_for_bit(site: Path, tmp_path: Path, optimizer: dict[str, Any]) -> None:
    plain = {"training__momentum": 0.0, "training__weight_decay": 0.0, "training__no_decay_on_norm_and_bias": False}
    made = recipe(**plain | optimizer, network__options__stem_drop=0.1, training__local_epochs=2)
    base, layout = first_model(made)
    agent = trainer(made, site, tmp_path)
    result = agent.train(base, layout, RoundTerms(3), silent)
    (cases,) = agent.cases.training.parts
    vector, loss = reference(made, cases, base, layout, 3)
    np.testing.assert_array_equal(result.vector, vector)
    assert result.loss == loss
