"""Studies: what was agreed on at the start, who takes part, and which state the operator put them in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, get_args
from uuid import UUID, uuid4

from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import Session

from coordinator.errors import MessageRefused, NameTaken, NotFound, RequestInvalid, StudyState
from coordinator.store import audit, carrying, epochs, tables
from coordinator.store.beginnings import Beginning
from coordinator.store.tables import Approval, Membership, Model, Site, Study
from coordinator.terms import Terms
from crypto import epoch as messages
from crypto.identity import PublicIdentity, verify
from crypto.layout import Layout, Tensor
from crypto.parameters import (
    BUFFER_BOUND,
    CARRY_BOUND,
    COUNT_LIMIT,
    DEFAULT_MINIMUM_CONTRIBUTORS,
    K_LIMIT,
    PARAMETER_BOUND,
)
from crypto.plan import Release, SchemeName, Weighting
from crypto.schemes import check_release
from crypto.schemes.weights import LOSS_COUNTS
from crypto.wire import Signed

Action = Literal["start", "pause", "resume", "stop"]

_MOVES: Final[Mapping[Action, tuple[frozenset[str], tables.StudyState]]] = MappingProxyType(
    {
        "start": (frozenset({"draft"}), "running"),
        "pause": (frozenset({"running"}), "paused"),
        "resume": (frozenset({"paused"}), "running"),
        "stop": (frozenset({"draft", "running", "paused"}), "stopped"),
    }
)
_OPEN_TO_MEMBERS: Final = frozenset({"draft", "running", "paused"})
_PREFIX: Final = 6  # characters of an id that may stand for it; fewer are a slip, and stopping a study is for good
_K_DEFAULT: Final = 64  # room for most federations; a smaller one loses no accuracy that a model would notice
_ROUNDS_DEFAULT: Final = 10
_DYNAMIC_LEAST: Final = 4  # a dynamic weight may be a quarter of what samples give, in whole units of 1 / n_max
_N_MAX_DEFAULT: Final = 10_000  # cases; weights are shares of it, so a far larger one would cost accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What an operator asks of a new study. None: as the recipe says, or else a default. `beginning`: where the model
    comes from, unless it was uploaded."""

    name: str
    model: str
    scheme: SchemeName = "lwe-ckks"
    release: Release = "open"
    rounds: int | None = None
    minimum_contributors: int | None = None
    weighting: Weighting | None = None
    expected_sites: int | None = None
    k_max: int | None = None
    collect_seconds: int = 3600
    vote_seconds: int = 300
    open_seconds: int = 300
    beginning: Beginning | None = None


def create(session: Session, wishes: Wishes, layout: Layout, recipe: dict[str, Any], actor: str, now: float) -> Study:
    """A new study in state draft, from a stored model and the layout and recipe its file carries.

    Raises:
        NotFound: the model was not uploaded.
        NameTaken: another study has the name.
        RequestInvalid: numbers that contradict one another.
    """
    model = session.get(Model, wishes.model)
    if model is None:
        raise NotFound(f"There is no model {wishes.model[:12]}... Upload it first.")
    if session.scalar(select(Study).where(Study.name == wishes.name)) is not None:
        raise NameTaken(f"There is a study {wishes.name!r} already. Choose another name.")
    study = _draft(wishes, model, layout, recipe, now)
    _check_numbers(study, layout)
    session.add(study)
    session.flush()
    start = wishes.beginning or Beginning(wishes.model)
    audit.append(session, now, actor, "study.created", {"study": str(study.id), "name": study.name, **start.to_json()})
    return study


def _draft(wishes: Wishes, model: Model, layout: Layout, recipe: dict[str, Any], now: float) -> Study:
    federation = recipe.get("federation", {})
    rounds = wishes.rounds or federation.get("rounds", _ROUNDS_DEFAULT)
    minimum = wishes.minimum_contributors or federation.get("minimum_contributors", DEFAULT_MINIMUM_CONTRIBUTORS)
    return Study(
        id=uuid4(),
        name=wishes.name,
        state="draft",
        scheme=wishes.scheme,
        release=wishes.release,
        weighting=wishes.weighting or federation.get("weighting", "samples"),
        minimum_contributors=minimum,
        expected_sites=wishes.expected_sites,
        rounds=rounds,
        completed=0,
        collect_seconds=wishes.collect_seconds,
        vote_seconds=wishes.vote_seconds,
        open_seconds=wishes.open_seconds,
        k_max=wishes.k_max or max(_K_DEFAULT, minimum, wishes.expected_sites or 0),
        n_max=federation.get("n_max", _N_MAX_DEFAULT),
        fraction=federation.get("fraction", 1.0),
        recipe=recipe,
        recipe_digest=model.recipe_digest,
        layout=layout.to_json(),
        layout_digest=layout.digest,
        bounds=[_first_bound(tensor, carry=Terms.of(recipe).federation.carry) for tensor in layout.tensors],
        first_model=wishes.model,
        current_model=wishes.model,
        created=now,
    )


