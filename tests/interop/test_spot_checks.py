"""Spot checks of whole studies: every site checks every round, and who finds a mismatch goes no further."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from spot_checked import Enrol, altering, new_study
from tiny_federation import Server, wait_until

from coordinator import aggregation


def test_every_site_checks_every_round(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    study = new_study(server, tmp_path, expected_sites=4)
    hospitals = [enrol(number) for number in (1, 2, 3, 4)]
    for hospital in hospitals:
        hospital.start()
    wait_until(lambda: server.study(study)["state"] == "finished", "the study to finish")
    wait_until(lambda: all(len(row["spot_checks"]) == 4 for row in server.rounds(study)), "all checks to be in")
    rows = server.rounds(study)
    assert [row["kind"] for row in rows] == ["training", "training", "evaluation"]
    for row in rows:
        assert [check["result"] for check in row["spot_checks"]] == ["match"] * 4
        assert "what 4 contributions add up to" in row["spot_checks"][0]["words"]
    wait_until(lambda: not list(server.services.settings.blobs.rglob("body-*")), "the parts to be deleted")
    for hospital in hospitals:
        assert hospital.thread is not None
        hospital.thread.join(20)
        checks = hospital.events("spot-check")
        assert [(check["round"], check["result"]) for check in checks] == [(1, "match"), (2, "match"), (3, "match")]
        assert [check["model"] for check in checks] == [row["model"] for row in rows]
        assert len([event for event in hospital.events("sent") if event["what"] == "spot-check"]) == 3
        assert not hospital.events("refusal")
        assert not hospital.events("base-not-checked")


def test_a_site_that_found_a_mismatch_goes_no_further_until_its_operator_says_so(
    server: Server, enrol: Enrol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def double(mean: NDArray[np.float32]) -> None:
        mean *= 2

    monkeypatch.setattr(aggregation, "_write_model", altering(double))
    study = new_study(server, tmp_path, expected_sites=3)
    hospitals = [enrol(number) for number in (1, 2, 3)]
    for hospital in hospitals:
        hospital.start()
    wait_until(lambda: [len(row["refusals"]) for row in server.rounds(study)] == [0, 3], "three refusals")
    first, second = server.rounds(study)[:2]
    assert [check["result"] for check in first["spot_checks"]] == ["mismatch"] * 3
    assert {refusal["code"] for refusal in second["refusals"]} == {"spot-check-failed"}
    assert "list it under `trusted_models` in policy.toml" in second["refusals"][0]["words"]
    assert first["model"] in second["refusals"][0]["words"]
    assert second["contributors"] == []

    hospital = hospitals[0]
    hospital.stop()
    with hospital.loop() as loop:
        loop.look()
    assert not [event for event in hospital.events("plan-accepted") if event["round"] == 2], "a restart changes nothing"
    text = hospital.home.policy.read_text()
    assert "trusted_models = []" in text
    hospital.home.policy.write_text(text.replace("trusted_models = []", f'trusted_models = ["{first["model"]}"]'))
    with hospital.loop() as loop:
        loop.look()
    assert [event["model"] for event in hospital.events("model-trusted")] == [first["model"]]
    assert [event for event in hospital.events("plan-accepted") if event["round"] == 2]
