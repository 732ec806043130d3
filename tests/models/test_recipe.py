"""Recipes: the shipped ones, overriding, and that every problem is reported at once with key, file and fix."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.recipe import Recipe, available, load_recipe
from models.recipe_problems import RecipeError

OTHERWISE_ABSENT = {"plateau": {"patience": 5}, "early_stopping": {}}


def refusal(value: object) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_json(value, "mine.toml")
    error = caught.value
    assert str(error).startswith("mine.toml: ")
    assert all(str(problem) in str(error) and problem.fix for problem in error.problems)
    return error


def changed(key: str, value: object) -> dict[str, object]:
    """The ucadi recipe's JSON, with something frozen, with one dotted key set, without any checks."""
    recipe = load_recipe("ucadi").to_json()
    recipe["network"]["frozen"] = ["features.*"]
    place = recipe
    *sections, last = key.split(".")
    for section in sections:
        place[section] = place[section] or OTHERWISE_ABSENT[section]
        place = place[section]
    place[last] = value
    return recipe


def test_the_shipped_recipes_load_and_keep_their_value() -> None:
    assert {"fl-cxr-resnet18", "ucadi"} <= set(available())
    for name in available():
        recipe = load_recipe(name)
        assert recipe.name == name
        again = Recipe.from_json(recipe.to_json())
        assert again == recipe
        assert again.digest == recipe.digest
        assert hash(again) == hash(recipe)
    assert len({load_recipe(name).digest for name in available()}) == len(available())


def test_ucadi_is_as_published() -> None:
    recipe = load_recipe("ucadi")
    training = recipe.training
    assert recipe.network.classes == ("healthy", "covid-19", "other-viral", "bacterial")
    assert training.class_weights == (0.2, 0.2, 0.4, 0.2)
    assert (training.optimizer, training.batch, training.lr, training.momentum) == ("sgd", 35, 0.01, 0.9)
    assert (training.weight_decay, training.no_decay_on_norm_and_bias, training.local_epochs) == (5e-4, True, 1)
    assert (recipe.federation.rounds, recipe.federation.weighting) == (200, "equal")
    sampling = recipe.preprocessing.ct
    assert sampling is not None
    assert [sampling.step_for(slices) for slices in (16, 80, 81, 160, 161, 600)] == [1, 1, 2, 2, 5, 5]


def test_fl_cxr_is_as_published() -> None:
    recipe = load_recipe("fl-cxr-resnet18")
    assert recipe.input.size == (224, 224)
    assert (recipe.training.optimizer, recipe.training.lr, recipe.training.weight_decay) == ("adam", 2e-5, 1e-7)
    assert (recipe.training.batch, recipe.training.local_epochs) == (10, 3)
    federation = recipe.federation
    assert (federation.rounds, federation.fraction, federation.minimum_contributors) == (100, 0.4, 2)


def test_overriding_changes_what_it_names_and_the_digest() -> None:
    base = load_recipe("ucadi")
    changes = {
        "input.size": [16, 32, 32],
        "training.batch": 4,
        "training.class_weights": "balanced",
        "network.options.stem_drop": 0.0,
        "preprocessing.statistics": "site",
    }
    recipe = base.overridden(changes)
    assert recipe.input.size == (16, 32, 32)
    assert (recipe.training.batch, recipe.training.class_weights) == (4, "balanced")
    assert recipe.network.options["stem_drop"] == 0.0
    assert recipe.digest != base.digest
    assert recipe.overridden(_values_at(base, changes)) == base
    assert base == load_recipe("ucadi")


def _values_at(recipe: Recipe, keys: Iterable[str]) -> dict[str, object]:
    found = {}
    for key in keys:
        value = recipe.to_json()
        for part in key.split("."):
            value = value[part]
        found[key] = value
    return found


def test_an_override_of_an_unknown_key_names_it_the_nearest_keys_and_the_file() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("ucadi").overridden({"training.bath": 4, "rounds": 3, "training.lr": 0.1, "colour": 1})
    problems = {problem.key: problem for problem in caught.value.problems}
    assert set(problems) == {"training.bath", "rounds", "colour"}
    assert "training.batch" in problems["training.bath"].fix
    assert "federation.rounds" in problems["rounds"].fix
    assert "training" in problems["colour"].fix
    assert "ucadi.toml" in str(caught.value)


