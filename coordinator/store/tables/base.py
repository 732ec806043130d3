"""What all tables share: their types, names of constraints, and the states that some columns may have."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    MetaData,
    String,
    Text,
    Uuid,
)
from sqlalchemy.orm import DeclarativeBase

from crypto.plan import Release, SchemeName, Weighting

Digest = Annotated[str, "sha256"]
Moment = Annotated[float, "unix seconds"]
Size = Annotated[int, "bytes"]
Json = dict[str, Any]

Role = Literal["operator", "auditor"]
SiteState = Literal["active", "suspended"]
StudyState = Literal["draft", "running", "paused", "finished", "stopped"]
RoundKind = Literal["training", "evaluation"]
RoundState = Literal["collecting", "aggregating", "opening", "complete", "failed"]
PartKind = Literal["body", "key", "opened", "sealed"]
RefusalStep = Literal["plan", "ballot", "opening"]

ACTIVE_ROUND = "state IN ('collecting', 'aggregating', 'opening')"
UNSWEPT = "swept IS NULL"
_LITERALS = (Role, SiteState, StudyState, Release, Weighting, RoundKind, RoundState, PartKind, RefusalStep, SchemeName)


class Base(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        UUID: Uuid(),
        Digest: String(64),
        Moment: Double(),
        Size: BigInteger(),
        Json: JSON(),
        list[Any]: JSON(),
        **{literal: String(16) for literal in _LITERALS},
    }
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def one_of(column: str, literal: Any) -> CheckConstraint:
    values = ", ".join(f"'{value}'" for value in literal.__args__)
    return CheckConstraint(f"{column} IN ({values})", name=column)


def holds(name: str, condition: str) -> CheckConstraint:
    return CheckConstraint(condition, name=name)
