"""Sites that left and still count, at the coordinator: whom a plan carries, who opens it, and what is kept so long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.rounds.carrying import Leaver, lasting
from coordinator.rounds.carrying import select as select_carried
from coordinator.rounds.planning import Candidate, KeyEpoch, NotYet, Settings, StudyView, plan_round
from coordinator.rounds.states import Asked, Opening, View
from coordinator.rounds.steps import AskOpener, Fail, Wait, next_step
from coordinator.store import carrying
from coordinator.store.tables import Membership, Part, Round, Study
from coordinator.store.tables import Site as SiteRow
from crypto.canonical import canonical
from crypto.ckks_secret import SecretContext
from crypto.manifest import Ballot
from crypto.plan import Carried, Member, Plan, Roster
from crypto.schemes.opening import open_ballot

DIGEST = "ab" * 32
START = 1000.0
SITES = [UUID(int=number) for number in range(1, 6)]
ALL = frozenset(SITES)


def member(number: int) -> Member:
    return Member(
        site=UUID(int=number),
        name=f"hospital-{number}",
        index=number,
        signing_key=f"{number:064x}",
        hpke_key=f"{number:016x}",
    )


ROSTER = Roster(study=UUID(int=9), members=tuple(map(member, range(1, 4))))


def leaver(number: int, exposure: float = 0.5, holders: frozenset[UUID] = ALL, barred: str | None = None) -> Leaver:
    carried = Carried(manifest=f"{number:064x}", member=member(number), epoch=f"{number % 2:064x}")
    return Leaver(carried, fingerprint(number), exposure, holders, barred)


def fingerprint(number: int) -> str:
    return f"{number + 100:064x}"


# --- which of them


def test_those_who_may_are_carried_in_order_of_their_ids() -> None:
    selection = select_carried([leaver(5), leaver(4)], ROSTER, room=4, minimum=3, ever=5)
    assert [carried.member.site for carried in selection.carried] == [UUID(int=4), UUID(int=5)]
    assert selection.dropped == {}


@pytest.mark.parametrize(
    ("given", "room", "words"),
    [
        (leaver(4, barred="its site was suspended"), 4, "its site was suspended"),
        (leaver(4, exposure=3.75), 4, "an exposure of 3.75; with one more, beside 3 fresh contributions"),
        (leaver(4, holders=frozenset({UUID(int=5)})), 4, "no member that is here holds the key"),
        (leaver(4), 0, "k_max has no room"),
    ],
)
def test_the_others_are_dropped_in_words(given: Leaver, room: int, words: str) -> None:
    selection = select_carried([given], ROSTER, room, minimum=3, ever=5)
    assert selection.carried == ()
    assert words in selection.dropped[UUID(int=4)]


@pytest.mark.parametrize(("ever", "carried"), [(5, 2), (7, 2), (8, 0), (30, 0)])
def test_none_is_carried_where_half_of_all_are_gone(ever: int, carried: int) -> None:
    """Three are here, two would be carried: of eight that ever were members six count, and three are no majority."""
    selection = select_carried([leaver(4), leaver(5)], ROSTER, room=4, minimum=3, ever=ever)
    assert len(selection.carried) == carried
    assert len(selection.dropped) == 2 - carried
    assert all("half or fewer" in words for words in selection.dropped.values())


def test_some_member_has_to_hold_all_the_keys_at_once() -> None:
    one, other = leaver(4, holders=frozenset(SITES[:2])), leaver(5, holders=frozenset(SITES[1:3]))
    assert len(select_carried([one, other], ROSTER, 4, 3, 5).carried) == 2
    other = leaver(5, holders=frozenset(SITES[2:3]))
    selection = select_carried([one, other], ROSTER, 4, 3, 5)
    assert [carried.member.site for carried in selection.carried] == [UUID(int=4)]
    assert "no member that is here holds the key" in selection.dropped[UUID(int=5)]


def test_room_is_for_as_many_as_there_is() -> None:
    assert len(select_carried([leaver(4), leaver(5)], ROSTER, 1, 3, 5).carried) == 1


def test_those_who_last_are_neither_barred_nor_worn_out() -> None:
    everyone = [leaver(1), leaver(2, barred="x"), leaver(3, exposure=3.7), leaver(4, exposure=3.6)]
    assert [each.member.index for each in lasting(everyone, 3)] == [1, 4]


# --- plans

SETTINGS = Settings(
    scheme="lwe-ckks", release="open", weighting="samples", minimum_contributors=3, expected_sites=None, rounds=4,
    collect_seconds=60, vote_seconds=60, open_seconds=60, k_max=16, n_max=100, fraction=1.0, layout=DIGEST,
    recipe=DIGEST, origin="ef" * 32,
)  # fmt: skip


def candidate(number: int, knows: tuple[int, ...] = (4,)) -> Candidate:
    approved = {UUID(int=other): fingerprint(other) for other in (1, 2, 3, *knows)}
    return Candidate(member(number), fingerprint(number), float(number), START, approved)


def view(*candidates: Candidate, completed: int = 1, leavers: tuple[Leaver, ...] = (leaver(4),)) -> StudyView:
    return StudyView(
        id=ROSTER.study, settings=SETTINGS, completed=completed, model=DIGEST, bounds=(4.0, 64.0), last=None,
        candidates=candidates, epoch=KeyEpoch(DIGEST, frozenset(SITES[:3])), leavers=leavers,
    )  # fmt: skip


def planned(given: StudyView) -> Plan:
    result = plan_round(given, START, 120)
    assert not isinstance(result, NotYet), result.reason
    return result[0]


def test_a_plan_carries_on_the_terms_of_the_first() -> None:
    plan = planned(view(*map(candidate, (1, 2, 3))))
    assert (plan.carried, plan.origin, plan.k_max) == ((leaver(4).carried,), "ef" * 32, 16)
    assert len(plan.expected) == 3


def test_an_evaluation_carries_nothing() -> None:
    plan = planned(view(*map(candidate, (1, 2, 3)), completed=4))
    assert (plan.kind, plan.carried, plan.origin) == ("evaluation", (), "ef" * 32)


def test_who_has_not_approved_the_leaver_waits() -> None:
    result = plan_round(view(candidate(1), candidate(2), candidate(3, knows=())), START, 120)
    assert isinstance(result, NotYet)
    assert result.reason.endswith("2 of those approved each other, and the 1 that left and still count")
    barred = (leaver(4, barred="its site was suspended"),)
    assert planned(view(candidate(1), candidate(2), candidate(3, knows=()), leavers=barred)).carried == ()


# --- openers

PLAN = planned(view(*map(candidate, (1, 2, 3))))
A, B, C = SITES[:3]


def step_of(now: float = START, **changes: Any) -> Any:
    state = Opening(
        contributors=(A, B, C), shown=START, able=frozenset({B}), **({"voted": frozenset({A, B, C})} | changes)
    )
    return next_step(View(UUID(int=7), PLAN, ROSTER, False, state), now)


def test_only_who_holds_all_keys_is_asked() -> None:
    assert step_of() == AskOpener(B)
    refused = step_of(asked=(Asked(B, START),), refused={B: "asleep"})
    assert isinstance(refused, Fail)
    assert refused.reason == "nobody opened the sum; asked: hospital-2 (asleep)"


def test_who_holds_all_keys_may_vote_last() -> None:
    assert step_of(voted=frozenset({A, C})) == Wait(START + PLAN.vote_seconds)
    assert isinstance(step_of(START + 60, voted=frozenset({A, C})), Fail)


# --- studies


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

    def leave(self, *, withdraw: bool = False, before_plan: bool = True) -> Any:
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
