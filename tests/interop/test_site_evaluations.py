"""A site's own figures: sent where its policy allows, never where it does not; and `evaluate`, which sends nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_federation as tiny
from tiny_federation import Hospital, Server, wait_until
from typer.testing import CliRunner

from participant.cli import app
from participant.evaluate_command import figures_here
from participant.policy import Refused, load_policy
from participant.settings import dump


def hospitals(server: Server, folder: Path) -> list[Hospital]:
    return [tiny.make_hospital(folder, server.url, server.invite(), number) for number in (1, 2, 3)]


def let_figures_out(hospital: Hospital) -> None:
    policy = load_policy(hospital.home.policy)
    hospital.home.policy.write_text(dump(policy.model_copy(update={"metrics": "site"})))


def sent(hospital: Hospital) -> list[tuple[int, int]]:
    return [(e["round"], e["attempt"]) for e in hospital.events("sent") if e["what"] == "site-evaluation"]


def run(server: Server, folder: Path, made: list[Hospital]) -> str:
    tiny.save_first_model(folder / "first.safetensors")
    study: str = server.create_study(folder / "first.safetensors", expected_sites=3)["id"]
    for hospital in made:
        hospital.start()
    try:
        wait_until(lambda: bool(server.study(study)["state"] == "finished"), "the study to finish")
    finally:
        for hospital in made:
            hospital.stop()
    return study


def test_only_a_site_whose_policy_says_so_lets_its_figures_out(server: Server, tmp_path: Path) -> None:
    made = hospitals(server, tmp_path)
    let_figures_out(made[1])
    rows = server.rounds(run(server, tmp_path, made))
    assert [row["kind"] for row in rows] == ["training", "training", "evaluation"]
    assert sent(made[0]) == sent(made[2]) == []
    assert sent(made[1]) == [(row["round"], row["attempt"]) for row in rows]
    for row in rows:
        (own,) = row["site_evaluations"]
        assert own["metrics"]["cases"] == 10
        assert own["metrics"]["loss"] == 0.2  # TinyTrainer 2: 2,000 thousandths over ten cases
        assert own["metrics"]["macro_auc"] == 1
        assert row["metrics"]["cases"] == 30


def test_evaluate_shows_figures_and_sends_nothing(server: Server, tmp_path: Path) -> None:
    made = hospitals(server, tmp_path)
    run(server, tmp_path, made)
    before = len(made[0].events("sent"))
    with made[0].open() as site:
        (study,) = site.client.studies()
        figures = figures_here(site, study)
    assert figures.cases == 10
    assert figures.accuracy is not None
    assert (figures.accuracy.value, round(figures.accuracy.low, 4), figures.accuracy.high) == (1, 0.7225, 1)
    assert len(made[0].events("sent")) == before


def test_evaluate_on_the_command_line(server: Server, tmp_path: Path) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors")
    server.create_study(tmp_path / "first.safetensors", expected_sites=3)
    (hospital,) = hospitals(server, tmp_path)[:1]
    command = ["--home", str(hospital.home.path), "evaluate"]
    unknown = CliRunner().invoke(app, [*command, "other"])
    assert unknown.exit_code == 1
    assert "no such study" in " ".join(unknown.output.split())


def test_evaluate_needs_the_model(server: Server, tmp_path: Path) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors")
    server.create_study(tmp_path / "first.safetensors", expected_sites=3, release="members")
    (hospital,) = hospitals(server, tmp_path)[:1]
    with hospital.open() as site:
        (study,) = site.client.studies()
        with pytest.raises(Refused, match="only members hold this model"):
            figures_here(site, study.model_copy(update={"model": "ab" * 32}))
        site.client.join(study.id)
        assert figures_here(site, study).cases == 10, "the first one any member may fetch"
