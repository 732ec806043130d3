"""The agent's home folder and its config.toml: strict, and every fault reported at once with its fix."""

from __future__ import annotations

import difflib
import ipaddress
import os
import textwrap
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

HOME_VARIABLE: Final = "PLEURA_HOME"
_CLOSE: Final = 0.6  # difflib ratio from which a key is taken for a misspelled one


class ConfigError(Exception):
    """A settings file that cannot be used; the message lists every fault with its key, its file and the fix."""


class Section(BaseModel):
    """A settings file's content. Unknown keys and wrong types are faults."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


S = TypeVar("S", bound=Section)


class Config(Section):
    """config.toml. Paths are absolute or relative to the home folder."""

    name: str = Field(min_length=1, max_length=80, description="this site's name, as the other sites know it")
    plain_http: bool = Field(False, description="allow http:// to another machine, without TLS")
    coordinator: str = Field(description="the coordinator's address, such as https://pleura.example.org")
    data: str = Field(min_length=1, description="folder of the cases: one folder a class, or a CSV")
    ca_file: str | None = Field(None, description="PEM file of a private certificate authority")
    pacs: str | None = Field(None, description="DICOMweb address of the PACS that the local page may send heat maps to")
    cache: str = Field("cache", description="folder for preprocessed cases")
    cache_gb: float = Field(50, gt=0, description="the most that folder may take; what was unused for longest goes")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description='"auto", "cpu", "cuda" or "mps"')
    devices: int = Field(1, ge=1, le=64, description="how many GPUs train together; 1 unless there are several")
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads for training; unset: as many as it likes")
    precision: Literal["auto", "32", "bf16"] = Field(
        "auto", description='where a recipe leaves it open; "auto": bf16 where the device multiplies it, else float32'
    )
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="most cases on a device at once, where a batch does not fit its memory; unset: whole "
        "batches, halved when a GPU's memory runs out",
    )
    tensorboard: bool = Field(False, description="write the losses of training for TensorBoard, into tensorboard/")
    seed: int = Field(0, ge=0, lt=2**32, description="of the split into training and validation cases; never change it")

    @field_validator("coordinator")
    @classmethod
    def _an_address(cls, value: str, info: ValidationInfo) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("an address begins with https:// and names a machine")
        if parts.scheme == "http" and not info.data.get("plain_http") and not this_machine(parts.hostname):
            raise ValueError(
                "http:// to another machine can be read on the way: use https://, or set plain_http = true"
            )
        return value.rstrip("/")


def this_machine(host: str) -> bool:
    """Whether an address' host is this very machine, so that nothing can be read on the way."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class Home:
    """The folder with everything an agent keeps, and the names in it."""

    path: Path

    @classmethod
    def find(cls, given: Path | None) -> Home:
        """The one given, else PLEURA_HOME, else ~/.pleura."""
        variable = os.environ.get(HOME_VARIABLE)
        return cls((given or (Path(variable) if variable else Path.home() / ".pleura")).expanduser().absolute())

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def policy(self) -> Path:
        return self.path / "policy.toml"

    @property
    def identity(self) -> Path:
        return self.path / "identity.json"

    @property
    def enrolment(self) -> Path:
        return self.path / "enrolment.json"

    @property
    def record(self) -> Path:
        return self.path / "record.sqlite"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "logs" / "agent.log"

    @property
    def timings(self) -> Path:
        return self.path / "timings.jsonl"

    def local_state(self, study: UUID) -> Path:
        """What training leaves out of the shared layout stays here between the rounds of one study."""
        return self.path / "local" / str(study)

    @property
    def import_salt(self) -> Path:
        """What patient ids are hashed with when data is imported; as secret as the ids."""
        return self.path / "import.salt"

    def tensorboard(self, study: UUID) -> Path:
        return self.path / "tensorboard" / str(study)

    @property
    def checkpoints(self) -> Path:
        """Files that a study's recipe may name, put here by the operator: pretrained weights, own networks."""
        return self.path / "checkpoints"

    @property
    def data_report(self) -> Path:
        """The last check of the data, for the local page; the same as a page lies beside it."""
        return self.path / "data-report.json"

    @property
    def page_token(self) -> Path:
        """What visitors of the local page have to know, where it can be reached from other machines."""
        return self.path / "page-token"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def models(self) -> Path:
        return self.path / "models"

    @property
    def sealed(self) -> Path:
        return self.path / "sealed"

    @property
    def opened(self) -> Path:
        return self.path / "opened"

    @property
    def residuals(self) -> Path:
        return self.path / "residuals"

    @property
    def lock(self) -> Path:
        return self.path / "agent.lock"

    def load_config(self) -> Config:
        """The configuration.

        Raises:
            ConfigError: there is none, or with every fault in it.
        """
        if not self.config.is_file():
            raise ConfigError(
                f"{self.path} is no agent's home: it has no config.toml. Make one with `pleura-participant init`, "
                f"or name another folder with --home or {HOME_VARIABLE}."
            )
        return load(Config, self.config)

    def resolved(self, path: str) -> Path:
        """A path of config.toml: relative ones start at the home folder."""
        return self.path / Path(path).expanduser()


def load(kind: type[S], path: Path) -> S:
    """A settings file.

    Raises:
        ConfigError: naming the file, and for each fault the key and the fix.
    """
    try:
        value = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}. Correct that line.") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    return parse(kind, value, str(path))


def parse(kind: type[S], value: dict[str, Any], source: str) -> S:
    """A settings file's content.

    Raises:
        ConfigError: naming the source, and for each fault the key and the fix.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        faults = [_fault(kind, dict(entry)) for entry in error.errors(include_url=False, include_input=False)]
        raise ConfigError(f"{source} cannot be used:\n" + "\n".join(f"  {fault}" for fault in faults)) from None


def dump(section: Section) -> str:
    """TOML with a comment on every key; unset ones are left out."""
    lines = []
    for key, value in section.model_dump(exclude_none=True).items():
        description = type(section).model_fields[key].description
        comment = textwrap.fill(f"{description}.", 100, initial_indent="# ", subsequent_indent="# ")
        lines.append(f"{comment}\n{tomli_w.dumps({key: value})}")
    return "\n".join(lines)


def _fault(kind: type[Section], entry: dict[str, Any]) -> str:
    key = str(entry["loc"][0])
    known = kind.model_fields
    if entry["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, known, 1, _CLOSE)
        return f"{key}: there is no such key. " + (
            f"Did you mean {near[0]}?" if near else f"The keys are: {', '.join(known)}. Remove it."
        )
    if entry["type"] == "missing":
        return f"{key}: missing. Add it: {known[key].description}."
    said = str(entry["msg"]).removeprefix("Value error, ")
    return f"{key}: {said[:1].lower()}{said[1:]}. It is: {known[key].description}."
