"""Sites on a local Ray cluster of several processes. Skipped where Ray is not installed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crypto.layout import Layout, Tensor
from models.flatten import read_model, save_model
from models.pooled import count_fields
from models.recipe import load_recipe
from participant.documents import Study
from participant.steps.desk import Trainer, TrainerFactory
from simulation.engine import RoundDone, Spec, run
from simulation.engine.recorded import Replaying
from simulation.federation import Hospital

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
]

RECIPE = load_recipe("fl-cxr-resnet18").overridden(
    {"federation.fraction": 1.0, "federation.minimum_contributors": 3, "evaluation.bins": 4}
)
CLASSES = len(RECIPE.network.classes)
LAYOUT = Layout((Tensor("weight", (60, 50), "parameter"),), count_fields(CLASSES, 4))
SITES = ("a", "b", "c")
ROUNDS = 2


@dataclass(frozen=True)
class Deadly:
    """`Spec.trainers` that replays, and whose worker dies once in the middle of site-b's second round."""

    recording: Path
    flag: Path

    def __call__(self, site: str, images: TrainerFactory) -> TrainerFactory:
        replaying = Replaying(self.recording)(site, images)

        def make(study: Study) -> Trainer:
            trainer = replaying(study)
            train = trainer.train

            def dying(base: Any, layout: Any, terms: Any, progress: Any) -> Any:
                if site == "site-b" and terms.round == 2 and not self.flag.exists():
                    self.flag.write_text(str(os.getpid()))
                    os.kill(os.getpid(), signal.SIGKILL)
                return train(base, layout, terms, progress)

            trainer.train = dying  # type: ignore[method-assign]
            return trainer

        return make


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Updates as `simulation.engine.recorded` keeps them."""
    folder = tmp_path / "recording"
    for number, site in enumerate(SITES, 1):
        home = folder / f"site-{site}"
        home.mkdir(parents=True)
        for training in range(1, ROUNDS + 1):
            update = np.random.default_rng([number, training]).normal(0, 0.1, LAYOUT.size).astype(np.float32)
            np.savez(home / f"round-{training}.npz", update=update, samples=20 * number, loss=0.5, seconds=0.01)
        np.save(home / "counts.npy", np.zeros(LAYOUT.counts_size, np.int64))
    return folder


def spec_of(folder: Path, **changes: Any) -> Spec:
    model = folder / "first.safetensors"
    if not model.exists():
        save_model(model, np.zeros(LAYOUT.size, np.float32), LAYOUT, RECIPE)
    hospitals = [Hospital(f"site-{letter}", folder) for letter in SITES]
    return Spec(RECIPE, model, hospitals, "lwe-ckks", "open", 1, ROUNDS, noise_seed=5, **changes)


def silent(done: RoundDone) -> None:
    """No progress."""


def test_three_workers_and_one_and_none_give_the_same_sums(cluster: None, tmp_path: Path, recording: Path) -> None:
    settings = {"trainers": Replaying(recording)}
    here = run(spec_of(tmp_path, **settings), tmp_path / "here", silent)
    one = run(spec_of(tmp_path, engine="ray", workers=1, **settings), tmp_path / "one", silent)
    three = run(spec_of(tmp_path, engine="ray", workers=3, **settings), tmp_path / "three", silent)
    for number in range(1, ROUNDS + 1):
        models = [read_model(each.models[number]).vector.tobytes() for each in (here, one, three)]
        assert models[0] == models[1] == models[2]


def test_a_worker_killed_in_mid_round_is_replaced(cluster: None, tmp_path: Path, recording: Path) -> None:
    flag = tmp_path / "killed"
    calm = run(spec_of(tmp_path, trainers=Replaying(recording)), tmp_path / "calm", silent)
    spec = spec_of(tmp_path, engine="ray", workers=2, trainers=Deadly(recording, flag))
    survived = run(spec, tmp_path / "killed-run", silent)
    assert flag.exists(), "the worker died"
    assert [(row["round"], row["attempt"], len(row["contributors"])) for row in survived.history] == [
        (1, 1, 3),
        (2, 1, 3),
        (3, 1, 3),
    ]
    assert read_model(survived.model).vector.tobytes() == read_model(calm.model).vector.tobytes()
