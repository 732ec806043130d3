"""onnxruntime, imported from here alone: its builds tell their maker about every session, over the network, unless a
variable forbids it before they are loaded. Nothing leaves a hospital that its ledger does not name."""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

__all__ = ["onnxruntime"]
