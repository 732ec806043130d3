"""Studies released to their members: outcomes, sealed answers, models passed from member to member."""

from __future__ import annotations

from typing import Any

import pytest
from page_visits import Browser

from crypto import envelope
from crypto.canonical import sha256
from crypto.layout import Layout
from crypto.manifest import Ballot
from crypto.model_file import next_model
from crypto.outcome import Outcome, SealedAnswer, SealedModel
from crypto.plan import Plan
from crypto.schemes import scheme


@pytest.fixture
def here(world) -> str:
    """The address of a round of lwe-ckks whose ballot is shown."""
    return shown(world, world.begin(release="members"))


@pytest.fixture
def sealing(world) -> str:
    """The same under lwe-shamir."""
    return shown(world, world.begin(release="members", scheme="lwe-shamir"))


def shown(world, here: str) -> str:
    for site in world.sites:
        site.contribute()
    world.conduct()
    return here


def outcome_of(world, here: str, site, **changes: Any) -> tuple[Outcome, bytes]:
    """What a member makes of the sums that it is served, and the model's file."""
    plan = Plan.from_json(site.ok("GET", f"{here}/plan").json())
    ballot = Ballot.from_json(site.ok("GET", f"{here}/ballot").json())
    study = world.operate("GET", world.study).json()
    layout = Layout.from_json(study["layout"])
    parts = range(len(scheme(plan.scheme).part_sizes(plan, layout)))
    sums = [site.ok("GET", f"{here}/sums/{number}").content for number in parts]
    found = scheme(plan.scheme).reveal(plan, layout, sums, site.opening().secret_sum, len(ballot.manifests))
    data = next_model(world.model, layout, found.mean, study["recipe"], plan.study, plan.round)
    counts = found.counts
    values = {
        "ballot": ballot.digest,
        "site": site.id,
        "model": sha256(data),
        "size": len(data),
        "samples": counts.samples,
        "capped_samples": counts.capped_samples,
        "clipped": counts.clipped,
        "recipe": counts.recipe,
    }
    return Outcome(**values | changes), data


def agree(world, here: str, **changes: Any) -> tuple[Outcome, bytes]:
    """Everybody votes and gives the same outcome."""
    for site in world.sites:
        site.vote()
    outcome, data = outcome_of(world, here, world.sites[0], **changes)
    for site in world.sites:
        give(here, site, outcome)
    world.conduct()
    return outcome, data


def give(here: str, site, outcome: Outcome):
    answer = site.send(f"{here}/outcome", outcome.model_copy(update={"site": site.id}))
    assert answer.status_code == 204, answer.text
    return answer


def rounds(world) -> list[dict[str, Any]]:
    return world.sites[0].ok("GET", f"{world.study}/rounds").json()


def audited(world, action: str) -> list[dict[str, Any]]:
    return [row["detail"] for row in world.operate("GET", "/v1/audit").json() if row["action"] == action]


# --- outcomes


def test_what_the_members_agree_on_is_adopted_and_its_file_is_not_here(world, here, refused) -> None:
    outcome, _ = agree(world, here)
    study, (first, second) = world.operate("GET", world.study).json(), rounds(world)
    assert (first["state"], first["model"], study["model"], study["round"]) == ("complete", *[outcome.model] * 2, 1)
    assert first["metrics"]["cases"] == 30
    assert second["state"] == "collecting"
    assert [entry["agrees"] for entry in first["outcomes"]] == [True] * 3
    for caller in (world.operate, world.sites[0].call):
        document = refused(caller("GET", f"/v1/models/{outcome.model}"), 404, "not-found")
        assert (document["held_by"], document["study"]) == ("members", str(world.study_id))
        assert f"models/{world.study_id}/{outcome.model}.safetensors" in document["detail"]
    wish = {"name": "other", "model": outcome.model}
    refused(world.operate("POST", "/v1/studies", json=wish), 404, "not-found")
    assert world.operate("GET", f"/v1/models/{study['first_model']}").content == world.model
    kept = [path.name for path in (world.services.settings.blobs / "models").iterdir()]
    assert kept == [study["first_model"]]


def test_what_opens_a_sum_is_not_taken(world, here, refused) -> None:
    for site in world.sites:
        site.vote()
    site = world.sites[0]
    document = refused(site.send(f"{here}/opening", site.opening()), 422, "message-refused")
    assert "stays with the members" in document["detail"]
    assert site.ok("GET", f"{here}/openings").json() == []


