"""Rounds of a `World`: played to their end by its sites, or written as if they had been."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select

from coordinator.store import models
from coordinator.store.models import Origin
from coordinator.store.tables import Contribution, Metrics, Round, Study
from crypto.canonical import sha256
from crypto.epoch import Approval


def play(world: Any, rounds: int = 1) -> None:
    """Complete the round that is collecting, and those after it; then the next one is planned, if there is one."""
    for _ in range(rounds):
        expected = world.sites[0].task()["plan"]["expected"]
        for site in world.sites:
            site.contribution = None
            if str(site.id) in expected:
                site.contribute()
        world.conduct()
        for site in world.sites:
            assert site.vote().status_code == 204
        world.conduct()
        opener = world.site(world.sites[0].task()["openers"][0])
        assert opener.send(f"{world.attempt}/opening", opener.opening()).status_code == 204
        world.conduct()


def pretend(world: Any, rounds: int = 1) -> None:
    """The same without ciphertexts: rows say that everybody contributed a kilobyte, and name a model without a file."""
    for _ in range(rounds):
        world.services.store.run("pretend", lambda session: _complete(session, world.clock.now()))
        world.conduct()


def _complete(session: Any, now: float) -> None:
    row = session.scalars(select(Round).where(Round.state == "collecting")).one()
    study = session.get_one(Study, row.study_id)
    model = row.base_model
    if row.kind == "training":
        model, origin = sha256(row.id.bytes), Origin(study.id, row.number, row.base_model)
        models.register(session, model, 1, study.layout_digest, study.recipe_digest, now, origin)
        study.current_model, study.completed = model, study.completed + 1
    else:
        study.state = "finished"
    row.state, row.model = "complete", model
    row.ballot, row.ballot_digest = {"manifests": []}, sha256(row.plan_digest.encode())
    row.closed = row.opened = row.ended = row.swept = now
    for site in row.plan["expected"]:
        contribution = {"manifest": {}, "completed": now, "received": 1000}
        session.add(Contribution(round_id=row.id, site_id=UUID(site), **contribution))
    area = 0.6 + row.number / 10
    intervals = {"accuracy": None, "sensitivity": [], "specificity": [], "auc": [], "macro_auc": [area - 0.05, area]}
    derived = {"loss": 1 / row.number, "macro_auc": area, "intervals": intervals}
    session.add(Metrics(round_id=row.id, counts={}, derived=derived))


def begin_with_the_same_sites(world: Any, study: str) -> None:
    """The world's sites join another study, which becomes the world's, and its first round collects."""
    world.study, world.study_id = f"/v1/studies/{study}", UUID(study)
    peers = {str(site.id): site.identity.public.fingerprint for site in world.sites}
    for site in world.sites:
        site.ok("PUT", f"{world.study}/membership")
    for site in world.sites:
        others = {peer: fingerprint for peer, fingerprint in peers.items() if peer != str(site.id)}
        approval = Approval(study=world.study_id, site=site.id, peers=others)
        assert site.send(f"{world.study}/approval", approval).status_code == 204
    if world.operate("GET", world.study).json()["scheme"] != "lwe-shamir":
        world.deal()
    assert world.operate("POST", f"{world.study}/start").status_code == 200
    world.conduct()


def audited(world: Any, action: str) -> list[dict[str, Any]]:
    """Details of the log's rows of that action, oldest first."""
    return [row["detail"] for row in world.operate("GET", "/v1/audit").json() if row["action"] == action]
