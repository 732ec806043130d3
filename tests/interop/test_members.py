"""Studies released to their members: all hold one model, byte by byte, and the coordinator holds none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import jwt
import numpy as np
import pytest
import tiny_federation as tiny
from sqlalchemy.orm import Session
from tiny_federation import Hospital, Server, wait_until

from coordinator.store.tables import Study
from crypto.manifest import Opening, ShareOpening
from crypto.outcome import Outcome
from crypto.plan import Plan
from crypto.wire import Signed
from participant.client import Client
from participant.ledger import Ledger
from participant.setup import enrolment_of
from participant.steps import members
from participant.steps.desk import Desk

Enrol = Callable[..., Hospital]
SCHEMES = ("lwe-ckks", "lwe-shamir")


def begin(server: Server, folder: Path, scheme: str, **wishes: Any) -> str:
    return str(server.create_study(folder / "first.safetensors", scheme=scheme, release="members", **wishes)["id"])


def finish(server: Server, study: str) -> list[dict[str, Any]]:
    wait_until(lambda: server.study(study)["state"] == "finished", "the study to finish", 120)
    return server.rounds(study)


def held(hospital: Hospital, study: str, digest: str) -> bytes | None:
    file = hospital.home.models / study / f"{digest}.safetensors"
    return file.read_bytes() if file.is_file() else None


def texts(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, databases included."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def answers(hospital: Hospital, study: str, rows: list[dict[str, Any]]) -> list[tuple[int, ...]]:
    """What opens each round's sum, or helps to, from a hospital's own record."""
    found: list[tuple[int, ...]] = []
    with hospital.open() as site:
        for row in rows:
            ballot = site.record.ballot(site.client.plan(UUID(study), row["round"], row["attempt"])) or ""
            if row["plan"]["scheme"] == "lwe-ckks":
                opening = site.record.opening(ballot, Opening)
                found += [opening.message.secret_sum] if opening else []
            else:
                share = site.record.opening(ballot, ShareOpening)
                found += [share.message.share_sum] if share else []
    return found


def spellings(numbers: tuple[int, ...]) -> list[bytes]:
    """How some numbers may lie in a file: as JSON, or as an array."""
    some = numbers[:8]
    arrays = [np.array(some, np.int64).astype(dtype).tobytes() for dtype in ("<i8", "<u4", "<f4")]
    return [separator.join(map(str, some)).encode() for separator in (",", ", ")] + arrays


@pytest.mark.parametrize("scheme", SCHEMES)
def test_all_members_hold_the_model_and_the_coordinator_none(
    server: Server, enrol: Enrol, tmp_path: Path, scheme: str
) -> None:
    base = tiny.save_first_model(tmp_path / "first.safetensors")
    study = begin(server, tmp_path, scheme, expected_sites=4)
    hospitals = [enrol(number) for number in (1, 2, 3, 4)]
    for hospital in hospitals:
        hospital.start()
    rows = finish(server, study)
    assert [(row["kind"], row["state"]) for row in rows] == [("training", "complete")] * 2 + [
        ("evaluation", "complete")
    ]
    assert {row["metrics"]["cases"] for row in rows} == {40}
    for hospital in hospitals:
        hospital.stop()

    model = server.study(study)["model"]
    files = [held(hospital, study, model) for hospital in hospitals]
    data = files[0]
    assert data is not None
    assert files == [data] * 4, "byte by byte the same"
    (tmp_path / "theirs.safetensors").write_bytes(data)
    vector = tiny.read_vector(tmp_path / "theirs.safetensors")
    tiny.check_model(vector, base, rows, [hospital.trainer for hospital in hospitals])

    answer = server.http.get(f"/v1/models/{model}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert f"models/{study}/{model}.safetensors" in answer.json()["detail"]

    opened = [each for hospital in hospitals for each in answers(hospital, study, rows)]
    assert len(opened) == 12, "every member opened every round"
    needles = [vector[place].tobytes()[:64] for _, place in tiny.LAYOUT.slices() if vector[place].size > 16]
    needles += [spelling for numbers in opened for spelling in spellings(numbers)]
    theirs, ours = texts(hospitals[0].home.path), texts(server.services.settings.data_dir)
    assert {name for name, content in theirs.items() if any(needle in content for needle in needles)} == {
        f"models/{study}/{model}.safetensors",
        "record.sqlite",
    }, "at a member's they are found"
    assert any(name.startswith("coordinator.db") for name in ours)
    assert not [name for name, content in ours.items() if any(needle in content for needle in needles)]
    first = server.study(study)["first_model"]
    assert [name for name in ours if name.startswith("blobs/models/")] == [f"blobs/models/{first}"]

    for hospital in hospitals:
        assert Ledger(hospital.home.ledger).verify() > 10
        assert len(hospital.events("outcome")) == 3
        assert [event["members"] for event in hospital.events("model-agreed")] == [4, 4]
        sent = {event["what"] for event in hospital.events("sent")}
        assert "opening" not in sent
        assert ("sealed-answer" in sent) == (scheme == "lwe-shamir")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_late_joiner_is_given_the_model_and_contributes(
    server: Server, enrol: Enrol, tmp_path: Path, scheme: str
) -> None:
    base = tiny.save_first_model(tmp_path / "first.safetensors")
    study = begin(server, tmp_path, scheme, expected_sites=3, rounds=3)
    go_on = threading.Event()
    hospitals = [enrol(number, hook=lambda number: number < 2 or go_on.wait(60)) for number in (1, 2, 3)]
    for hospital in hospitals:
        hospital.start()
    wait_until(lambda: any(row["round"] == 2 for row in server.rounds(study)), "round 2")
    newcomer = enrol(4)
    newcomer.start()
    model = server.study(study)["model"]
    wait_until(lambda: held(newcomer, study, model) is not None, "the newcomer to hold the model")
    go_on.set()
    rows = finish(server, study)
    assert [len(row["contributors"]) for row in rows] == [3, 3, 4, 4]
    everyone = [*hospitals, newcomer]
    for hospital in everyone:
        hospital.stop()
    last = server.study(study)["model"]
    assert len({held(hospital, study, last) for hospital in everyone}) == 1
    assert held(newcomer, study, last) is not None
    received = newcomer.events("model-received")
    assert [event["model"] for event in received] == [rows[0]["model"], rows[1]["model"]], "one as it came, one after"
    givers = [hospital for hospital in hospitals if hospital.events("model-passed-on")]
    assert {event["name"] for event in received} <= {hospital.home.path.name for hospital in givers}
    assert not list(server.services.settings.blobs.glob("sealed/**/*.*")), "envelopes that nobody needs are gone"
    assert np.abs(tiny.read_vector(givers[0].home.models / study / f"{last}.safetensors") - base).max() > 0.01


def test_a_coordinator_that_serves_one_member_another_sum_is_noticed(
    server: Server, enrol: Enrol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors")
    study = begin(server, tmp_path, "lwe-ckks", expected_sites=4, rounds=2)
    hospitals = [enrol(number) for number in (1, 2, 3, 4)]
    victim = hospitals[2]
    tamper(monkeypatch, victim)
    for hospital in hospitals:
        hospital.start()
    rows = finish(server, study)
    for hospital in hospitals:
        hospital.stop()
    model = rows[0]["model"]
    me = victim.events("enrolled")[0]["site"]
    (noticed,) = [event for event in victim.events("outcome-differs") if event["round"] == 1]
    assert (noticed["site"], noticed["agreed"]) == (me, model)
    assert noticed["model"] != model
    assert [entry["agrees"] for entry in rows[0]["outcomes"] if entry["site"] == me] == [False]
    received = next(event for event in victim.events("model-received"))
    assert received["model"] == model, "it trains on what the others have"
    assert me in rows[1]["contributors"]
    audit = server.http.get("/v1/audit").json()
    (differs,) = [row for row in audit if row["action"] == "round.outcome-differs" and row["detail"]["round"] == 1]
    assert differs["detail"]["site"] == me


def tamper(monkeypatch: pytest.MonkeyPatch, victim: Hospital) -> None:
    """The coordinator adds a little to one value of what one member is served in round 1."""
    honest = Client.summed_part

    def summed_part(client: Client, plan: Plan, number: int) -> bytes:
        lanes = np.frombuffer(honest(client, plan, number), "<u4").copy()
        if (plan.round, number) == (1, 0) and serves(client, victim):
            lanes[5] += np.uint32(1 << 20)
        return lanes.tobytes()

    monkeypatch.setattr(Client, "summed_part", summed_part)


def serves(client: Client, hospital: Hospital) -> bool:
    """Whether it is this hospital that speaks."""
    request = httpx.Request("GET", "http://coordinator")
    assert client.session.auth is not None
    token = next(client.session.auth.auth_flow(request)).headers["Authorization"].removeprefix("Bearer ")
    return bool(jwt.get_unverified_header(token)["kid"] == str(enrolment_of(hospital.home).site))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_member_that_lies_about_the_model_is_named(
    server: Server, enrol: Enrol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors")
    study = begin(server, tmp_path, scheme, expected_sites=4, rounds=1)
    hospitals = [enrol(number) for number in (1, 2, 3, 4)]
    liar = hospitals[0]
    honest_give = Client.give_outcome

    def give(client: Client, plan: Plan, signed: Signed[Outcome]) -> None:
        if serves(client, liar) and plan.kind == "training":
            with liar.open() as site:
                signed = site.identity.sign(signed.message.model_copy(update={"model": "ab" * 32}))
        honest_give(client, plan, signed)

    monkeypatch.setattr(Client, "give_outcome", give)
    for hospital in hospitals:
        hospital.start()
    rows = finish(server, study)
    for hospital in hospitals:
        hospital.stop()
    culprit = liar.events("enrolled")[0]["site"]
    assert [entry["site"] for entry in rows[0]["outcomes"] if not entry["agrees"]] == [culprit]
    for hospital in hospitals[1:]:
        (named,) = [event for event in hospital.events("outcome-differs") if event["round"] == 1]
        assert (named["name"], named["model"]) == ("site-1", "ab" * 32)
    model = rows[0]["model"]
    assert len({held(hospital, study, model) for hospital in hospitals}) == 1


def test_a_wrong_share_is_named_by_those_it_was_sealed_to(
    server: Server, enrol: Enrol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors")
    study = begin(server, tmp_path, "lwe-shamir", expected_sites=7, rounds=1)
    hospitals = [enrol(number) for number in range(1, 8)]
    liar, lied = hospitals[0], threading.Event()
    honest_answer, honest_seal = members.own_answer, Client.seal_answer

    def answer(desk: Desk, *about: Any) -> Signed[Any] | None:
        signed = honest_answer(desk, *about)
        if signed is None or not serves(desk.site.client, liar):
            return signed
        shares = signed.message.share_sum
        return desk.site.identity.sign(signed.message.model_copy(update={"share_sum": (shares[0] ^ 1, *shares[1:])}))

    def seal(client: Client, plan: Plan, sealed: Signed[Any]) -> None:
        """The liar comes first, so that its answer is among all that are tried."""
        if not serves(client, liar):
            assert lied.wait(60)
        honest_seal(client, plan, sealed)
        if serves(client, liar):
            lied.set()

    monkeypatch.setattr(members, "own_answer", answer)
    monkeypatch.setattr(Client, "seal_answer", seal)
    for hospital in hospitals:
        hospital.start()
    rows = finish(server, study)
    for hospital in hospitals:
        hospital.stop()
    assert [row["state"] for row in rows] == ["complete"] * 2
    for hospital in hospitals[1:]:
        assert [event["name"] for event in hospital.events("wrong-answer") if event["round"] == 1] == ["site-1"]


def test_a_member_killed_between_two_steps_goes_on_with_what_it_kept(
    server: Server, enrol: Enrol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with its envelopes half sent, it seals anew; killed with its outcome kept, it sends just that one."""
    tiny.save_first_model(tmp_path / "first.safetensors")
    study = begin(server, tmp_path, "lwe-shamir", expected_sites=4, minimum_contributors=4, rounds=1)
    hospitals = [enrol(number) for number in (1, 2, 3, 4)]
    victim, sent = hospitals[1], []
    honest_seal, honest_give = Client.seal_answer, Client.give_outcome

    def once(what: str, client: Client) -> None:
        if serves(client, victim) and what not in sent:
            sent.append(what)
            raise RuntimeError("killed here")

    def seal(client: Client, plan: Plan, sealed: Signed[Any]) -> None:
        once("answer", client)
        honest_seal(client, plan, sealed)

    def give(client: Client, plan: Plan, signed: Signed[Outcome]) -> None:
        once("outcome", client)
        honest_give(client, plan, signed)

    monkeypatch.setattr(Client, "seal_answer", seal)
    monkeypatch.setattr(Client, "give_outcome", give)
    for hospital in hospitals:
        hospital.start()
    rows = finish(server, study)
    for hospital in hospitals:
        hospital.stop()
    assert sent == ["answer", "outcome"]
    assert [len([each for each in row["outcomes"] if each["agrees"]]) for row in rows] == [4, 4]
    assert len(victim.events("outcome")) == 2, "one a round, made once"
    assert len({held(hospital, study, rows[0]["model"]) for hospital in hospitals}) == 1