def _first_bound(tensor: Tensor, *, carry: bool) -> float:
    if tensor.kind == "buffer":
        return BUFFER_BOUND
    return CARRY_BOUND if carry else PARAMETER_BOUND


def _check_numbers(study: Study, layout: Layout) -> None:
    """What the table's constraints would refuse, in words and all at once."""
    expected, least = study.expected_sites, study.minimum_contributors
    shortest = min(study.collect_seconds, study.vote_seconds, study.open_seconds)
    rules = [
        *_release_rule(study),
        *_term_rules(study, layout),
        (study.rounds >= 1, "a study has at least one round"),
        (2 <= least <= study.k_max <= K_LIMIT, f"2 <= minimum_contributors <= k_max <= {K_LIMIT} does not hold"),
        (
            expected is None or least <= expected <= study.k_max,
            f"expected_sites is {expected}, outside minimum_contributors to k_max ({least} to {study.k_max})",
        ),
        (1 <= study.n_max < COUNT_LIMIT, f"the recipe's n_max is outside 1 to {COUNT_LIMIT - 1}"),
        (0 < study.fraction <= 1, "the recipe's fraction is outside 0 to 1"),
        (study.weighting in get_args(Weighting), f"weighting is {', '.join(get_args(Weighting))}"),
        (shortest >= 1, "collect_seconds, vote_seconds and open_seconds are at least 1"),
    ]
    faults = [words for holds, words in rules if not holds]
    if faults:
        raise RequestInvalid(f"This study cannot be: {'; '.join(faults)}.", {"faults": faults})


def _release_rule(study: Study) -> list[tuple[bool, str]]:
    try:
        check_release(study.scheme, study.release)
    except ValueError as error:
        return [(False, str(error))]
    return []


def _term_rules(study: Study, layout: Layout) -> list[tuple[bool, str]]:
    """What goes together of the recipe's terms, the scheme and the layout."""
    terms, dynamic = Terms.of(study.recipe), study.weighting == "dynamic"
    plain, server = terms.server.plain, f"the server optimiser {terms.server.optimizer} (lr {terms.server.lr:g})"
    losses = {field.name for field in layout.counts} >= set(LOSS_COUNTS)
    paced = terms.plateau is not None or terms.early_stopping is not None
    return [
        (plain or study.release == "open", f"{server} works on models, and this release keeps them from a coordinator"),
        (
            plain or study.scheme != "lwe-shamir",
            f"under lwe-shamir sites check that a model is its base plus the mean, which {server} does not make",
        ),
        (plain or not terms.federation.carry, f"{server} takes updates of a round's base model; carried ones are not"),
        (
            not terms.federation.carry or (study.scheme, study.release) == ("lwe-ckks", "open"),
            f"a recipe that carries the contributions of sites that left takes lwe-ckks and release open, not "
            f"{study.scheme} and {study.release}",
        ),
        (
            not (terms.federation.carry and terms.federation.scaffold),
            "a carried control variate would be that of a model long past",
        ),
        (plain or not terms.federation.scaffold, f"{server} would move scaffold's control variates too"),
        (not dynamic or losses, "dynamic weights take the counts cases and loss, which this layout lacks"),
        (not dynamic or study.n_max >= _DYNAMIC_LEAST, f"dynamic weights take an n_max of {_DYNAMIC_LEAST} or more"),
        (not paced or losses, "a plateau and early stopping take the counts cases and loss, which this layout lacks"),
    ]


def get(session: Session, study: UUID) -> Study:
    """Raises NotFound."""
    row = session.get(Study, study)
    if row is None:
        raise NotFound(f"There is no study {study}.")
    return row