def test_every_problem_is_reported_at_once() -> None:
    value = load_recipe("ucadi").to_json()
    del value["federation"]
    value["training"] |= {"lr": -1, "batch": 1.5, "class_weights": "equal", "learning_rate": 0.1}
    value["input"]["size"] = [32, 32]
    value["preprocessing"]["ct"]["hu_window"] = [600, -1200]
    problems = {problem.key: problem for problem in refusal(value).problems}
    assert set(problems) == {
        "federation",
        "training.lr",
        "training.batch",
        "training.class_weights",
        "training.learning_rate",
        "input.size",
        "preprocessing.ct.hu_window",
    }
    assert problems["training.lr"].fix == "write a number above 0.0"
    assert "-1" in problems["training.lr"].what
    assert "'balanced' or 'none'" in problems["training.class_weights"].fix
    assert "training.lr" in problems["training.learning_rate"].fix


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [
        ("name", 3, "write a text in quotes"),
        ("input.modality", "mri", "write one of 'ct' or 'xray'"),
        ("input.channels", 2, "write one of 1 or 3"),
        ("input.size", [16, 32], "give 3 sides for ct, depth, height and width"),
        ("input.size", [16, 32, 0], "write 1 or more"),
        ("input.size", "16x32x32", "write a list in brackets"),
        ("network.classes", ["covid-19"], "write 2 or more of them"),
        ("network.classes", ["a", "b", "a", "c"], "name each once"),
        ("network.options", {"stem_drop": [1]}, "write a number"),
        ("preprocessing.ct", None, "add it, as the modality is ct"),
        ("preprocessing.ct.steps_up_to", [80], "one limit fewer than steps"),
        ("preprocessing.ct.steps_up_to", [160, 80], "in rising order"),
        ("preprocessing.mean", float("nan"), "write a finite number"),
        ("preprocessing.std", 0, "write a number above 0.0"),
        ("training", 3, "write a section"),
        ("training.batch", "4", "write a whole number"),
        ("training.batch", True, "write a whole number"),
        ("training.no_decay_on_norm_and_bias", 1, "write true or false"),
        ("training.class_weights", [0.5, 0.5], "give each class its weight"),
        ("training.class_weights", [0, 0, 0, 0], "at least one above 0"),
        ("training.optimizer", "adam", "leave it out, or use sgd"),
        ("training.augmentation.rotation", 181, "write 180.0 or less"),
        ("training.augmentation.crop", 0, "write a number above 0.0"),
        ("training.plateau", {"factor": 0.7, "patience": 5}, 'write schedule = "plateau"'),
        ("training.plateau.factor", 1.0, "write a number below 1.0"),
        ("training.early_stopping.patience", 0, "write 1 or more"),
        ("training.warmup_rounds", 200, "write fewer than federation.rounds"),
        ("network.local", ["features.norm0.*"], "let no tensor match both"),
        ("network.pretrained", "AB" * 32, "64 digits of 0-9 and a-f"),
        ("network.file", "../own.py", "without a folder"),
        ("federation.weighting", "median", "write one of 'samples', 'equal' or 'dynamic'"),
        ("federation.proximal", -0.1, "write 0.0 or more"),
        ("federation.server.optimizer", "adam", "write one of 'average', 'fedavgm', 'fedadam' or 'fedyogi'"),
        ("federation.server.tau", 0, "write a number above 0.0"),
        ("evaluation.folds", 1, "write 2 or more"),
        ("federation.fraction", 1.5, "write 1.0 or less"),
        ("federation.minimum_contributors", 1, "write 2 or more"),
        ("federation.n_max", 1 << 24, "write a number below 16777216"),
        ("evaluation.bins", 1, "write 2 or more"),
    ],
)
def test_one_wrong_value_is_one_problem_with_its_fix(key: str, value: object, fix: str) -> None:
    (problem,) = refusal(changed(key, value)).problems
    assert problem.key == ("training.momentum" if key == "training.optimizer" else key)
    assert fix in problem.fix


