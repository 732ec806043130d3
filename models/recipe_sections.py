"""The sections of a recipe as strict, immutable values. What one section alone can get wrong is refused here."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer
from pydantic_core import PydanticCustomError

from crypto import privacy
from crypto.parameters import COUNT_LIMIT, DEFAULT_MINIMUM_CONTRIBUTORS, K_LIMIT


def _sha256(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise PydanticCustomError("sha256", "write the file's SHA-256, 64 digits of 0-9 and a-f")
    return text


def _python_file(text: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*\.py", text):
        raise PydanticCustomError("python_file", "write the name of a Python file, without a folder")
    return text


Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Whole = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, AfterValidator(_sha256)]
PythonFile = Annotated[str, AfterValidator(_python_file)]


class Section(BaseModel):
    """Common to all: nothing unknown, nothing converted, nothing changed later."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Network(Section):
    """Which network, for which classes.

    frozen: shell patterns of tensors that are neither trained nor sent. local: of tensors that are trained and never
    sent, each site keeping its own (FedBN, Li et al. 2021: the norms). pretrained: SHA-256 of the checkpoint file from
    which frozen tensors and first weights come. file, file_sha256: the researcher's own network, which each site's
    operator has to put there.
    """

    name: Text
    classes: tuple[Text, ...] = Field(min_length=2)
    frozen: tuple[Text, ...] = ()
    local: tuple[Text, ...] = ()
    pretrained: Sha256 | None = None
    file: PythonFile | None = None
    file_sha256: Sha256 | None = None
    options: dict[str, bool | int | float | str] = {}

    @property
    def needs_checkpoint(self) -> bool:
        """Whether each site needs the pretrained file itself, for what of it does not travel."""
        return self.pretrained is not None and bool(self.frozen or self.local)


class Input(Section):
    """What the network is given: `size` is (depth, height, width) for CT and (height, width) for X-rays, in voxels."""

    modality: Literal["ct", "xray"]
    size: tuple[Whole, ...] = Field(min_length=2, max_length=3)
    channels: Literal[1, 3] = 1


class CtSampling(Section):
    """How a CT series becomes inputs: `subsets` stacks a case, each of every n-th slice from a random start."""

    hu_window: tuple[float, float]  # Hounsfield units outside are clipped
    subsets: Whole
    steps: tuple[Whole, ...] = Field(min_length=1)
    steps_up_to: tuple[Whole, ...]  # the most slices for which each step but the last holds

    def step_for(self, slices: int) -> int:
        """Which step a series of that many slices is sampled with."""
        return self.steps[bisect_left(self.steps_up_to, slices)]


class Preprocessing(Section):
    """From intensities to inputs of mean 0 and deviation 1. CT: in Hounsfield units; X-rays: in [0, 1], black to white.

    With `statistics = "site"` each site takes the mean and deviation of its own training cases instead of these.
    """

    statistics: Literal["recipe", "site"] = "recipe"
    mean: float
    std: Positive
    ct: CtSampling | None = None


class Augmentation(Section):
    """Random changes of training inputs: left-right flip, rotation in plane in degrees, shift as a share of a side.

    crop: a random part of at least this share of the area, stretched to the input's size; absent, none is cut.
    """

    flip: bool = False
    rotation: float = Field(default=0.0, ge=0, le=180)
    shift: Share = 0.0
    crop: Annotated[float, Field(gt=0, le=1)] | None = None


class Plateau(Section):
    """The learning rate times `factor` once more than `patience` rounds brought no better pooled validation loss."""

    factor: float = Field(gt=0, lt=1)
    patience: Whole


class EarlyStopping(Section):
    """The study ends after `patience` rounds without a better pooled validation loss."""

    patience: Whole


class DpSgd(Section):
    """Example-level differential privacy (Abadi et al. 2016): each case's gradient is at most `max_grad_norm` long, and
    noise of `noise_multiplier` times that is added to their sum. delta: what epsilon is told for."""

    max_grad_norm: Positive
    noise_multiplier: Annotated[float, Field(ge=0.1)]
    delta: Annotated[float, Field(gt=0, le=0.01)]


