"""A site's own figures, in the open, from sites whose policy allows it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from sqlalchemy.orm import Session

from coordinator.api.bodies import signed
from coordinator.api.openapi import refusals, takes
from coordinator.api.places import ThisAttempt
from coordinator.api.public import Serving
from coordinator.auth import CallingSite
from coordinator.errors import AnswerDiffers, MessageRefused, NotAMember, NotFound
from coordinator.store import site_evaluations
from crypto.errors import InvalidSignature, Malformed
from crypto.site_evaluation import SiteEvaluation
from crypto.wire import Signed

router = APIRouter(prefix="/v1/studies/{study}/rounds/{round}/{attempt}", tags=["site evaluations"])


@router.put(
    "/site-evaluation",
    status_code=204,
    responses=refusals(NotFound, NotAMember, MessageRefused, InvalidSignature, Malformed, AnswerDiffers),
    openapi_extra=takes(SiteEvaluation),
)
def report(
    services: Serving,
    site: CallingSite,
    here: ThisAttempt,
    evaluation: Annotated[Signed[SiteEvaluation], signed(SiteEvaluation)],
) -> None:
    """This site's counts of the base model on its own validation cases, readable; no site has to."""

    def keep(session: Session) -> None:
        site_evaluations.keep(session, here.row(session), site.id, evaluation, services.clock.now())

    services.store.run("keep site evaluation", keep)
