"""What of a training stays at the site from round to round, as one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor

from models.flatten import CONTROL


@dataclass(frozen=True, slots=True)
class LocalState:
    """network: its local tensors and integer buffers. variates: SCAFFOLD's of this site, by parameter's name."""

    network: Mapping[str, Tensor] = field(default_factory=dict)
    variates: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> LocalState:
        """The kept one, or an empty one before the first round that counted."""
        tensors = load_file(path) if path.exists() else {}
        variates = {name.removeprefix(CONTROL): t for name, t in tensors.items() if name.startswith(CONTROL)}
        return cls({name: t for name, t in tensors.items() if not name.startswith(CONTROL)}, variates)

    def encode(self) -> bytes:
        """The file's content."""
        tensors = dict(self.network) | {CONTROL + name: value for name, value in self.variates.items()}
        return save({name: value.cpu().contiguous() for name, value in tensors.items()})