def test_an_outcome_has_to_fit(world, here, refused) -> None:
    one, other, _ = world.sites
    outcome, _ = outcome_of(world, here, one)
    document = refused(one.send(f"{here}/outcome", outcome), 409, "votes-missing")
    assert document["needed"] == 2
    for site in world.sites:
        site.vote()
    unfit = [
        {"model": None, "size": None},
        {"size": None},
        {"clipped": outcome.clipped[:1]},
        {"recipe": (*outcome.recipe, 0)},
        {"ballot": "ab" * 32},
        {"site": other.id},
    ]
    for changes in unfit:
        refused(one.send(f"{here}/outcome", outcome.model_copy(update=changes)), 422, "message-refused")
    refused(one.call("PUT", f"{here}/outcome", json=other.identity.sign(outcome).to_json()), 422, "signature-invalid")
    stranger = world.new_site("stranger")
    refused(stranger.send(f"{here}/outcome", outcome), 403, "not-a-member")
    assert not one.task()["derived"]
    give(here, one, outcome)
    give(here, one, outcome)
    assert one.task()["derived"]
    refused(one.send(f"{here}/outcome", outcome.model_copy(update={"samples": 1})), 409, "answer-differs")
    assert [entry["message"]["site"] for entry in other.ok("GET", f"{here}/outcomes").json()] == [str(one.id)]


def test_who_derives_another_model_is_named(world, refused) -> None:
    here = shown(world, world.begin(sites=4, release="members"))
    for site in world.sites:
        site.vote()
    *honest, liar = world.sites
    outcome, _ = outcome_of(world, here, liar)
    give(here, liar, outcome.model_copy(update={"model": "ab" * 32}))
    for site in honest:
        give(here, site, outcome)
    world.conduct()
    (row,) = [entry for entry in rounds(world) if entry["round"] == 1]
    assert row["model"] == outcome.model
    assert [entry["site"] for entry in row["outcomes"] if not entry["agrees"]] == [str(liar.id)]
    (told,) = audited(world, "round.outcome-differs")
    assert (told["site"], told["model"]) == (str(liar.id), "ab" * 32)
    browser = Browser(world)
    browser.login(world.operator)
    study = f"/studies/{world.study_id}"
    assert "1 derived another model" in browser.look(study)
    assert f"{liar.name} derived another model" in browser.look(f"{study}/rounds/1/1")
    assert "held by the members only" in browser.look(study)
    refused(honest[0].send(f"{here}/outcome", outcome.model_copy(update={"samples": 3})), 422, "message-refused")


def test_a_late_outcome_is_told_so(world, here, refused) -> None:
    for site in world.sites:
        site.vote()
    outcome, _ = outcome_of(world, here, world.sites[0])
    world.clock.advance(10_000)
    world.conduct()
    (row,) = [entry for entry in rounds(world) if entry["round"] == 1]
    assert row["state"] == "failed"
    assert row["reason"].startswith("0 of at least 3 members derived the same model; missing: hospital-")
    site = world.sites[0]
    refused(site.send(f"{here}/outcome", outcome.model_copy(update={"site": site.id})), 409, "conflict")


def test_an_open_study_takes_no_outcomes(world, refused) -> None:
    here = shown(world, world.begin())
    site = world.sites[0]
    refused(site.call("GET", f"{here}/sums/0"), 404, "not-found")
    digests = {"ballot": site.task()["ballot"], "site": site.id, "model": "ab" * 32, "size": 1}
    outcome = Outcome(**digests, samples=1, capped_samples=1, clipped=(0, 0), recipe=(0,) * 18)
    refused(site.send(f"{here}/outcome", outcome), 422, "message-refused")
    refused(site.put(f"{here}/sealed/0", b"x"), 422, "message-refused")


# --- answers sealed to each other


def members_of(world, here: str) -> list:
    """Sites in the roster's order."""
    return [world.site(member["site"]) for member in world.operate("GET", f"{here}/roster").json()["members"]]


