"""What `status` says of this site's own rules: how they stand with its studies, and what they refused lately."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from crypto.privacy import Privacy, assumptions
from participant.documents import Study
from participant.hours import ALWAYS, DAYS
from participant.ledger import Ledger
from participant.steps.desk import Site

_SHOWN: Final = 5  # refusals


def hours_line(site: Site) -> str | None:
    """None where training may run at any time."""
    policy, now = site.policy, site.clock()
    if policy.training_hours == ALWAYS and len(policy.training_days) == len(DAYS):
        return None
    rule = f"training: {policy.training_hours} on {', '.join(policy.training_days)}"
    if policy.hours.hold(now):
        return f"{rule}; allowed now"
    return f"{rule}; not before {datetime.fromtimestamp(policy.hours.begin_after(now)):%a %H:%M}"


def privacy_lines(site: Site, study: Study) -> Iterator[str]:
    """Of a study with differential privacy: what it may know of this site by now, and what that stands on."""
    promise = Privacy.of(study.recipe)
    if promise is None:
        return
    given = site.record.contributions(study.id)
    yield (
        f"  differential privacy: epsilon {promise.epsilon(given):.2f} at most by now, with {given} contributions of "
        f"this site; {promise.epsilon(study.rounds):.2f} with all {study.rounds} rounds; delta {promise.delta:g}"
    )
    yield from (f"  - {each}" for each in assumptions(study.minimum_contributors))


def refusals(ledger: Ledger) -> Iterator[str]:
    """The last few, oldest first."""
    found = [entry for entry in ledger.entries() if entry["event"] == "refusal"]
    for entry in found[-_SHOWN:]:
        when = datetime.fromtimestamp(entry["time"])
        where = f", round {entry['round']}" if "round" in entry else ""
        yield f"refused {when:%Y-%m-%d %H:%M}{where} ({entry['code']}): {entry['words']}"
