"""Nothing of a hospital's side asks for POSIX unguarded: by what mypy knows of Windows, and by doing without it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_LACKING = re.compile(r"^(\S+:\d+): error: Module has no attribute .*$", re.MULTILINE)


def lacking(cache: Path, *what: str) -> list[str]:
    """Names of the standard library that are used where, for mypy, the code runs on Windows, and are not there.

    Other packages are not followed: what they lack is theirs, and it takes seconds so.
    """
    options = ["--platform=win32", "--config-file=", "--follow-imports=skip", "--ignore-missing-imports"]
    command = [sys.executable, "-m", "mypy", *options, f"--cache-dir={cache}", "--check-untyped-defs", *what]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode in (0, 1), done.stderr
    return [found.group() for found in _LACKING.finditer(done.stdout)]


@pytest.mark.slow
def test_no_posix_without_a_guard(tmp_path: Path) -> None:
    assert lacking(tmp_path, "-p", "participant", "-p", "models", "-p", "crypto") == []


def test_one_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "careless.py").write_text("import fcntl, os\nos.fchmod(3, 0o600)\nfcntl.flock(3, fcntl.LOCK_EX)\n")
    found = lacking(tmp_path / "cache", str(tmp_path / "careless.py"))
    assert [name for name in ("fchmod", "flock", "LOCK_EX") if not any(name in line for line in found)] == []


def test_a_sites_files_without_posix(tmp_path: Path) -> None:
    command = [sys.executable, Path(__file__).with_name("windows_like.py"), tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "all of it works\n", done.stderr