class Training(Section):
    """One site's part of a round. `local_steps`, where given, replaces `local_epochs`.

    schedule: "cosine" lets the learning rate fall to nearly nothing over the recipe's `federation.rounds`, "plateau"
    lowers it as `plateau` says. warmup_rounds: it rises over these, in equal steps, and only then follows the schedule.
    """

    optimizer: Literal["sgd", "adam"]
    lr: Positive
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    plateau: Plateau | None = None
    early_stopping: EarlyStopping | None = None
    warmup_rounds: int = Field(default=0, ge=0)
    momentum: Share = 0.0
    weight_decay: NotNegative = 0.0
    no_decay_on_norm_and_bias: bool = False
    batch: Whole
    local_epochs: Whole = 1
    local_steps: Whole | None = None
    class_weights: Literal["balanced", "none"] | tuple[NotNegative, ...] = "none"
    precision: Literal["auto", "32", "bf16"] = "auto"
    augmentation: Augmentation = Augmentation()
    dp_sgd: DpSgd | None = None

    @model_serializer(mode="wrap")
    def _without_what_says_nothing(self, plainly: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A recipe of before there was the section keeps its digest."""
        plain: dict[str, Any] = plainly(self)
        return {name: value for name, value in plain.items() if (name, value) != ("dp_sgd", None)}


class Server(Section):
    """What is done with the opened mean of the updates (Hsu et al. 2019; Reddi et al. 2021).

    momentum: of "fedavgm"; of "fedadam" and "fedyogi" it is beta 1. beta2, tau: of those two alone.
    """

    optimizer: Literal["average", "fedavgm", "fedadam", "fedyogi"] = "average"
    lr: Positive = 1.0
    momentum: Share = 0.9
    beta2: Share = 0.99
    tau: Positive = 1e-3


class Federation(Section):
    """The study around the rounds.

    weighting: a site counts for min(cases, n_max) / n_max; for 1 ("equal"); or for the former times how much worse its
    validation loss is than the pooled one, within bounds ("dynamic", after q-FFL, Li et al. 2020). proximal: FedProx's
    mu (Li et al. 2020). scaffold: control variates (Karimireddy et al. 2020). carry: a site that leaves still counts,
    with its last contribution.
    """

    rounds: Whole
    weighting: Literal["samples", "equal", "dynamic"]
    fraction: float = Field(default=1.0, gt=0, le=1)  # of the sites, drawn anew each round
    minimum_contributors: int = Field(default=DEFAULT_MINIMUM_CONTRIBUTORS, ge=2, le=K_LIMIT)
    n_max: int = Field(ge=1, lt=COUNT_LIMIT)
    proximal: NotNegative = 0.0
    scaffold: bool = False
    carry: bool = False
    server: Server = Server()


class Evaluation(Section):
    """What the sites count on their validation cases.

    bins: of the score histograms that are pooled for AUC and ROC curves. folds: parts of a k-fold validation, for which
    a simulation trains as many times; absent, there is one fixed split. metrics: "none" where nothing is counted, so
    that a study has no figures.
    """

    bins: int = Field(default=1024, ge=2, le=1024)
    folds: Annotated[int, Field(ge=2)] | None = None
    metrics: Literal["pooled", "none"] = "pooled"

    @model_serializer(mode="wrap")
    def _without_what_says_nothing(self, plainly: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A recipe of before there was the key keeps its digest."""
        plain: dict[str, Any] = plainly(self)
        return {name: value for name, value in plain.items() if (name, value) != ("metrics", "pooled")}


class Privacy(privacy.Privacy, Section):
    """Differential privacy of whole sites: `clip` is the longest update, `noise_multiplier` the deviation of the noise
    in a sum in units of that, `delta` what epsilon is told for."""
