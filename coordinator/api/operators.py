"""People and scripts with tokens: for operators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from coordinator.api.openapi import refusals
from coordinator.api.paging import LINKED, Paged
from coordinator.api.public import Serving
from coordinator.auth import CallingOperator
from coordinator.errors import NameTaken, NotFound, RequestInvalid
from coordinator.store import lists, operators, tables

router = APIRouter(prefix="/v1/operators", tags=["operators"])
_Named = Annotated[str, Path(pattern=operators.NAME)]
_Days = Annotated[float, Field(gt=0, le=operators.LONGEST_DAYS, description="how long the token is good")]


class OperatorWish(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "anna", "role": "auditor", "days": 90}]}
    )

    name: Annotated[str, Field(pattern=operators.NAME)]
    role: tables.Role = "operator"
    days: _Days = operators.DAYS


class RenewalWish(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"days": 90}]})

    days: _Days = operators.DAYS


class Operator(BaseModel):
    """`expires` is null where the token is good until it is revoked."""

    name: str
    role: tables.Role
    standing: operators.Standing
    created: float
    expires: float | None
    revoked: float | None

    @classmethod
    def of(cls, row: tables.Operator, now: float) -> Operator:
        return cls(
            name=row.name,
            role=row.role,
            standing=operators.standing(row, now),
            created=row.created,
            expires=row.expires,
            revoked=row.revoked,
        )


class OperatorToken(BaseModel):
    name: str
    token: str
    expires: float


@router.get("", responses=LINKED | refusals(RequestInvalid))
def list_operators(
    services: Serving,
    _: CallingOperator,
    page: Paged,
    after: Annotated[str | None, Query(pattern=operators.NAME, description="the last page's last `name`")] = None,
) -> list[Operator]:
    """All operators and auditors by name, revoked and expired ones among them."""
    now = services.clock.now()
    rows = services.store.read("operators", lambda session: lists.operators(session, page.rows, after))
    return [Operator.of(row, now) for row in page.cut(rows, lambda row: row.name)]


@router.post("", status_code=201, responses=refusals(NameTaken))
def add(services: Serving, operator: CallingOperator, wish: OperatorWish) -> OperatorToken:
    """A new operator or auditor. The token is shown here and never again."""
    now, actor = services.clock.now(), f"operator:{operator.name}"
    expires = now + wish.days * operators.DAY
    token = services.store.run(
        "add operator", lambda session: operators.add(session, wish.name, wish.role, actor, now, expires)
    )
    return OperatorToken(name=wish.name, token=token, expires=expires)


@router.post("/{name}/renewals", status_code=201, responses=refusals(NotFound))
def renew(services: Serving, operator: CallingOperator, name: _Named, wish: RenewalWish) -> OperatorToken:
    """A new token in place of the former one, which is refused from now on. It is shown here and never again."""
    now, actor = services.clock.now(), f"operator:{operator.name}"
    expires = now + wish.days * operators.DAY
    token = services.store.run("renew operator", lambda session: operators.renew(session, name, actor, now, expires))
    return OperatorToken(name=name, token=token, expires=expires)


@router.delete("/{name}", status_code=204, responses=refusals(NotFound))
def revoke(services: Serving, operator: CallingOperator, name: _Named) -> None:
    """Refuse the operator's token, and end every login with it, from now on."""
    now, actor = services.clock.now(), f"operator:{operator.name}"
    services.store.run("revoke operator", lambda session: operators.revoke(session, name, actor, now))
