"""Models at hand: what they are called, and which cannot be used."""

from __future__ import annotations

import shutil
from pathlib import Path

import agent_pages as visits
import lit_scans as lit
import numpy as np
import pytest
import torch

from models.flatten import read_model, to_vector
from participant.database import Database
from participant.diagnosis.models import given_file, kept_files, load, recipe_of
from participant.policy import Refused
from participant.settings import Home


def keep(home: Home, seed: int, begins: int | None) -> None:
    """A model as the agent keeps it; round `begins` began with it."""
    path = visits.write_model(home.path / "made.safetensors", seed)
    digest = given_file(path).digest
    shutil.move(path, home.models / f"{digest}.safetensors")
    if begins is not None:
        record, study = Database(home.record), str(visits.STUDY)
        record._write("INSERT INTO acceptances VALUES (?, ?, 1, ?, 0)", study, begins, f"plan {begins}")
        record._write("INSERT INTO ballots VALUES (?, ?, 1, ?, ?, '[]', 0)", study, begins, f"ballot {begins}", digest)
        record.close()


def test_models_are_called_by_study_and_round_the_newest_first(tmp_path: Path) -> None:
    home = visits.agents_home(tmp_path / "home")
    for seed, begins in enumerate((2, 1, 5)):
        keep(home, seed, begins)
    keep(home, 9, None)
    titles = [file.title for file in kept_files(home)]
    assert titles[1:] == ["lungs, after round 4", "lungs, after round 1", "lungs, first model"]
    assert titles[0].startswith("model ")
    assert {file.study for file in kept_files(home)} == {visits.STUDY, None}


def test_a_loaded_model_is_the_files(tmp_path: Path) -> None:
    path = visits.write_model(tmp_path / "m.safetensors", 4)
    saved, model = read_model(path), load(given_file(path))
    assert np.array_equal(to_vector(model.network, saved.layout), saved.vector)
    assert not model.network.training
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    before = torch.random.get_rng_state()
    load(given_file(path))
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_cannot_be_used_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no model")
    with pytest.raises(Refused, match="broken cannot be used here"):
        load(given_file(tmp_path / "broken.safetensors"))
    assert recipe_of(tmp_path / "broken.safetensors") is None
    own = lit.RECIPE.overridden({"preprocessing.statistics": "site"})
    path = visits.write_model(tmp_path / "own.safetensors", 1, own)
    with pytest.raises(Refused, match="each site's own cases, and there are none here"):
        load(given_file(path))
