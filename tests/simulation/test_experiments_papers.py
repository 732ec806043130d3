"""The papers' experiments as they are described: arms, recipes, tables, epochs a round."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from models.flatten import study_layout
from models.registry import build
from simulation.experiments.describe import ScaleName
from simulation.experiments.papers import EXPERIMENTS
from simulation.experiments.runner import recipe_of


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("scale", ["small", "results", "full"])
def test_the_papers_experiments_hang_together(name: str, scale: str) -> None:
    experiment = EXPERIMENTS[name](scale)  # type: ignore[arg-type]
    arms = {arm.name: arm for arm in experiment.arms}
    assert len(arms) == len(experiment.arms)
    for arm in arms.values():
        recipe = recipe_of(arm)  # raises where a key or value does not fit
        assert arm.data in experiment.data
        assert set(arm.needs) <= set(arms)
        if arm.kind == "federated":
            sites = len(arm.members) or experiment.data[arm.data].sites
            assert round(sites * recipe.federation.fraction) >= recipe.federation.minimum_contributors
            assert arm.folds is None
    figures = [cell for table in experiment.tables for _, row in table.rows for cell in row if cell]
    named = {cell.arm for cell in figures} | {cell.against for cell in figures}
    named |= {arm for group in experiment.groups for arm in (*group.arms, group.control or "")}
    named |= {arm for sweep in experiment.sweeps for arm in sweep.arms.values()}
    assert named - {""} <= set(arms)
    for table in experiment.tables:
        assert all(len(row) == len(table.columns) for _, row in table.rows), table.key
    for parts in (experiment.tables, experiment.groups, experiment.sweeps):
        keys = [part.key for part in parts]
        assert len(keys) == len(set(keys))


@pytest.mark.parametrize("name", ["chexnet-transfer", "vgg16-transfer"])
def test_pretraining_hands_on_all_but_its_head(name: str) -> None:
    experiment = EXPERIMENTS[name]("small")
    arm = experiment.arm("pretraining")
    layout = study_layout(build(recipe_of(arm)), recipe_of(arm))
    left_out = [t.name for t in layout.tensors if any(fnmatchcase(t.name, pattern) for pattern in arm.without)]
    assert left_out
    assert not any(tensor.startswith("features.") for tensor in left_out)
    others = [t.name for t in layout.tensors if t.name not in left_out]
    assert all(tensor.startswith("features.") for tensor in others)


@pytest.mark.parametrize(("scale", "epochs", "words"), [
    ("small", (1, 1, 1), "one epoch everywhere"),
    ("results", (1, 3, 3), "centralised one epoch of all films, federated three epochs"),
    ("full", (3, 3, 3), "three epochs everywhere"),
])  # fmt: skip
def test_fl_cxr_says_what_a_round_is(scale: ScaleName, epochs: tuple[int, ...], words: str) -> None:
    experiment = EXPERIMENTS["fl-cxr"](scale)
    arms = [experiment.arm(f"resnet18-{kind}") for kind in ("centralised", "federated", "alone")]
    assert tuple(recipe_of(arm).training.local_epochs for arm in arms) == epochs
    assert words in experiment.lead[-1]


def test_at_full_scale_recipes_are_as_published() -> None:
    for name, describe in EXPERIMENTS.items():
        for arm in describe("full").arms:
            assert not {"input.size", "training.lr"} & set(arm.changes) or arm.name.startswith("rate-"), (
                name,
                arm.name,
            )
