"""A chest X-ray from a phantom: what is left of the beam behind the chest, on film."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from simulation.phantoms.anatomy import Patient
from simulation.phantoms.geometry import Field, Grid
from simulation.phantoms.scanner import Scanner

XRAY_CLASSES = ("normal", "pneumonia", "covid-19")
#: Which CT class's lesions a film of each class shows.
LESIONS_OF = {"normal": "healthy", "pneumonia": "bacterial", "covid-19": "covid-19"}

WATER_PER_MM = 0.0172  # attenuation of water at about 80 keV, the mean of a chest film at 120 kV


def film_grid(patient: Patient, scanner: Scanner) -> Grid:
    """A grid fine in the film's plane (pixels of field_of_view / matrix) and coarse along the beam (front to back)."""
    pixel = scanner.field_of_view / scanner.matrix
    low, high = -45.0, patient.lung_height + 55.0
    rows, columns, along = round((high - low) / pixel), scanner.matrix, 72
    depth = scanner.field_of_view / along
    half = scanner.field_of_view / 2
    return Grid((rows, along, columns), (pixel, depth, pixel), (low, -half + depth / 2, -half + pixel / 2))


def film(hu: Field, grid: Grid, scanner: Scanner, rng: np.random.Generator) -> Field:
    """The film of `hu` in parallel beam from back to front: (height, width) in [0, 1], head up, dense tissue bright.

    The noise grows where few photons arrive; scatter veils the film; the S-shaped curve of film gives contrast to the
    lungs. `scanner.noise` (HU of its CT) scales the noise, `scanner.blur` (mm) the focal spot.
    """
    attenuation = np.maximum(hu + 1000, 0) * np.float32(WATER_PER_MM / 1000 * grid.spacing[1])
    arriving = np.exp(-attenuation.sum(axis=1, dtype=np.float32))
    scatter = gaussian_filter(arriving, 18 / grid.spacing[0])
    exposure = gaussian_filter(arriving, 0.35 * scanner.blur / grid.spacing[0]) + 0.25 * scatter
    photons = 6e6 / (1 + scanner.noise) ** 2
    exposure = exposure + np.sqrt(exposure / photons).astype(np.float32) * rng.standard_normal(
        exposure.shape, dtype=np.float32
    )
    density = -np.log(np.maximum(exposure, 1e-5))[::-1]
    inner = density[density > 0.6] if (density > 0.6).any() else density
    middle, width = np.percentile(inner, 45), np.percentile(inner, 90) - np.percentile(inner, 10)
    return np.asarray(1 / (1 + np.exp(-3.2 * (density - middle) / max(float(width), 0.1))), np.float32)
