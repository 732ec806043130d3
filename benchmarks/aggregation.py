"""Secure aggregation beside its peers: plaintext, our three schemes, NVFLARE's HE and Flower's SecAgg+ in one run.

Every cell (a system, a size, a number of sites) is measured by processes of its own, one after the other, on files in
one folder; see `benchmarks.harness`. Results: aggregation.jsonl, one line a measurement, and a table and a plot of it.
What does not fit into memory or onto the disk is left out, with the reason in its place. `make bench` makes the
peers' environments and runs all of it; a part is run with

    python -m benchmarks.aggregation --sizes ucadi --sites 4 --systems lwe-ckks flower --output /tmp/results
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import report
from benchmarks.harness import Job, Run
from benchmarks.sizes import Size, sizes

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".bench"
FOLDER = PEERS / "cell"
OURS = ("lwe-ckks", "lwe-shamir", "ckks")
MODULES = {
    "plaintext": "benchmarks.plain",
    **dict.fromkeys(OURS, "benchmarks.ours"),
    "flower": "benchmarks.peers.flower_secagg",
    "nvflare": "benchmarks.peers.nvflare_he",
}
VERSIONS = {"nvflare": ("nvflare", "tenseal"), "flower": ("flwr",)}
SITES = (4, 16, 64)
MEMORY_RUNS = 7  # threads make a difference of a few megabytes
DISK_KEPT_FREE = 4 << 30
LONGEST = 300  # seconds of one run of a server


class LeftOut(Exception):
    """A cell, or the rest of it, that this machine does not take."""


@dataclass(frozen=True)
class Cell:
    system: str
    size: Size
    sites: int

    @property
    def wanted(self) -> bool:
        """The peers stop at 11 million values; 64 sites are there to show the server's memory."""
        if self.sites == max(SITES):
            return self.system in OURS and self.size.name in ("ucadi", "densenet121")
        return self.size.name != "vgg16" or self.system in ("plaintext", *OURS)


@dataclass
class Bench:
    """Runs cells and keeps what they measured.

    Attributes:
        memory: bytes that a step may use.
        records: as they go into the results.
    """

    memory: int
    repeats: int
    budget: float
    records: list[dict[str, Any]] = field(default_factory=list)

    def run(self, cell: Cell) -> None:
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        try:
            self._measure(cell)
        except LeftOut as reason:
            self._record(cell, left_out=str(reason))
        finally:
            shutil.rmtree(FOLDER, ignore_errors=True)

    def _measure(self, cell: Cell) -> None:
        sites = self._step(cell, "client")
        self._record(cell, figure="upload_bytes", value=sites["upload"], unit="B")
        self._timed(cell, "client_seconds", sites["client"])
        self._further(cell, sites)
        self._check_disk(cell, sites["upload"])
        self._check_memory(cell, sites["upload"])
        self._check_time(cell)
        self._step(cell, "contribute")
        server = self._step(cell, "server")
        self._timed(cell, "server_seconds", server["add"], cell.sites)
        self._timed(cell, "open_seconds", server["open"])
        self._further(cell, server)
        self._memory(cell)
        self._record(cell, figure="max_error", value=self._step(cell, "check")["error"], unit="bound")

    def _check_time(self, cell: Cell) -> None:
        """The server's run of fewer sites tells how long this one would take."""
        known = self.value(cell.system, cell.size.name, min(SITES), "server_seconds")
        if known is not None and known * cell.sites > LONGEST:
            minutes = known * cell.sites / 60
            raise LeftOut(f"its server would take {minutes:.0f} minutes a run, by what {min(SITES)} sites took")

    def _memory(self, cell: Cell) -> None:
        """In a process for each run."""
        started, runs = time.monotonic(), [self._step(cell, "memory")["memory"]]
        while len(runs) < MEMORY_RUNS and time.monotonic() - started < self.budget:
            runs.append(self._step(cell, "memory")["memory"])
        self._record(cell, figure="server_memory_bytes", value=median(runs), unit="B", runs=runs)

    # --- records

    def value(self, system: str, size: str, sites: int, figure: str) -> float | None:
        return report.value(self.records, system, size, sites, figure)

    def _timed(self, cell: Cell, figure: str, runs: list[Run], share: int = 1) -> None:
        """`share`: among how many contributions a run's seconds are divided."""
        seconds, processor = ([run[key] / share for run in runs] for key in ("seconds", "cpu_seconds"))
        self._record(cell, figure=figure, value=median(seconds), unit="s", runs=seconds, cpu_seconds=median(processor))

    def _further(self, cell: Cell, figures: dict[str, Any]) -> None:
        for name, seconds in figures["further"].items():
            self._record(cell, figure=f"{name}_seconds", value=seconds, unit="s")

    def _record(self, cell: Cell, **measured: Any) -> None:
        about = {"system": cell.system, "size": cell.size.name, "sites": cell.sites}
        self.records.append(about | measured)
        print(json.dumps(self.records[-1]), flush=True)

    # --- what fits

    def _check_disk(self, cell: Cell, upload: int) -> None:
        """Contributions, and sums and opened parts of some one of them."""
        needed, free = upload * (cell.sites + 2), shutil.disk_usage(FOLDER).free - DISK_KEPT_FREE
        if needed > free:
            raise LeftOut(f"{cell.sites} contributions need {_gb(needed)} of disk, {_gb(free)} are free")

    def _check_memory(self, cell: Cell, upload: int) -> None:
        """Before it is tried: memory goes with the upload, as a smaller size with as many sites showed."""
        for smaller in [record for record in self.records if record.get("figure") == "server_memory_bytes"]:
            if (smaller["system"], smaller["sites"]) != (cell.system, cell.sites):
                continue
            was = self.value(cell.system, smaller["size"], cell.sites, "upload_bytes")
            expected = int(smaller["value"] * upload / was) if was else 0
            if expected > self.memory:
                raise LeftOut(
                    f"not tried on the server: {_gb(smaller['value'])} of memory at {smaller['size']} let expect "
                    f"{_gb(expected)} here, and {_gb(self.memory)} are there"
                )

    # --- processes

    def _step(self, cell: Cell, step: str) -> dict[str, Any]:
        job = Job(cell.system, step, cell.size.shapes, cell.sites, FOLDER, self.repeats, self.budget)
        (FOLDER / "job.json").write_text(job.to_json())
        with (FOLDER / "job.json").open() as given, (FOLDER / "output.txt").open("w") as said:
            command = [interpreter(cell.system), "-m", MODULES[cell.system]]
            process = subprocess.Popen(command, cwd=ROOT, stdin=given, stdout=said, stderr=said)
            self._watch(process, step)
        if process.returncode:
            said_last = (FOLDER / "output.txt").read_text()[-4000:]
            raise SystemExit(f"{cell.system}, {cell.size.name}, {cell.sites} sites, {step}:\n{said_last}")
        figures: dict[str, Any] = json.loads((FOLDER / "figures.json").read_text())
        return figures

    def _watch(self, process: subprocess.Popen[bytes], step: str) -> None:
        """Ends a step that takes more memory than there is, before the machine does."""
        while True:
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                if _resident(process.pid) > self.memory:
                    process.kill()
                    process.wait()
                    raise LeftOut(f"{step} was stopped when it had taken {_gb(self.memory)} of memory") from None
            else:
                return


