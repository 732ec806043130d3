"""Trains one round on small volumes as an agent does, in a process of its own, to be killed within it.

train_until.py SITE HOME OUT [MARKER]: with a MARKER it makes that file once a checkpoint of the second epoch is on the
disk, and waits to be killed. Without, it goes to the end and leaves OUT.npz.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from small_volumes import LASTING, first_model, recipe

from participant.terms import RoundTerms
from participant.training import Machine, site_trainer

SITE, HOME, OUT = map(Path, sys.argv[1:4])
MARKER = Path(sys.argv[4]) if len(sys.argv) > 4 else None
steps: list[int] = []


def progress(done: int, total: int) -> None:
    steps.append(done)
    if MARKER is not None and done == total - 1:
        MARKER.touch()
        threading.Event().wait()


def main() -> None:
    torch.set_num_threads(1)
    made = recipe(**LASTING)
    base, layout = first_model(made)
    machine = Machine(device="cpu", threads=1, checkpoint_seconds=0)
    agent = site_trainer(made, SITE, SITE / ".." / "cache", 0, state_dir=HOME, machine=machine, study="a study")
    result = agent.train(base, layout, RoundTerms(1), progress)
    np.savez(OUT, vector=result.vector, state=np.frombuffer(result.state, np.uint8), loss=result.loss, steps=steps)


if __name__ == "__main__":
    main()
