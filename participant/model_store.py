"""Global models on this site's disk, by digest.

models/DIGEST.safetensors         fetched from the coordinator
models/STUDY/DIGEST.safetensors   held by the study's members only: derived here, or passed on by a member
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from crypto.layout import Layout
from participant.client import Client
from participant.files import sync_folder, write_whole
from participant.policy import Refused

_KEPT: Final = 4  # models in a folder; older ones can be fetched, or asked for, again


class ModelStore:
    """Fetches each model once and keeps the few used last; of what only members hold, the few of each study."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()

    def keep(self, study: UUID, digest: str, data: bytes) -> Path:
        """Store a model that only the study's members hold. It is on the disk when this returns."""
        folder = self._folder / str(study)
        with self._lock:
            folder.mkdir(mode=0o700, exist_ok=True)
            write_whole(folder / f"{digest}.safetensors", data)
            _prune(folder)
        return folder / f"{digest}.safetensors"

    def holds(self, digest: str) -> bool:
        """Whether the model is here."""
        return self._found(digest) is not None

    def fetch(self, client: Client, digest: str) -> Path:
        """The model's file, whose bytes have this digest: the one at hand, or else the coordinator's.

        Raises:
            WrongDigest: the coordinator sent other bytes.
        """
        with self._lock:
            file = self._found(digest)
            if file is None:
                file = self._folder / f"{digest}.safetensors"
                partial = file.with_suffix(".partial")
                client.download_model(digest, partial)
                partial.replace(file)
                sync_folder(self._folder)
                _prune(self._folder)
            file.touch()  # what is used stays: rounds that come to nothing leave models too
        return file

    def vector(self, client: Client, digest: str, layout: Layout) -> NDArray[np.float32]:
        """The model's shared values in the layout's order, float32 [layout.size].

        Raises:
            WrongDigest: the coordinator sent other bytes.
            Refused: it is no model of this layout.
        """
        try:
            with safe_open(self.fetch(client, digest), framework="numpy") as file:
                _check_header(file, layout)
                vector = np.empty(layout.size, np.float32)
                for tensor, place in layout.slices():
                    vector[place] = file.get_tensor(tensor.name).ravel()
        except SafetensorError as error:
            raise Refused("model-unfit", f"the base model {digest[:12]}... is no safetensors file") from error
        if not np.isfinite(vector).all():
            raise Refused("model-unfit", "the base model has values that are no numbers")
        return vector

    def _found(self, digest: str) -> Path | None:
        name = f"{digest}.safetensors"
        files = (self._folder / name, *self._folder.glob(f"*/{name}"))
        return next((file for file in files if file.is_file()), None)


def _prune(folder: Path) -> None:
    files = sorted(folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
    for file in files[:-_KEPT]:
        file.unlink()


def _check_header(file: Any, layout: Layout) -> None:
    """Before any memory is taken: the layout is the coordinator's word, and may be of any size."""
    names = set(file.keys())
    for tensor in layout.tensors:
        header = file.get_slice(tensor.name) if tensor.name in names else None
        if header is None or header.get_dtype() != "F32" or tuple(header.get_shape()) != tensor.shape:
            raise Refused("model-unfit", f"the base model lacks {tensor.name} as float32 {list(tensor.shape)}")
    if len(names) != len(layout.tensors):
        raise Refused("model-unfit", "the base model has tensors beyond its layout")
