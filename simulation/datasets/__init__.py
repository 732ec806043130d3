"""Sets of chest images: opened by name or layout, filtered, sampled, divided among hospitals, and told of in tables."""

from simulation.datasets.catalogue import describe, open_dataset
from simulation.datasets.dataset import Dataset, Excluded, Row, Terms
from simulation.datasets.division import (
    ByQuantity,
    BySource,
    CannotDivide,
    Dirichlet,
    Division,
    Iid,
    Skew,
    division_of,
)
from simulation.datasets.exclusions import (
    without_ct_slices,
    without_duplicates,
    without_laterals,
    without_patients_in_two_classes,
    without_sources,
)
from simulation.datasets.hospitals import divide, hospitals, parts_of
from simulation.datasets.inpainting import Inpainted, inpainted, write_panel
from simulation.datasets.phantoms import FOURTH, Phantoms, phantom_dataset
from simulation.datasets.sampling import COVIDX_MINI, balanced, capped, sampled
from simulation.datasets.shift import DISTANT_CT, DISTANT_XRAY, CtShift, Shift, XrayShift, shifted
from simulation.datasets.slabs import cut_into_slabs
from simulation.datasets.splits import with_splits
from simulation.datasets.tables import Table, distribution, exclusions, patients, sources

__all__ = [
    "COVIDX_MINI",
    "DISTANT_CT",
    "DISTANT_XRAY",
    "FOURTH",
    "ByQuantity",
    "BySource",
    "CannotDivide",
    "CtShift",
    "Dataset",
    "Dirichlet",
    "Division",
    "Excluded",
    "Iid",
    "Inpainted",
    "Phantoms",
    "Row",
    "Shift",
    "Skew",
    "Table",
    "Terms",
    "XrayShift",
    "balanced",
    "capped",
    "cut_into_slabs",
    "describe",
    "distribution",
    "divide",
    "division_of",
    "exclusions",
    "hospitals",
    "inpainted",
    "open_dataset",
    "parts_of",
    "patients",
    "phantom_dataset",
    "sampled",
    "shifted",
    "sources",
    "with_splits",
    "without_ct_slices",
    "without_duplicates",
    "without_laterals",
    "without_patients_in_two_classes",
    "without_sources",
    "write_panel",
]
