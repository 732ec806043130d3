"""A healthy chest in HU: body, bones, heart and great vessels, lungs with their vessels and airways, organs below.

Shapes are ellipses whose axes change with height, sized from adult anatomy and varied per patient; all lengths are mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulation.phantoms.geometry import Field, Grid, blend, capsule_distance, fill_tubes, inside, smooth_noise
from simulation.phantoms.vessels import Tree, grow_tree

AIR, LUNG, FAT, MUSCLE, BLOOD, LIVER = -1000.0, -850.0, -100.0, 50.0, 45.0, 60.0
TRABECULAR, CORTICAL = 190.0, 480.0


@dataclass(frozen=True)
class Patient:
    """What makes one patient's chest differ from another's. Sizes are factors of the adult mean."""

    sex: str
    age: int
    width: float
    depth: float
    lung_height: float  # mm, lowest recess to apex
    fat: float  # mm of subcutaneous fat
    heart: float
    inflation: float  # HU added to the whole lung: a patient who breathes in less has denser lungs
    dependent: float  # HU added at the lowest (posterior) part of a lying patient's lung
    turn: float  # radians about the long axis
    shift: tuple[float, float]  # mm (back, left)


def draw_patient(rng: np.random.Generator, size: float = 1.0) -> Patient:
    """A random adult; `size` scales the population of a hospital."""
    woman = rng.random() < 0.48
    height = (235 if woman else 260) * rng.normal(1, 0.05)
    return Patient(
        sex="F" if woman else "M",
        age=int(np.clip(rng.normal(55, 15), 18, 95)),
        width=size * (0.93 if woman else 1.02) * float(np.clip(rng.normal(1, 0.04), 0.9, 1.12)),
        depth=size * float(np.clip(rng.normal(1, 0.05), 0.88, 1.12)),
        lung_height=float(np.clip(height, 195, 300)),
        fat=float(np.clip(rng.gamma(4, 3.5), 5, 35)),
        heart=float(np.clip(rng.normal(1, 0.07), 0.85, 1.25)),
        inflation=float(np.clip(rng.normal(0, 15), -35, 60)),
        dependent=float(rng.gamma(2.0, 16)),
        turn=float(rng.normal(0, 0.05)),
        shift=(float(rng.normal(0, 5)), float(rng.normal(0, 6))),
    )


@dataclass(frozen=True)
class Chest:
    """A healthy chest, and the fields that lesions are placed by; every field has the grid's shape.

    hu: attenuation. lungs: share of lung tissue in a voxel. side: -1 right, +1 left.
    wall: mm to the chest wall or diaphragm, negative inside the lung.
    height: 0 lowest recess to 1 apex. back: -1 front to +1 back.
    vessels: share of vessel in a voxel. trees: per side (right, left) the arterial tree, from the hilum.
    """

    grid: Grid
    patient: Patient
    hu: Field
    lungs: Field
    side: Field
    wall: Field
    height: Field
    back: Field
    vessels: Field
    trees: tuple[Tree, Tree]


def build_chest(patient: Patient, grid: Grid, rng: np.random.Generator) -> Chest:
    """A healthy chest of this patient on this grid."""
    z, y, x = _patient_axes(patient, grid)
    height = z / np.float32(patient.lung_height)
    bend = smooth_noise(grid, 70, rng) * np.float32(2.5)
    edge = grid.spacing[2]

    thorax = _thorax(patient, height, y, x) + bend
    mediastinum = _mediastinum(patient, z, height, y, x) + bend
    dome = _dome(patient, y, x, rng) - z + bend
    wall = np.maximum(thorax, dome)
    lungs = inside(np.maximum(wall, -mediastinum), edge)

    hu = _body(patient, grid, height, y, x, thorax, rng)
    hu = _bones(hu, patient, z, height, y, x, thorax, edge)
    hu = _inner_organs(hu, patient, z, y, x, thorax, mediastinum, dome, edge)
    back = y / np.float32(85 * patient.depth)
    gravity = np.clip(back - 0.15, 0, 1) * np.clip(1.1 - height, 0, 1)
    tissue = LUNG + patient.inflation + 35 * back + patient.dependent * gravity + 12 * smooth_noise(grid, 18, rng)
    hu = blend(hu, tissue.astype(np.float32), lungs)
    side = np.where(x > 0, np.float32(1), np.float32(-1)) + np.zeros_like(hu)
    trees = _trees(patient, grid, lungs, side, rng)
    vessels = sum((fill_tubes(grid, t.points, t.parents, t.radii, rng) for t in trees), np.zeros_like(hu))
    vessels = np.minimum(vessels, 1)
    hu = _airways(blend(hu, BLOOD, vessels * lungs), grid, patient)
    height, back = height + np.zeros_like(hu), back + np.zeros_like(hu)
    return Chest(grid, patient, hu, lungs, side, wall, height, back, vessels, trees)


def _patient_axes(patient: Patient, grid: Grid) -> tuple[Field, Field, Field]:
    """The patient's own coordinates of every voxel: the scanner's, shifted and turned."""
    z, y, x = grid.axes()
    y, x = y - np.float32(patient.shift[0]), x - np.float32(patient.shift[1])
    cosine, sine = np.float32(np.cos(patient.turn)), np.float32(np.sin(patient.turn))
    return z, cosine * y + sine * x, cosine * x - sine * y


def _ellipse(y: Field, x: Field, half_depth: Field | float, half_width: Field | float) -> Field:
    """About the distance in mm to an ellipse around 0, negative inside."""
    radius = np.sqrt((y / np.float32(half_depth)) ** 2 + (x / np.float32(half_width)) ** 2)
    distance: Field = (radius - 1) * np.minimum(np.float32(half_depth), np.float32(half_width))
    return distance


def _thorax(patient: Patient, height: Field, y: Field, x: Field) -> Field:
    """Distance to the inner surface of the rib cage: widest at a third of its height, closing at the apex."""
    narrowing = np.clip((height - 0.3) / 0.74, 0, 1) ** 2.4
    girth = np.sqrt(np.maximum(1 - narrowing, 0.02)) * (0.94 + 0.06 * np.clip(height / 0.3, 0, 1))
    return _ellipse(y - 6 * height, x, 97 * patient.depth * girth, 142 * patient.width * girth)


def _mediastinum(patient: Patient, z: Field, height: Field, y: Field, x: Field) -> Field:
    """Distance to what lies between the lungs: heart, great vessels, the spine's bulge, and the thin front junction."""
    h, w, d = patient.heart, patient.width, patient.depth
    base = 0.27 * patient.lung_height
    heart = np.sqrt(((z - base) / (62 * h)) ** 2 + ((y + 26 * d) / (50 * h)) ** 2 + ((x - 24 * w) / (62 * h)) ** 2)
    widening = 1 + 0.45 * np.clip(height - 0.6, 0, 1)
    vessels = _ellipse(y + 4, x - 3, 62 * d, 31 * w * widening)
    spine = _ellipse(y - 68 * d, x, 34 * d, 33 * w)
    front = np.where(y < -20, np.abs(x - 2) - 4, 99)  # a sheet of a few mm where both lungs meet
    nearest: Field = np.minimum(np.minimum((heart - 1) * 50, vessels), np.minimum(spine, front))
    return nearest


