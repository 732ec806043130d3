"""Where every key is drawn: from the operating system, except in a simulation that has to be repeatable.

`drawing_from` is for `simulation` alone: an import contract keeps agents and the coordinator from this module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Source = Callable[[int], bytes]

_source: ContextVar[Source] = ContextVar("source of random bytes", default=os.urandom)


def random_bytes(size: int) -> bytes:
    """`size` bytes that nobody else knows or has had before."""
    return _source.get()(size)


@contextmanager
def drawing_from(source: Source) -> Iterator[None]:
    """Within it, in this thread, keys come from `source`: whoever knows what it gives can open what is sealed."""
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)
