"""What a coordinator acts on in a recipe. All else in it is the sites' business."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coordinator.errors import RequestInvalid
from crypto.privacy import Privacy

_Share = Annotated[float, Field(ge=0, lt=1)]
_Positive = Annotated[float, Field(gt=0)]
_Patience = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class Server(_Part):
    """What is done with the opened mean: see `coordinator.server_optimiser`."""

    optimizer: Literal["average", "fedavgm", "fedadam", "fedyogi"] = "average"
    lr: _Positive = 1.0
    momentum: _Share = 0.9
    beta2: _Share = 0.99
    tau: _Positive = 1e-3

    @property
    def plain(self) -> bool:
        """Whether the mean is added to the model as it is."""
        return self.optimizer == "average" and self.lr == 1


class Plateau(_Part):
    factor: Annotated[float, Field(gt=0, lt=1)]
    patience: _Patience


class EarlyStopping(_Part):
    patience: _Patience


class _Federation(_Part):
    server: Server = Server()
    scaffold: bool = False
    carry: bool = False


class _Training(_Part):
    schedule: str = "constant"
    plateau: Plateau | None = None
    early_stopping: EarlyStopping | None = None


class Terms(_Part):
    """Of a recipe's sections the keys that are read here, with the defaults that recipes have."""

    federation: _Federation = _Federation()
    training: _Training = _Training()
    privacy: Privacy | None = None

    @classmethod
    def of(cls, recipe: dict[str, Any]) -> Self:
        """Raises RequestInvalid with every fault."""
        try:
            return cls.model_validate(recipe)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_url=False)]
            words = f"This recipe's terms cannot be: {'; '.join(faults)}."
            raise RequestInvalid(words, {"faults": faults}) from None

    @property
    def server(self) -> Server:
        return self.federation.server

    @property
    def plateau(self) -> Plateau | None:
        """What lowers the learning rate, where the schedule is "plateau"."""
        return self.training.plateau if self.training.schedule == "plateau" else None

    @property
    def early_stopping(self) -> EarlyStopping | None:
        return self.training.early_stopping
