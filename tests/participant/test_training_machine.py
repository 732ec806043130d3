"""What a site trains on: precision and memory format, what is written down, TensorBoard, settings."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import torch
from small_volumes import first_model, recipe, silent, trainer

from models.recipe import load_recipe
from participant.documents import Study
from participant.optimise import precision_for
from participant.progress import Lines
from participant.settings import Config, ConfigError, Home, dump, load
from participant.setup import image_trainer
from participant.terms import RoundTerms
from participant.training import Machine, Trainer
from participant.training.machine import Hardware
from participant.training_files import LastRound

CPU = torch.device("cpu")
DEEP = {"input__size": [12, 16, 16]}
PROMISE = {"max_grad_norm": 1.0, "noise_multiplier": 1.0, "delta": 1e-3}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_a_sites_wish_counts_where_the_recipe_leaves_precision_open() -> None:
    open_, strict = recipe(training__precision="auto", **DEEP), recipe(training__precision="32", **DEEP)
    assert precision_for(open_, CPU, "32") == "32-true"
    assert precision_for(open_, CPU, "bf16") == "bf16-mixed"
    assert precision_for(strict, CPU, "bf16") == "32-true"


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("ucadi", {}, torch.channels_last_3d),
        ("fl-cxr-resnet18", {}, torch.channels_last),
        ("ucadi", {"training.dp_sgd": PROMISE}, torch.contiguous_format),
    ],
)
def test_memory_formats_are_those_that_were_fastest(
    name: str, changes: dict[str, object], expected: torch.memory_format
) -> None:
    made = load_recipe(name).overridden({"network.pretrained": None, **changes})
    assert Hardware.chosen(made, Machine(device="cpu")).memory_format == expected


def test_the_memory_format_changes_no_result_but_by_rounding(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(training__local_steps=2)
    base, layout = first_model(made)
    usual = trainer(made, site, tmp_path / "a").train(base, layout, RoundTerms(1), silent)
    monkeypatch.setattr("participant.training.machine._memory_format", lambda recipe: torch.contiguous_format)
    agent = trainer(made, site, tmp_path / "b")
    assert agent._hardware.memory_format == torch.contiguous_format
    np.testing.assert_allclose(
        agent.train(base, layout, RoundTerms(1), silent).vector, usual.vector, rtol=1e-3, atol=1e-4
    )


def test_what_was_trained_on_is_written_down_and_said(
    site: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = recipe(training__local_steps=1)
    cases = trainer(made, site, tmp_path / "cases").cases
    agent = Trainer(made, cases, tmp_path, 0, machine=Machine(device="cpu", micro_batch=3), study="a study")
    with caplog.at_level(logging.INFO):
        agent.train(*first_model(made), RoundTerms(7), silent)
    last = LastRound.read(tmp_path)
    assert last is not None
    assert str(last).startswith("round 7 trained on cpu in 32-true, channels_last_3d, 3 cases at once, ")
    assert str(last) in caplog.text
    (tmp_path / "last-round.json").write_text('{"round": 7, "another": 1}')
    assert LastRound.read(tmp_path) is None
    assert LastRound.read(tmp_path / "elsewhere") is None


def a_study(made_json: dict[str, object]) -> Study:
    return Study.model_construct(id=UUID(int=1), name="study", recipe=made_json)


def test_losses_are_written_for_tensorboard_if_asked(site: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    made = recipe(training__local_steps=3)
    base, layout = first_model(made)
    given = {"name": "north", "coordinator": "https://example.org", "data": str(site)}
    agent = image_trainer(Home(tmp_path), Config(**given, tensorboard=True))(a_study(made.to_json()))
    results = [agent.train(base, layout, RoundTerms(number), silent) for number in (1, 2)]
    found = accumulator.EventAccumulator(str(Home(tmp_path).tensorboard(UUID(int=1))))
    found.Reload()
    assert [event.step for event in found.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.value for event in found.Scalars("round/loss")] == pytest.approx([each.loss for each in results])
    image_trainer(Home(tmp_path / "b"), Config(**given))(a_study(made.to_json())).train(
        base, layout, RoundTerms(1), silent
    )
    assert not (tmp_path / "b" / "tensorboard").exists()


def test_tensorboard_that_is_not_installed_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    config = Config(name="north", coordinator="https://example.org", data="/cases", tensorboard=True)
    with pytest.raises(ConfigError, match=r"tensorboard: .*pip install tensorboard"):
        image_trainer(Home(tmp_path), config)


def test_the_settings_of_training_load_and_are_strict(tmp_path: Path) -> None:
    config = Config(name="n", coordinator="https://e.org", data="/c", devices=2, micro_batch=8, precision="32")
    path = tmp_path / "config.toml"
    path.write_text(dump(config))
    assert load(Config, path) == config
    faulty = path.read_text().replace("devices = 2", "devices = 0").replace("micro_batch = 8", "micro_batsh = 8")
    path.write_text(faulty.replace("tensorboard = false", 'tensorboard = "yes"'))
    with pytest.raises(ConfigError) as caught:
        load(Config, path)
    for words in ("devices: ", "tensorboard: ", "Did you mean micro_batch?"):
        assert words in str(caught.value)


def test_the_time_left_goes_by_the_steps_made_since_the_agent_began_again(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    with caplog.at_level(logging.INFO), Lines(lambda: now).work("training", lambda: None) as advance:
        for done in (81, 82, 83):  # eighty were made before
            now += 10.0
            advance(done, 100)
    assert "82 of 100, about 180 s left" in caplog.text
    assert "83 of 100, about 170 s left" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here")
def test_a_gpu_trains_what_a_cpu_does(site: Path, tmp_path: Path) -> None:
    made = recipe(training__local_steps=3)
    base, layout = first_model(made)
    cases = trainer(made, site, tmp_path / "cases").cases

    def trained(device: str, most: int | None = None) -> np.ndarray:
        machine = Machine(device=device, micro_batch=most)
        agent = Trainer(made, cases, tmp_path / device, 0, machine=machine, study="a study")
        return agent.train(base, layout, RoundTerms(1), silent).vector

    np.testing.assert_allclose(trained("cuda"), trained("cpu"), rtol=1e-2, atol=1e-3)
    assert np.isfinite(trained("cuda", 2)).all()
