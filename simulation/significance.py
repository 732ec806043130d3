"""Whether a federation did better or worse than its controls: paired tests on the same held-out cases, and over seeds.

Compare models on the same cases with `compare`, trainings of several seeds with `compare_seeds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.bootstrap import (
    RESAMPLES,
    Figure,
    Labels,
    Probabilities,
    accuracy,
    auc_of,
    bootstrap,
    bootstrap_difference,
    macro_auc,
    sensitivity_of,
)
from models.statistics import (
    LEVEL,
    Difference,
    Interval,
    Patients,
    delong_test,
    holm,
    log_odds,
    mcnemar,
    mean_difference,
    mean_interval,
    numbered,
)

Exact = Callable[[Probabilities, Probabilities, Labels], Difference | None]


@dataclass(frozen=True)
class Question:
    """A figure to compare. `exact`: the test by formula, where each side has one model and each patient one case."""

    name: str
    figure: Figure
    exact: Exact | None = None
    exact_name: str = ""


def _mcnemar(first: Probabilities, second: Probabilities, labels: Labels) -> Difference | None:
    return mcnemar(first.argmax(axis=1) == labels, second.argmax(axis=1) == labels)


MACRO_AUC = Question("macro AUC", macro_auc)
ACCURACY = Question("accuracy", accuracy, _mcnemar, "McNemar's exact test")


def auc_question(classes: Sequence[str], name: str) -> Question:
    """The area of one class against the rest."""
    number = classes.index(name)

    def exact(first: Probabilities, second: Probabilities, labels: Labels) -> Difference | None:
        return delong_test(log_odds(first, number), log_odds(second, number), labels == number)

    return Question(f"AUC of {name}", auc_of(number), exact, "DeLong's test")


def sensitivity_question(classes: Sequence[str], name: str) -> Question:
    """The share of one class's cases that are called so."""
    number = classes.index(name)

    def exact(first: Probabilities, second: Probabilities, labels: Labels) -> Difference | None:
        own = labels == number
        return _mcnemar(first[own], second[own], labels[own])

    return Question(f"sensitivity to {name}", sensitivity_of(number), exact, "McNemar's exact test")


@dataclass(frozen=True)
class Comparison:
    """A figure of `first` and `second`, their difference, and by which test.

    `adjusted_p` is Holm's over the `together` comparisons of one call.
    """

    figure: str
    first: str
    second: str
    of_first: Interval
    of_second: Interval
    difference: Difference
    test: str
    adjusted_p: float
    together: int = 1

    @property
    def significant(self) -> bool:
        return self.adjusted_p < 1 - LEVEL

    @property
    def words(self) -> str:
        """One sentence for a report, that does not call equal what merely was not told apart."""
        values = f"{self.of_first.value:.3f} against {self.of_second.value:.3f}"
        found = f"{self.difference.value:+.3f} ({self.difference.low:+.3f} to {self.difference.high:+.3f})"
        tested = f"{self.test}, {_p(self.adjusted_p)}"
        if self.together > 1:
            tested += f" after Holm's correction for {self.together} comparisons"
        if not self.significant:
            return f"{self.figure}: {self.first} and {self.second} were not told apart: {values}, {found}; {tested}."
        better = "higher" if self.difference.value > 0 else "lower"
        return f"{self.figure}: {self.first} is {better} than {self.second}: {values}, {found}; {tested}."

    def to_json(self) -> dict[str, Any]:
        return {
            "figure": self.figure,
            "first": {"name": self.first, **self.of_first.to_json()},
            "second": {"name": self.second, **self.of_second.to_json()},
            "difference": self.difference.to_json(),
            "test": self.test,
            "adjusted_p": self.adjusted_p,
            "words": self.words,
        }


