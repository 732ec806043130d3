"""How far an opened mean is from the mean in float64, for each recipe that comes with Pleura.

Each recipe's own network (its whole layout), number of sites, weights and share of sites asked; updates are those of
real steps of its own training, on drawn images of a smaller size. Three rounds under lwe-ckks, sealed, added, opened
and revealed by the code that agents and coordinator run:

1. under a study's first bounds, which clip nothing;
2. under bounds that fell below each tensor's largest value, as a study's do once: up to all coordinates are clipped;
3. under those that follow, with what clipping cut off before in the updates.

Where sites that left still count, the first one leaves after round 1, and bounds stay as they are. The error is the
largest |opened - exact| / b of any value, b its tensor's bound; `exact` is the weighted mean of what the sites sent,
clipped, in float64. The protocol's limit is 1e-6 for mean weights of a quarter and more. From the repository root:

    python -m benchmarks.encryption_error --recipes ucadi fl-cxr-resnet18
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import numpy as np
import torch
from numpy.typing import NDArray

from crypto.canonical import sha256
from crypto.ckks_public import PublicContext
from crypto.epochs import deal
from crypto.identity import Identity
from crypto.lanes import adapt_bounds
from crypto.layout import Layout, named_counts
from crypto.manifest import Ballot, Manifest
from crypto.parameters import BUFFER_BOUND, CARRY_BOUND, LOSS_UNIT, PARAMETER_BOUND
from crypto.plan import Carried, Member, Plan, Roster, asked
from crypto.schemes import scheme
from crypto.schemes.opening import open_ballot
from crypto.schemes.weights import weight, weight_units
from crypto.wire import Signed
from models.first_model import first_model
from models.recipe import Recipe, available, load_recipe
from participant.case_data import CaseData, Cases
from participant.terms import RoundTerms
from participant.training import Machine, Trainer

LIMIT: Final = 1e-6  # of a bound, at this mean weight and above
LIMIT_WEIGHT: Final = 0.25
ROUNDS: Final = 3
#: Sites of the studies that the recipes are of; three where there is no other number.
SITES: Final = dict.fromkeys((name for name in available() if name.startswith("fl-cxr-")), 5)
SMALL: Final = {"ct": (16, 32, 32), "xray": (64, 64)}  # the layout is the same for any size
CASES: Final = 4
STUDY: Final = UUID(int=77)
LOWEST: Final = -16  # of a bound's binary logarithm

Vector = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One round. values: of the layout; weight: mean of the contributions' weights; clipped: coordinates; error,
    limit: in units of a tensor's bound; lost: largest part of an update, in the same units, that is neither in what was
    sent nor in what is kept for the next round."""

    recipe: str
    values: int
    sites: int
    contributors: int
    weighting: str
    round: int
    weight: float
    clipped: int
    error: float
    limit: float
    lost: float
    seconds: float

    @property
    def holds(self) -> bool:
        return self.error < self.limit


