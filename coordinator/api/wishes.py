"""What an operator asks of a study: a new one, a change, a copy."""

from __future__ import annotations

from typing import Annotated, Any, Final, Self
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from coordinator.api.values import Name, Request
from coordinator.store.beginnings import Beginning
from coordinator.store.changes import Change
from coordinator.store.studies import Wishes
from crypto.parameters import K_LIMIT
from crypto.plan import Release, SchemeName, Weighting
from crypto.wire import Digest

_Rounds = Annotated[int, Field(ge=1, le=1_000_000)]
_Seconds = Annotated[int, Field(ge=1, le=30 * 24 * 3600)]
_Contributors = Annotated[int, Field(ge=2, le=K_LIMIT)]
_Fraction = Annotated[float, Field(gt=0, le=1)]
_FIXED: Final = ("scheme", "release", "weighting", "recipe", "layout", "model", "first_model", "k_max", "n_max")


class StudyWish(Request):
    """`from_study`: begin with the model of that study's round `from_round`, or its newest, in the place of `model`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "covid-ct", "model": "9f86d081" * 8, "scheme": "lwe-ckks", "rounds": 10}]
        }
    )

    name: Name
    model: Digest | None = None
    from_study: UUID | None = None
    from_round: _Rounds | None = None
    scheme: SchemeName = "lwe-ckks"
    release: Release = "open"
    rounds: _Rounds | None = None
    fraction: _Fraction | None = None
    minimum_contributors: _Contributors | None = None
    weighting: Weighting | None = None
    expected_sites: _Contributors | None = None
    k_max: _Contributors | None = None
    collect_seconds: _Seconds = 3600
    vote_seconds: _Seconds = 300
    open_seconds: _Seconds = 300

    @model_validator(mode="after")
    def _one_beginning(self) -> Self:
        if (self.model is None) == (self.from_study is None):
            raise ValueError("name either a model or the study whose model it begins with")
        if self.from_round is not None and self.from_study is None:
            raise ValueError("from_round is of from_study, which is missing")
        return self

    def wishes(self, beginning: Beginning) -> Wishes:
        """The same, from a model that was found."""
        asked = self.model_dump(exclude={"model", "from_study", "from_round"})
        return Wishes(**asked, model=beginning.model, beginning=beginning)


class StudyChange(Request):
    """What is not given stays as it is. `expected_sites` counts before the first round only."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"fraction": 0.5, "collect_seconds": 7200}]})

    fraction: _Fraction | None = None
    rounds: _Rounds | None = None
    minimum_contributors: _Contributors | None = None
    expected_sites: _Contributors | None = None
    collect_seconds: _Seconds | None = None
    vote_seconds: _Seconds | None = None
    open_seconds: _Seconds | None = None

    @model_validator(mode="before")
    @classmethod
    def _nothing_fixed(cls, given: Any) -> Any:
        named = [name for name in _FIXED if isinstance(given, dict) and name in given]
        if named:
            words = "cannot change: sites keep what they joined a study for, and refuse plans for anything else"
            raise ValueError(f"{', '.join(named)} {words}; create another study")
        return given

    def change(self) -> Change:
        """The same for the store."""
        return Change(**self.model_dump(include=set(StudyChange.model_fields)))


class CloneWish(StudyChange):
    """The copy's name, and what else is other than in the study."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "covid-ct-half", "fraction": 0.5}]})

    name: Name


class RollbackWish(StudyChange):
    """The training round whose model to go back to. `name` of the study that goes on from it: else made of both."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"round": 14}]})

    round: _Rounds
    name: Name | None = None
