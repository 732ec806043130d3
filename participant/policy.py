"""policy.toml: what this hospital agrees to. The agent refuses everything else, and says so in its ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal, get_args

from pydantic import Field

from crypto.parameters import DEFAULT_MINIMUM_CONTRIBUTORS, K_LIMIT
from crypto.plan import Plan, Release, SchemeName
from crypto.wire import Digest
from participant.settings import Section, dump, load

_HEAD: Final = "# What this site agrees to. Whatever is not allowed here is refused, and written to ledger.jsonl.\n\n"


class Refused(Exception):
    """This site says no. `code` is for programs, `words` are for both operators; neither holds anything private."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code, self.words = code, words


class Policy(Section):
    """The rules. `minimum_contributors` is a floor: a study may demand more."""

    peers: Literal["auto", "ask"] = Field(
        "ask",
        description='"ask": each peer is approved here by its fingerprint, after comparing the words by telephone; '
        '"auto": any peer the coordinator names (demonstrations only: a coordinator could invent peers)',
    )
    minimum_contributors: int = Field(
        DEFAULT_MINIMUM_CONTRIBUTORS,
        ge=2,
        le=K_LIMIT,
        description="fewest contributors in a sum that this site helps to open",
    )
    recipes: list[str] | Literal["any"] = Field(
        "any", description='names of the recipes that may be trained here, such as ["ucadi"], or "any"'
    )
    schemes: list[SchemeName] = Field(
        ["lwe-ckks", "lwe-shamir"],
        description='aggregation schemes that are acceptable; "ckks" would protect against a coordinator that keeps '
        "to the protocol, and against no other",
    )
    releases: list[Release] = Field(
        ["open", "members"],
        description='who may read the models that come of this site\'s cases; "open": the coordinator too; "members": '
        "the hospitals of the study alone",
    )
    reattempts: int = Field(
        2,
        ge=1,
        le=8,
        description="sets of contributors that may be opened on one base model; each beyond the first lets the "
        "coordinator subtract one sum from another",
    )

    metrics: Literal["pooled", "site"] = Field(
        "pooled",
        description='figures that leave this site; "pooled": only sealed, added up over the contributors; "site": its '
        "own too, of each round's base model on its validation cases, readable for the coordinator and the members",
    )
    trusted_models: list[Digest] = Field(
        [],
        description="models (by their SHA-256) to go on from although a spot check failed before, once that is "
        "explained; empty in good times",
    )

    def check_study(self, name: str, scheme: str, minimum: int) -> None:
        """Raise unless this site may take part in such a study.

        Args:
            name: the recipe's name.
            minimum: contributors the study demands at least.

        Raises:
            Refused: naming the rule and the key that holds it.
        """
        if self.recipes != "any" and name not in self.recipes:
            raise Refused("recipe-not-allowed", f"the recipe {name} is not among `recipes` in policy.toml")
        if scheme not in self.schemes:
            raise Refused("scheme-not-allowed", f"the scheme {scheme} is not among `schemes` in policy.toml")
        if minimum < self.minimum_contributors:
            raise Refused(
                "minimum-too-low",
                f"sums of {minimum} contributors may be opened there, and policy.toml demands "
                f"`minimum_contributors` = {self.minimum_contributors}",
            )

    def check_release(self, release: str) -> None:
        """Raise unless the study's models may go to whom it says.

        Raises:
            Refused: naming the key that holds the rule.
        """
        if release not in self.releases:
            raise Refused("release-not-allowed", f"the release {release} is not among `releases` in policy.toml")

    def check_plan(self, plan: Plan, recipe: dict[str, Any]) -> None:
        """The same of a plan, whose numbers are the ones that count."""
        self.check_release(plan.release)
        self.check_study(recipe_name(recipe), plan.scheme, plan.minimum_contributors)
        if not 0 < plan.rate <= 1:
            words = f"the plan multiplies the recipe's learning rate with {plan.rate:g}; a plateau may only lower it"
            raise Refused("rate-out-of-range", words)


def recipe_name(recipe: dict[str, Any]) -> str:
    """The name in a recipe's JSON; a recipe without one matches no rule."""
    return str(recipe.get("name", ""))


def load_policy(path: Path) -> Policy:
    """The policy in force; without a file, the defaults.

    Raises:
        ConfigError: with every fault in the file.
    """
    return load(Policy, path) if path.is_file() else Policy()


def sample(peers: Literal["auto", "ask"]) -> str:
    """A policy.toml with every rule spelled out; that of demonstrations (`auto`) takes two sites and any scheme too."""
    if peers == "auto":
        return _HEAD + dump(Policy(peers=peers, minimum_contributors=2, schemes=list(get_args(SchemeName))))
    return _HEAD + dump(Policy(peers=peers))
