"""The whole demo, small: real processes, real HTTP; and what it does when a process or the person ends it."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest
from rich.console import Console
from typer.testing import CliRunner

from models.flatten import read_model
from simulation.cli import app
from simulation.demo import DemoSettings, run_demo
from simulation.hospitals import Population
from simulation.scales import Scale

SIMULATE = Path(sys.executable).parent / "pleura-simulate"
SECONDS = 200.0
TINY = Scale(
    {
        "network.options.width": 8,
        "network.options.growth": 8,
        "input.size": [12, 16, 16],
        "preprocessing.ct.subsets": 1,
        "training.batch": 4,
        "federation.rounds": 2,
    },
    Population(train=5, validation=3, test=4),
)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_whole_demo_leaves_its_figures_models_plot_and_logs(tmp_path: Path) -> None:
    shown = io.StringIO()
    run = run_demo(DemoSettings(out=tmp_path / "run", seed=3), Console(file=shown, width=120), TINY)
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["sites"], summary["rounds"], summary["scheme"]) == (3, 2, "lwe-ckks")
    first, federated = (read_model(tmp_path / "run" / f"{name}.safetensors") for name in ("first", "federated"))
    assert summary["fp32_bytes"] == 4 * first.layout.size
    assert summary["parameters"] < first.layout.size
    assert np.isfinite(federated.vector).all()
    assert not np.array_equal(first.vector, federated.vector)
    assert {site: len(sizes) for site, sizes in summary["upload_bytes"].items()} == {f"site-{n}": 2 for n in (1, 2, 3)}
    assert all(size > summary["fp32_bytes"] for sizes in summary["upload_bytes"].values() for size in sizes)
    assert all(seconds > 0 for seconds in summary["seconds"].values())
    assert set(summary["auc"]["alone"]) == {"site-1", "site-2", "site-3"}
    assert summary["auc"]["federated"] == run.comparison.federated.macro_auc
    assert [number for number, _ in summary["curves"]["federated"]] == [0, 1, 2]
    assert sum(summary["cases"]["site-1"]["test"].values()) == 4
    assert (tmp_path / "run/learning_curves.png").stat().st_size > 10_000
    assert {f"{name}.log" for name in ("coordinator", "site-1", "site-2", "site-3", "controls")} <= {
        log.name for log in (tmp_path / "run/logs").iterdir()
    }
    text = shown.getvalue()
    assert "round 2: site-1, site-2, site-3" in text
    assert "average hospital alone" in text
    assert not agents_of(tmp_path)


def agents_of(folder: Path) -> list[psutil.Process]:
    """Processes of ours that work in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if str(folder) in words and ("pleura-participant" in words or "pleura-coordinator" in words):
            found.append(process)
    return found


def noise(folder: Path) -> Path:
    """Volumes without any meaning, enough for two hospitals."""
    for label in ("healthy", "covid-19", "other-viral", "bacterial"):
        (folder / label).mkdir(parents=True)
        for number in range(6):
            voxels = np.random.default_rng(number).normal(-700, 200, (16, 16, 16)).astype(np.float32)
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / label / f"{label}-{number}.nii")
    return folder


@contextmanager
def running_demo(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A demo of many rounds on given data, once a round is complete."""
    out = tmp_path / "run"
    arguments = ["--data", str(noise(tmp_path / "data")), "--rounds", "500", "--sites", "2", "--out", str(out)]
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(tiny_recipe())
    command = [str(SIMULATE), "demo", "--recipe", str(recipe), *arguments]
    quiet = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]  # as a shell starts what it puts in the background
    with subprocess.Popen([*quiet, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            timings = [out / f"sites/site-{number}/timings.jsonl" for number in (1, 2)]
            deadline = time.monotonic() + SECONDS
            while not all(path.exists() for path in timings):
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline, "no round was complete in time"
                psutil.Process(process.pid).cpu_percent(0.1)  # a pause that ends with the process
            yield process, out
        finally:
            if process.poll() is None:
                process.terminate()


def tiny_recipe() -> str:
    shipped = (Path(__file__).parents[2] / "models/recipes/ucadi.toml").read_text()
    small = shipped.replace("[network.options]", "[network.options]\nwidth = 4\ngrowth = 4")
    return small.replace("minimum_contributors = 3", "minimum_contributors = 2")


@pytest.mark.nightly
@pytest.mark.timeout(400)
def test_a_killed_agent_is_named_and_the_others_are_stopped(tmp_path: Path) -> None:
    with running_demo(tmp_path) as (process, out):
        (agent,) = [each for each in agents_of(out / "sites/site-2") if "run" in each.cmdline()]
        agent.kill()
        output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "site-2 was ended by SIGKILL" in output
    assert "accepted (training, 2 sites)" in output  # from the end of its log
    assert not agents_of(tmp_path)


@pytest.mark.nightly
@pytest.mark.timeout(400)
def test_ctrl_c_stops_everything(tmp_path: Path) -> None:
    with running_demo(tmp_path) as (process, _):
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "every process of the run has ended" in output
    assert not agents_of(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--recipe", "ucady"], "meant ucadi"),
        (["--data", "/nowhere/at/all"], "does not exist"),
        (["--out", str(Path(__file__).parent)], "is not empty"),
    ],
)
def test_what_cannot_be_run_is_said_plainly(tmp_path: Path, arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "run"), *arguments])
    assert result.exit_code == 1
    assert words in " ".join(result.output.split())