def test_an_envelope_is_served_to_its_addressee_once_the_answer_is_in(world, sealing, refused) -> None:
    sender, other, third = members_of(world, sealing)
    envelopes = [b"to sender", b"to other", b"to third"]
    answer = SealedAnswer(ballot=sender.task()["ballot"], site=sender.id, envelopes=tuple(map(sha256, envelopes)))
    assert sender.put(f"{sealing}/sealed/0", b"before a crash").status_code == 204
    for number, data in enumerate(envelopes[:2]):
        assert sender.put(f"{sealing}/sealed/{number}", data).status_code == 204, "the last one counts"
    document = refused(sender.send(f"{sealing}/sealed-answer", answer), 409, "parts-missing")
    assert document["missing"] == [2]
    refused(other.call("GET", f"{sealing}/sealed/{sender.id}/1"), 404, "not-found")
    assert sender.put(f"{sealing}/sealed/2", envelopes[2]).status_code == 204
    assert other.task()["answers"] == 0
    for _ in range(2):
        assert sender.send(f"{sealing}/sealed-answer", answer).status_code == 204
    assert (other.task()["answers"], other.task()["opened"], sender.task()["opened"]) == (1, False, True)
    assert other.ok("GET", f"{sealing}/sealed/{sender.id}/1").content == envelopes[1]
    refused(third.call("GET", f"{sealing}/sealed/{sender.id}/1"), 404, "not-found")
    refused(other.call("GET", f"{sealing}/sealed/{third.id}/1"), 404, "not-found")
    refused(sender.put(f"{sealing}/sealed/1", b"another"), 409, "answer-differs")
    assert other.ok("GET", f"{sealing}/sealed/{sender.id}/1").content == envelopes[1]


def test_sealed_answers_that_are_refused(world, sealing, refused) -> None:
    sender, other, _ = members_of(world, sealing)
    refused(sender.put(f"{sealing}/sealed/3", b"x"), 422, "part-size")
    refused(sender.put(f"{sealing}/sealed/0", b"x" * (2**16 + 1)), 422, "part-size")
    refused(world.new_site("stranger").put(f"{sealing}/sealed/0", b"x"), 403, "not-a-member")
    assert sender.put(f"{sealing}/sealed/0", b"x").status_code == 204
    ballot = sender.task()["ballot"]
    few = SealedAnswer(ballot=ballot, site=sender.id, envelopes=(sha256(b"x"),))
    refused(sender.send(f"{sealing}/sealed-answer", few), 422, "message-refused")
    theirs = few.model_copy(update={"site": other.id})
    refused(sender.send(f"{sealing}/sealed-answer", theirs), 422, "message-refused")
    refused(sender.send(f"{sealing}/opening", sender.share_sum()), 422, "message-refused")


def test_under_lwe_ckks_nothing_is_sealed(world, here, refused) -> None:
    refused(world.sites[0].put(f"{here}/sealed/0", b"x"), 422, "message-refused")


# --- models passed on


@pytest.fixture
def passing(world, here):
    """A study whose second round is collecting; its current model, and a newcomer that lacks it."""
    outcome, data = agree(world, here)
    newcomer = world.new_site("newcomer")
    newcomer.ok("PUT", f"{world.study}/membership")
    return f"{world.study}/models/{outcome.model}", data, newcomer


def sealed_to(site, recipient, study, data: bytes) -> tuple[SealedModel, bytes]:
    digest = sha256(data)
    octets = envelope.seal(recipient.identity.public, data, "pleura/model/v1", digest, site.id, recipient.id)
    values = {"study": study, "model": digest, "holder": site.id, "recipient": recipient.id, "sha256": sha256(octets)}
    return SealedModel(**values), octets


