"""What a recipe asks of the coordinator: which combinations are a study, and what each makes of its plans."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from coordinator.errors import RequestInvalid
from coordinator.rounds.planning import Candidate, KeyEpoch, LastAttempt, Settings, StudyView, plan_round
from coordinator.terms import EarlyStopping, Plateau, Terms
from crypto.canonical import canonical
from crypto.identity import Identity
from crypto.layout import CountField, Layout, Tensor
from crypto.plan import Member, Plan

DIGEST = "ab" * 32
SITES = [UUID(int=number) for number in (1, 2, 3)]


@pytest.fixture(scope="module")
def candidates() -> tuple[Candidate, ...]:
    found = []
    for number, site in enumerate(SITES, 1):
        public = Identity.generate().public
        keys = {"signing_key": public.signing_key.hex(), "hpke_key": public.hpke_key.hex()}
        member = Member(site=site, name=f"site-{number}", index=number, **keys)
        approved = {other: f"{other.int:064x}" for other in SITES}
        found.append(Candidate(member, f"{site.int:064x}", float(number), 0.0, approved))
    return tuple(found)


@pytest.fixture
def planned(candidates):
    """`planned(losses, **settings)`: the next plan of a study with as many rounds behind it."""

    def plan(losses=(), **changes) -> Plan:
        settings = {
            "scheme": "lwe-ckks", "release": "open", "weighting": "samples", "minimum_contributors": 3,
            "expected_sites": None, "rounds": 20, "collect_seconds": 10, "vote_seconds": 10, "open_seconds": 10,
            "k_max": 8, "n_max": 100, "fraction": 1.0, "layout": DIGEST, "recipe": DIGEST,
        }  # fmt: skip
        view = StudyView(
            id=UUID(int=9),
            settings=Settings(**settings | changes),
            completed=len(losses),
            model=DIGEST,
            bounds=(1.0,),
            last=LastAttempt(len(losses), 1, over=True) if losses else None,
            candidates=candidates,
            epoch=KeyEpoch(DIGEST, frozenset(SITES)),
            losses=tuple(losses),
        )
        return plan_round(view, 1.0, 100)[0]

    return plan


def test_without_options_a_plan_says_what_it_always_said(planned) -> None:
    fields = planned([0.9, 0.8]).to_json()
    assert not fields.keys() & {"rate", "reference_loss", "carried", "origin"}


def test_a_plateau_lowers_the_rate(planned) -> None:
    plateau = Plateau(factor=0.1, patience=1)
    rates = [planned([0.5] * rounds, plateau=plateau).rate for rounds in range(5)]
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1])


def test_an_early_end_is_an_evaluation_and_stays_one(planned) -> None:
    stopping = EarlyStopping(patience=2)
    kinds = [planned([0.5] * rounds, early_stopping=stopping).kind for rounds in range(5)]
    assert kinds == ["training"] * 3 + ["evaluation"] * 2
    assert planned([0.5, 0.5, 0.5, 0.1], early_stopping=stopping).kind == "evaluation"


def test_dynamic_weights_are_told_the_last_known_loss(planned) -> None:
    assert planned(weighting="dynamic").reference_loss is None
    assert planned([0.9, 0.7], weighting="dynamic").reference_loss == 0.7
    assert planned([0.9, 0.0], weighting="dynamic").reference_loss is None  # nothing is a share of nothing
    assert planned([0.9, 0.7]).reference_loss is None


# --- what goes together


def recipe(**sections) -> dict:
    plain = {"rounds": 4, "weighting": "samples", "minimum_contributors": 3, "n_max": 100, "fraction": 1.0}
    return {"name": "tiny", "federation": plain | sections.pop("federation", {}), **sections}


FEDADAM = {"federation": {"server": {"optimizer": "fedadam"}}}
PACED = {"training": {"schedule": "plateau", "plateau": {"factor": 0.5, "patience": 3}}}
BARE = Layout((Tensor("weight", (3, 5), "parameter"),), (CountField("cases", ()),))


def create(world, make_model, changes, layout=None, **wish):
    texts = {"recipe": canonical(recipe(**changes)).decode()}
    data = make_model(metadata=texts) if layout is None else make_model(layout, metadata=texts)
    model = world.operate("POST", "/v1/models", content=data).json()["model"]
    return world.operate("POST", "/v1/studies", json={"name": "study", "model": model, **wish})


@pytest.mark.parametrize(
    ("changes", "wish", "words"),
    [
        (FEDADAM, {"release": "members"}, "keeps them from a coordinator"),
        (FEDADAM, {"scheme": "lwe-shamir"}, "fedadam (lr 1) does not make"),
        ({"federation": {"server": {"lr": 0.5}}}, {"release": "members"}, "average (lr 0.5)"),
        ({"federation": {"server": {"optimizer": "fedavgm"}, "carry": True}}, {}, "carried ones are not"),
        ({"federation": {"server": {"optimizer": "fedyogi"}, "scaffold": True}}, {}, "control variates"),
        ({"federation": {"server": {"optimizer": "adagrad"}}}, {}, "federation.server.optimizer"),
        ({"federation": {"server": {"lr": 0, "beta2": 1}}}, {}, "federation.server.beta2"),
        ({"training": {"early_stopping": {"patience": 0}}}, {}, "training.early_stopping.patience"),
        ({"federation": {"weighting": "dynamic", "n_max": 3}}, {}, "n_max of 4 or more"),
        ({"federation": {"weighting": "median"}}, {}, "weighting is samples, equal, dynamic"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused_in_words(world, make_model, refused, changes, wish, words) -> None:
    assert words in refused(create(world, make_model, changes, **wish), 422, "request-invalid")["detail"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"federation": {"weighting": "dynamic"}}, "dynamic weights take the counts cases and loss"),
        (PACED, "a plateau and early stopping take the counts cases and loss"),
        ({"training": {"early_stopping": {"patience": 3}}}, "a plateau and early stopping take"),
    ],
)
def test_what_needs_losses_needs_a_layout_with_them(world, make_model, refused, changes, words) -> None:
    assert words in refused(create(world, make_model, changes, BARE), 422, "request-invalid")["detail"]


@pytest.mark.parametrize(
    ("changes", "wish"),
    [
        (FEDADAM, {}),
        (FEDADAM, {"scheme": "ckks"}),
        ({"federation": {"server": {"optimizer": "average", "lr": 1}}}, {"release": "members"}),
        ({"federation": {"weighting": "dynamic"}}, {"scheme": "lwe-shamir", "release": "members"}),
        (PACED, {"release": "members"}),
        ({"training": {"early_stopping": None, "plateau": None, "lr": 0.1}}, {}),
    ],
    ids=str,
)
def test_what_goes_together(world, make_model, changes, wish) -> None:
    answer = create(world, make_model, changes, **wish)
    assert answer.status_code == 201, answer.text


def test_an_operator_may_ask_for_dynamic_weights(world, make_model) -> None:
    assert create(world, make_model, {}, weighting="dynamic").json()["weighting"] == "dynamic"


def test_terms_say_all_their_faults() -> None:
    with pytest.raises(RequestInvalid) as caught:
        Terms.of(recipe(federation={"server": {"tau": -1}, "scaffold": "yes"}))
    assert len(caught.value.fields["faults"]) == 2
    assert Terms.of(json.loads(json.dumps(recipe(**PACED)))).plateau == Plateau(factor=0.5, patience=3)
    assert Terms.of(recipe(training={"plateau": {"factor": 0.5, "patience": 3}})).plateau is None, "another schedule"
