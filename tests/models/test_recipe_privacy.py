"""Recipes with differential privacy, and recipes without figures: what they may not be beside."""

from __future__ import annotations

from typing import Any

import pytest

from models.flatten import recipe_counts
from models.recipe import Recipe, available, load_recipe
from models.recipe_problems import RecipeError

PRIVATE: dict[str, Any] = {
    "privacy.clip": 1.5,
    "privacy.noise_multiplier": 1.0,
    "privacy.delta": 1e-5,
    "evaluation.metrics": "none",
    "federation.weighting": "equal",
}


def private(**changes: Any) -> Recipe:
    return load_recipe("ucadi").overridden(PRIVATE | {key.replace("__", "."): value for key, value in changes.items()})


def problems(**changes: Any) -> dict[str, str]:
    with pytest.raises(RecipeError) as caught:
        private(**changes)
    return {problem.key: str(problem) for problem in caught.value.problems}


def test_a_recipe_that_has_neither_says_nothing_of_them() -> None:
    for name in available():
        value = load_recipe(name).to_json()
        assert "privacy" not in value
        assert "metrics" not in value["evaluation"]


def test_a_private_recipe_comes_back_as_it_was() -> None:
    recipe = private()
    assert recipe.to_json()["privacy"] == {"clip": 1.5, "noise_multiplier": 1.0, "delta": 1e-5}
    assert Recipe.from_json(recipe.to_json()).digest == recipe.digest != load_recipe("ucadi").digest


def test_without_figures_the_layout_counts_nothing() -> None:
    assert recipe_counts(private()) == ()
    assert [field.name for field in recipe_counts(load_recipe("ucadi"))] == ["cases", "loss", "confusion", "scores"]


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"evaluation__metrics": "pooled"}, "evaluation.metrics", "pooled counts carry no noise"),
        ({"federation__weighting": "samples"}, "federation.weighting", "without noise"),
        ({"federation__carry": True}, "federation.carry", "again and again with the same noise"),
        ({"federation__scaffold": True}, "federation.scaffold", "share its clip"),
        ({"training__early_stopping": {"patience": 3}}, "training.early_stopping", "evaluation.metrics is none"),
        ({"privacy__clip": 1e6}, "privacy.clip", "65536.0 or less"),
        ({"privacy__noise_multiplier": 0.001}, "privacy.noise_multiplier", "0.01 or more"),
        ({"privacy__delta": 0.1}, "privacy.delta", "0.01 or less"),
    ],
)
def test_what_would_break_the_promise_is_refused(changes: dict[str, Any], key: str, words: str) -> None:
    assert words in problems(**changes)[key]


def test_an_evaluation_that_is_not_mentioned_pools_figures() -> None:
    value = load_recipe("ucadi").overridden({"federation.weighting": "equal"}).to_json()
    del value["evaluation"]
    with pytest.raises(RecipeError, match=r"evaluation\.metrics: pooled counts carry no noise"):
        Recipe.from_json(value | {"privacy": {"clip": 1.0, "noise_multiplier": 1.0, "delta": 1e-5}})


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"training.schedule": "plateau", "training.plateau": {"factor": 0.5, "patience": 2}}, "training.schedule"),
        ({"training.early_stopping": {"patience": 2}}, "training.early_stopping"),
        ({"federation.weighting": "dynamic"}, "federation.weighting"),
    ],
)
def test_nothing_goes_by_figures_that_are_not_there(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("ucadi").overridden(changes | {"evaluation.metrics": "none"})
    assert [problem.key for problem in caught.value.problems] == [key]
