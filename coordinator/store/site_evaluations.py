"""What single sites said of a round's base model, because their policies allow it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.errors import AnswerDiffers, MessageRefused
from coordinator.metrics import measures
from coordinator.store.contributions import check_on_roster, log
from coordinator.store.tables import Round, SiteEvaluation, Study
from crypto import site_evaluation as messages
from crypto.identity import verify
from crypto.layout import Layout, named_counts
from crypto.wire import Signed


def keep(session: Session, row: Round, site: UUID, signed: Signed[messages.SiteEvaluation], now: float) -> None:
    """Keep a site's evaluation of an attempt's base model; the same again is fine.

    Raises:
        NotAMember: not on the roster.
        InvalidSignature: not signed by the site.
        MessageRefused: of another plan or model, or by another site.
        Malformed: other counts than the study's layout has.
        AnswerDiffers: it said something else before.
    """
    said = verify(check_on_roster(row, site), signed)
    if (said.site, said.plan, said.model) != (site, row.plan_digest, row.base_model):
        raise MessageRefused("The evaluation is of another plan or model, or names another site than its sender.")
    known = session.get(SiteEvaluation, (row.id, site))
    if known is not None:
        if messages.SiteEvaluation.from_json(known.signed["message"]).digest != said.digest:
            raise AnswerDiffers("This site gave another evaluation in this attempt; that one stays.")
        return
    derived = measures(named_counts(said.counts, _layout(session, row).counts))
    session.add(SiteEvaluation(round_id=row.id, site_id=site, signed=signed.to_json(), received=now, derived=derived))
    log(session, row, site, "site-evaluation.reported", {"cases": derived.get("cases")}, now)


def shown(session: Session, row: Round) -> list[dict[str, Any]]:
    """Every site's own measures of an attempt's base model, by site."""
    rows = session.scalars(select(SiteEvaluation).where(SiteEvaluation.round_id == row.id))
    return [
        {"site": str(each.site_id), "metrics": each.derived}
        for each in sorted(rows, key=lambda each: each.site_id.bytes)
    ]


def _layout(session: Session, row: Round) -> Layout:
    return Layout.from_json(session.get_one(Study, row.study_id).layout)