def test_a_model_that_too_few_signed_for_is_trusted_on_a_members_word_only(
    server: Server, enrol: Enrol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors")
    study = begin(server, tmp_path, "lwe-ckks", expected_sites=4, minimum_contributors=4, rounds=2)
    hospitals = [enrol(number) for number in (1, 2, 3, 4)]
    victim, honest = hospitals[3], Client.outcomes

    def outcomes(client: Client, plan: Plan) -> list[Signed[Outcome]]:
        shown = honest(client, plan)
        return shown[:1] if plan.round == 1 and serves(client, victim) else shown

    monkeypatch.setattr(Client, "outcomes", outcomes)
    for hospital in hospitals:
        hospital.start()
    rows = finish(server, study)
    for hospital in hospitals:
        hospital.stop()
    (refusal,) = victim.events("refusal")
    assert refusal["code"] == "model-unproven"
    assert "1 of at least 3 members signed for it" in refusal["words"]
    assert victim.events("model-received")[0]["model"] == rows[0]["model"], "vouched for by a member that saw them all"
    assert len(rows[1]["contributors"]) == 4


def test_a_study_that_turns_open_is_refused(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors")
    study = begin(server, tmp_path, "lwe-ckks", expected_sites=3, rounds=2, collect_seconds=2)
    turned = threading.Event()
    hospitals = [enrol(number, hook=lambda number: turned.wait(60)) for number in (1, 2, 3)]
    for hospital in hospitals:
        hospital.start()
    wait_until(lambda: len(server.rounds(study)) > 0, "round 1")

    def turn(session: Session) -> None:
        session.get_one(Study, UUID(study)).release = "open"

    server.services.store.run("turn open", turn)
    turned.set()
    wait_until(lambda: all(hospital.events("refusal") for hospital in hospitals), "the plan to be refused")
    for hospital in hospitals:
        assert {event["code"] for event in hospital.events("refusal")} == {"terms-changed"}
        assert "opening" not in {event["what"] for event in hospital.events("sent")}
    again = Hospital(hospitals[0].home, hospitals[0].trainer)
    hospitals[0].stop()
    again.start()
    wait_until(lambda: any("about" not in each for each in again.events("refusal")), "the study to be refused")
    again.stop()
