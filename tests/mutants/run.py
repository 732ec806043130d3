"""Change the opening checks, manifests, epoch records and Shamir in many small ways, and see whether tests notice.

Run by `make mutants`. Cosmic Ray makes the mutants, in a copy of the tree. Each is tested in a fork of this process,
which has imported everything but our own code: that saves most of the time a mutant takes.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
PLACE: Final = ROOT / ".bench" / "mutants"
WANTED: Final = 0.9  # of the mutants killed
_CONFIG: Final = Path(__file__).with_name("cosmic-ray.toml")
_LEFT_OUT: Final = shutil.ignore_patterns(".*", "__pycache__", "runs", "benchmarks", "docs")
_PRELOADED: Final = (
    *("numpy", "scipy.fft", "scipy.special", "tenseal", "pydantic", "pytest", "rfc8785"),
    "cryptography.hazmat.primitives.hpke",
)
_PYTEST: Final = ("-x", "-q", "-p", "no:cacheprovider", "-p", "pytest_timeout")
_TIMEOUT: Final = 8.0  # seconds of processor time; all tests of a module take at most 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="only these, such as crypto/checks.py")
    asked = parser.parse_args()
    sys.dont_write_bytecode = True  # two mutants of one size within a second look like one to Python
    tests = tomllib.loads(_CONFIG.read_text())["tests"]
    tree = _copied()
    session = _session(tree)
    sys.path.append(next(str(path) for path in PLACE.glob("lib/python3*/site-packages")))
    for module in _PRELOADED:
        importlib.import_module(module)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    for module in asked.modules or tests:
        if not _pass(tests[module]):
            sys.exit(f"the tests of {module} fail without any change")
    _run(session, tests, asked.modules or list(tests))


def _copied() -> Path:
    tree = PLACE / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(ROOT, tree, ignore=_LEFT_OUT)
    return tree


def _session(tree: Path) -> Path:
    """Cosmic Ray's list of mutants."""
    session = PLACE / "session.sqlite"
    session.unlink(missing_ok=True)
    for command in (
        ["cosmic-ray", "init", str(_CONFIG), str(session)],
        ["cr-filter-operators", str(session), str(_CONFIG)],
    ):
        subprocess.run([str(PLACE / "bin" / command[0]), *command[1:]], check=True, cwd=tree)
    return session


def _run(session: Path, tests: dict[str, list[str]], modules: Sequence[str]) -> None:
    """Test every mutant of these modules, print the counts, and list the survivors as diffs."""
    from cosmic_ray.work_db import use_db

    with use_db(session, mode=1) as database:
        mutants = [mutation for item in database.pending_work_items for mutation in item.mutations]
    listed, total, killed = PLACE / "survivors.txt", 0, 0
    with listed.open("w") as survivors:
        for module in modules:
            chosen = sorted(
                (each for each in mutants if str(each.module_path) == module), key=lambda each: each.start_pos
            )
            started = time.monotonic()
            alive = [diff for mutant in chosen if (diff := _survivor(mutant, tests[module]))]
            survivors.writelines(diff + "\n" for diff in alive)
            survivors.flush()
            seconds = time.monotonic() - started
            print(f"{module}: {len(chosen) - len(alive)} of {len(chosen)} killed in {seconds:.0f} s", flush=True)
            total, killed = total + len(chosen), killed + len(chosen) - len(alive)
    print(f"all: {killed} of {total} killed ({killed / total:.1%}); survivors: {listed}")
    if killed < WANTED * total:
        sys.exit(f"fewer than {WANTED:.0%} were killed")


def _survivor(mutant: Any, tests: Sequence[str]) -> str:
    """The mutant as a diff, if these tests pass with it; else nothing."""
    from cosmic_ray.mutating import use_mutation
    from cosmic_ray.plugins import get_operator

    operator = get_operator(mutant.operator_name)()
    with use_mutation(mutant.module_path, operator, mutant.occurrence) as (before, after):
        return _shown(mutant, before, after) if _pass(tests) else ""


def _shown(mutant: Any, before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    changed = [f"  {line[0]} {line[1:].strip()}" for line in lines if not line.startswith(("---", "+++", "@@"))]
    head = f"{mutant.module_path} {mutant.definition_name}: {mutant.operator_name.removeprefix('core/')}"
    return "\n".join([head, *changed])


def _pass(tests: Sequence[str]) -> bool:
    """Whether these tests pass, in a fork of this process."""
    child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_PROF, _TIMEOUT)  # what runs out of it is ended, and so killed
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # Hypothesis's alone takes as long as a module's tests
        import pytest

        code = 3
        try:
            code = int(pytest.main([*_PYTEST, *tests]))
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


if __name__ == "__main__":
    main()
