"""A researcher's own network in a Python file.

Foreign code runs on a site's machine only because its operator put the file there: a recipe names it with its SHA-256,
and no part of Pleura sends or fetches one. How to write one: docs/own-networks.md.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


class OwnNetworkError(ValueError):
    """A network's file that is not there, is another one, or does not run."""


def builder_from(folder: Path, file: str, digest: str, name: str) -> Callable[..., Any]:
    """What the file `file` in `folder` calls `name`: a function or a class, for `models.registry.build`.

    Raises:
        OwnNetworkError: no such file, another SHA-256 than `digest` (hex), code that fails, or nothing of that name.
    """
    path = folder / file
    try:
        source = path.read_bytes()
    except OSError as error:
        raise OwnNetworkError(f"{path} cannot be read: {error.strerror}") from error
    found = hashlib.sha256(source).hexdigest()
    if found != digest:
        raise OwnNetworkError(f"{path} is another file than the recipe's: its SHA-256 is {found}, not {digest}")
    builder: Callable[..., Any] | None = getattr(_run(path, source, digest), name, None)
    if not callable(builder):
        raise OwnNetworkError(f"{path} defines no class or function {name!r}, which network.name asks for")
    return builder


def _run(path: Path, source: bytes, digest: str) -> ModuleType:
    """The file's module. The very bytes that were checked are run, not what the path holds by then."""
    module = ModuleType(f"pleura_own_{digest[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and annotations look their module up there
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102  (the operator's own choice, see above)
    except Exception as error:
        del sys.modules[module.__name__]
        raise OwnNetworkError(f"{path} does not run: {type(error).__name__}: {error}") from error
    return module
