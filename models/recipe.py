"""Recipes: everything that defines a training, as strict, immutable values read from TOML.

Two sites that hold the same `digest` train the same network on inputs of the same form with the same settings.
"""

from __future__ import annotations

import json
import tomllib
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from crypto.canonical import digest
from crypto.parameters import COUNT_LIMIT, DEFAULT_MINIMUM_CONTRIBUTORS, K_LIMIT
from models.recipe_problems import Problem, RecipeError, keys_of, nearest, problems_of, unknown

Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Whole = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Network(_Section):
    """Which network, for which classes. Tensors whose names match a shell pattern in `frozen` never travel."""

    name: Text
    classes: tuple[Text, ...] = Field(min_length=2)
    frozen: tuple[Text, ...] = ()
    options: dict[str, bool | int | float | str] = {}


class Input(_Section):
    """What the network is given: `size` is (depth, height, width) for CT and (height, width) for X-rays, in voxels."""

    modality: Literal["ct", "xray"]
    size: tuple[Whole, ...] = Field(min_length=2, max_length=3)
    channels: Literal[1, 3] = 1


class CtSampling(_Section):
    """How a CT series becomes inputs: `subsets` stacks a case, each of every n-th slice from a random start."""

    hu_window: tuple[float, float]  # Hounsfield units outside are clipped
    subsets: Whole
    steps: tuple[Whole, ...] = Field(min_length=1)
    steps_up_to: tuple[Whole, ...]  # the most slices for which each step but the last holds

    def step_for(self, slices: int) -> int:
        """Which step a series of that many slices is sampled with."""
        return self.steps[bisect_left(self.steps_up_to, slices)]


class Preprocessing(_Section):
    """From intensities to inputs of mean 0 and deviation 1. CT: in Hounsfield units; X-rays: in [0, 1], black to white.

    With `statistics = "site"` each site takes the mean and deviation of its own training cases instead of these.
    """

    statistics: Literal["recipe", "site"] = "recipe"
    mean: float
    std: Positive
    ct: CtSampling | None = None


class Augmentation(_Section):
    """Random changes of training inputs: left-right flip, rotation in plane in degrees, shift as a share of a side."""

    flip: bool = False
    rotation: float = Field(default=0.0, ge=0, le=180)
    shift: float = Field(default=0.0, ge=0, lt=1)


class Training(_Section):
    """One site's part of a round. `local_steps`, where given, replaces `local_epochs`.

    `schedule` "cosine" lets the learning rate fall to nearly nothing over the recipe's `federation.rounds`.
    """

    optimizer: Literal["sgd", "adam"]
    lr: Positive
    schedule: Literal["constant", "cosine"] = "constant"
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: NotNegative = 0.0
    no_decay_on_norm_and_bias: bool = False
    batch: Whole
    local_epochs: Whole = 1
    local_steps: Whole | None = None
    class_weights: Literal["balanced", "none"] | tuple[NotNegative, ...] = "none"
    precision: Literal["auto", "32", "bf16"] = "auto"
    augmentation: Augmentation = Augmentation()


class Federation(_Section):
    """The study around the rounds. A site counts for min(cases, n_max) / n_max, or for 1 with equal weighting."""

    rounds: Whole
    weighting: Literal["samples", "equal"]
    fraction: float = Field(default=1.0, gt=0, le=1)  # of the sites, drawn anew each round
    minimum_contributors: int = Field(default=DEFAULT_MINIMUM_CONTRIBUTORS, ge=2, le=K_LIMIT)
    n_max: int = Field(ge=1, lt=COUNT_LIMIT)


class Evaluation(_Section):
    """`bins`: of the score histograms that are pooled for AUC and ROC curves."""

    bins: int = Field(default=64, ge=2, le=1024)


class Recipe(_Section):
    """A whole recipe. Made by `load_recipe`, `from_json` and `overridden`, which report every problem at once."""

    name: Text
    description: Text
    source: Text
    network: Network
    input: Input
    preprocessing: Preprocessing
    training: Training
    federation: Federation
    evaluation: Evaluation = Evaluation()
    _file: str = PrivateAttr("recipe")

    @property
    def file(self) -> str:
        """Where it was read from, for messages; no part of its value."""
        return self._file

    @property
    def digest(self) -> str:
        return digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, value: Any, file: str = "recipe") -> Self:
        """Inverse of `to_json`; also takes what a TOML file holds.

        Raises:
            RecipeError: with every problem found.
        """
        if problems := _problems(value):
            raise RecipeError(file, problems)
        recipe = cls.model_validate_json(_dumped(value))
        recipe._file = file
        return recipe

    def overridden(self, changes: Mapping[str, Any]) -> Self:
        """The recipe with other values under dotted keys, such as {"input.size": [16, 32, 32]}.

        Raises:
            RecipeError: a key that no recipe has, or a value that does not fit.
        """
        known = keys_of(type(self))
        strange = [key for key in changes if key not in known and not key.startswith("network.options.")]
        if strange:
            raise RecipeError(self.file, [unknown(key, known) for key in strange])
        value = self.to_json()
        for key, change in changes.items():
            *sections, last = key.split(".")
            place = value
            for section in sections:
                place[section] = place[section] or {}
                place = place[section]
            place[last] = change
        return self.from_json(value, self.file)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.digest)