class Drawn(Cases):
    """Images of random numbers, a class each in turn."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        super().__init__((), recipe.network.classes, 1)
        self._shape, self._seed = (recipe.input.channels, *recipe.input.size), seed

    def __len__(self) -> int:
        return CASES

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.arange(CASES) % len(self.classes)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        generator = torch.Generator().manual_seed(self._seed * CASES + index)
        return torch.randn(self._shape, generator=generator), int(self.labels[index])

    def evaluation_inputs(self, index: int) -> torch.Tensor:
        return self[index][0][None]


class Site:
    """A site that trains for a step, and keeps what clipping cut off."""

    def __init__(self, number: int, recipe: Recipe, layout: Layout, folder: Path) -> None:
        self.id, self.number, self.identity, self.layout = UUID(int=number + 1), number, Identity.generate(), layout
        cases = Drawn(recipe, number)
        own, machine = CaseData(cases, cases, cases), Machine(threads=1)
        self._trainer = Trainer(recipe, own, folder / str(number), number, machine=machine)
        self.residual = np.zeros(layout.size, np.float32)

    @property
    def member(self) -> Member:
        public = self.identity.public
        return Member(
            site=self.id,
            name=f"Hospital {self.number + 1}",
            index=self.number + 1,
            signing_key=public.signing_key.hex(),
            hpke_key=public.hpke_key.hex(),
        )

    def counts(self, base: Vector) -> list[int]:
        return self._trainer.evaluate(base, self.layout, _silent)

    def trained(self, base: Vector, number: int) -> Vector:
        return self._trainer.train(base, self.layout, RoundTerms(number), _silent).vector


@dataclass(frozen=True)
class Work:
    """What a site wants to send."""

    site: Site
    update: Vector
    samples: int
    counts: Sequence[int]


@dataclass(frozen=True)
class Sent:
    """A contribution: what the coordinator has of it, and what is in it, clipped, with its weight.

    clipped: coordinates of each tensor. lost: as in `Row`.
    """

    manifest: Signed[Manifest]
    parts: Sequence[bytes]
    key_parts: tuple[bytes, ...]
    values: Doubles
    weight: float
    clipped: tuple[int, ...]
    lost: float


class Study:
    """One recipe's study, from its first model on."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self._recipe = recipe
        small = {"input.size": SMALL[recipe.input.modality], "training.batch": CASES, "training.local_steps": 1}
        self._small = recipe.overridden(small)
        first = first_model(self._small, 1)
        if first.layout != first_model(recipe, 1).layout:
            raise ValueError(f"{recipe.name} has another layout at {small['input.size']}: its size matters")
        self._layout, self._first = first.layout, first.vector
        number = SITES.get(recipe.name, 3)
        self._sites = [Site(n, self._small, self._layout, folder) for n in range(number)]
        self._asked = asked(recipe.federation.fraction, number, recipe.federation.minimum_contributors)
        self._roster = Roster(study=STUDY, members=tuple(site.member for site in self._sites))
        self._dealt = deal(self._sites[0].identity, self._sites[0].id, STUDY, 1, self._roster)
        self._public = PublicContext.load(self._dealt.public_context)

    def rounds(self) -> Iterator[Row]:
        base, reference = self._first, None
        carry, leaver = self._recipe.federation.carry, list[Sent]()
        first = CARRY_BOUND if carry else PARAMETER_BOUND
        bounds = [first if tensor.kind == "parameter" else BUFFER_BOUND for tensor in self._layout.tensors]
        for number in range(1, ROUNDS + 1):
            started = time.perf_counter()
            sites = self._sites[1 if leaver else 0 :][: self._asked]
            work = [self._work(site, base, number) for site in sites]
            plan = self._plan(number, bounds, sites, reference, leaver)
            if number == 2 and not carry:
                bounds = fallen([each.update * self._weight(plan, each) for each in work], self._layout)
                plan = self._plan(number, bounds, sites, reference, leaver)
            sent = [self._seal(plan, each) for each in work]
            mean = self._open(plan, [*leaver, *sent])
            yield self._row(plan, [*leaver, *sent], mean, time.perf_counter() - started)
            if not carry:
                clipped = np.sum([each.clipped for each in sent], axis=0).tolist()
                bounds = adapt_bounds(bounds, clipped, self._layout, len(sent))
            leaver = sent[:1] if carry and number == 1 else leaver
            base, reference = (self._first if carry else base) + mean, pooled_loss(work, self._layout)

    def _work(self, site: Site, base: Vector, number: int) -> Work:
        """Samples so that weights are a quarter on average, and no two alike."""
        start = self._first if self._recipe.federation.carry else base
        update = site.trained(base, number) - start + site.residual
        share = 0.2 + 0.1 * site.number / (len(self._sites) - 1)
        if self._recipe.federation.weighting == "dynamic":
            share *= 3  # of which the loss leaves half, or down to a quarter
        if self._asked < len(self._sites):
            share += 0.05  # those that are asked are the first ones
        return Work(site, update, round(share * self._recipe.federation.n_max), site.counts(base))

    def _plan(
        self, number: int, bounds: Sequence[float], sites: Sequence[Site], loss: float | None, leaver: Sequence[Sent]
    ) -> Plan:
        federation, epoch = self._recipe.federation, self._dealt.record.message.digest
        member = self._sites[0].member
        carried = tuple(Carried(manifest=each.manifest.message.digest, member=member, epoch=epoch) for each in leaver)
        return Plan(
            study=STUDY,
            round=number,
            attempt=1,
            kind="training",
            base_model="ab" * 32,
            layout=self._layout.digest,
            recipe=self._recipe.digest,
            roster=self._roster.digest,
            epoch=epoch,
            scheme="lwe-ckks",
            release="open",
            weighting=federation.weighting,
            expected=tuple(site.id for site in sites),
            k_max=self._asked,
            n_max=federation.n_max,
            bounds=tuple(bounds),
            threshold=None,
            minimum_contributors=federation.minimum_contributors,
            collect_until=1_900_000_000,
            vote_seconds=60,
            open_seconds=60,
            reference_loss=loss if federation.weighting == "dynamic" else None,
            carried=carried,
            origin="ab" * 32 if federation.carry else None,
        )

    def _seal(self, plan: Plan, work: Work) -> Sent:
        site, update = work.site, work.update
        sealed = scheme(plan.scheme).seal(plan, self._layout, update, work.samples, work.counts, self._public)
        parts = [bytes(part) for part in sealed]
        digests = {"parts": tuple(map(sha256, parts)), "key_parts": tuple(map(sha256, sealed.key_parts))}
        manifest = site.identity.sign(Manifest(plan=plan.digest, site=site.id, **digests))
        share = self._weight(plan, work)
        bounds = spread(plan.bounds, self._layout)
        values = np.clip(update.astype(np.float64), -bounds / share, bounds / share)
        kept = sealed.residual if sealed.residual is not None else np.zeros(0, np.float32)
        lost = float(np.max(np.abs(update - values - kept) / bounds))
        if plan.origin is None:
            site.residual = kept
        return Sent(manifest, parts, sealed.key_parts, values, share, sealed.clipped, lost)

    def _weight(self, plan: Plan, work: Work) -> float:
        return weight(plan, weight_units(plan, self._layout, work.samples, work.counts))

    def _open(self, plan: Plan, sent: Sequence[Sent]) -> Vector:
        """As the coordinator adds and a member opens."""
        rlwe = scheme(plan.scheme)
        totals = []
        for number in range(len(sent[0].parts)):
            adder = rlwe.adder(plan, self._layout, number)
            for each in sent:
                adder.add(each.parts[number])
            totals.append(adder.total())
        ballot = Ballot(plan=plan.digest, manifests=tuple(each.manifest for each in sent))
        key_parts = {each.manifest.message.site: each.key_parts for each in sent}
        opening = open_ballot(plan, ballot, key_parts, self._dealt.secret, self._sites[-1].id)
        revealed = rlwe.reveal(plan, self._layout, totals, opening.secret_sum, len(sent))
        if revealed.mean is None:
            raise RuntimeError("a training round opened to no mean")
        return revealed.mean

    def _row(self, plan: Plan, sent: Sequence[Sent], mean: Vector, seconds: float) -> Row:
        weights = sum(each.weight for each in sent)
        exact = np.zeros(self._layout.size)
        for each in sent:
            exact += each.weight / weights * each.values
        average = weights / len(sent)
        return Row(
            recipe=self._recipe.name,
            values=self._layout.size,
            sites=len(self._sites),
            contributors=len(sent),
            weighting=plan.weighting,
            round=plan.round,
            weight=round(average, 4),
            clipped=sum(sum(each.clipped) for each in sent),
            error=float(np.max(np.abs(mean - exact) / spread(plan.bounds, self._layout))),
            limit=LIMIT * max(1.0, LIMIT_WEIGHT / average),
            lost=max(each.lost for each in sent),
            seconds=round(seconds, 1),
        )