def _dome(patient: Patient, y: Field, x: Field, rng: np.random.Generator) -> Field:
    """Height of the diaphragm: two domes, the right one higher over the liver."""
    right, left = 66 + rng.normal(0, 7), 54 + rng.normal(0, 7)
    across = [((x - sign * 62 * patient.width) / (84 * patient.width)) ** 2 for sign in (-1, 1)]
    along = ((y + 12) / (105 * patient.depth)) ** 2
    domes = np.maximum(right * (1 - across[0] - along), left * (1 - across[1] - along))
    return np.asarray(np.maximum(domes, -12), np.float32)


def _body(
    patient: Patient, grid: Grid, height: Field, y: Field, x: Field, thorax: Field, rng: np.random.Generator
) -> Field:
    """Skin, fat and muscle around the rib cage, and the couch that the patient lies on."""
    shoulders = 1 + 0.1 * np.clip((height - 0.72) / 0.3, 0, 1)
    outline = _ellipse(
        y, x, (116 * patient.depth + patient.fat) / np.sqrt(shoulders), (160 * patient.width + patient.fat) * shoulders
    )
    edge = grid.spacing[2]
    hu = blend(np.full(grid.shape, AIR, np.float32), FAT, inside(outline, edge))
    under_skin = np.maximum(outline + patient.fat, np.minimum(outline + 4, thorax - 24))
    marbling = 0.86 + 0.14 * np.clip(smooth_noise(grid, 22, rng), -1, 1)  # fat between the muscles
    hu = blend(hu, MUSCLE, inside(under_skin, 1.5 * edge) * marbling)
    skin = inside(np.abs(outline + 1) - 1, edge)
    hu = blend(hu, 20.0, 0.8 * skin)
    couch = np.abs(y - 135 * patient.depth - patient.fat + 0.0012 * x**2 - 4) - 2
    return np.maximum(hu, blend(np.full((1, *grid.shape[1:]), AIR, np.float32), -250.0, inside(couch, edge)))