def available() -> list[str]:
    """The recipes that come with Pleura."""
    return sorted(entry.name.removesuffix(".toml") for entry in _shipped().iterdir() if entry.name.endswith(".toml"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe that comes with Pleura, by name, or any other, by the path of its TOML file.

    Raises:
        RecipeError: nothing of that name, no TOML, or no recipe; with every problem found.
    """
    name = str(name_or_path)
    shipped = name in available()
    source = _shipped() / f"{name}.toml" if shipped else Path(name)
    file = source.name if shipped else name
    try:
        return Recipe.from_json(tomllib.loads(source.read_text(encoding="utf-8")), file)
    except OSError as error:
        fix = f"{nearest(name, available())}, or give the path of a TOML file"
        raise RecipeError(name, [Problem("recipe", f"there is none of this name ({error.strerror})", fix)]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(file, [Problem("recipe", f"this is no TOML: {error}", "correct it there")]) from error


def _shipped() -> Any:
    return files("models") / "recipes"


def _dumped(value: Any) -> str:
    """As JSON, where strict validation still takes a list for a tuple. What JSON lacks (dates) becomes text."""
    return json.dumps(value, default=str)


def _problems(value: Any) -> list[Problem]:
    try:
        Recipe.model_validate_json(_dumped(value))
        problems = []
    except ValidationError as error:
        problems = problems_of(error, Recipe)
    return problems + list(_contradictions(_sections(value)))


def _sections(value: Any) -> dict[str, Any]:
    """The sections that are sound in themselves, so that contradictions show beside problems elsewhere."""
    sound: dict[str, Any] = {}
    kinds: dict[str, type[BaseModel]] = {
        "network": Network,
        "input": Input,
        "preprocessing": Preprocessing,
        "training": Training,
    }
    for name, section in kinds.items():
        try:
            sound[name] = section.model_validate_json(_dumped(value[name]))
        except (ValidationError, LookupError, TypeError):
            continue
    return sound


def _contradictions(sections: Mapping[str, Any]) -> Iterator[Problem]:
    match sections:
        case {"network": Network(classes=classes)} if len(set(classes)) < len(classes):
            yield Problem("network.classes", "a class is named twice", "name each once")
    match sections:
        case {"input": Input(modality=modality, size=size)} if len(size) != (sides := 3 if modality == "ct" else 2):
            fix = f"give {sides} sides for {modality}, {'depth, ' if sides == 3 else ''}height and width"
            yield Problem("input.size", f"{list(size)} has {len(size)} sides", fix)
    match sections:
        case {"input": Input(modality="ct"), "preprocessing": Preprocessing(ct=None)}:
            yield Problem("preprocessing.ct", "it is missing", "add it, as the modality is ct")
        case {"input": Input(modality="xray"), "preprocessing": Preprocessing(ct=CtSampling())}:
            yield Problem("preprocessing.ct", "the modality is xray", "leave it out")
    match sections:
        case {"preprocessing": Preprocessing(ct=CtSampling() as ct)}:
            yield from _ct_contradictions(ct)
    match sections:
        case {"training": Training(class_weights=tuple(weights)), "network": Network(classes=classes)}:
            if len(weights) != len(classes) or not any(weights):
                what = f"{list(weights)} for {len(classes)} classes"
                yield Problem("training.class_weights", what, "give each class its weight, at least one above 0")
    match sections:
        case {"training": Training(optimizer="adam", momentum=momentum)} if momentum:
            yield Problem("training.momentum", "adam has none", "leave it out, or use sgd")


def _ct_contradictions(ct: CtSampling) -> Iterator[Problem]:
    if ct.hu_window[0] >= ct.hu_window[1]:
        yield Problem("preprocessing.ct.hu_window", f"{list(ct.hu_window)} is empty", "give the lower end first")
    limits = ct.steps_up_to
    if len(limits) != len(ct.steps) - 1 or list(limits) != sorted(set(limits)):
        what = f"{list(limits)} for {len(ct.steps)} steps"
        yield Problem("preprocessing.ct.steps_up_to", what, "give one limit fewer than steps, in rising order")
