"""What stays at the sites through whole encrypted rounds: SCAFFOLD's control variates, FedBN's norms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from small_volumes import recipe, write_site

from models.first_model import first_model
from models.flatten import controls, read_model, save_model
from simulation.engine import Spec, run
from simulation.federation import Hospital


def test_the_shared_variate_is_the_mean_of_the_sites_own_and_their_norms_are_theirs(tmp_path: Path) -> None:
    """The mean of what clipping held back at the sites is still to come, and part of the account."""
    torch.set_num_threads(1)
    made = recipe(
        network__local=["stem.1.*"],
        training__momentum=0.0,
        training__local_steps=2,
        federation__scaffold=True,
        federation__rounds=3,
        federation__minimum_contributors=3,
    )
    first = first_model(made, 1)
    save_model(tmp_path / "first.safetensors", first.vector, first.layout, made)
    hospitals = [
        Hospital(name, write_site(tmp_path / "data" / name, counts, seed))
        for seed, (name, counts) in enumerate({"north": (5, 3, 1), "south": (1, 5, 3), "west": (3, 1, 5)}.items())
    ]
    spec = Spec(made, tmp_path / "first.safetensors", hospitals, "lwe-ckks", "open", seed=5, rounds=3, threads=1)
    federated = run(spec, tmp_path / "run", lambda done: None)
    homes = tmp_path / "run" / "sites"
    states = [load_file(file) for file in sorted(homes.rglob("local/*/local-state.safetensors"))]
    residuals = [np.load(file) for file in sorted(homes.rglob("residuals/*.npy"))]
    assert (len(states), len(residuals)) == (3, 3)
    model = read_model(federated.models[3])
    assert not [tensor.name for tensor in model.layout.tensors if "stem.1" in tensor.name]
    assert not torch.equal(states[0]["stem.1.weight"], states[1]["stem.1.weight"])
    for name, place in controls(model.layout):
        own = np.mean([state[f"control/{name}"].numpy().ravel() for state in states], axis=0)
        held_back = np.mean([residual[place] for residual in residuals], axis=0)
        np.testing.assert_allclose(model.vector[place] + held_back, own, atol=1e-4)
    assert max(state["control/head.5.weight"].abs().max() for state in states) > 0.01
