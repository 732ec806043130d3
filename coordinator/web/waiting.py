"""What a study is waiting for, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from coordinator.services import Services
from coordinator.store import attempts, glance, tables
from coordinator.store.glance import Phases
from coordinator.store.waiting import waiting
from crypto.checks import takes_votes

_NAMED = 4  # sites that a sentence names; of more it tells how many


def waiting_for(services: Services, session: Session, study: tables.Study, names: Mapping[UUID, str]) -> str:
    """Empty where there is nothing to wait for."""
    row = attempts.active(session, study.id)
    if row is not None:
        return _in_round(row, glance.phases(session, row), names)
    if study.state == "draft":
        return "Waiting for an operator to start it."
    if study.state == "paused":
        return "Waiting for an operator to resume it."
    if study.state != "running":
        return ""
    reason = waiting(session, study.id, services.clock.now(), services.settings.recent_seen_seconds)
    return f"No round yet: {reason}." if reason else "The next round is about to begin."


def _in_round(row: tables.Round, found: Sequence[Phases], names: Mapping[UUID, str]) -> str:
    if row.state == "collecting":
        asked = [each for each in found if each.expected]
        missing = [each.site for each in asked if each.contributed is None]
        here = f"{len(asked) - len(missing)} of {len(asked)} contributions are in"
        return f"Round {row.number}: {here}{_of(missing, names)}."
    if row.state == "aggregating":
        return f"Round {row.number}: the contributions are being added up."
    if not takes_votes(row.plan["scheme"]) or row.plan["release"] == "members":
        answered = [each.site for each in found if each.opened is not None or each.derived is not None]
        silent = [each.site for each in found if each.site not in answered]
        return f"Round {row.number}: {len(answered)} of {len(found)} members have answered{_of(silent, names)}."
    asked_sites = [UUID(entry["site"]) for entry in row.openers]
    votes = sum(each.voted is not None for each in found)
    opener = f"; {_name(asked_sites[-1], names)} is asked to open the sum" if asked_sites else ""
    return f"Round {row.number}: {votes} of {len(found)} members have voted for the ballot{opener}."


def _of(missing: Sequence[UUID], names: Mapping[UUID, str]) -> str:
    if not missing:
        return ""
    named = ", ".join(sorted(_name(site, names) for site in missing)[:_NAMED])
    return f"; missing: {named}" + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")


def _name(site: UUID, names: Mapping[UUID, str]) -> str:
    return names.get(site, str(site)[:8])
