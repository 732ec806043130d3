"""Studies: what was agreed on at the start, and which state the operator put them in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.errors import NameTaken, NotFound, StudyState
from coordinator.store import audit, carrying, study_rules, tables
from coordinator.store.beginnings import Beginning
from coordinator.store.tables import Model, Study
from coordinator.terms import Terms
from crypto.layout import Layout, Tensor
from crypto.parameters import BUFFER_BOUND, CARRY_BOUND, DEFAULT_MINIMUM_CONTRIBUTORS, PARAMETER_BOUND
from crypto.plan import Release, SchemeName, Weighting

Action = Literal["start", "pause", "resume", "stop"]

ONGOING: Final = frozenset({"draft", "running", "paused"})  # states that a study may leave
_MOVES: Final[Mapping[Action, tuple[frozenset[str], tables.StudyState]]] = MappingProxyType(
    {
        "start": (frozenset({"draft"}), "running"),
        "pause": (frozenset({"running"}), "paused"),
        "resume": (frozenset({"paused"}), "running"),
        "stop": (ONGOING, "stopped"),
    }
)
_PREFIX: Final = 6  # characters of an id that may stand for it; fewer are a slip, and stopping a study is for good
_K_DEFAULT: Final = 64  # room for most federations; a smaller one loses no accuracy that a model would notice
_ROUNDS_DEFAULT: Final = 10
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
    fraction: float | None = None
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
    study_rules.check(study, layout)
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
        fraction=federation.get("fraction", 1.0) if wishes.fraction is None else wishes.fraction,
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
