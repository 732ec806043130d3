"""What the coordinator knows this site as, and which hospitals wait for a person's approval here."""

from __future__ import annotations

from collections.abc import Iterator

from crypto.errors import CryptoError
from participant import setup
from participant.doctor.findings import Finding, fail, ok, warn
from participant.documents import Study
from participant.policy import Refused
from participant.progress import Lines
from participant.session import Problem, Unreachable
from participant.settings import ConfigError, Home
from participant.steps.desk import Site
from participant.steps.peers import fingerprint


def studies(home: Home) -> Iterator[Finding]:
    """Whether the coordinator takes this site's keys, and what each of its studies waits for."""
    if not home.enrolment.is_file() or not home.record.is_file():  # opening it would begin a new one
        return
    try:
        with setup.open_site(home, Lines()) as site:
            mine = [study for study in site.client.studies() if study.member]
            yield ok("site", f"the coordinator knows this site's keys; it is in {len(mine)} studies")
            for study in mine:
                yield _approvals(site, study)
    except (Problem, Unreachable) as problem:
        yield fail("site", str(problem), "Do what it says, or call the operator.")
    except (ConfigError, Refused, CryptoError, OSError) as error:
        yield fail("site", str(error), "Correct what it names; the agent does not start without.")


def _approvals(site: Site, study: Study) -> Finding:
    approved = site.record.approved(study.id)
    others = [each for each in site.client.roster(study.id).members if each.site != site.me]
    waiting = [each.name for each in others if approved.get(each.site) != fingerprint(each)]
    if not waiting:
        return ok(study.name, f"{study.state}, {len(others)} other hospitals, all approved here")
    words = f"not approved here: {', '.join(waiting)}; rounds go on without this site or without them"
    return warn(study.name, words, f"Compare words by telephone, then: pleura-participant approve {study.name} NAME")
