"""policy.toml: what this hospital agrees to. The agent refuses everything else, and says so in its ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import Field, field_validator

from crypto.parameters import DEFAULT_MINIMUM_CONTRIBUTORS, K_LIMIT
from crypto.plan import Plan, Release, SchemeName
from crypto.privacy import Privacy
from crypto.wire import Digest
from participant.hours import ALWAYS, DAYS, Day, Hours
from participant.settings import Section, dump, load

_HEAD: Final = "# What this site agrees to. Whatever is not allowed here is refused, and written to ledger.jsonl.\n\n"


class Refused(Exception):
    """This site says no. `code` is for programs, `words` are for both operators; neither holds anything private."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code, self.words = code, words


class Policy(Section):
    """The rules. `minimum_contributors` is a floor: a study may demand more."""

    coordinators: list[str] | Literal["any"] = Field(
        "any",
        description='addresses of coordinators that this site may work with, such as ["https://pleura.example.org"], '
        'or "any"; config.toml names the one that it does',
    )
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

    metrics: Literal["none", "pooled", "site"] = Field(
        "pooled",
        description='figures that leave this site; "none": not even its number of cases, so that it takes part only in '
        'studies that pool no figures and weigh all sites alike; "pooled": only sealed, added up over the '
        'contributors; "site": its own too, of each round\'s base model on its validation cases, readable for the '
        "coordinator and the members",
    )
    privacy_noise_multiplier: Annotated[float, Field(ge=0)] | Literal["any"] = Field(
        "any",
        description="least noise of a study with differential privacy, as its recipe's `privacy.noise_multiplier`; a "
        'number refuses studies without any, "any" takes them',
    )
    privacy_epsilon: Annotated[float, Field(gt=0)] | Literal["any"] = Field(
        "any",
        description="the most that one study may come to know of this site: epsilon of all its contributions; a number "
        'refuses studies without differential privacy, "any" takes them',
    )
    privacy_delta: float = Field(1e-5, gt=0, le=0.01, description="largest delta that such an epsilon may be told for")
    training_hours: str = Field(
        ALWAYS,
        description='when training may run, by this machine\'s clock and time zone, such as "22:00-06:00"; at other '
        "times the agent waits, delivers what is sealed, and helps to open sums",
    )
    training_days: list[Day] = Field(
        list(DAYS), min_length=1, description="days on which those hours begin; a night belongs to the evening"
    )
    gpu_share: float = Field(1.0, gt=0, le=1, description="share of each GPU's memory that the agent may take")
    cpu_share: float = Field(1.0, gt=0, le=1, description="share of the processor's cores that training may use")
    upload_rate: Annotated[int, Field(ge=1024)] | Literal["any"] = Field(
        "any", description='bytes a second that uploads may take of this site\'s line, or "any"'
    )
    trusted_models: list[Digest] = Field(
        [],
        description="models (by their SHA-256) to go on from although a spot check failed before, once that is "
        "explained; empty in good times",
    )

    @field_validator("training_hours")
    @classmethod
    def _readable_hours(cls, value: str) -> str:
        Hours.parse(value, DAYS)
        return value

    @property
    def hours(self) -> Hours:
        """When training may run."""
        return Hours.parse(self.training_hours, self.training_days)

    def check_coordinator(self, url: str) -> None:
        """Raise unless this site may work with the coordinator at that address.

        Raises:
            Refused: naming the key that holds the rule.
        """
        if self.coordinators != "any" and url not in [each.rstrip("/") for each in self.coordinators]:
            words = f"the coordinator {url} of config.toml is not among `coordinators` in policy.toml"
            raise Refused("coordinator-not-allowed", words)

    def check_figures(self, counts: bool, weighting: str) -> None:
        """Raise unless the figures that a study takes may leave this site.

        It does not take part with zeros: the others' pooled figures would be of fewer sites than they were promised.

        Args:
            counts: whether its layout has counts of validation cases.

        Raises:
            Refused: naming the key that holds the rule.
        """
        if self.metrics != "none" or not (counts or weighting != "equal"):
            return
        what = "pools figures of the sites' validation cases" if counts else "weighs sites by their cases"
        words = f'the study {what}, and policy.toml says `metrics` = "none"'
        raise Refused("figures-not-allowed", words)

    def check_privacy(self, promise: Privacy | None, contributions: int) -> None:
        """Raise unless a study tells little enough of this site.

        Args:
            promise: what its recipe says of differential privacy.
            contributions: of this site to sums of the study, in all.

        Raises:
            Refused: naming the key that holds the rule.
        """
        least, most = self.privacy_noise_multiplier, self.privacy_epsilon
        if least == "any" and most == "any":
            return
        if promise is None:
            words = "the study has no differential privacy, which `privacy_noise_multiplier` or `privacy_epsilon` in "
            raise Refused("privacy-missing", f"{words}policy.toml demands")
        if least != "any" and promise.noise_multiplier < least:
            words = f"the noise multiplier {promise.noise_multiplier:g} is below `privacy_noise_multiplier` = {least:g}"
            raise Refused("privacy-too-little", f"{words} in policy.toml")
        if promise.delta > self.privacy_delta:
            words = f"epsilon is told for a delta of {promise.delta:g}, above `privacy_delta` = {self.privacy_delta:g}"
            raise Refused("privacy-too-little", f"{words} in policy.toml")
        if most != "any" and (spent := promise.epsilon(contributions)) > most:
            words = f"epsilon would be {spent:.3g} with {contributions} contributions of this site"
            raise Refused("privacy-spent", f"{words}, above `privacy_epsilon` = {most:g} in policy.toml")

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
