"""Synthetic chest CTs and X-rays with the lesions of UCADI's classes, for demonstrations and tests without patients."""

from simulation.phantoms.hospital import Phantom, ct_phantom, make_hospital, xray_phantom
from simulation.phantoms.lesions import CT_CLASSES, Difficulty
from simulation.phantoms.scanner import SITES, Scanner
from simulation.phantoms.xray import XRAY_CLASSES

__all__ = [
    "CT_CLASSES",
    "SITES",
    "XRAY_CLASSES",
    "Difficulty",
    "Phantom",
    "Scanner",
    "ct_phantom",
    "make_hospital",
    "xray_phantom",
]
