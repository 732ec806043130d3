"""Fuzz every byte format that crosses the wire: `python tests/fuzz/fuzz.py --cases 100000`.

Cases run in child processes (`fuzz_child.py`), a group of formats each. One that fails is kept in runs/fuzz, and
`python tests/fuzz/fuzz_child.py GROUP FILE` reads it again.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
GROUPS: Final = {"messages": 0.8, "keys": 0.15, "files": 0.05}  # shares of the cases


class Found(Exception):
    """A case that ended a child, or that its reader did not refuse as documented."""


def run_group(
    group: str, cases: int, seed: int, kept: Path, case_seconds: float = 10.0, seconds: float = 3600.0
) -> dict[str, Any]:
    """What the child did: `cases`, `taken` by format, `peak_mib`, `cpu_seconds` and `seconds`.

    Args:
        kept: the folder for the case that failed.
        case_seconds: of processor time that a case may take; the slowest honest one takes some 0.05.
        seconds: that all cases may take.

    Raises:
        Found: with what happened, and how to see it again.
    """
    kept.mkdir(parents=True, exist_ok=True)
    case = kept / f"{group}-{seed}.case"
    with case.open("wb") as file:
        file.truncate(8 << 20)
    command = [sys.executable, str(HERE / "fuzz_child.py"), group, str(case)]
    started = time.monotonic()
    # Few arenas: the C library would otherwise reserve address space by the thread, which the limit counts.
    child = subprocess.run(
        [*command, "--cases", str(cases), "--seed", str(seed), "--seconds", str(case_seconds)],
        capture_output=True,
        text=True,
        timeout=seconds,
        env=os.environ | {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    if child.returncode != 0:
        end = signal.Signals(-child.returncode).name if child.returncode < 0 else f"exit status {child.returncode}"
        raise Found(f"{group} ended with {end} (seed {seed})\n{child.stderr[-6000:]}\nAgain: {' '.join(command)}")
    case.unlink()
    return json.loads(child.stdout) | {"seconds": time.monotonic() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    for group, share in GROUPS.items():
        try:
            done = run_group(group, round(asked.cases * share), asked.seed, HERE.parents[1] / "runs" / "fuzz")
        except Found as found:
            sys.exit(str(found))
        taken = sum(done["taken"].values())
        print(
            f"{group}: {done['cases']} cases of {len(done['taken'])} formats, {taken} taken, the others refused as "
            f"documented; {done['seconds']:.0f} s, {done['cpu_seconds']:.0f} s of processor time, "
            f"at most {done['peak_mib']} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
