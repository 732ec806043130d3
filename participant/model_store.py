"""Global models on this site's disk, by digest."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from crypto.layout import Layout
from participant.client import Client
from participant.files import sync_folder
from participant.policy import Refused

_KEPT: Final = 4  # models; older ones can be fetched again


class ModelStore:
    """Fetches each model once and keeps the latest few."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()

    def fetch(self, client: Client, digest: str) -> Path:
        """The model's file, whose bytes have this digest.

        Raises:
            WrongDigest: the coordinator sent other bytes.
        """
        file = self._folder / f"{digest}.safetensors"
        with self._lock:
            if not file.is_file():
                partial = file.with_suffix(".partial")
                client.download_model(digest, partial)
                partial.replace(file)
                sync_folder(self._folder)
                self._prune()
        return file

    def vector(self, client: Client, digest: str, layout: Layout) -> NDArray[np.float32]:
        """The model's shared values in the layout's order, float32 [layout.size].

        Raises:
            WrongDigest: the coordinator sent other bytes.
            Refused: it is no model of this layout.
        """
        try:
            tensors = load_file(self.fetch(client, digest))
        except SafetensorError as error:
            raise Refused("model-unfit", f"the base model {digest[:12]}... is no safetensors file") from error
        vector = np.empty(layout.size, np.float32)
        for tensor, place in layout.slices():
            values = tensors.pop(tensor.name, None)
            if values is None or values.shape != tensor.shape or values.dtype != np.float32:
                raise Refused("model-unfit", f"the base model lacks {tensor.name} as float32 {list(tensor.shape)}")
            vector[place] = values.ravel()
        if tensors or not np.isfinite(vector).all():
            raise Refused("model-unfit", "the base model has tensors beyond its layout, or values that are no numbers")
        return vector

    def _prune(self) -> None:
        files = sorted(self._folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
        for file in files[:-_KEPT]:
            file.unlink()
