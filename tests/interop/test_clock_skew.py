"""An agent whose clock is five minutes wrong works with a real coordinator all the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import tiny_federation as tiny

from participant.session import CORRECTED, Patience, Problem, SiteAuth
from participant.setup import enrolment_of


def studies_seen(hospital: tiny.Hospital, ahead: float) -> list[str]:
    """The studies' names, asked for with a clock so many seconds ahead."""
    enrolment = enrolment_of(hospital.home)
    with hospital.open() as site:
        auth = SiteAuth(site.identity, enrolment.site, enrolment.coordinator, lambda: time.time() + ahead)
        session = replace(site.client.session, patience=Patience(tries=1), clock=lambda: time.time() + ahead)
        return [study.name for study in replace(site.client, session=session.signing(auth)).studies()]


@pytest.mark.parametrize("ahead", [300.0, -300.0])
def test_five_minutes(enrol: Callable[..., tiny.Hospital], study: Callable[..., str], ahead: float) -> None:
    study()
    assert studies_seen(enrol(1), ahead) == ["tiny"]


def test_an_hour_is_told(enrol: Callable[..., tiny.Hospital]) -> None:
    with pytest.raises(Problem, match=r"clock is 36\d\d s ahead of the coordinator's"):
        studies_seen(enrol(1), 3600.0)
    assert CORRECTED < 3600
