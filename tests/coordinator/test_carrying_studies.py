"""Studies that carry sites that left, over HTTP: what is kept of them, what is served, and what ends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.store import carrying
from coordinator.store.tables import Membership, Part, Round, Study
from coordinator.store.tables import Site as SiteRow
from crypto.canonical import canonical
from crypto.ckks_secret import SecretContext
from crypto.manifest import Ballot
from crypto.plan import Plan
from crypto.schemes.opening import open_ballot


def found(world: Any, make_model: Any, *, status: int = 201, server: str = "average", **wish: Any) -> Any:
    federation = {"rounds": 6, "weighting": "samples", "minimum_contributors": 2, "n_max": 1000, "carry": True}
    federation |= {"server": {"optimizer": server}, "scaffold": wish.pop("scaffold", False)}
    recipe = {"name": "tiny", "network": {"classes": 2}, "federation": federation}
    model = world.operate("POST", "/v1/models", content=make_model(metadata={"recipe": canonical(recipe).decode()}))
    answer = world.operate("POST", "/v1/studies", json={"name": "study", "model": model.json()["model"], **wish})
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"scheme": "lwe-shamir"}, "takes lwe-ckks and release open, not lwe-shamir and open"),
        ({"scheme": "ckks"}, "takes lwe-ckks and release open, not ckks and open"),
        ({"release": "members"}, "takes lwe-ckks and release open, not lwe-ckks and members"),
        ({"server": "fedadam"}, "the server optimiser fedadam"),
        ({"scaffold": True}, "a carried control variate would be that of a model long past"),
    ],
)
def test_what_cannot_carry_is_refused_at_creation(
    world: Any, make_model: Any, wish: dict[str, Any], words: str
) -> None:
    assert words in found(world, make_model, status=422, **wish)["detail"]


class Carrying:
    """A study of four sites that carries, driven over HTTP."""

    def __init__(self, world: Any, make_model: Any) -> None:
        self.world, study = world, found(world, make_model)
        world.study_id, world.study = UUID(study["id"]), f"/v1/studies/{study['id']}"
        world.join(4)
        self.members, self.keys = list(world.sites), dict[str, SecretContext]()
        self.deal()
        assert world.operate("POST", f"{world.study}/start").status_code == 200
        world.conduct()

    def deal(self) -> None:
        self.world.sites = self.members
        dealt = self.world.deal()
        self.keys[dealt.record.message.digest] = dealt.secret

    def contribute(self) -> None:
        for site in self.members:
            site.contribution = None
            site.contribute()
        self.world.conduct()

    def complete(self) -> None:
        """Votes, and the asked opener's answer."""
        for site in self.members:
            assert site.vote().status_code == 204
        self.world.conduct()
        opener = self.world.site(self.newest().openers[-1]["site"])
        assert opener.send(f"{self.world.attempt}/opening", self.opening(opener)).status_code == 204
        self.world.conduct()

    def opening(self, opener: Any) -> Any:
        here = self.world.attempt
        plan = Plan.from_json(opener.ok("GET", f"{here}/plan").json())
        ballot = Ballot.from_json(opener.ok("GET", f"{here}/ballot").json())
        keys = {
            site: [opener.ok("GET", f"{here}/key-parts/{site}/0").content]
            for site in (entry.message.site for entry in ballot.manifests)
        }
        return open_ballot(plan, ballot, keys, self.keys[plan.epoch or ""], opener.id, self.keys)

    def round(self) -> None:
        self.contribute()
        self.complete()

    def leave(self, *, withdraw: bool = False) -> Any:
        """The last member goes, while no attempt is under way."""
        gone = self.members.pop()
        gone.ok("DELETE", f"{self.world.study}/membership" + ("?withdraw=true" if withdraw else ""))
        self.deal()
        return gone

    def act(self, what: str) -> None:
        assert self.world.operate("POST", f"{self.world.study}/{what}").status_code == 200
        self.world.conduct()

    def read(self, look: Callable[[Session], Any]) -> Any:
        return self.world.services.store.read("look", look)

    def newest(self) -> Round:
        query = select(Round).order_by(Round.number.desc(), Round.attempt.desc())
        return self.read(lambda session: session.scalars(query).first())

    def carried(self) -> list[str]:
        return [each["member"]["site"] for each in self.newest().plan.get("carried", [])]

    def stored(self, site: Any) -> list[int]:
        query = select(Round.number).join(Part, Part.round_id == Round.id).where(Part.site_id == site.id).distinct()
        rows = self.read(lambda session: sorted(session.scalars(query)))
        folders = self.world.services.settings.data_dir.rglob(f"parts/*/{site.id}")
        assert len(rows) == sum(any(folder.iterdir()) for folder in folders), "rows and blobs agree"
        return rows

    def reason(self, site: Any) -> str | None:
        key = (self.world.study_id, site.id)
        return self.read(lambda session: session.get_one(Membership, key).not_carried)


@pytest.fixture
def study(world: Any, make_model: Any) -> Carrying:
    """Round 1 is complete, the fourth site left, the plan of round 2 is out."""
    made = Carrying(world, make_model)
    made.contribute()
    world.operate("POST", f"{world.study}/pause")
    made.complete()
    return made


