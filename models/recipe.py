"""Recipes: everything that defines a training, as strict, immutable values read from TOML.

Two sites that hold the same `digest` train the same network on inputs of the same form with the same settings.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Self

from pydantic import PrivateAttr, SerializerFunctionWrapHandler, ValidationError, model_serializer

from crypto.canonical import digest
from models.recipe_contradictions import contradictions
from models.recipe_problems import Problem, RecipeError, keys_of, nearest, problems_of, unknown
from models.recipe_sections import (
    Evaluation,
    Federation,
    Input,
    Network,
    Preprocessing,
    Privacy,
    Section,
    Text,
    Training,
)

_SECTIONS: Final[Mapping[str, type[Section]]] = {
    "network": Network,
    "input": Input,
    "preprocessing": Preprocessing,
    "training": Training,
    "federation": Federation,
    "evaluation": Evaluation,
    "privacy": Privacy,
}


class Recipe(Section):
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
    privacy: Privacy | None = None
    _file: str = PrivateAttr("recipe")

    @property
    def file(self) -> str:
        """Where it was read from, for messages; no part of its value."""
        return self._file

    @model_serializer(mode="wrap")
    def _without_what_says_nothing(self, plainly: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A recipe of before there was the section keeps its digest."""
        plain: dict[str, Any] = plainly(self)
        return {name: value for name, value in plain.items() if (name, value) != ("privacy", None)}

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
                place[section] = place.get(section) or {}
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
    return problems + list(contradictions(_sections(value)))


def _sections(value: Any) -> dict[str, Section]:
    """The sections that are sound in themselves, so that contradictions show beside problems elsewhere."""
    sound: dict[str, Section] = {}
    for name, section in _SECTIONS.items():
        try:
            sound[name] = section.model_validate_json(_dumped(value.get(name, {})))
        except (ValidationError, AttributeError):
            continue
    return sound
