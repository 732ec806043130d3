"""Models to look at a case with: those that the agent keeps, and files that a person names."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from crypto.canonical import parse, sha256
from crypto.errors import Malformed
from models.flatten import LayoutMismatch, load_local_state, load_vector, read_model
from models.recipe import Recipe
from models.recipe_problems import RecipeError
from models.registry import build
from participant.case_data import CaseData, input_settings
from participant.data.errors import DataError
from participant.data.preprocessing import Settings
from participant.ledger import Ledger, LedgerBroken
from participant.local_state import LocalState
from participant.optimise import seed_of
from participant.policy import Refused
from participant.sealed import LOCAL_STATE
from participant.settings import Home

GRADING = "-severity"  # how names of recipes end whose classes are grades of COVID-19, as ucadi-severity


@dataclass(frozen=True)
class ModelFile:
    """A model at hand. title: for people. digest: of the file. study: whose history it is of, if that is known."""

    path: Path
    title: str
    digest: str
    study: UUID | None = None


@dataclass(frozen=True, eq=False)
class Model:
    """A model that is ready to look. settings: how cases are prepared for it."""

    file: ModelFile
    recipe: Recipe
    network: nn.Module
    settings: Settings

    @property
    def classes(self) -> tuple[str, ...]:
        return self.recipe.network.classes

    @property
    def grades(self) -> bool:
        """Whether its classes are grades of severity rather than findings."""
        return grades(self.recipe)


def grades(recipe: Recipe) -> bool:
    return recipe.name.endswith(GRADING)


def recipe_of(path: Path) -> Recipe | None:
    """What a file's model was trained by, from its header alone; None if that cannot be read."""
    try:
        with safe_open(path, framework="numpy") as file:
            return Recipe.from_json(parse((file.metadata() or {})["recipe"].encode()), str(path))
    except (SafetensorError, KeyError, Malformed, RecipeError, OSError):
        return None


def given_file(path: Path) -> ModelFile:
    """A file that a person named.

    Raises:
        OSError: it cannot be read.
    """
    return ModelFile(path, path.stem, sha256(path.read_bytes()))


def kept_files(home: Home) -> list[ModelFile]:
    """The agent's own, the newest first; each is called by its study and the round that it came of."""
    names, rounds = _study_names(home), _rounds(home)
    files = sorted(home.models.glob("**/*.safetensors"), key=lambda file: file.stat().st_mtime, reverse=True)
    files.sort(key=lambda file: rounds[file.stem][1] if file.stem in rounds else math.inf, reverse=True)
    return [_kept(file, names, rounds) for file in files]


def load(file: ModelFile, home: Home | None = None, device: str = "auto") -> Model:
    """Build the network and put the file's values into it.

    Args:
        home: of the agent: what its recipe may need of this site's own files. None where there is none.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        Refused: the file is no model that can be used here; the words say why.
    """
    try:
        saved = read_model(file.path)
        with torch.random.fork_rng():
            torch.manual_seed(seed_of(0, "network", saved.recipe.digest))  # what is local begins as in training
            network = build(
                _without_needless_checkpoint(saved.recipe), folder=None if home is None else home.checkpoints
            )
        if home is not None and file.study is not None:
            load_local_state(network, LocalState.read(home.local_state(file.study) / LOCAL_STATE).network)
        load_vector(network, saved.layout, saved.vector)
        settings = _settings(saved.recipe, home)
    except (LayoutMismatch, RecipeError, DataError, OSError) as error:
        raise Refused("model-unusable", f"{file.title} cannot be used here: {error}") from error
    network.requires_grad_(False).eval().to(_device(device))
    return Model(file, saved.recipe, network, settings)


def _without_needless_checkpoint(recipe: Recipe) -> Recipe:
    return recipe if recipe.network.needs_checkpoint else recipe.overridden({"network.pretrained": None})


def _settings(recipe: Recipe, home: Home | None) -> Settings:
    """The recipe's; or with mean and deviation of this site's own training cases, where it says so."""
    settings = input_settings(recipe)
    if recipe.preprocessing.statistics == "recipe":
        return settings
    if home is None:
        raise LayoutMismatch("its recipe normalises by each site's own cases, and there are none here")
    config = home.load_config()
    own = CaseData.read(recipe, home.resolved(config.data), home.resolved(config.cache), config.seed)
    mean, std = own.training.parts[0].settings.mean, own.training.parts[0].settings.std
    return replace(settings, mean=mean, std=std)


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return torch.device(wanted)


def _kept(file: Path, names: Mapping[str, str], rounds: Mapping[str, tuple[str, int]]) -> ModelFile:
    digest = file.stem
    study, number = rounds.get(digest, (None, 0))
    if study is None:
        return ModelFile(file, f"model {digest[:12]}", digest)
    begun = f"after round {number - 1}" if number > 1 else "first model"
    return ModelFile(file, f"{names.get(study, study[:8])}, {begun}", digest, UUID(study))


def _study_names(home: Home) -> dict[str, str]:
    names = {}
    with suppress(LedgerBroken):  # the status page says so; a case can be looked at all the same
        for entry in Ledger(home.ledger).entries():
            if entry["event"] == "joined":
                names[str(entry["study"])] = str(entry["name"])
    return names


def _rounds(home: Home) -> dict[str, tuple[str, int]]:
    """By model: the study, and the first round that begins with it. Read only: the agent writes there meanwhile."""
    if not home.record.is_file():
        return {}
    with closing(sqlite3.connect(f"{home.record.as_uri()}?mode=ro", uri=True, timeout=5)) as record:
        rows: Iterable[tuple[Any, ...]] = record.execute(
            "SELECT model, study, min(round) FROM (SELECT base_model AS model, study, round FROM ballots "
            "UNION ALL SELECT model, study, round + 1 FROM heads) GROUP BY model"
        )
        return {str(model): (str(study), int(number)) for model, study, number in rows}
