"""The scanner of a hospital: what its images have in common whoever lies in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from simulation.phantoms.anatomy import Patient
from simulation.phantoms.geometry import Field, Grid


@dataclass(frozen=True)
class Scanner:
    """A scanner and its protocol, with the build of a hospital's patients.

    matrix: pixels a side. field_of_view, slice_thickness, blur (standard deviation of the reconstruction kernel): mm.
    noise: standard deviation in HU of the image. offset: HU by which its calibration is off. patient_size: factor.
    """

    name: str = "scanner"
    matrix: int = 96
    field_of_view: float = 310.0
    slice_thickness: float = 10.0
    noise: float = 18.0
    blur: float = 1.0
    offset: float = 0.0
    patient_size: float = 1.0

    def grid(self, patient: Patient) -> Grid:
        """The slices from the lowest recess of the lungs to above them, centred on the table's axis."""
        low, high = 0.0, patient.lung_height + 8.0
        slices = max(8, round((high - low) / self.slice_thickness))
        pixel = self.field_of_view / self.matrix
        corner = -self.field_of_view / 2 + pixel / 2
        return Grid((slices, self.matrix, self.matrix), (self.slice_thickness, pixel, pixel), (low, corner, corner))

    def scan(self, hu: Field, grid: Grid, rng: np.random.Generator) -> Field:
        """The image that this scanner makes of `hu` on `grid`, clipped to what 12 bits hold: -1024 to 3071 HU."""
        width = self.blur / grid.spacing[2]
        # Reconstruction correlates the noise of neighbouring pixels; it is scaled to keep its deviation.
        noise = gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), (0, 0.5, 0.5))
        image = gaussian_filter(hu, (0.0, width, width)) + self.offset
        body = np.where(hu > -950, np.float32(1), np.float32(0.5))
        noisy: Field = image + noise * body * np.float32(self.noise / noise.std())
        return np.clip(noisy, -1024, 3071).astype(np.float32)


#: Three hospitals as unlike as real ones: a sharp modern scanner, a soft older one, a noisy low-dose protocol.
SITES = (
    Scanner("site-1", slice_thickness=10.0, noise=14.0, blur=1.0, offset=0.0, patient_size=1.0),
    Scanner("site-2", slice_thickness=12.0, noise=20.0, blur=2.2, offset=12.0, patient_size=1.05, field_of_view=325.0),
    Scanner("site-3", slice_thickness=8.0, noise=32.0, blur=0.7, offset=-10.0, patient_size=0.94, field_of_view=300.0),
)