def _bones(
    hu: Field, patient: Patient, z: Field, height: Field, y: Field, x: Field, thorax: Field, edge: float
) -> Field:
    """Ribs slanting downwards to the front, breast bone, shoulder blades, and the spine."""
    d, w = patient.depth, patient.width
    spacing = patient.lung_height / 9.5
    phase = (z + 0.42 * (y - 40) * -1 + 0.1 * np.abs(x)) / spacing
    across = (np.abs(phase - np.round(phase)) * spacing) - 5.5
    rib = np.maximum(np.abs(thorax - 6.5) - 4.5, across)
    rib = np.where((y < -62 * d) & (np.abs(x) < 46 * w), 99, rib)  # cartilage in front
    hu = blend(hu, 620.0, inside(rib, edge))
    breast_bone = np.maximum(_ellipse(y + (100 - 14 * height) * d, x, 7, 19 * w), 0.35 * patient.lung_height - z)
    hu = blend(hu, 260.0, inside(breast_bone, edge))
    blade = np.maximum(
        np.abs(np.hypot((y - 30) / (105 * d), np.abs(x) / (150 * w)) - 1) * 100 - 3.5,
        np.maximum(np.abs(y - 62 * d) - 34, np.maximum(78 * w - np.abs(x), 0.5 * patient.lung_height - z)),
    )
    return _spine(blend(hu, 330.0, 0.8 * inside(blade, edge)), d, z, y, x, edge)


def _spine(hu: Field, d: float, z: Field, y: Field, x: Field, edge: float) -> Field:
    """Vertebrae 24 mm high with discs between them, their arches around the canal; `d` scales distances to the back."""
    disc = np.asarray(np.abs((z / 24) - np.round(z / 24)) > 0.38, np.float32)
    vertebra = _ellipse(y - 80 * d, x, 15, 19)
    hu = blend(hu, TRABECULAR, inside(vertebra, edge) * (1 - 0.6 * disc))
    hu = blend(hu, CORTICAL, 0.7 * inside(np.abs(vertebra) - 1.2, edge) * (1 - 0.6 * disc))
    ring = np.abs(_ellipse(y - 103 * d, x, 11, 12)) - 2.5
    spinous = np.maximum(np.abs(x) - 3.5, np.abs(y - 121 * d) - 9)
    transverse = np.maximum(np.abs(np.abs(x) - 24) - 14, np.abs(y - 101 * d) - 4)
    arch = np.minimum(np.minimum(ring, spinous), transverse)
    hu = blend(hu, 350.0, inside(arch, edge) * (1 - 0.5 * disc))
    return blend(hu, 25.0, inside(_ellipse(y - 103 * d, x, 8, 9), edge))


