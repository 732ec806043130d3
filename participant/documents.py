"""What the coordinator answers with, as values. The signed messages themselves are in `crypto`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from crypto.epoch import EpochRecord, WrapAddition
from crypto.errors import Malformed
from crypto.layout import Layout
from crypto.plan import Plan, Roster, Weighting
from crypto.wire import Digest, Signed

T = TypeVar("T")
_KEPT = 4


def read_kept(kind: type[T], body: bytes) -> T:
    """As `read`, of values that never change and come again and again: rosters, ballots. The last few are kept."""
    key: Any = kind
    return cast(T, _read_kept(key, body))


@lru_cache(_KEPT)
def _read_kept(kind: Any, body: bytes) -> Any:
    return read(TypeAdapter(kind), body)


def read(kind: TypeAdapter[T], body: bytes) -> T:
    """The value of an answer's JSON.

    Raises:
        Malformed: naming the first field that is wrong.
    """
    try:
        return kind.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the whole"
        raise Malformed(
            f"the coordinator's answer is not as documented: {place}: {first['msg']}; "
            "is it of another version, or is a proxy answering in its place?"
        ) from None


class Document(BaseModel):
    """An answer. Keys unknown to this version are ignored, so that a newer coordinator may add some."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Enrolment(Document):
    """Who this site is there, and whom its tokens are addressed to. `again`: it has new keys in place of lost ones."""

    site: UUID
    coordinator: UUID
    again: bool = False


class ServerStatus(Document):
    """`time` is the coordinator's clock, in Unix seconds."""

    product: Literal["pleura"]
    version: str
    protocols: tuple[int, ...]
    coordinator: UUID
    time: float


class Study(Document):
    """A study as one site sees it. `model` is the digest of the current global model; `trust` says against whom the
    scheme protects an update, `privacy` what is promised of differential privacy."""

    id: UUID
    name: str
    state: Literal["draft", "running", "paused", "finished", "stopped"]
    scheme: str
    release: str
    weighting: Weighting
    minimum_contributors: int
    rounds: int
    round: int
    recipe: dict[str, Any]
    recipe_digest: Digest
    layout: dict[str, Any]
    layout_digest: Digest
    model: Digest
    first_model: Digest
    member: bool
    trust: str = ""
    privacy: dict[str, Any] | None = None

    @property
    def carries(self) -> bool:
        """Whether sites that leave still count, with their last contribution."""
        federation = self.recipe.get("federation")
        return isinstance(federation, dict) and federation.get("carry") is True

    def layout_value(self) -> Layout:
        """The layout.

        Raises:
            Malformed: it is none.
        """
        return Layout.from_json(self.layout)


class EpochState(Document):
    """The study's key epoch: whether there is one, who is asked to deal one, who lacks its wrap."""

    state: Literal["none", "current"]
    number: int
    dealer: UUID | None
    record: Signed[EpochRecord] | None
    additions: tuple[Signed[WrapAddition], ...]
    missing: tuple[UUID, ...]


class Ended(Document):
    """How an attempt ended."""

    round: int
    attempt: int
    state: Literal["complete", "failed"]
    reason: str | None
    contributors: tuple[UUID, ...]
    model: Digest | None


class Task(Document):
    """What a study asks of this site at this moment. `members` is the digest of the roster of all active members.

    Where only members hold the models: `answers` are sealed and in, `derived` says that this site's outcome is,
    `model_wanted` are members that lack the current model, `model_offers` those that sealed it to this site.
    """

    cursor: str
    study_state: Literal["draft", "running", "paused", "finished", "stopped"]
    phase: Literal["waiting", "collecting", "aggregating", "opening"]
    members: Digest | None = None
    epoch: EpochState
    plan: Plan | None
    roster: Roster | None
    contributed: bool
    ballot: Digest | None
    voted: bool
    votes: int
    openers: tuple[UUID, ...]
    opened: bool
    answers: int = 0
    derived: bool = False
    model_wanted: tuple[UUID, ...] = ()
    model_offers: tuple[UUID, ...] = ()
    last: Ended | None


class Delivered(Document):
    """What of this site's contribution arrived, by part number."""

    parts: dict[str, Digest]
    key_parts: dict[str, Digest]
    manifest: bool


class Measures(Document):
    """What pooled counts tell of a round's base model, against all others where a list has a value a class.

    None where they do not tell. `intervals` has the ends [low, high] of measures that have an interval, in their shape.
    """

    cases: int | None = None
    class_cases: tuple[int, ...] | None = None
    loss: float | None = None
    accuracy: float | None = None
    macro_auc: float | None = None
    auc: tuple[float | None, ...] | None = None
    sensitivity: tuple[float | None, ...] | None = None
    specificity: tuple[float | None, ...] | None = None
    intervals: dict[str, Any] | None = None


class RoundRow(Document):
    """One attempt in a study's history, as far as an agent needs it. `metrics` are of the model that it began with;
    `epsilon` is what the study's sums have cost by then, where it promises differential privacy."""

    round: int
    attempt: int
    state: Literal["collecting", "aggregating", "opening", "complete", "failed"]
    reason: str | None
    contributors: tuple[UUID, ...]
    carried: tuple[UUID, ...] = ()
    model: Digest | None = None
    kind: Literal["training", "evaluation"] = "training"
    metrics: Measures | None = None
    epsilon: float | None = None


class PooledCounts(Document):
    """What the coordinator says the contributors' counts add up to; those of the recipe in nested lists, by name."""

    samples: int
    capped_samples: int
    clipped: tuple[int, ...]
    recipe: dict[str, Any]
