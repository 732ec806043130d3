"""What is wrong with a recipe, all of it at once: each problem with its key, what is wrong and how to put it right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_FIXES = {
    "missing": "add it",
    "literal_error": "write one of {expected}",
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
    "float_type": "write a number",
    "bool_type": "write true or false",
    "string_type": "write a text in quotes",
    "string_too_short": "write a text",
    "tuple_type": "write a list in brackets",
    "dict_type": "write a section",
    "model_type": "write a section",
    "greater_than": "write a number above {gt}",
    "greater_than_equal": "write {ge} or more",
    "less_than": "write a number below {lt}",
    "less_than_equal": "write {le} or less",
    "too_short": "write {min_length} or more of them",
    "too_long": "write {max_length} or fewer of them",
    "finite_number": "write a finite number",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong thing. `key` is dotted, as `overridden` takes it."""

    key: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.key}: {self.what}. Fix: {self.fix}."


class RecipeError(ValueError):
    """A recipe that cannot be used; `problems` are all that was found in `file`."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n  ".join([f"{file}: {count}", *map(str, self.problems)]))


def problems_of(error: ValidationError, recipe: type[BaseModel]) -> list[Problem]:
    """Pydantic's findings, one a key: of a value that may be one of several things, it reports each that it is not."""
    known = keys_of(recipe)
    found: dict[str, Problem] = {}
    for details in error.errors(include_url=False):
        problem = _problem(details, recipe, known)
        former = found.get(problem.key)
        if former is None:
            found[problem.key] = problem
        elif problem.fix not in former.fix:
            found[problem.key] = Problem(former.key, former.what, f"{former.fix}, or {problem.fix}")
    return list(found.values())


def keys_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted keys of every section and value that a recipe may have."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        section = _section(field.annotation)
        if section is not None:
            keys += keys_of(section, f"{prefix}{name}.")
    return keys


def unknown(key: str, known: Sequence[str]) -> Problem:
    """The problem of a key that no recipe has."""
    parent = key.rpartition(".")[0]
    siblings = [other for other in known if other.rpartition(".")[0] == parent] or list(known)
    return Problem(key, "no recipe has this key", f"{nearest(key, known, siblings)}; or leave it out")


def nearest(word: str, known: Sequence[str], otherwise: Sequence[str] | None = None) -> str:
    """What was probably meant; `otherwise` (everything known) where nothing comes near."""
    section, _, last = word.rpartition(".")
    by_last: dict[str, str] = {}
    for key in sorted(known, key=lambda key: key.rpartition(".")[0] != section):  # its own section's before the others'
        by_last.setdefault(key.rpartition(".")[2], key)
    initials = "".join(part[:1] for part in last.split("_"))
    close = [by_last[initials]] if initials in by_last else []
    close += [by_last[name] for name in difflib.get_close_matches(last, list(by_last), n=2, cutoff=0.75)]
    # A wrong key resembles its own section, which helps nobody.
    close += difflib.get_close_matches(word, [key for key in known if not word.startswith(f"{key}.")], n=1)
    if close:
        return f"perhaps you meant {' or '.join(dict.fromkeys(close))}"
    return f"known are {', '.join(known if otherwise is None else otherwise)}"


def _problem(details: ErrorDetails, recipe: type[BaseModel], known: Sequence[str]) -> Problem:
    key = _key(details["loc"], recipe)
    if details["type"] == "extra_forbidden":
        return unknown(key, known)
    what = "it is missing" if details["type"] == "missing" else f"{_short(details['input'])} does not fit"
    pattern = _FIXES.get(details["type"])
    return Problem(key, what, pattern.format(**details.get("ctx", {})) if pattern else details["msg"])


def _key(location: tuple[int | str, ...], recipe: type[BaseModel]) -> str:
    """The dotted key of an error, without what pydantic adds to it: members of a union, positions in a list."""
    parts: list[str] = []
    section: type[BaseModel] | None = recipe
    for part in map(str, location):
        if section is None:
            break
        parts.append(part)
        field = section.model_fields.get(part)
        section = _section(field.annotation) if field else None
    return ".".join(parts) or "recipe"


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model behind an annotation such as `Section` or `Section | None`."""
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