def _inner_organs(
    hu: Field,
    patient: Patient,
    z: Field,
    y: Field,
    x: Field,
    thorax: Field,
    mediastinum: Field,
    dome: Field,
    edge: float,
) -> Field:
    """Heart and great vessels in fat, and what lies under the diaphragm."""
    d, w, h = patient.depth, patient.width, patient.heart
    base, top, fork = (share * patient.lung_height for share in (0.27, 0.72, 0.55))
    cavity = inside(thorax, edge)
    spine_side = np.clip((y - 46 * d) / 8, 0, 1)  # behind: muscle and spine rather than fat
    hu = blend(hu, FAT + 25, cavity * inside(mediastinum, edge) * (1 - spine_side))
    heart = np.sqrt(((z - base) / (60 * h)) ** 2 + ((y + 26 * d) / (46 * h)) ** 2 + ((x - 24 * w) / (58 * h)) ** 2)
    hu = blend(hu, BLOOD, inside((heart - 1) * 46, edge) * cavity)
    descending = np.maximum(_ellipse(y - 48 * d, x - 20, 13, 13), z - top)
    ascending = np.maximum(_ellipse(y + 12, x + 12, 16, 16), np.maximum(z - top, base - z))
    arch = np.maximum(np.abs(z - top) - 11, _ellipse(y - 14, x - 8 - 0.15 * (y - 14), 40, 13))
    pulmonary = np.maximum(np.abs(z - fork) - 11, _ellipse(y + 4, x - 8, 12, 44))
    veins = np.maximum(np.minimum(_ellipse(y + 4, x + 24, 9, 9), _ellipse(y + 16, np.abs(x) - 17, 6, 8)), fork - z)
    for vessel in (descending, ascending, arch, pulmonary, veins):
        hu = blend(hu, BLOOD, inside(vessel, edge) * cavity)
    belly = _belly(np.full_like(hu, FAT), w, z, y, x, edge)
    below = inside(-dome, edge) * inside(z - 0.45 * patient.lung_height, edge) * cavity
    return blend(hu, belly, below * (1 - inside(mediastinum + 10, edge)))


def _belly(hu: Field, w: float, z: Field, y: Field, x: Field, edge: float) -> Field:
    """Liver on the right, spleen at the back on the left, and the stomach with its bubble of air in front of it."""
    spleen = inside(np.maximum(-y - 20, 46 * w - x), 10)
    belly = blend(hu, LIVER, np.maximum(inside(x - 18, 12), spleen))
    gastric = np.sqrt(((z + 2) / 34) ** 2 + ((y + 38) / 30) ** 2 + ((x - 66 * w) / 34) ** 2)
    belly = blend(belly, 25.0, inside((gastric - 1.15) * 30, edge))
    return blend(belly, AIR, inside(np.maximum((gastric - 1) * 30, y + 40), edge))


def _trees(patient: Patient, grid: Grid, lungs: Field, side: Field, rng: np.random.Generator) -> tuple[Tree, Tree]:
    """An arterial tree for the right and for the left lung, grown to random points of it."""
    trees = []
    for sign in (-1, 1):
        voxels = np.argwhere((lungs > 0.95) & (side == sign))
        if not len(voxels):
            raise ValueError("the grid shows no lung on one side at least: it must cover the chest")
        chosen = voxels[rng.integers(len(voxels), size=280)]
        targets = (chosen + rng.random(chosen.shape) - 0.5) * np.array(grid.spacing) + np.array(grid.origin)
        trees.append(grow_tree(np.array(_hilum(patient, sign)), targets, 0.85, rng))
    return trees[0], trees[1]


def _hilum(patient: Patient, sign: int) -> tuple[float, float, float]:
    """Where vessels and airways enter a lung, as (z, y, x) in mm."""
    return 0.53 * patient.lung_height, 12 + patient.shift[0], sign * 34 * patient.width + patient.shift[1]


def _airways(hu: Field, grid: Grid, patient: Patient) -> Field:
    """Trachea, main and lobar bronchi: walls of soft tissue around air."""
    back, left = patient.shift
    top, fork = (1.06 * patient.lung_height, 14 + back, left), (0.64 * patient.lung_height, 22 + back, left)
    tubes = [(top, fork, 8.5)]
    for sign in (-1, 1):
        z, y, x = _hilum(patient, sign)
        entry = (z, y + 6, x)
        tubes.append((fork, entry, 6.5))
        for rise, forward, outward in ((45, -28, 30), (-50, 34, 24), (-28, -36, 34)):
            tubes.append((entry, (z + rise, y + forward, x + sign * outward), 2.8))
    for wall, tissue in ((0.22, 0.0), (0.0, AIR)):  # all walls first, so that no wall closes a lumen
        for start, end, radius in tubes:
            box, distance = capsule_distance(grid, start, end, radius + 2 * grid.spacing[2])
            hu[box] = blend(hu[box], tissue, inside(distance - radius * (1 + wall), grid.spacing[2]))
    return hu
