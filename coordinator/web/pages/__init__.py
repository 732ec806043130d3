"""The pages, by subject. What changes anything goes through the functions of the API, and into the audit log."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from coordinator.web.pages import audit, events, login, models, new_study, rounds, settings, sites, studies, study_life

_SUBJECTS: Final = (login, new_study, study_life, studies, rounds, sites, models, audit, settings, events)

router = APIRouter(include_in_schema=False)
for _subject in _SUBJECTS:
    router.include_router(_subject.router)
router.include_router(new_study.uploads)
