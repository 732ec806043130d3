"""`python -m participant.training.worker FOLDER`: one of the processes that train a round together.

The agent starts the first one (`participant.training.several`), and Fabric the others, by the same command. The first
one tells its steps on standard output and leaves the trained model in the folder.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from participant.files import write_whole


def end_with_the_agent() -> None:
    """The agent holds the other end of standard input: that it ends is how a killed agent says so."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=watch, name="watch", daemon=True).start()


def main() -> None:
    end_with_the_agent()  # before the long imports
    from rich.console import Console

    from participant import logs

    logs.set_up(Console(stderr=True))
    folder = Path(sys.argv[1])
    try:
        train(folder)
    except Exception as error:
        logging.getLogger("participant").exception("training on several devices failed in one of them")
        from participant.training.several import FAILURE

        failure = {"kind": type(error).__name__, "words": str(error)}
        # Whole or not at all: the agent looks as soon as one process has ended, while others still write.
        write_whole(folder / f"{os.environ.get('LOCAL_RANK', '0')}-{FAILURE}", json.dumps(failure).encode())
        end_all()


def end_all() -> None:
    """End this process and those that it trains with: they may wait for its gradients, which nothing else ends."""
    if sys.platform != "win32":
        os.killpg(0, signal.SIGKILL)  # the agent started the first one as a group of its own
    os._exit(1)


def train(folder: Path) -> None:
    """The job in the folder; the first process writes what came of it, `RESULT` last."""
    import numpy as np
    import torch

    from crypto.layout import Layout
    from participant.shares import limit_gpu
    from participant.training.several import BASE, RESULT, STATE, VECTOR, Job, tell

    job = Job.read(folder)
    limit_gpu(job.place.machine.gpu_share)
    base, layout = np.load(folder / BASE, allow_pickle=False), Layout.from_json(job.layout)
    trainer = job.place.trainer()
    result = trainer.train(base, layout, job.terms, tell if trainer.leads else lambda done, total: None)
    if trainer.leads:
        np.save(folder / VECTOR, result.vector, allow_pickle=False)
        (folder / STATE).write_bytes(result.state)
        write_whole(folder / RESULT, json.dumps({"loss": result.loss, "seconds": result.seconds}).encode())
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