def test_a_leavers_parts_are_kept_and_served(study: Carrying) -> None:
    gone = study.leave()
    study.act("resume")
    assert study.carried() == [str(gone.id)]
    assert study.stored(gone) == [1]
    study.contribute()
    assert gone.call("GET", f"{study.world.attempt}/key-parts/{gone.id}/0").status_code == 403, "not on the roster"
    study.complete()
    assert study.carried() == [str(gone.id)]
    assert [study.stored(site) for site in (gone, *study.members)] == [[1], [2], [2], [2]]
    answer = study.members[0].ok("GET", f"{study.world.study}/rounds").json()
    assert [row["carried"] for row in answer] == [[], [str(gone.id)], [str(gone.id)]]
    assert len(answer[1]["contributors"]) == 4
    study.act("stop")
    assert [study.stored(site) for site in (gone, *study.members)] == [[]] * 4


def test_former_members_are_told_to_members(study: Carrying, refused: Any) -> None:
    gone = study.leave()
    path = f"{study.world.study}/former-members"
    (told,) = study.members[0].ok("GET", path).json()
    assert (told["site"], told["name"], told["signing_key"]) == (
        str(gone.id), "hospital-d", gone.identity.public.signing_key.hex()
    )  # fmt: skip
    refused(gone.call("GET", path), 403, "not-a-member")
    gone.ok("DELETE", f"{study.world.study}/membership?withdraw=true")
    assert study.members[0].ok("GET", path).json() == []


def test_what_was_withdrawn_is_deleted_at_once(study: Carrying) -> None:
    gone = study.leave(withdraw=True)
    study.world.conduct()
    assert (study.reason(gone), study.stored(gone)) == ("its site withdrew it", [])
    study.act("resume")
    assert study.carried() == []


def test_what_an_attempt_needs_is_withdrawn_with_the_next(study: Carrying) -> None:
    gone = study.leave()
    study.act("resume")
    gone.ok("DELETE", f"{study.world.study}/membership?withdraw=true")
    study.world.conduct()
    assert study.stored(gone) == [1]
    study.round()
    assert (study.carried(), study.stored(gone)) == ([], [])


def test_who_comes_back_is_not_carried(study: Carrying) -> None:
    gone = study.leave()
    gone.ok("PUT", f"{study.world.study}/membership")
    study.act("resume")
    assert (study.carried(), study.reason(gone)) == ([], None)


def test_who_came_back_does_not_hold_the_key_that_was_replaced_meanwhile(study: Carrying) -> None:
    gone = study.leave()
    back, *others = study.members
    study.world.clock.advance(10)
    back.ok("DELETE", f"{study.world.study}/membership")
    back.ok("PUT", f"{study.world.study}/membership")
    (found,) = study.read(lambda session: carrying.leavers(session, session.get_one(Study, study.world.study_id)))
    assert found.holders == {gone.id, *(site.id for site in others)}


def change_keys(session: Session, site: UUID) -> None:
    session.get_one(SiteRow, site).fingerprint = "ee" * 32


def suspend(session: Session, site: UUID) -> None:
    session.get_one(SiteRow, site).state = "suspended"


@pytest.mark.parametrize(
    ("change", "words"), [(change_keys, "its site has other keys now"), (suspend, "its site was suspended")]
)
def test_sites_that_may_be_others_now(study: Carrying, change: Callable[..., None], words: str) -> None:
    gone = study.leave()
    study.world.services.store.run("change", lambda session: change(session, gone.id))
    study.act("resume")
    study.world.conduct()
    assert study.carried() == []
    assert (study.reason(gone) or "").startswith(words)
    assert study.stored(gone) == [], "and its parts are gone"


def test_an_attempt_that_keeps_failing_is_tried_without_it(study: Carrying) -> None:
    gone = study.leave()
    study.act("resume")
    (blob,) = study.world.services.settings.data_dir.rglob(f"parts/*/{gone.id}/body-0")
    blob.write_bytes(bytes(blob.stat().st_size))
    for _ in range(carrying.FAILURES):
        assert study.carried() == [str(gone.id)]
        study.contribute()
    assert study.carried() == []
    assert study.reason(gone) == "2 attempts that it was in came to nothing after their contributors were fixed"
    assert study.stored(gone) == []


def test_a_plan_without_it_ends_it_for_good(study: Carrying) -> None:
    """Sites delete the key that it is sealed under when they see such a plan."""
    gone = study.leave()
    study.act("resume")

    def forget(session: Session) -> None:
        row = session.scalars(select(Round).order_by(Round.number.desc())).first()
        assert row is not None
        row.plan = {key: value for key, value in row.plan.items() if key != "carried"}

    study.world.services.store.run("a plan that did without", forget)
    (found,) = study.read(lambda session: carrying.leavers(session, session.get_one(Study, study.world.study_id)))
    assert found.member.site == gone.id
    assert (found.barred or "").startswith("the members have deleted the key")


def test_sums_that_were_shown_count(study: Carrying) -> None:
    gone = study.leave()
    study.act("resume")
    study.round()
    study.contribute()  # the ballot of round 3 is out, and may be opened

    def exposure(session: Session) -> float:
        return carrying.leavers(session, session.get_one(Study, study.world.study_id))[0].exposure

    assert study.read(exposure) == pytest.approx(1 / 3 + 1 / 3 + 1 / 3)
    assert study.reason(gone) is None
