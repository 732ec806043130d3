"""config.toml and policy.toml."""

from __future__ import annotations

from collections.abc import Iterator

from participant.doctor.findings import Finding, fail, ok, warn
from participant.policy import load_policy
from participant.settings import ConfigError, Home


def config(home: Home) -> Iterator[Finding]:
    """The settings, with every fault in them."""
    try:
        found = home.load_config()
    except ConfigError as error:
        yield fail("config.toml", str(error), "Correct the lines that are named; nothing else was looked at with them.")
        return
    if found.plain_http:
        words = "plain_http is set: what the agent sends is sealed, but anybody on the way may stand in the middle"
        yield warn("config.toml", words, "Use https:// and remove plain_http.")
    else:
        yield ok("config.toml", f"{found.name}, at {found.coordinator}")


def policy(home: Home) -> Iterator[Finding]:
    """The rules, with every fault in them; and the one that is for demonstrations only."""
    try:
        found = load_policy(home.policy)
    except ConfigError as error:
        yield fail("policy.toml", str(error), "Correct the lines that are named: the agent does not start without.")
        return
    if found.peers == "auto":
        words = 'peers is "auto": whomever the coordinator names takes part in sums with this site, invented or not'
        yield warn("policy.toml", words, 'Set peers = "ask" and approve each hospital after a telephone call.')
    else:
        yield ok("policy.toml", f"sums of at least {found.minimum_contributors} contributors, peers approved here")