def compare(
    models: Mapping[str, Probabilities],
    labels: Labels,
    patients: Patients | None = None,
    *,
    first: str = "federated",
    questions: Sequence[Question] = (MACRO_AUC, ACCURACY),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[Comparison, ...]:
    """`first` against every other model on the same held-out cases, question by question.

    With one model on each side and one case a patient by the question's formula, otherwise over resampled patients.
    Comparisons that the cases do not define are left out.

    Args:
        models: by name, probabilities [n, C], or [m, n, C] of several whose figures are averaged (the hospitals that
            train alone).
        labels, patients: [n].

    Raises:
        ValueError: probabilities that do not belong to the labels, or no model called `first`.
    """
    _check(models, labels, first)
    found = []
    for question in questions:
        values = {
            n: bootstrap(question.figure, p, labels, patients, seed=seed, resamples=resamples)
            for n, p in models.items()
        }
        for second in (name for name in models if name != first):
            difference, test = _difference(question, models[first], models[second], labels, patients, seed, resamples)
            of_first, of_second = values[first], values[second]
            if difference is not None and of_first is not None and of_second is not None:
                found.append(
                    Comparison(question.name, first, second, of_first, of_second, difference, test, difference.p)
                )
    return adjusted(found)


def compare_seeds(
    figure: str, values: Mapping[str, Sequence[float]], *, first: str = "federated"
) -> tuple[Comparison, ...]:
    """`first` against every other training by a figure of the same seeds, in the same order, with a paired t-test.

    One whose difference is the same at all seeds, and not 0, is left out.

    Raises:
        ValueError: fewer than two seeds, not as many everywhere, or none called `first`.
    """
    _known(first, values)
    found = [
        Comparison(
            figure,
            first,
            second,
            mean_interval(values[first]),
            mean_interval(values[second]),
            difference,
            f"paired t-test over {len(values[first])} seeds",
            difference.p,
        )
        for second in values
        if second != first and (difference := mean_difference(values[first], values[second])) is not None
    ]
    return adjusted(found)


def adjusted(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The same comparisons as one table: each p adjusted for all of them."""
    ps = holm([comparison.difference.p for comparison in comparisons])
    return tuple(replace(each, adjusted_p=p, together=len(ps)) for each, p in zip(comparisons, ps, strict=True))


def rounds_to_match(curve: Sequence[tuple[int, float]], target: float, tolerance: float = 0.0) -> int | None:
    """Rounds needed to match: the first round of the curve from which on no point is below `target - tolerance`.

    A curve that touches the target and falls back below has not matched it yet. `target` is the final figure of
    centralised training, higher being better; rounds are those of the curve's points, so between two points the later
    one counts. None if the curve ends below, or has no points.

    Args:
        curve: (round, figure) by rising rounds.
    """
    matched = None
    for number, value in reversed(curve):
        if value < target - tolerance:
            break
        matched = number
    return matched


def _difference(
    question: Question,
    first: Probabilities,
    second: Probabilities,
    labels: Labels,
    patients: Patients | None,
    seed: int,
    resamples: int,
) -> tuple[Difference | None, str]:
    one_each = first.ndim == second.ndim == 2
    independent = int(numbered(patients, len(labels)).max(initial=-1)) + 1 == len(labels)
    if question.exact is not None and one_each and independent:
        return question.exact(first, second, labels), question.exact_name
    found = bootstrap_difference(question.figure, first, second, labels, patients, seed=seed, resamples=resamples)
    return found, f"bootstrap over patients, {resamples} resamples"


def _check(models: Mapping[str, Probabilities], labels: Labels, first: str) -> None:
    _known(first, models)
    for name, probabilities in models.items():
        if probabilities.ndim not in (2, 3) or probabilities.shape[-2] != len(labels):
            raise ValueError(
                f"the probabilities of {name} have shape {probabilities.shape}, and there are {len(labels)} labels: "
                "give [n, C], or [m, n, C], of the same cases in the same order"
            )


def _known(first: str, among: Mapping[str, Any]) -> None:
    if first not in among:
        raise ValueError(f"there is no {first!r} among {', '.join(among)}: say with `first` which is compared")


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
