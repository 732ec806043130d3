"""Whole federations in one process: the agents, the protocol and the coordinator of the real thing, HTTP left out."""

from __future__ import annotations

from simulation.engine.run import run
from simulation.engine.values import Federated, RoundDone, Spec, Stalled

__all__ = ["Federated", "RoundDone", "Spec", "Stalled", "run"]
