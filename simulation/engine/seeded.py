"""Keys of updates and errors from a seed: for simulations that are compared bit for bit, and nothing else.

Whoever knows the seed can open every update. No other package may import `crypto.randomness`, which this stands on.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from crypto.randomness import drawing_from


@contextmanager
def seeded(seed: int, site: str, round_number: int, attempt: int) -> Iterator[None]:
    """Within it, in this thread, keys follow from these four alone: the same in whichever process a site works."""
    purpose = f"pleura/simulation/v1/{seed}/{round_number}/{attempt}/{site}".encode()
    numbers = itertools.count()

    def draw(size: int) -> bytes:
        return hashlib.shake_256(purpose + next(numbers).to_bytes(8)).digest(size)

    with drawing_from(draw):
        yield
