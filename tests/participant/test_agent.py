"""The agent around its studies' loops: one a home, joining, refusing, signing."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import lying_coordinator
import pytest
from lying_coordinator import IDENTITIES, ME, Contributed, Coordinator, Opened, Trainer, ledgered

from crypto.errors import CryptoError, WrongDigest
from crypto.identity import verify
from crypto.manifest import Manifest, StudyRefusal
from crypto.wire import Signed
from participant import agent, setup
from participant.agent import Agent, only_one
from participant.files import write_whole
from participant.policy import Policy, Refused
from participant.progress import Lines
from participant.settings import Home, dump
from participant.steps.desk import code_of

coordinator, home = lying_coordinator.coordinator, lying_coordinator.home
start, contributed = lying_coordinator.start, lying_coordinator.contributed


@pytest.mark.parametrize("error", [Refused("key-lost", "the key is not here"), WrongDigest("these are other bytes")])
def test_what_a_look_refuses_is_said_once_each_time_and_noted_once(
    start: Opened, home: Home, caplog: pytest.LogCaptureFixture, error: Refused | CryptoError
) -> None:
    desk = start().desk
    for times in (1, 2):
        agent._explain(desk, error)
        said = [record.getMessage() for record in caplog.records if str(error) in record.getMessage()]
        assert said == [f"{desk.study.name}: refused ({code_of(error)}): {error}; trying again"] * times
    (line,) = ledgered(home, "refusal")
    assert (line["code"], line["words"]) == (code_of(error), str(error))


def test_one_agent_a_home(tmp_path: Path) -> None:
    with only_one(tmp_path / "lock"), pytest.raises(Refused, match="already runs"), only_one(tmp_path / "lock"):
        pass


def test_once_around_joins_and_contributes(coordinator: Coordinator, home: Home) -> None:
    coordinator.deal()
    coordinator.make_plan()
    http = httpx.Client(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(coordinator))
    with setup.open_site(home, Lines(), make_trainer=lambda study: Trainer(), http=http) as site:
        Agent().run(site, "once")
    assert len(coordinator.bodies("PUT .*/manifest")) == 1


def test_a_study_outside_the_policy_is_not_joined(coordinator: Coordinator, home: Home) -> None:
    write_whole(home.policy, dump(Policy(recipes=["ucadi"])).encode())
    http = httpx.Client(base_url="http://127.0.0.1:1", transport=httpx.MockTransport(coordinator))
    with setup.open_site(home, Lines(), make_trainer=lambda study: Trainer(), http=http) as site:
        Agent().run(site, "once")
    (said,) = coordinator.messages("POST /studies/[^/]+/refusal", StudyRefusal)
    assert len(coordinator.sent) == 1
    (refusal,) = ledgered(home, "refusal")
    assert (said.code, said.words) == (refusal["code"], refusal["words"])
    assert "recipes" in said.words


def test_signatures_of_the_agent_verify(coordinator: Coordinator, contributed: Contributed) -> None:
    signed = Signed[Manifest].from_json(json.loads(coordinator.bodies("PUT .*/manifest")[0]))
    assert verify(IDENTITIES[ME].public, signed).site == ME
