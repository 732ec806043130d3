"""Lesions of UCADI's classes, drawn into a healthy chest.

The classes follow the patterns that radiologists describe, and overlap as theirs do: COVID-19 lies peripherally in both
lower lobes as ground glass, other viral pneumonia spreads from the hila with small nodules round the airways, bacterial
pneumonia consolidates a lobe of one side and leaves its bronchi filled with air. Mild disease looks nearly healthy,
healthy lungs carry scars and poorly aired bases, and some cases of each class take another's form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulation.phantoms.anatomy import BLOOD, LUNG, Chest
from simulation.phantoms.geometry import Field, blend, fill_tubes, smooth_noise

CT_CLASSES = ("healthy", "covid-19", "other-viral", "bacterial")


@dataclass(frozen=True)
class Difficulty:
    """How hard the classes are to tell apart: 0 is a textbook, 1 is mostly mild and atypical disease."""

    level: float = 0.5

    def severity(self, rng: np.random.Generator) -> float:
        """Severity of one case in (0, 1]: mild cases become frequent as the level rises."""
        return float(np.clip(rng.beta(1.6 + 2.4 * (1 - self.level), 1.6 + 1.2 * self.level), 0.06, 1))

    def atypical(self, rng: np.random.Generator) -> bool:
        """Whether a case departs from its class's usual place."""
        return bool(rng.random() < 0.35 * self.level)

    def confounders(self, rng: np.random.Generator) -> int:
        """How many unspecific findings (scars, atelectases) any lung carries."""
        return int(rng.poisson(2.5 * self.level))


@dataclass(frozen=True)
class Case:
    """A chest with its lesions: hu (depth, height, width); lesions and lungs as shares of each voxel, same shape."""

    hu: Field
    lesions: Field
    lungs: Field


def add_lesions(chest: Chest, label: str, rng: np.random.Generator, difficulty: Difficulty) -> Case:
    """The chest with the lesions of class `label` (one of CT_CLASSES)."""
    severity = difficulty.severity(rng)
    nothing = np.zeros(chest.grid.shape, np.float32)
    glass, solid, bronchi = nothing, nothing, nothing
    if label == "covid-19":
        glass, solid = _covid(chest, rng, severity, difficulty.atypical(rng))
    elif label == "other-viral":
        glass, solid = _other_viral(chest, rng, severity, difficulty.atypical(rng))
    elif label == "bacterial":
        glass, solid, bronchi = _bacterial(chest, rng, severity, difficulty.atypical(rng))
    elif label != "healthy":
        raise ValueError(f"no lesions are known for class {label!r}; known classes: {', '.join(CT_CLASSES)}")
    disease = np.maximum(glass, solid) * chest.lungs
    for _ in range(difficulty.confounders(rng)):
        glass = np.maximum(glass, _atelectasis(chest, rng))
    return Case(_draw(chest, glass, solid, bronchi, rng), disease, chest.lungs)


def _draw(chest: Chest, glass: Field, solid: Field, bronchi: Field, rng: np.random.Generator) -> Field:
    """Ground glass lets the vessels show, consolidation hides them; bronchi keep their air in both."""
    haze = LUNG + np.clip(glass, 0, 1) * (400 + 45 * smooth_noise(chest.grid, 9, rng))
    free = chest.lungs * (1 - chest.vessels)
    hu = np.where(glass > 0, np.maximum(chest.hu, blend(chest.hu, haze, free * (glass > 0))), chest.hu)
    hu = blend(hu, BLOOD - 80 + 60 * smooth_noise(chest.grid, 14, rng), np.clip(solid, 0, 1) * chest.lungs)
    return blend(hu, -930.0, np.clip(bronchi, 0, 0.9) * chest.lungs)


def _patch(chest: Chest, centre: np.ndarray, radii: tuple[float, float, float], rough: Field) -> Field:
    """A cloud of 1 at `centre` (z, y, x in mm), fading at about `radii` mm, its edge frayed by the noise `rough`."""
    z, y, x = chest.grid.axes()
    steps = [(axis - np.float32(c)) / np.float32(r) for axis, c, r in zip((z, y, x), centre, radii, strict=True)]
    cloud: Field = np.clip(1.6 * (1.15 - steps[0] ** 2 - steps[1] ** 2 - steps[2] ** 2 + 0.45 * rough), 0, 1)
    return cloud


