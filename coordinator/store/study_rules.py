"""Which numbers and terms of a study go together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, get_args

from coordinator.errors import RequestInvalid
from coordinator.store.tables import Study
from coordinator.terms import Terms
from crypto.layout import Layout
from crypto.parameters import COUNT_LIMIT, K_LIMIT
from crypto.plan import Weighting
from crypto.schemes import check_release
from crypto.schemes.weights import LOSS_COUNTS

_DYNAMIC_LEAST: Final = 4  # a dynamic weight may be a quarter of what samples give, in whole units of 1 / n_max


def check(study: Study, layout: Layout, also: Sequence[str] = ()) -> None:
    """What the table's constraints would refuse, in words and all at once.

    Args:
        also: further faults that the caller found.

    Raises:
        RequestInvalid: there are any.
    """
    expected, least = study.expected_sites, study.minimum_contributors
    shortest = min(study.collect_seconds, study.vote_seconds, study.open_seconds)
    rules = [
        *_release_rule(study),
        *_term_rules(study, layout),
        (study.rounds >= 1, "a study has at least one round"),
        (2 <= least <= study.k_max <= K_LIMIT, f"2 <= minimum_contributors <= k_max <= {K_LIMIT} does not hold"),
        (
            expected is None or least <= expected <= study.k_max,
            f"expected_sites is {expected}, outside minimum_contributors to k_max ({least} to {study.k_max})",
        ),
        (1 <= study.n_max < COUNT_LIMIT, f"the recipe's n_max is outside 1 to {COUNT_LIMIT - 1}"),
        (0 < study.fraction <= 1, f"fraction is {study.fraction:g}, outside 0 to 1"),
        (study.weighting in get_args(Weighting), f"weighting is {', '.join(get_args(Weighting))}"),
        (shortest >= 1, "collect_seconds, vote_seconds and open_seconds are at least 1"),
    ]
    faults = [words for holds, words in rules if not holds] + list(also)
    if faults:
        raise RequestInvalid(f"This study cannot be: {'; '.join(faults)}.", {"faults": faults})


def _release_rule(study: Study) -> list[tuple[bool, str]]:
    try:
        check_release(study.scheme, study.release)
    except ValueError as error:
        return [(False, str(error))]
    return []


def _term_rules(study: Study, layout: Layout) -> list[tuple[bool, str]]:
    """What goes together of the recipe's terms, the scheme and the layout."""
    terms, dynamic = Terms.of(study.recipe), study.weighting == "dynamic"
    plain, server = terms.server.plain, f"the server optimiser {terms.server.optimizer} (lr {terms.server.lr:g})"
    losses = {field.name for field in layout.counts} >= set(LOSS_COUNTS)
    paced = terms.plateau is not None or terms.early_stopping is not None
    private = terms.privacy is not None
    return [
        (plain or study.release == "open", f"{server} works on models, and this release keeps them from a coordinator"),
        (
            plain or study.scheme != "lwe-shamir",
            f"under lwe-shamir sites check that a model is its base plus the mean, which {server} does not make",
        ),
        (plain or not terms.federation.carry, f"{server} takes updates of a round's base model; carried ones are not"),
        (
            not terms.federation.carry or (study.scheme, study.release) == ("lwe-ckks", "open"),
            f"a recipe that carries the contributions of sites that left takes lwe-ckks and release open, not "
            f"{study.scheme} and {study.release}",
        ),
        (
            not (terms.federation.carry and terms.federation.scaffold),
            "a carried control variate would be that of a model long past",
        ),
        (plain or not terms.federation.scaffold, f"{server} would move scaffold's control variates too"),
        (not dynamic or losses, "dynamic weights take the counts cases and loss, which this layout lacks"),
        (not dynamic or study.n_max >= _DYNAMIC_LEAST, f"dynamic weights take an n_max of {_DYNAMIC_LEAST} or more"),
        (
            not private or study.weighting == "equal",
            f"under the recipe's privacy all sites weigh alike: weighting is equal, not {study.weighting}",
        ),
        (
            not private or not layout.counts,
            "the recipe's privacy takes a layout without counts, as those are opened without noise",
        ),
        (
            not (private and (terms.federation.carry or terms.federation.scaffold)),
            "the recipe's privacy is of fresh updates alone: no carried contributions, no control variates",
        ),
        (not paced or losses, "a plateau and early stopping take the counts cases and loss, which this layout lacks"),
    ]
