"""How good a model is on this hospital's own cases: figures with intervals, a report, and readers beside the model."""

from __future__ import annotations

from typing import Final

FORMAT: Final = "pleura/evaluation/v1"  # of evaluation.json