def test_a_member_passes_the_model_on(world, passing, refused) -> None:
    model, data, newcomer = passing
    holder, other, _ = world.sites
    message, octets = sealed_to(holder, newcomer, world.study_id, data)
    refused(holder.call("PUT", f"{model}/envelopes/{newcomer.id}", content=octets), 409, "conflict")
    for _ in range(2):
        assert newcomer.call("PUT", f"{model}/request").status_code == 204
    assert holder.task()["model_wanted"] == [str(newcomer.id)]
    refused(holder.send(f"{model}/envelopes", message), 409, "parts-missing")
    refused(holder.call("PUT", f"{model}/envelopes/{newcomer.id}", content=octets + b"x"), 422, "part-size")
    assert holder.call("PUT", f"{model}/envelopes/{newcomer.id}", content=octets).status_code == 204
    assert newcomer.task()["model_offers"] == []
    refused(newcomer.call("GET", f"{model}/envelopes/{holder.id}"), 404, "not-found")
    assert holder.send(f"{model}/envelopes", message).status_code == 204
    refused(holder.call("PUT", f"{model}/envelopes/{newcomer.id}", content=octets), 409, "conflict")

    assert newcomer.task()["model_offers"] == [str(holder.id)]
    assert newcomer.ok("GET", f"{model}/envelopes").json() == [holder.identity.sign(message).to_json()]
    received = newcomer.ok("GET", f"{model}/envelopes/{holder.id}").content
    opened = envelope.open(newcomer.identity, received, "pleura/model/v1", sha256(data), holder.id, newcomer.id)
    assert opened == data
    assert other.ok("GET", f"{model}/envelopes").json() == []
    refused(other.call("GET", f"{model}/envelopes/{holder.id}"), 404, "not-found")

    assert newcomer.call("DELETE", f"{model}/request").status_code == 204
    assert newcomer.call("DELETE", f"{model}/request").status_code == 204
    assert holder.task()["model_wanted"] == []
    assert not [path for path in (world.services.settings.blobs / "sealed").rglob("*") if path.is_file()]
    actions = [row["action"] for row in world.operate("GET", "/v1/audit").json()]
    assert [actions.count(f"model.{what}") for what in ("requested", "sealed", "received")] == [1, 1, 1]


def test_sealed_models_that_are_refused(world, passing, refused) -> None:
    model, data, newcomer = passing
    holder, other, _ = world.sites
    first = world.operate("GET", world.study).json()["first_model"]
    refused(newcomer.call("PUT", f"{world.study}/models/{first}/request"), 404, "not-found")
    refused(newcomer.call("PUT", f"{world.study}/models/{'ab' * 32}/request"), 404, "not-found")
    stranger = world.new_site("stranger")
    refused(stranger.call("PUT", f"{model}/request"), 403, "not-a-member")
    refused(stranger.call("GET", f"{model}/envelopes"), 403, "not-a-member")
    newcomer.ok("PUT", f"{model}/request")
    message, octets = sealed_to(holder, newcomer, world.study_id, data)
    refused(stranger.call("PUT", f"{model}/envelopes/{newcomer.id}", content=octets), 403, "not-a-member")
    holder.ok("PUT", f"{model}/envelopes/{newcomer.id}", content=octets)
    refused(holder.send(f"{model}/envelopes", message.model_copy(update={"model": first})), 422, "message-refused")
    refused(other.send(f"{model}/envelopes", message), 409, "parts-missing")
    forged = other.identity.sign(message).to_json()
    refused(holder.call("PUT", f"{model}/envelopes", json=forged), 422, "signature-invalid")
    elsewhere = message.model_copy(update={"study": newcomer.id})
    refused(holder.send(f"{model}/envelopes", elsewhere), 422, "message-refused")


def test_envelopes_of_a_superseded_model_are_deleted(world, passing) -> None:
    model, data, newcomer = passing
    holder = world.sites[0]
    newcomer.ok("PUT", f"{model}/request")
    message, octets = sealed_to(holder, newcomer, world.study_id, data)
    holder.ok("PUT", f"{model}/envelopes/{newcomer.id}", content=octets)
    assert holder.send(f"{model}/envelopes", message).status_code == 204
    world.model = data
    for site in world.sites:
        site.contribution = None
    agree(world, shown(world, world.attempt))
    assert [row["state"] for row in rounds(world)[:2]] == ["complete", "complete"]
    assert not [path for path in (world.services.settings.blobs / "sealed").rglob("*") if path.is_file()]
    assert newcomer.ok("GET", f"{model}/envelopes").json() == []
    assert newcomer.call("PUT", f"{model}/request").json()["code"] == "conflict", "it is not the current one any more"


def test_an_envelope_may_be_as_large_as_a_model(new_world, refused) -> None:
    world = new_world(max_message_bytes=10_000, max_model_bytes=20_000)
    site = world.new_site("one")
    path = f"/v1/studies/{site.id}/models/{'ab' * 32}/envelopes/{site.id}"
    refused(site.call("PUT", path, content=b"x" * 15_000), 404, "not-found")
    assert refused(site.call("PUT", path, content=b"x" * 20_001), 413, "too-large")["limit"] == 20_000