CONTRADICTIONS: list[tuple[str, dict[str, object], str, str]] = [
    ("ucadi", {"network.file": "own.py"}, "network.file_sha256", "give both"),
    ("ucadi", {"network.file_sha256": "ab" * 32}, "network.file", "give both"),
    ("ucadi", {"network.frozen": ["head.*"], "network.local": ["*"]}, "network.local", "let no tensor match both"),
    ("ucadi", {"training.schedule": "plateau"}, "training.plateau", "add its factor and patience"),
    ("ucadi", {"federation.weighting": "dynamic", "federation.n_max": 3}, "federation.n_max", "write 4 or more"),
    ("ucadi", {"federation.carry": True, "federation.server.lr": 0.5}, "federation.carry", "do not carry"),
    ("ucadi", {"federation.scaffold": True}, "training.momentum", "leave it out"),
    ("fl-cxr-resnet18", {"federation.scaffold": True, "federation.weighting": "equal"}, "training.optimizer", '"sgd"'),
]
PLAIN = {"training.momentum": 0.0, "federation.scaffold": True}
CONTRADICTIONS += [
    ("ucadi", PLAIN | {"federation.weighting": "samples"}, "federation.weighting", 'write "equal"'),
    ("ucadi", PLAIN | {"federation.proximal": 0.1}, "federation.proximal", "leave it out"),
    ("ucadi", PLAIN | {"federation.server.optimizer": "fedadam"}, "federation.server", "leave it out"),
    ("ucadi", PLAIN | {"federation.carry": True}, "federation.carry", "do not use both"),
]


@pytest.mark.parametrize(("name", "changes", "key", "fix"), CONTRADICTIONS)
def test_what_is_sound_alone_may_contradict_something_else(
    name: str, changes: dict[str, object], key: str, fix: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(name).overridden(changes)
    (problem,) = caught.value.problems
    assert problem.key == key
    assert fix in problem.fix


def test_what_belongs_together_is_taken() -> None:
    ucadi = load_recipe("ucadi")
    plateau = ucadi.overridden({"training.schedule": "plateau", "training.plateau": {"factor": 0.7, "patience": 5}})
    assert plateau.training.plateau is not None
    assert plateau.training.plateau.factor == 0.7
    assert ucadi.overridden(PLAIN).federation.scaffold
    local = ucadi.overridden({"network.frozen": ["stem.*"], "network.local": ["head.*"], "federation.carry": True})
    assert local.network.local == ("head.*",)


def test_what_older_recipes_lack_leaves_them_as_they_were() -> None:
    recipe = load_recipe("ucadi")
    assert (recipe.network.local, recipe.network.pretrained, recipe.network.file) == ((), None, None)
    training, federation = recipe.training, recipe.federation
    assert (training.plateau, training.early_stopping, training.warmup_rounds) == (None, None, 0)
    assert training.augmentation.crop is None
    assert (federation.proximal, federation.scaffold, federation.carry) == (0, False, False)
    assert (federation.server.optimizer, federation.server.lr) == ("average", 1)
    assert recipe.evaluation.folds is None


@pytest.mark.parametrize("key", ["learning_rate", "training.learning_rate"])
def test_a_key_is_found_by_its_initials_in_its_section_or_the_first(key: str) -> None:
    with pytest.raises(RecipeError, match=r"perhaps you meant training\.lr"):
        load_recipe("ucadi").overridden({key: 0.1})
    with pytest.raises(RecipeError, match=r"perhaps you meant federation\.server\.lr"):
        load_recipe("ucadi").overridden({"federation.server.learning_rate": 0.1})


def test_an_xray_recipe_has_no_ct_section() -> None:
    value = load_recipe("fl-cxr-resnet18").to_json()
    value["preprocessing"]["ct"] = load_recipe("ucadi").to_json()["preprocessing"]["ct"]
    (problem,) = refusal(value).problems
    assert (problem.key, problem.fix) == ("preprocessing.ct", "leave it out")


@pytest.mark.parametrize("value", [None, [], "ucadi", {}])
def test_what_is_no_recipe_at_all_is_refused_too(value: object) -> None:
    assert refusal(value).problems


def test_own_recipes_are_read_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    shipped = Path(__file__).parents[2] / "models/recipes/ucadi.toml"
    path.write_text(shipped.read_text().replace("batch = 35", "batch = 8"))
    assert load_recipe(path).training.batch == 8
    assert load_recipe(str(path)).file == str(path)
    path.write_text(path.read_text() + "\nbatch = 8")
    with pytest.raises(RecipeError, match=r"mine\.toml: 1 problem\n.*evaluation\.batch"):
        load_recipe(path)


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe", b"[a]\n[a]"])
def test_a_file_that_is_no_toml_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"mine\.toml: 1 problem\n.*no TOML"):
        load_recipe(path)


def test_a_recipe_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(RecipeError, match="perhaps you meant ucadi"):
        load_recipe("ucad")
    with pytest.raises(RecipeError, match=r"known are .*fl-cxr-resnet18, .*ucadi"):
        load_recipe("zzz")


def test_recipes_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load_recipe("ucadi").training.batch = 3