def _sites(chest: Chest, weight: Field, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` random points (z, y, x in mm) of the lungs, drawn in proportion to `weight`."""
    likely = np.cumsum((weight * (chest.lungs > 0.9)).ravel(), dtype=np.float64)
    flat = np.searchsorted(likely, rng.random(count) * likely[-1])
    index = np.stack(np.unravel_index(np.minimum(flat, likely.size - 1), chest.grid.shape), axis=1)
    return np.asarray(index * np.array(chest.grid.spacing) + np.array(chest.grid.origin))


def _covid(chest: Chest, rng: np.random.Generator, severity: float, atypical: bool) -> tuple[Field, Field]:
    """Patches of ground glass under the pleura of both lungs, low and at the back, some paved or consolidated."""
    peripheral = np.exp(np.minimum(chest.wall, 0) / 9)
    low = np.exp(-2.2 * chest.height) * np.exp(0.9 * chest.back)
    weight = np.exp(np.minimum(chest.wall, 0) / 45) if atypical else peripheral * low
    if atypical and rng.random() < 0.4:
        weight = weight * (chest.side == rng.choice((-1, 1)))  # early disease of one side
    rough = smooth_noise(chest.grid, 16, rng)
    glass = np.zeros(chest.grid.shape, np.float32)
    solid = glass
    for centre in _sites(chest, weight, 4 + rng.poisson(22 * severity), rng):
        size = (17 + 15 * severity) * rng.uniform(0.6, 1.35)
        patch = _patch(chest, centre, (size * 1.3, size * 0.9, size * 0.9), rough)
        glass = np.maximum(glass, patch * np.float32(rng.uniform(0.6, 0.9) + 0.3 * severity))
        if rng.random() < 0.22 * severity:
            solid = np.maximum(solid, 0.8 * _patch(chest, centre, (size * 0.6, size * 0.5, size * 0.5), rough))
    if rng.random() < 0.4:
        glass = glass * (1 + 0.5 * _septa(chest, rng))
    return glass, solid


def _septa(chest: Chest, rng: np.random.Generator) -> Field:
    """Thickened septa: the zero lines of noise, a net of about 10 mm (crazy paving where it lies on ground glass)."""
    net = smooth_noise(chest.grid, 10, rng)
    return np.asarray(np.clip(1 - np.abs(net) * 3, 0, 1))


def _other_viral(chest: Chest, rng: np.random.Generator, severity: float, atypical: bool) -> tuple[Field, Field]:
    """Hazy ground glass from the hila outwards in both lungs, with nodules of a few mm round the small airways."""
    central = np.clip(-chest.wall / 38, 0, 1) ** (0.3 if atypical else 0.9)
    mottled = np.clip(0.55 + 0.55 * smooth_noise(chest.grid, 42, rng), 0, 1)
    glass = central * mottled * np.float32(0.2 + 0.5 * severity)
    centres = _sites(chest, 0.2 + central, 15 + rng.poisson(100 * severity), rng)
    parents = np.repeat(np.array([[-1, 0]]), len(centres), axis=0)
    parents[:, 1] = 2 * np.arange(len(centres))
    ends = np.stack([centres, centres + rng.normal(0, 3, centres.shape)], axis=1).reshape(-1, 3)
    nodules = fill_tubes(chest.grid, ends, parents.ravel(), rng.uniform(2.4, 4.8, 2 * len(centres)), rng)
    if rng.random() < 0.3:
        rough = smooth_noise(chest.grid, 16, rng)
        for centre in _sites(chest, chest.lungs, 1 + rng.poisson(2 * severity), rng):
            glass = np.maximum(glass, 0.6 * _patch(chest, centre, (16, 14, 14), rough))
    return glass, 0.75 * nodules


def _bacterial(chest: Chest, rng: np.random.Generator, severity: float, atypical: bool) -> tuple[Field, Field, Field]:
    """Dense consolidation of part of a lobe on one side, ground glass at its border, air in its bronchi."""
    sign = int(rng.choice((-1, 1)))
    seat = (chest.side == sign).astype(np.float32)
    lower = rng.random() < 0.62
    # The oblique fissure runs from high at the back to low in front.
    lobe = chest.height - 0.42 - 0.3 * chest.back
    inside_lobe = np.clip((-lobe if lower else lobe) * 14 + 0.5, 0, 1) * seat
    rough = smooth_noise(chest.grid, 24, rng)
    centre = _sites(chest, inside_lobe * np.exp(np.minimum(chest.wall, 0) / 40), 1, rng)[0]
    size = 48 + 46 * severity * rng.uniform(0.7, 1.2)
    core = _patch(chest, centre, (size * 1.1, size, size), rough) * inside_lobe
    border = _patch(chest, centre, (size * 1.5, size * 1.35, size * 1.35), rough) * seat
    solid = core * np.float32(0.7 + 0.3 * severity)
    glass = 0.6 * border
    if atypical:  # bronchopneumonia: further foci, also on the other side
        for spot in _sites(chest, chest.lungs, 2 + rng.poisson(3 * severity), rng):
            small = 9 + 10 * severity
            glass = np.maximum(glass, 0.7 * _patch(chest, spot, (small, small, small), rough))
    tree = chest.trees[0 if sign < 0 else 1]
    bronchi = fill_tubes(chest.grid, tree.points + np.array([0, 4.0, 0]), tree.parents, 0.8 * tree.radii, rng)
    return glass, solid, bronchi * (solid > 0.3)


def _atelectasis(chest: Chest, rng: np.random.Generator) -> Field:
    """A poorly aired band or patch at a base or along the back, as in many lungs without any infection."""
    weight = np.exp(-5 * chest.height) * np.exp(1.2 * chest.back) * np.exp(np.minimum(chest.wall, 0) / 12)
    centre = _sites(chest, weight, 1, rng)[0]
    size = rng.uniform(6, 18)
    flat = (size * rng.uniform(0.3, 0.8), size * rng.uniform(0.5, 1.2), size * rng.uniform(1.0, 2.0))
    return np.float32(rng.uniform(0.35, 0.8)) * _patch(chest, centre, flat, smooth_noise(chest.grid, 14, rng))