def by_reference(session: Session, reference: str) -> Study:
    """The study of a name, an id, or an id's first characters, six or more, if they fit one only.

    Raises:
        NotFound: none, or more than one.
    """
    known, begins = everyone(session), len(reference) >= _PREFIX
    found = [study for study in known if reference in (study.name, str(study.id))]
    found = found or [study for study in known if begins and str(study.id).startswith(reference)]
    if len(found) != 1:
        many = "More than one study begins" if found else "There is no study whose name is, or whose id begins,"
        short = "" if begins or not reference else f" Of an id, give {_PREFIX} characters or more."
        raise NotFound(f"{many} with {reference!r}.{short} `pleura-coordinator study list` shows them all.")
    return found[0]


def everyone(session: Session) -> list[Study]:
    """All studies, oldest first."""
    return list(session.scalars(select(Study).order_by(Study.created, Study.id)))


def move(session: Session, study: Study, action: Action, actor: str, now: float) -> None:
    """Start, pause, resume or stop.

    Raises:
        StudyState: not from the state it is in.
    """
    allowed, target = _MOVES[action]
    if study.state not in allowed:
        raise StudyState(
            f"The study {study.name!r} is {study.state}. To {action} it, it has to be {' or '.join(sorted(allowed))}.",
            {"state": study.state},
        )
    study.state, study.reason = target, None
    carrying.release(session, study)
    audit.append(session, now, actor, f"study.{action}", {"study": str(study.id), "name": study.name})


def join(session: Session, study: Study, site: UUID, now: float) -> None:
    """Make a site a member; it keeps the index it once had.

    Raises:
        StudyState: the study has ended.
    """
    if study.state not in _OPEN_TO_MEMBERS:
        raise StudyState(f"The study {study.name!r} is {study.state} and takes no members.", {"state": study.state})
    member = session.get(Membership, (study.id, site))
    if member is not None and member.left is None:
        return
    if member is None:
        last = session.scalar(select(func.max(Membership.index)).where(Membership.study_id == study.id)) or 0
        member = Membership(study_id=study.id, site_id=site, index=last + 1, joined=now, left=None)
        session.add(member)
    member.joined, member.left, member.not_carried = now, None, None
    audit.append(session, now, f"site:{site}", "study.joined", {"study": str(study.id)})


def leave(session: Session, study: Study, site: UUID, now: float, *, withdraw: bool = False) -> None:
    """End a membership, which retires the key epoch: who leaves takes the key along.

    Args:
        withdraw: where sites that left still count, this one does not; also when it left before.
    """
    member = session.get(Membership, (study.id, site))
    if member is None:
        return
    if member.left is None:
        member.left = now
        epochs.retire(session, study.id, now, f"site:{site}", "a member left")
        audit.append(session, now, f"site:{site}", "study.left", {"study": str(study.id)})
    if withdraw and carrying.carries(study):
        carrying.drop(session, study, site, "its site withdrew it", f"site:{site}", now)
        carrying.release(session, study)


def approve(session: Session, study: UUID, site: Site, signed: Signed[messages.Approval], now: float) -> None:
    """Keep a site's statement of the peers it approved, in place of its former one.

    Raises:
        MessageRefused: about another study, or by another site.
        InvalidSignature: not signed with the site's key.
    """
    statement = verify(PublicIdentity.from_hex(site.signing_key, site.hpke_key), signed)
    if (statement.study, statement.site) != (study, site.id):
        raise MessageRefused("The approval names another study or another site than the one that sends it.")
    row = session.get(Approval, (study, site.id))
    if row is None:
        row = Approval(study_id=study, site_id=site.id, signed={}, received=now)
        session.add(row)
    if row.signed == signed.to_json():
        return
    row.signed, row.received = signed.to_json(), now
    audit.append(session, now, f"site:{site.id}", "peers.approved", {"study": str(study), "peers": statement.peers})


def may_download(session: Session, model: Model, site: UUID) -> bool:
    """Whether a site is a member of a study that made the model or begins with it."""
    member = exists().where(Membership.study_id == Study.id, Membership.site_id == site, Membership.left.is_(None))
    of_study = or_(Study.id == model.study_id, Study.first_model == model.digest)
    query = select(Study.id).where(of_study, member)
    return session.scalar(query.limit(1)) is not None
