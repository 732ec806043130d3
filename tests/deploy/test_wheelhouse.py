"""The bundle for hospitals without internet: what `make wheelhouse` would do; its installer, with a tiny package."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest
import samples

BUNDLE: Final = samples.ROOT / "deploy" / "wheelhouse"
INSTALL: Final = BUNDLE / "install.sh"
METADATA: Final = "Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{more}"
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def recipe(*variables: str) -> str:
    """What make would run, the environment taken for fresh, a command a line."""
    command = ["make", "--dry-run", "--old-file=.venv/.installed", "wheelhouse", *variables]
    said = subprocess.run(command, cwd=samples.ROOT, capture_output=True, text=True, check=True).stdout
    return said.replace("\\\n", " ")


@needs_make
def test_every_version_is_the_locks() -> None:
    (collected,) = re.findall(r"-m pip wheel .*", recipe())
    assert "-c requirements.lock" in collected
    assert "[participant]" in collected
    assert "--extra-index-url" not in collected
    assert "cp requirements.lock deploy/wheelhouse/README.md deploy/wheelhouse/install.sh" in recipe()


@needs_make
def test_a_build_of_torch_can_be_asked_for() -> None:
    asked = recipe("TORCH_BUILD=cu128", "TORCH_INDEX=https://index.example.org/cu128")
    assert "sed 's/$/+cu128/'" in asked
    assert "--extra-index-url https://index.example.org/cu128" in asked


@needs_make
def test_all_that_is_brought_is_summed_up() -> None:
    (summed,) = re.findall(r"sha256sum (.*) > SHA256SUMS", recipe())
    assert {*summed.split()} >= {path.name for path in BUNDLE.iterdir()} | {"MADE_FOR", "requirements.lock", "wheels/*"}


def test_its_page_names_what_is_there() -> None:
    page = (BUNDLE / "README.md").read_text()
    for name in ("SHA256SUMS", "MADE_FOR", "requirements.lock", "install.sh"):
        assert name in page
    for line in samples.command_lines(page):
        samples.check_command(line)


# --- the installer, run


def wheel(folder: Path, name: str, version: str, files: dict[str, str], *more: str) -> None:
    """A package of these files."""
    info = f"{name}-{version}.dist-info"
    content = {
        **files,
        f"{info}/METADATA": METADATA.format(name=name, version=version, more="".join(f"{line}\n" for line in more)),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*content, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder as make leaves it, with a Pleura that does nothing and one package that it needs."""
    made = tmp_path / "bundle"
    shutil.copytree(BUNDLE, made)
    (made / "wheels").mkdir()
    scripts = {"pleura-0.1.0.dist-info/entry_points.txt": "[console_scripts]\npleura-participant = stand_in:main\n"}
    needs = ("Provides-Extra: participant", 'Requires-Dist: needed>=1; extra == "participant"')
    code = {"stand_in.py": "import needed\n\ndef main():\n    print(needed.WORD)\n"}
    wheel(made / "wheels", "pleura", "0.1.0", code | scripts, *needs)
    wheel(made / "wheels", "needed", "1.5", {"needed.py": "WORD = 'offline'\n"})
    (made / "requirements.lock").write_text("needed==1.5\n")
    told = subprocess.run([sys.executable, "-c", _made_for()], capture_output=True, text=True, check=True).stdout
    (made / "MADE_FOR").write_text(told)
    sum_up(made)
    return made


def _made_for() -> str:
    (found,) = re.findall(r"^MADE_FOR := (.*)$", (samples.ROOT / "Makefile").read_text(), re.MULTILINE)
    return str(found)


def sum_up(bundle: Path) -> None:
    files = sorted(path for path in bundle.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(bundle)}\n" for path in files]
    (bundle / "SHA256SUMS").write_text("".join(lines))


def install(bundle: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """With an index in the environment that nobody answers at, which would be waited for if it were asked."""
    environment = {**os.environ, "PYTHON": sys.executable, "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
    return subprocess.run([bundle / "install.sh", target], env=environment, capture_output=True, text=True, timeout=120)


def test_it_installs_from_its_folder_alone(bundle: Path, tmp_path: Path) -> None:
    done = install(bundle, tmp_path / "pleura")
    assert done.returncode == 0, done.stdout + done.stderr
    said = subprocess.run([tmp_path / "pleura" / "bin" / "pleura-participant"], capture_output=True, text=True)
    assert said.stdout == "offline\n"


def test_what_was_changed_on_the_way_is_not_installed(bundle: Path, tmp_path: Path) -> None:
    (bundle / "wheels" / "needed-1.5-py3-none-any.whl").unlink()
    wheel(bundle / "wheels", "needed", "1.5", {"needed.py": "WORD = 'evil'\n"})
    done = install(bundle, tmp_path / "pleura")
    assert done.returncode == 1
    assert "damaged or changed" in done.stderr
    assert not (tmp_path / "pleura").exists()


def test_another_python_is_told(bundle: Path, tmp_path: Path) -> None:
    (bundle / "MADE_FOR").write_text("2.7 Plan9 vax\n")
    sum_up(bundle)
    done = install(bundle, tmp_path / "pleura")
    assert done.returncode == 1
    assert "2.7 Plan9 vax" in done.stderr
    assert "PYTHON=" in done.stderr
    assert not (tmp_path / "pleura").exists()
