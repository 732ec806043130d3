"""All checks, in the order in which a person would look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final

from participant.doctor import cases, graphics, keys, machine, network, peers, rules
from participant.doctor.findings import Finding, fail
from participant.settings import Config, ConfigError, Home

_ALWAYS: Final[tuple[Callable[[Home], Iterator[Finding]], ...]] = (
    rules.config,
    rules.policy,
    machine.packages,
    keys.identity,
    keys.enrolment,
    keys.memory,
    keys.ledger,
    keys.leftovers,
)
_CONFIGURED: Final[tuple[Callable[[Home, Config], Iterator[Finding]], ...]] = (
    machine.home_disk,
    machine.cache_disk,
    machine.processors,
    graphics.graphics,
    cases.data,
    network.route,
)


def examine(home: Home) -> Iterator[Finding]:
    """Everything that is found, as it is found. Nothing is changed. What needs a sound config.toml waits for one, and
    what needs the coordinator for an answer from it."""
    for check in _ALWAYS:
        yield from _careful(check.__name__, partial(check, home))
    with suppress(ConfigError):
        config = home.load_config()
        for configured in _CONFIGURED:
            yield from _careful(configured.__name__, partial(configured, home, config))
        answered = list(_careful("coordinator", partial(network.coordinator, home, config)))
        yield from answered
        if all(finding.level != "fail" for finding in answered):
            yield from _careful("studies", partial(peers.studies, home))


def _careful(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check that meets what it did not foresee is a finding, and the others go on."""
    try:
        yield from check()
    except Exception as error:
        words = f"this check could not be made: {type(error).__name__}: {error}"
        yield fail(name, words, "Report it with the version of Pleura; the other checks stand.")
