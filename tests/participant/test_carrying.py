"""What a site remembers, checks and keeps where sites that left still count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import numpy as np
import pytest

from crypto.identity import Identity
from crypto.manifest import Ballot, Manifest
from crypto.plan import Carried, Member, Plan, Roster
from crypto.wire import Signed
from participant.documents import RoundRow
from participant.policy import Refused
from participant.record import Record
from participant.sealed import SealedStore
from participant.steps.carrying import check_carried
from participant.steps.desk import Desk
from participant.steps.epochs import drop_old_keys
from participant.steps.peers import fingerprint

SITES = tuple(UUID(int=number) for number in (1, 2, 3, 4))
LEAVER = SITES[3]
STUDY = UUID(int=99)
IDENTITY = Identity.generate()
ORIGIN, OLD, NOW = "0" * 64, "1" * 64, "2" * 64
MEMBER = Member(
    site=LEAVER,
    name="hospital-4",
    index=4,
    signing_key=IDENTITY.public.signing_key.hex(),
    hpke_key=IDENTITY.public.hpke_key.hex(),
)


def member(site: UUID) -> Member:
    return MEMBER.model_copy(update={"site": site, "name": f"hospital-{site.int}", "index": site.int})


def distinct(sites: Sequence[UUID]) -> Roster:
    """Of these sites, each with keys of its own."""
    keys = [Identity.generate().public for _ in sites]
    return Roster(study=STUDY, members=tuple(
        member(site).model_copy(update={"signing_key": key.signing_key.hex(), "hpke_key": key.hpke_key.hex()})
        for site, key in zip(sites, keys, strict=True)
    ))  # fmt: skip


def plan(number: int = 1, attempt: int = 1, **changes: Any) -> Plan:
    digest = "0" * 64
    values: dict[str, Any] = {
        "study": STUDY, "round": number, "attempt": attempt, "kind": "training", "base_model": digest, "layout": digest,
        "recipe": digest, "roster": digest, "epoch": OLD, "scheme": "lwe-ckks", "release": "open",
        "weighting": "equal", "expected": SITES, "k_max": 16, "n_max": 100, "bounds": (4.0,), "threshold": None,
        "minimum_contributors": 2, "collect_until": 1, "vote_seconds": 1, "open_seconds": 1, "origin": ORIGIN,
    }  # fmt: skip
    return Plan(**values | changes)


def manifest(of: Plan, site: UUID) -> Signed[Manifest]:
    return IDENTITY.sign(Manifest(plan=of.digest, site=site, parts=("a" * 64,), key_parts=("b" * 64,)))


def carried(of: Plan) -> Carried:
    return Carried(manifest=manifest(of, LEAVER).message.digest, member=MEMBER, epoch=OLD)


def later(number: int, former: Plan, **changes: Any) -> Plan:
    """A plan without the leaver, which carries its contribution to a former one."""
    return plan(number, expected=SITES[:3], epoch=NOW, carried=(carried(former),), **changes)


ROSTER = distinct(SITES[:3])


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    kept = Record(tmp_path / "record.sqlite", fresh=True)
    kept.approve(STUDY, LEAVER, fingerprint(MEMBER))
    yield kept
    kept.close()


def see(record: Record, of: Plan, *manifests: Signed[Manifest]) -> None:
    """Accept a plan and be shown its ballot: everybody's, unless others are given."""
    record.accept(of)
    listed = manifests or tuple(manifest(of, site) for site in of.expected)
    record.see_ballot(of, Ballot(plan=of.digest, manifests=listed), 8)


@contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(Refused) as caught:
        yield
    assert caught.value.code == code


def desk(record: Record, *rows: RoundRow, carries: bool = True, first_model: str = ORIGIN) -> Desk:
    study = SimpleNamespace(id=STUDY, name="tiny", carries=carries, first_model=first_model)
    site = SimpleNamespace(me=SITES[0], record=record, client=SimpleNamespace(rounds=lambda _: list(rows)))
    return cast(Desk, SimpleNamespace(study=study, site=site))


def row(number: int, state: str, attempt: int = 1, **changes: Any) -> RoundRow:
    values = {"round": number, "attempt": attempt, "state": state, "reason": None, "contributors": SITES}
    return RoundRow.model_validate(values | changes)


# --- memory


def test_each_ballot_exposes_what_is_in_it_once(record: Record) -> None:
    first = plan()
    see(record, first)
    see_again = Ballot(plan=first.digest, manifests=tuple(manifest(first, site) for site in SITES))
    record.see_ballot(first, see_again, 8)
    digest = manifest(first, LEAVER).message.digest
    assert record.exposure(STUDY, digest) == pytest.approx(1 / 3)
    second = later(2, first)
    fresh = tuple(manifest(second, site) for site in SITES[:3])
    see(record, second, *fresh, manifest(first, LEAVER))
    assert record.exposure(STUDY, digest) == pytest.approx(2 / 3)
    assert record.exposure(STUDY, fresh[0].message.digest) == pytest.approx(1 / 2)
    assert record.contributions_of(STUDY, LEAVER) == [(1, 1, digest)], "carried is not contributed"


def test_studies_that_do_not_carry_are_not_counted(record: Record) -> None:
    plain = plan(origin=None)
    see(record, plain)
    assert record.exposure(STUDY, manifest(plain, LEAVER).message.digest) == 0
    assert record.contributions_of(STUDY, LEAVER) == []


@pytest.mark.parametrize("changes", [{"origin": "f" * 64}, {"k_max": 8}, {"n_max": 99}, {"bounds": (8.0,)}])
def test_the_terms_of_the_first_plan_hold(record: Record, changes: dict[str, Any]) -> None:
    record.keep_origin(plan())
    record.keep_origin(plan(7, expected=SITES[:2]))
    with refused("origin-changed"):
        record.keep_origin(plan(2, **changes))


