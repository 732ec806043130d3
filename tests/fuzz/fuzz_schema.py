"""Valid values of any pydantic model, from its JSON schema, so that no message kind has to be listed by hand."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final
from uuid import UUID

_TRIES: Final = 5000
# Letters of a class, so many or any number; or a text that neither begins nor ends with what its first class excludes.
_PATTERN: Final = re.compile(r"\^?(?:(\[\^[^]]+\])\(\[\^[^]]+\]\*\[\^[^]]+\]\)\?|(\[[^]]+\])(?:\{(\d+)\}|[+*]))\$?")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LETTERS: Final = "".join(map(chr, range(33, 127)))


def valid(
    schema: Mapping[str, Any],
    accepts: Callable[[Any], object],
    refusals: tuple[type[Exception], ...],
    chance: random.Random,
    known: Mapping[str, Any],
) -> Any:
    """A value that `accepts` takes. What no schema says, such as two fields that must agree, is found by trying.

    Args:
        known: values to put under these keys wherever the schema says no more than "an object".
    """
    for _ in range(_TRIES):
        value = _Maker(schema.get("$defs", {}), chance, known).make(schema)
        try:
            accepts(value)
        except refusals as error:
            last = error
        else:
            return value
    raise AssertionError(f"no valid value found for {schema.get('title')}: {last}")


class _Maker:
    def __init__(self, definitions: Mapping[str, Any], chance: random.Random, known: Mapping[str, Any]) -> None:
        self._definitions, self._chance, self._known = definitions, chance, known

    def make(self, schema: Mapping[str, Any]) -> Any:
        if "$ref" in schema:
            return self.make(self._definitions[schema["$ref"].rpartition("/")[2]])
        for word in ("default", "const"):
            if word in schema:
                return schema[word]
        if "enum" in schema:
            return self._chance.choice(schema["enum"])
        if "anyOf" in schema:
            return self.make(self._chance.choice(schema["anyOf"]))
        return getattr(self, f"_{schema['type']}")(schema)

    def _null(self, _: Mapping[str, Any]) -> None:
        return None

    def _boolean(self, _: Mapping[str, Any]) -> bool:
        return self._chance.random() < 0.5

    def _integer(self, schema: Mapping[str, Any]) -> int:
        low = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
        high = schema.get("maximum", schema.get("exclusiveMaximum", 2**53) - 1)
        return self._chance.choice(
            (low, high, self._chance.randint(low, min(high, low + 5)), self._chance.randint(low, high))
        )

    def _number(self, schema: Mapping[str, Any]) -> float:
        return self._chance.choice((1.0, 0.5, 64.0, 1.25e-3))

    def _string(self, schema: Mapping[str, Any]) -> str:
        if schema.get("format") == "uuid":
            return str(UUID(int=self._chance.getrandbits(128)))
        if "pattern" not in schema:
            letters, length = _LETTERS, None
        else:
            found = _PATTERN.fullmatch(schema["pattern"])
            assert found, f"fuzz_schema.py does not know how to write {schema['pattern']}"
            letters = "".join(letter for letter in _LETTERS if re.match(found[1] or found[2], letter))
            length = int(found[3]) if found[3] else None
        size = length or self._chance.randint(schema.get("minLength", 1), min(40, schema.get("maxLength", 40)))
        return "".join(self._chance.choices(letters, k=size))

    def _array(self, schema: Mapping[str, Any]) -> list[Any]:
        if "prefixItems" in schema:
            return [self.make(item) for item in schema["prefixItems"]]
        least = schema.get("minItems", 0)
        size = self._chance.randint(least, min(least + 3, schema.get("maxItems", least + 3)))
        values = [self.make(schema["items"]) for _ in range(min(size, 64))]
        return _ordered(values) if size <= 64 else [self._chance.choice(values) for _ in range(size)]

    def _object(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        if "properties" in schema:
            return self._fields(schema["properties"], schema.get("required", ()))
        if isinstance(schema.get("additionalProperties"), dict):
            return {self._string({"format": "uuid"}): self.make(schema["additionalProperties"]) for _ in range(2)}
        return {}

    def _fields(self, properties: Mapping[str, Any], required: Collection[str]) -> dict[str, Any]:
        """What need not be there is at times spelled out as its default, at times left out, at times another value."""
        made = {}
        for name, schema in properties.items():
            form = "as declared" if name in required else self._chance.choice(("as declared", "left out", "another"))
            if form != "left out":
                other = {word: value for word, value in schema.items() if word != "default"}
                made[name] = self._named(name, other if form == "another" else schema)
        return made

    def _named(self, name: str, schema: Mapping[str, Any]) -> Any:
        return self._known[name] if name in self._known and schema.get("type") == "object" else self.make(schema)


def _ordered(values: list[Any]) -> list[Any]:
    """Sorted by the first id in each, where every value has one: as all lists of sites are."""
    ids = [_UUID.search(json.dumps(value)) for value in values]
    if not all(ids):
        return values
    return [values[place] for place in sorted(range(len(values)), key=lambda place: ids[place][0])]  # type: ignore[index]
