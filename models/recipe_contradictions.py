"""What sections of a recipe, each sound in itself, say against one another or against common sense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from models.recipe_problems import Problem
from models.recipe_sections import (
    CtSampling,
    DpSgd,
    Evaluation,
    Federation,
    Input,
    Network,
    Preprocessing,
    Privacy,
    Section,
    Training,
)

SMALLEST_DYNAMIC_N_MAX = 4  # a dynamic weight may be a quarter, and weights are whole multiples of 1 / n_max


def contradictions(sections: Mapping[str, Section]) -> Iterator[Problem]:
    """Each found once. `sections`: by name, only the sound ones."""
    for section in sections.values():
        yield from _alone(section)
    match sections:
        case {"input": Input() as given, "preprocessing": Preprocessing() as preprocessing}:
            yield from _modality(given, preprocessing)
    match sections:
        case {"training": Training(dp_sgd=DpSgd()), "preprocessing": Preprocessing(statistics="site")}:
            what = "a site's own mean and deviation are made of its cases, which training.dp_sgd does not cover"
            yield Problem("preprocessing.statistics", what, 'write "recipe", or leave out training.dp_sgd')
    match sections:
        case {"training": Training() as training, "network": Network(classes=classes)}:
            yield from _class_weights(training, len(classes))
    match sections:
        case {"training": Training() as training, "federation": Federation() as federation}:
            yield from _pace(training, federation)
            yield from _scaffold(training, federation)
    match sections:
        case {"evaluation": Evaluation(metrics="none"), "training": Training() as training}:
            yield from _unmeasured(training)
    match sections:
        case {"evaluation": Evaluation(metrics="none"), "federation": Federation(weighting="dynamic")}:
            what = "dynamic weights go by the validation loss, and evaluation.metrics is none"
            yield Problem("federation.weighting", what, 'write "equal" or "samples"')
    match sections:
        case {"privacy": Privacy(), "federation": Federation() as federation}:
            yield from _private(federation)
    match sections:
        case {"privacy": Privacy(), "evaluation": Evaluation(metrics="pooled")}:
            what = "pooled counts carry no noise, and would tell of a site's patients what the noise hides"
            yield Problem("evaluation.metrics", what, 'write "none", or leave out privacy')


def _alone(section: Section) -> Iterator[Problem]:
    match section:
        case Network():
            yield from _network(section)
        case Input():
            yield from _input(section)
        case Preprocessing(ct=CtSampling() as ct):
            yield from _ct(ct)
        case Training():
            yield from _training(section)
        case Federation():
            yield from _federation(section)


def _network(network: Network) -> Iterator[Problem]:
    if len(set(network.classes)) < len(network.classes):
        yield Problem("network.classes", "a class is named twice", "name each once")
    for local in network.local:
        for frozen in network.frozen:
            # A narrower pattern, read as a name, matches the wider one. What remains is seen with the network's names.
            if fnmatchcase(local, frozen) or fnmatchcase(frozen, local):
                what = f"{local!r} trains at each site, and {frozen!r} in network.frozen does not train"
                yield Problem("network.local", what, "let no tensor match both")
    if (network.file is None) != (network.file_sha256 is None):
        key = "network.file" if network.file is None else "network.file_sha256"
        yield Problem(key, "it is missing", "give both, a file and its SHA-256, or neither")


def _input(given: Input) -> Iterator[Problem]:
    sides = 3 if given.modality == "ct" else 2
    if len(given.size) != sides:
        fix = f"give {sides} sides for {given.modality}, {'depth, ' if sides == 3 else ''}height and width"
        yield Problem("input.size", f"{list(given.size)} has {len(given.size)} sides", fix)


def _modality(given: Input, preprocessing: Preprocessing) -> Iterator[Problem]:
    if given.modality == "ct" and preprocessing.ct is None:
        yield Problem("preprocessing.ct", "it is missing", "add it, as the modality is ct")
    if given.modality == "xray" and preprocessing.ct is not None:
        yield Problem("preprocessing.ct", "the modality is xray", "leave it out")


def _ct(ct: CtSampling) -> Iterator[Problem]:
    if ct.hu_window[0] >= ct.hu_window[1]:
        yield Problem("preprocessing.ct.hu_window", f"{list(ct.hu_window)} is empty", "give the lower end first")
    limits = ct.steps_up_to
    if len(limits) != len(ct.steps) - 1 or list(limits) != sorted(set(limits)):
        what = f"{list(limits)} for {len(ct.steps)} steps"
        yield Problem("preprocessing.ct.steps_up_to", what, "give one limit fewer than steps, in rising order")


def _training(training: Training) -> Iterator[Problem]:
    if training.optimizer == "adam" and training.momentum:
        yield Problem("training.momentum", "adam has none", "leave it out, or use sgd")
    if training.schedule == "plateau" and training.plateau is None:
        yield Problem("training.plateau", "it is missing", "add its factor and patience, as the schedule is plateau")
    if training.schedule != "plateau" and training.plateau is not None:
        fix = 'leave it out, or write schedule = "plateau"'
        yield Problem("training.plateau", f"the schedule is {training.schedule}", fix)
    if training.dp_sgd is not None:
        yield from _dp_sgd(training)


def _dp_sgd(training: Training) -> Iterator[Problem]:
    """What of a training would go by the private cases without noise."""
    if training.class_weights == "balanced":
        what = "balanced weights are made of the numbers of cases, which dp_sgd does not cover"
        yield Problem("training.class_weights", what, "give each class its weight, or leave it out")
    if training.precision == "bf16":
        what = "dp_sgd clips gradients of float32"
        yield Problem("training.precision", what, 'write "32" or "auto"')


def _class_weights(training: Training, classes: int) -> Iterator[Problem]:
    weights = training.class_weights
    if isinstance(weights, tuple) and (len(weights) != classes or not any(weights)):
        what = f"{list(weights)} for {classes} classes"
        yield Problem("training.class_weights", what, "give each class its weight, at least one above 0")


def _federation(federation: Federation) -> Iterator[Problem]:
    dynamic, least = federation.weighting == "dynamic", SMALLEST_DYNAMIC_N_MAX
    if dynamic and federation.n_max < least:
        what = f"with {federation.n_max}, dynamic weights would be rounded to nothing"
        yield Problem("federation.n_max", what, f"write {least} or more")
    plain = federation.server.optimizer == "average" and federation.server.lr == 1
    if federation.carry and not plain:
        what = "carried contributions are relative to the study's first model, so that the mean is the model itself"
        yield Problem("federation.carry", what, "leave out federation.server, or do not carry")
    if federation.carry and federation.scaffold:
        what = "a carried control variate would be that of a model long past"
        yield Problem("federation.carry", what, "do not use both")


def _pace(training: Training, federation: Federation) -> Iterator[Problem]:
    if training.warmup_rounds >= federation.rounds:
        what = f"{training.warmup_rounds} of {federation.rounds} rounds never reach the learning rate"
        yield Problem("training.warmup_rounds", what, "write fewer than federation.rounds")


def _scaffold(training: Training, federation: Federation) -> Iterator[Problem]:
    """A site's control variate is the mean of its gradients only where a step is the gradient times the rate."""
    if not federation.scaffold:
        return
    if training.optimizer != "sgd":
        yield Problem("training.optimizer", "scaffold holds for plain gradient steps", 'write "sgd"')
    if training.momentum and training.optimizer == "sgd":
        yield Problem("training.momentum", "scaffold holds for plain gradient steps", "leave it out")
    if federation.weighting != "equal":
        what = "scaffold's control variates are a plain mean over the sites"
        yield Problem("federation.weighting", what, 'write "equal"')
    if federation.proximal:
        what = "scaffold corrects the steps already, and would take the proximal term for a gradient"
        yield Problem("federation.proximal", what, "leave it out")
    if federation.server.optimizer != "average" or federation.server.lr != 1:
        what = "the control variates travel with the model, and are averaged"
        yield Problem("federation.server", what, "leave it out")


def _unmeasured(training: Training) -> Iterator[Problem]:
    """What goes by the pooled validation loss, where there is none."""
    if training.schedule == "plateau":
        what = "a plateau goes by the pooled validation loss, and evaluation.metrics is none"
        yield Problem("training.schedule", what, 'write "constant" or "cosine"')
    if training.early_stopping is not None:
        what = "it goes by the pooled validation loss, and evaluation.metrics is none"
        yield Problem("training.early_stopping", what, "leave it out")


def _private(federation: Federation) -> Iterator[Problem]:
    """The promise is of a sum of updates as long as `privacy.clip` at most, with fresh noise in each."""
    if federation.weighting != "equal":
        what = "weights are made of a site's patients, and their sum is opened without noise"
        yield Problem("federation.weighting", what, 'write "equal", or leave out privacy')
    if federation.scaffold:
        what = "control variates travel with the update, would share its clip, and would no longer fit the sites' own"
        yield Problem("federation.scaffold", what, "do not use both")
    if federation.carry:
        what = "a carried contribution is summed again and again with the same noise in it"
        yield Problem("federation.carry", what, "do not use both")
