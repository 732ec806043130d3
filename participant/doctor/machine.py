"""This machine: room on its disks, processors, the packages."""

from __future__ import annotations

import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final

from crypto.parallel import cores
from participant.doctor.findings import Finding, fail, ok, warn
from participant.settings import Config, Home

_GB: Final = 1e9
_LEAST: Final = 1 * _GB  # below it not one contribution of a large network fits
_SCANT: Final = 10 * _GB
_SHOWN: Final = ("torch", "torchvision", "monai", "lightning-fabric", "pydicom")


def home_disk(home: Home, _: Config) -> Iterator[Finding]:
    """Room for contributions and models, which lie whole on the disk before they leave."""
    free = _free(home.path)
    words = f"{free / _GB:.1f} GB free at {home.path}"
    if free < _LEAST:
        yield fail("disk", words, "Make room: a contribution is on the disk before its first byte leaves.")
    elif free < _SCANT:
        yield warn("disk", words, "Some models and contributions of a large network take more; make room.")
    else:
        yield ok("disk", words)


def cache_disk(home: Home, config: Config) -> Iterator[Finding]:
    """Whether the cache of prepared cases may grow to its bound."""
    folder = home.resolved(config.cache)
    used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free, bound = _free(folder), config.cache_gb * _GB
    words = f"{used / _GB:.1f} of at most {config.cache_gb:g} GB used at {folder}, {free / _GB:.1f} GB free"
    if free < bound - used:
        fix = "Make room, set cache_gb lower, or name another folder as cache in config.toml."
        yield warn("cache", words, fix)
    else:
        yield ok("cache", words)


def processors(_: Home, config: Config) -> Iterator[Finding]:
    """Threads that training may use."""
    here, asked = cores(), config.threads
    if asked is not None and asked > here:
        words = f"threads = {asked}, and this process may use {here}"
        yield warn("processors", words, "Set threads lower in config.toml, or remove it: more of them only wait.")
    else:
        yield ok("processors", f"{asked or here} of {here} used for training")


def packages(_: Home) -> Iterator[Finding]:
    """Python and all packages of the participant's extra."""
    missing = [name for name in _needed() if _version(name) is None]
    shown = ", ".join(f"{name} {_version(name) or 'missing'}" for name in _SHOWN)
    words = f"Python {platform.python_version()} on {platform.system()}, Pleura {version('pleura')}, {shown}"
    if missing:
        fix = f"Install {', '.join(missing)}: pip install 'pleura[participant]', into {sys.prefix}"
        yield fail("packages", words, fix)
    else:
        yield ok("packages", words)


def _free(folder: Path) -> float:
    """Bytes free for this user where a folder is, or is going to be."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return float(shutil.disk_usage(there).free)


def _needed() -> list[str]:
    """Names of what the extra `participant` asks for, and of what every installation does."""
    wanted = [each for each in requires("pleura") or [] if "extra ==" not in each or "extra == 'participant'" in each]
    return [re.split(r"[^A-Za-z0-9_.-]", each, maxsplit=1)[0] for each in wanted]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