def interpreter(system: str) -> str:
    return str(PEERS / system / "bin" / "python") if system in VERSIONS else sys.executable


def machine(repeats: int) -> dict[str, Any]:
    """What the figures depend on, for the first line of the results."""
    processor = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": processor[0].split(":")[1].strip() if processor else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
        "repeats": repeats,
        "versions": {name: importlib.metadata.version(name) for name in ("numpy", "scipy", "tenseal")} | _peers(),
    }


def _peers() -> dict[str, str]:
    code = "import importlib.metadata as m, sys; print(' with tenseal '.join(map(m.version, sys.argv[1:])))"
    found: dict[str, str] = {}
    for system, packages in VERSIONS.items():
        if Path(interpreter(system)).exists():
            command = [interpreter(system), "-c", code, *packages]
            said = subprocess.run(command, capture_output=True, text=True, check=True)
            found[packages[0]] = said.stdout.strip()
    return found


def _resident(pid: int) -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0


def _available() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=("ucadi", "densenet121", "resnet18", "vgg16"))
    parser.add_argument("--sites", nargs="+", type=int, choices=SITES, default=SITES)
    parser.add_argument("--systems", nargs="+", choices=MODULES, default=list(MODULES))
    parser.add_argument("--repeats", type=int, default=5, help="timed runs, after one to warm up")
    parser.add_argument("--budget", type=float, default=60, help="seconds after which no further run is started")
    parser.add_argument("--memory", type=float, help="gigabytes that a step may use (85 %% of what is available)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    chosen = [size for size in sizes() if size.name in (arguments.sizes or size.name)]
    memory = int(arguments.memory * 1e9) if arguments.memory else int(0.85 * _available())
    bench = Bench(memory, arguments.repeats, arguments.budget)
    header = {"machine": machine(arguments.repeats), "sizes": {size.name: report.describe(size) for size in chosen}}
    for size in chosen:
        for sites in arguments.sites:
            for system in arguments.systems:
                cell = Cell(system, size, sites)
                if cell.wanted:
                    bench.run(cell)
        claims = report.write(arguments.output, header, bench.records)  # of what there is: the largest take long
    print("\n".join(map(str, claims)))
    sys.exit(any(claim.holds is False for claim in claims))


if __name__ == "__main__":
    main()