def test_what_clipping_cut_off_is_not_added_later(record: Record, tmp_path: Path) -> None:
    """The next update is relative to the first model again: it is not missing there."""

    class Sealed:
        key_parts, clipped, residual = (b"k",), (1,), np.ones(3, np.float32)

        def __iter__(self) -> Iterator[bytes]:
            yield b"body"

    for number, given in enumerate((plan(1), plan(2, origin=None)), 1):
        store = SealedStore(tmp_path / "sealed", tmp_path / "residuals", record, lambda study: tmp_path / "local")
        record.accept(given)
        store.write(given, SITES[0], Sealed(), IDENTITY.sign)
        store.settle(STUDY, number, 1, counted=True)
        assert list(store.residual(STUDY, 3)) == [0.0, 0.0, 0.0] if number == 1 else [1.0, 1.0, 1.0]


# --- plans


def test_an_approved_leavers_last_contribution_may_be_carried(record: Record) -> None:
    see(record, plan())
    check_carried(desk(record), later(2, plan()), ROSTER)


def test_the_recipe_says_whether_there_is_an_origin(record: Record) -> None:
    check_carried(desk(record, carries=False), plan(origin=None), ROSTER)
    for carries, given in ((False, plan()), (True, plan(origin=None))):
        with refused("origin-changed"):
            check_carried(desk(record, carries=carries), given, ROSTER)
    with refused("origin-changed"):
        check_carried(desk(record, first_model="f" * 64), plan(), ROSTER)


def test_a_leaver_that_was_not_approved_with_these_keys(record: Record) -> None:
    record.approve(STUDY, LEAVER, "f" * 64)
    with refused("peer-not-approved"):
        check_carried(desk(record), later(2, plan()), ROSTER)


def test_a_newcomer_takes_what_it_did_not_see(record: Record) -> None:
    check_carried(desk(record), later(5, plan(4)), ROSTER)


SEEN_THEN_AWAY = [
    pytest.param([row(1, "complete"), row(2, "complete")], None, id="a later one counted meanwhile"),
    pytest.param([row(1, "complete")], "carried-older", id="nothing later is known"),
    pytest.param([row(1, "complete"), row(2, "failed")], "carried-older", id="a later one failed"),
    pytest.param(
        [row(1, "complete"), row(2, "complete", carried=(LEAVER,))], "carried-older", id="a later one was not its own"
    ),
    pytest.param(
        [row(1, "complete"), row(2, "complete", contributors=SITES[:3])], "carried-older", id="a later one without it"
    ),
]


@pytest.mark.parametrize(("rows", "code"), SEEN_THEN_AWAY)
def test_another_contribution_than_the_last_one_seen(record: Record, rows: list[RoundRow], code: str | None) -> None:
    see(record, plan(1))
    given = later(3, plan(2))
    if code is None:
        check_carried(desk(record, *rows), given, ROSTER)
        return
    with refused(code):
        check_carried(desk(record, *rows), given, ROSTER)


def test_what_an_attempt_that_failed_had_is_not_the_last(record: Record) -> None:
    see(record, plan(1))
    see(record, plan(2))
    check_carried(desk(record, row(1, "complete"), row(2, "failed")), later(3, plan(1)), ROSTER)
    with refused("carried-older"):
        check_carried(desk(record, row(1, "complete"), row(2, "complete")), later(3, plan(1)), ROSTER)


@pytest.mark.parametrize(("others", "fits"), [(2, True), (4, True), (5, False), (9, False)])
def test_a_plan_that_carries_is_for_more_than_half_of_whom_a_site_knows(
    record: Record, others: int, fits: bool
) -> None:
    """Else rosters of three out of thirty could each open sums that the other sites do not count."""
    for number in range(20, 20 + others):
        record.approve(STUDY, UUID(int=number), "ab" * 32)
    see(record, plan())
    if fits:
        check_carried(desk(record), later(2, plan()), ROSTER)
        return
    with refused("carried-by-few"):
        check_carried(desk(record), later(2, plan()), ROSTER)
    check_carried(desk(record), plan(2), ROSTER)  # what carries nothing may be for few


def test_a_site_counts_the_sums_itself(record: Record) -> None:
    """Beside three, eleven sums after its own: a third each, and four in all."""
    first = plan()
    see(record, first)
    for number in range(2, 13):
        given = later(number, first, minimum_contributors=3, base_model=f"{number:064x}")
        check_carried(desk(record), given, ROSTER)
        see(record, given, *(manifest(given, site) for site in SITES[:3]), manifest(first, LEAVER))
    with refused("carried-too-often"):
        check_carried(desk(record), later(13, first, minimum_contributors=3), ROSTER)


# --- keys


@pytest.mark.parametrize(
    ("state", "given", "kept"),
    [
        ("running", None, None),
        ("running", later(2, plan()), {OLD, NOW}),
        ("running", plan(2, epoch=NOW, expected=SITES[:3]), {NOW}),
        ("finished", None, set()),
    ],
)
def test_a_key_stays_while_a_plan_may_need_it(record: Record, state: str, given: Plan | None, kept: Any) -> None:
    asked: list[set[str]] = []
    site = SimpleNamespace(keyring=SimpleNamespace(drop=lambda study, needed: asked.append(set(needed)) or []))
    message = SimpleNamespace(message=SimpleNamespace(digest=NOW))
    task = SimpleNamespace(study_state=state, plan=given, epoch=SimpleNamespace(record=message))
    drop_old_keys(cast(Any, SimpleNamespace(site=site, study=SimpleNamespace(id=STUDY, carries=True))), cast(Any, task))
    assert asked == ([] if kept is None else [kept])
