"""What is fuzzed: one byte format and whoever reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fuzz_mutations import Tape

Spoil = Callable[[bytes, Tape, Sequence[bytes]], bytes]


@dataclass(frozen=True)
class Format:
    """A byte format.

    Attributes:
        name: of the format and its reader.
        seeds: valid bytes; the reader takes each of them.
        read: the reader. It may raise one of `refusals`; an AssertionError says that it took what it should not have.
        refusals: the documented errors.
        spoil: how seeds are changed.
        weight: its share of the cases, against 10 for most.
    """

    name: str
    seeds: tuple[bytes, ...]
    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    spoil: Spoil
    weight: int = 10