def fallen(weighed: Sequence[Vector], layout: Layout) -> list[float]:
    """Bounds that fell once too far: of each tensor the highest power of two below the largest of these values."""
    found = []
    for _, place in layout.slices():
        largest = max(float(np.abs(update[place]).max()) for update in weighed)
        found.append(2.0 ** max(LOWEST, math.ceil(math.log2(largest)) - 1 if largest else LOWEST))
    return found


def spread(bounds: Sequence[float], layout: Layout) -> Doubles:
    """The bound of each value, float64 [layout.size]."""
    return np.repeat(np.array(bounds), [tensor.size for tensor in layout.tensors])


def pooled_loss(work: Sequence[Work], layout: Layout) -> float:
    """Nats a case, over all sites."""
    total = named_counts(np.sum([each.counts for each in work], axis=0).tolist(), layout.counts)
    return int(total["loss"]) / LOSS_UNIT / int(total["cases"])


def measure(name: str) -> Iterator[Row]:
    """The rounds of one recipe."""
    with tempfile.TemporaryDirectory() as folder:
        yield from Study(load_recipe(name), Path(folder)).rounds()


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Markdown, a line a recipe: of each round its error."""
    yield "| recipe | values | sites asked | weighting | clipped, rounds 1 to 3 | error, round 1 | 2 | 3 | limit |"
    yield "|---|---|---|---|---|---|---|---|---|"
    by_recipe: Mapping[str, list[Row]] = {row.recipe: [] for row in rows}
    for row in rows:
        by_recipe[row.recipe].append(row)
    for name, own in by_recipe.items():
        first = own[0]
        clipped, errors = (", ".join(str(row.clipped) for row in own), " | ".join(f"{row.error:.1e}" for row in own))
        who = f"{first.contributors} of {first.sites}"
        limit = f"{max(row.limit for row in own):.1e}"
        yield f"| {name} | {first.values:,} | {who} | {first.weighting} | {clipped} | {errors} | {limit} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipes", nargs="+", choices=available(), default=available())
    rows = []
    for name in parser.parse_args().recipes:
        for row in measure(name):
            rows.append(row)
            print(json.dumps(asdict(row)), file=sys.stderr, flush=True)
    print("\n".join(table(rows)))
    sys.exit(0 if all(row.holds for row in rows) else 1)


def _silent(done: int, total: int) -> None:
    """No progress within a step."""


if __name__ == "__main__":
    main()
