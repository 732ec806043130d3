"""What a recipe may ask of a site's training beyond plain steps: each option shown to do what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import torch
from safetensors.torch import load, save_file
from small_volumes import first_model, recipe, silent, trainer, write_site

from crypto.layout import Layout
from models.checkpoints import digest_of
from models.flatten import Vector, controls
from models.recipe_problems import RecipeError
from models.registry import build
from participant.case_data import CaseData
from participant.documents import Study
from participant.optimise import frozen_norms
from participant.settings import Config, Home
from participant.setup import image_trainer
from participant.terms import RoundTerms

SCAFFOLD: dict[str, Any] = {"training__momentum": 0.0, "federation__scaffold": True, "training__local_steps": 3}
NORMS = ["stem.1.*", "stages.*.0.*", "head.0.*"]  # not all of them; that does not matter here


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def places(layout: Layout) -> dict[str, slice]:
    return {tensor.name: place for tensor, place in layout.slices()}


def test_the_proximal_term_holds_a_round_back_the_more_the_larger_it_is(site: Path, tmp_path: Path) -> None:
    moved = []
    for mu in (0.0, 1.0, 10.0):
        made = recipe(federation__proximal=mu, training__local_epochs=2, training__momentum=0.0)
        vector, layout = first_model(made)
        trained = trainer(made, site, tmp_path / str(mu)).train(vector, layout, RoundTerms(1), silent).vector
        parameters = np.concatenate([np.full(t.size, t.kind == "parameter") for t in layout.tensors])
        moved.append(np.linalg.norm((trained - vector)[parameters]))
    assert moved[0] > 1.1 * moved[1] > 1.1**2 * moved[2] > 0


def test_scaffolds_variates_are_those_of_its_rule_and_stay_out_of_a_round_that_is_lost(
    site: Path, tmp_path: Path
) -> None:
    made = recipe(**SCAFFOLD)
    base, layout = first_model(made)
    rng, place = np.random.default_rng(5), places(layout)
    for _, at in controls(layout):
        base[at] = rng.normal(0, 0.01, at.stop - at.start)
    agent, own = trainer(made, site, tmp_path), np.zeros_like(base)
    for number in (1, 2):
        result = agent.train(base, layout, RoundTerms(number, share=0.4), silent)
        again = agent.train(base, layout, RoundTerms(number, share=0.4), silent)
        np.testing.assert_array_equal(again.vector, result.vector)
        state = load(result.state)
        for name, at in controls(layout):
            x, y = (each[place[name]].astype(np.float64) for each in (base, result.vector))
            expected = own[at] - base[at] + (x - y) / (3 * made.training.lr)
            np.testing.assert_allclose(state[f"control/{name}"].numpy().ravel(), expected, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(result.vector[at] - base[at], 0.4 * (expected - own[at]), rtol=1e-3, atol=1e-6)
            own[at] = expected
        agent.keep(result)
        base = result.vector


def test_scaffolds_first_step_follows_the_gradient_less_the_sites_own_and_plus_the_shared(
    site: Path, tmp_path: Path
) -> None:
    made = recipe(**SCAFFOLD | {"training__local_steps": 1})
    base, layout = first_model(made)
    place, agent = places(layout), trainer(made, site, tmp_path)
    plain = agent.train(base, layout, RoundTerms(1), silent).vector
    for _, at in controls(layout):
        base[at] = 0.5
    corrected = agent.train(base, layout, RoundTerms(1), silent).vector
    for name, _ in controls(layout):
        difference = corrected[place[name]] - plain[place[name]]
        np.testing.assert_allclose(difference, -made.training.lr * 0.5, rtol=1e-3, atol=1e-6)


def test_local_tensors_train_differ_and_never_leave(site: Path, tmp_path: Path) -> None:
    made = recipe(network__local=NORMS, training__local_steps=3)
    base, layout = first_model(made)
    network = build(made)
    local = {name for name, value in network.state_dict().items() if name not in places(layout)}
    assert {"stem.1.weight", "stem.1.running_mean", "head.0.bias"} <= local
    other = write_site(tmp_path / "other", (2, 8, 2), seed=4)
    agents = [trainer(made, folder, tmp_path / f"home {n}") for n, folder in enumerate((site, other))]
    before = agents[0].evaluate(base, layout, silent)
    kept = []
    for agent in agents:
        result = agent.train(base, layout, RoundTerms(1), silent)
        assert result.vector.size == layout.size
        kept.append(load(result.state))
        assert set(kept[-1]) == local
        agent.keep(result)
    assert not torch.equal(kept[0]["stem.1.weight"], kept[1]["stem.1.weight"])
    assert not torch.equal(kept[0]["stem.1.weight"], torch.ones(4)), "it did not train"
    assert agents[0].evaluate(base, layout, silent) != before, "evaluation does not use the site's own norms"


def test_what_is_local_starts_alike_at_every_site(site: Path, tmp_path: Path) -> None:
    made = recipe(network__local=["head.*"], training__local_steps=1, training__lr=1e-12)
    base, layout = first_model(made)
    states = []
    for number in (1, 2):
        torch.manual_seed(number)
        agent = trainer(made, site, tmp_path / str(number), seed=number)
        states.append(load(agent.train(base, layout, RoundTerms(1), silent).state))
    torch.testing.assert_close(states[0]["head.5.weight"], states[1]["head.5.weight"])


def test_what_is_frozen_is_not_even_kept_and_its_norms_keep_their_statistics(site: Path, tmp_path: Path) -> None:
    made = recipe(network__frozen=["stem.1.weight", "stem.1.bias"], training__local_steps=3)
    base, layout = first_model(made)
    place = places(layout)
    result = trainer(made, site, tmp_path).train(base, layout, RoundTerms(1), silent)
    for name in ("stem.1.running_mean", "stem.1.running_var"):
        np.testing.assert_array_equal(result.vector[place[name]], base[place[name]])
    name = "stages.0.0.layers.0.running_mean"
    assert not np.array_equal(result.vector[place[name]], base[place[name]])
    whole = recipe(network__frozen=["stem.*"], training__local_steps=1)
    state = load(trainer(whole, site, tmp_path).train(*first_model(whole), RoundTerms(1), silent).state)
    assert not [name for name in state if name.startswith("stem.")]


def test_a_site_takes_what_is_frozen_from_its_own_folder(site: Path, tmp_path: Path) -> None:
    torch.manual_seed(12)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    save_file(dict(build(recipe()).state_dict()), folder / "weights.safetensors")
    made = recipe(network__frozen=["stem.*"], network__pretrained=digest_of(folder / "weights.safetensors"))
    study = Study.model_construct(id=UUID(int=1), name="study", recipe=made.to_json())
    started = first_model(made.overridden({"network.pretrained": None}))
    config = Config(name="north", coordinator="https://example.org", data=str(site))
    agent = image_trainer(Home(tmp_path), config)(study)
    found = agent.evaluate(*started, silent)
    stranger = image_trainer(Home(tmp_path / "elsewhere"), config)(study)
    with pytest.raises(RecipeError, match="no file in"):
        stranger.evaluate(*started, silent)
    without = trainer(made.overridden({"network.pretrained": None}), site, tmp_path / "state")
    assert without.evaluate(*started, silent) != found, "other frozen tensors, other scores"


def test_a_site_needs_no_file_of_what_travels_anyway(site: Path, tmp_path: Path) -> None:
    made = recipe(network__pretrained="ab" * 32)
    started = first_model(made.overridden({"network.pretrained": None}))
    assert trainer(made, site, tmp_path).evaluate(*started, silent)


def test_norms_are_frozen_whole_or_not() -> None:
    network = torch.nn.Sequential(
        torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2, affine=False), torch.nn.Conv2d(1, 1, 1)
    )
    assert list(frozen_norms(network, ["0.weight", "2.*"])) == []
    assert list(frozen_norms(network, ["0.weight", "0.bias"])) == [network[0]]
    assert list(frozen_norms(network, ["*"])) == [network[0], network[1]]


def test_the_folds_of_a_recipe_validate_each_case_once(site: Path, tmp_path: Path) -> None:
    made = recipe(evaluation__folds=4)
    folds = [CaseData.read(made, site, tmp_path, 0, fold) for fold in range(4)]
    paths = [{case.path for part in each.validation.parts for case in part.cases} for each in folds]
    assert sum(map(len, paths)) == len(set().union(*paths)) == 30 - len(folds[0].test)
    for each in folds:
        assert len(each.training) + len(each.validation) + len(each.test) == 30
        assert min(each.validation.class_counts) == 2
    with pytest.raises(ValueError, match=r"no evaluation\.folds"):
        CaseData.read(recipe(), site, tmp_path, 0, 1)


def test_a_plateaus_rate_shortens_the_steps(site: Path, tmp_path: Path) -> None:
    made = recipe(training__local_steps=1, training__momentum=0.0, training__weight_decay=0.0)
    vector, layout = first_model(made)
    agent = trainer(made, site, tmp_path)

    def moved(rate: float) -> Vector:
        trained = agent.train(vector, layout, RoundTerms(1, rate=rate), silent).vector
        return (trained - vector)[places(layout)["head.5.bias"]]

    np.testing.assert_allclose(moved(0.25), 0.25 * moved(1.0), rtol=1e-3)
