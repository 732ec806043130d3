"""Distributed differential privacy of whole sites: what an update goes through before it is sealed (decision 0019).

A site clips its whole update to the length `clip`, and adds its share of Gaussian noise. Nobody can take the noise of a
sum away as long as only the sum is opened: shares are such that `minimum_contributors` of them are the whole noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crypto.errors import Malformed
from crypto.sampling import NORMAL_LIMIT, fresh_key, normal

_PIECE: Final = 1 << 16  # values converted at a time, so that no copy in doubles is as long as the model

Vector = NDArray[np.float32]


class Privacy(BaseModel):
    """What a study promises. The limits keep the noise within what lanes carry, and a thousand times above their steps.

    Attributes:
        clip: the most that one site can move the sum of updates: their length (L2) over all values that travel.
        noise_multiplier: deviation of the noise in an opened sum, in units of `clip`.
        delta: the probability with which epsilon need not hold, for the study as a whole.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    clip: Annotated[float, Field(ge=2.0**-16, le=2.0**16)]
    noise_multiplier: Annotated[float, Field(ge=0.01, le=10_000)]
    delta: Annotated[float, Field(gt=0, le=0.01)]

    @classmethod
    def of(cls, recipe: Mapping[str, Any]) -> Self | None:
        """What a recipe's section `privacy` promises; None where there is none.

        Raises:
            Malformed: there is one, and it is not of this form.
        """
        section = recipe.get("privacy")
        if section is None:
            return None
        try:
            return cls.model_validate(section)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_url=False)]
            raise Malformed(f"the recipe's privacy cannot be: {'; '.join(faults)}") from None

    @property
    def deviation(self) -> float:
        """Of the noise that an opened sum has at least, in each value."""
        return self.clip * self.noise_multiplier

    def share(self, minimum: int) -> float:
        """Deviation of one site's part of the noise, where sums are of so many contributors or more."""
        return self.deviation / math.sqrt(minimum)

    def bound(self, minimum: int) -> float:
        """The bound that every tensor has in a plan: the power of two that holds whatever `protected` gives.

        Cut off in the lanes, noise would not be Gaussian any more; a larger bound would make the lanes' steps coarse.
        """
        return float(2.0 ** math.ceil(math.log2(self.clip + NORMAL_LIMIT * self.share(minimum))))

    def protected(self, update: Vector, minimum: int) -> Vector:
        """The update as it may be summed, float32 of the same shape: clipped, with this site's share of the noise.

        The noise is drawn anew from the operating system at every call.

        Args:
            update: float32 [values], finite; everything that depends on patients and travels.
        """
        factor = self.clip / max(length(update), self.clip)
        key, share = fresh_key(), self.share(minimum)
        made = np.empty_like(update)
        for place in _pieces(update.size):
            noise = normal(key, place.start, place.stop - place.start)
            made[place] = factor * update[place].astype(np.float64) + share * noise
        return made

    def epsilon(self, sums: int) -> float:
        """What so many opened sums give away of a site that is in all of them, at `delta`.

        Exact for Gaussian noise: the sums together are one with the noise divided by the square root of their number
        (Balle and Wang 2018). Nothing is taken off for the drawing of sites, as everybody knows who was drawn.
        """
        if sums == 0:
            return 0.0
        from dp_accounting import get_epsilon_gaussian  # a second of imports that most studies do without

        return float(get_epsilon_gaussian(self.noise_multiplier / math.sqrt(sums), self.delta))


def assumptions(minimum: int) -> tuple[str, ...]:
    """What epsilon stands on, in sentences for operators and hospitals, where sums are of so many contributors."""
    return (
        "It is of whole sites: how far all opened sums together can tell whether a site's updates were made of its "
        "patients or were zero. Between two sets of patients of one site the noise counts for half of that. A patient "
        "is protected as the site is; one who is known at several sites, less.",
        f"It holds while {minimum} contributors of each sum added their share of the noise and keep it to themselves. "
        f"Who knows other contributors' shares knows a part of 1/{minimum} of the variance for each; every contributor "
        "knows its own.",
        "It is for a site in every opened sum. That sites are drawn for a round takes nothing off, as the draw is "
        "public.",
        "It is of this study alone: every other study on the same patients adds to it.",
        "It is about models and mean updates. Who takes part, when, and for how long is seen as before.",
    )


def length(update: Vector) -> float:
    """The L2 norm of a vector, summed in doubles."""
    pieces = (update[place].astype(np.float64) for place in _pieces(update.size))
    return math.sqrt(math.fsum(float(np.dot(piece, piece)) for piece in pieces))


def _pieces(size: int) -> Iterator[slice]:
    for start in range(0, size, _PIECE):
        yield slice(start, min(start + _PIECE, size))
