"""The coordinator's settings: from the command line, `PLEURA_` variables, a TOML file or an env file, in that order."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

import fsspec
from fsspec.utils import get_protocol
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

PREFIX: Final = "PLEURA_"
CONFIG_VARIABLE: Final = "PLEURA_CONFIG"
AGENT_VARIABLE: Final = "PLEURA_HOME"  # of a participant on the same machine; near enough to `host` to be taken for it
_CLOSE: Final = 0.8  # difflib ratio from which a name is taken for a misspelled key

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def _parsed(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("it is not JSON") from None  # whose error would hold the whole text, secrets and all


def _openable(url: str) -> str:
    try:
        fsspec.get_filesystem_class(get_protocol(url))
    except ImportError as error:
        raise ValueError(str(error)) from None
    return url


BlobsOptions = Annotated[dict[str, Any], NoDecode, BeforeValidator(_parsed)]


class SettingsError(Exception):
    """Settings that cannot be used; the message lists every fault with its key, its source and the fix."""


class Settings(BaseSettings):
    """Everything an operator may choose. Limits of the protocol are not among it: they are in `crypto.parameters`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True)
    files: ClassVar[tuple[Path, ...]] = ()

    data_dir: Path = Field(Path("pleura-data"), description="folder of the database, the blobs and uploads")
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in data_dir", repr=False)
    blobs_url: Annotated[str, AfterValidator(_openable)] = Field(
        "", description="fsspec URL of the blobs, such as s3://bucket/prefix; empty: in data_dir"
    )
    blobs_options: BlobsOptions = Field(
        default_factory=dict, description='for that store, JSON or a TOML table: {"endpoint_url": ...}', repr=False
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8420, ge=0, le=65535, description="port to listen on")
    trusted_proxies: str = Field(
        "",
        description="addresses or networks of TLS proxies, with commas between, or * for any; "
        "empty: FORWARDED_ALLOW_IPS, else this machine",
    )
    log_format: Literal["text", "json"] = Field("text", description="text or json")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR")
    secure_cookies: bool = Field(False, description="send the session cookie over TLS only; set it behind a TLS proxy")
    max_message_bytes: Count = Field(8 * 2**20, description="largest JSON body")
    max_model_bytes: Count = Field(2 * 2**30, description="largest model file")
    enrolments_per_minute: Count = Field(10, description="tries to enrol, for each address")
    logins_per_minute: Count = Field(10, description="wrong operator tokens, for each address")
    refused_tokens_per_minute: Count = Field(60, description="requests with a token that is not good, for each address")
    requests_per_second: Count = Field(50, description="requests of one site or operator, ten seconds' worth at once")
    metrics_token: str = Field(
        "", pattern=r"^$|^\S{20,200}$", description="20 or more characters with which /metrics may be read", repr=False
    )
    recent_seen_seconds: Seconds = Field(120.0, description="a site silent for longer is not asked to deal a key")
    poll_seconds: Seconds = Field(0.3, description="how often a study is looked at for those that wait for news")
    spread_seconds: Seconds = Field(0.05, description="between two of the waiting agents hearing of news, on average")
    session_hours: Seconds = Field(12.0, description="how long a login to the pages lasts")

    webhooks_http: bool = Field(False, description="admit webhooks at http addresses, in plain text")
    webhooks_private: bool = Field(False, description="admit webhooks at private and loopback addresses")

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for entry in value.split(",") if value not in ("", "*") else ():
            ip_network(entry.strip())  # raises ValueError, which names the entry
        return value

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the database."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'coordinator.db'}"

    @property
    def incoming(self) -> Path:
        """Folder of uploads that are not checked yet."""
        return self.data_dir.absolute() / "incoming"

    @property
    def blobs(self) -> Path:
        """Folder of parts, key parts and models, unless `blobs_url` says where they are."""
        return self.data_dir.absolute() / "blobs"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, *(_file_source(settings_cls, path) for path in cls.files))


def load(overrides: Mapping[str, Any] | None = None, config: Path | None = None) -> Settings:
    """The settings in force.

    Args:
        overrides: from the command line; a None means "not given".
        config: a `.toml` or env file; without it the one that PLEURA_CONFIG names, else `pleura-coordinator.toml` here
            if it exists.

    Raises:
        SettingsError: listing every fault.
    """
    path = config or _configured()
    if path is not None and not path.is_file():
        raise SettingsError(f"There is no settings file {path}. Correct the path, or unset {CONFIG_VARIABLE}.")
    given = {key: value for key, value in (overrides or {}).items() if value is not None}

    class Sourced(Settings):
        files: ClassVar[tuple[Path, ...]] = (path,) if path is not None else ()

    faults = _misspelled_variables()
    try:
        settings = Sourced(**given)
    except ValidationError as error:
        faults = [_fault(entry, given, path) for entry in error.errors()] + faults
    except ValueError as error:  # a TOML file that cannot be parsed
        raise SettingsError(f"{path} cannot be read: {error}") from error
    if faults:
        raise SettingsError("The settings cannot be used:\n" + "\n".join(f"  {fault}" for fault in faults))
    return Settings.model_construct(**settings.model_dump())


def _configured() -> Path | None:
    if CONFIG_VARIABLE in os.environ:
        return Path(os.environ[CONFIG_VARIABLE])
    usual = Path("pleura-coordinator.toml")
    return usual if usual.is_file() else None


def _file_source(settings_cls: type[BaseSettings], path: Path) -> PydanticBaseSettingsSource:
    if path.suffix == ".toml":
        return TomlConfigSettingsSource(settings_cls, path)
    return DotEnvSettingsSource(settings_cls, env_file=path, env_prefix=PREFIX)


def _fault(entry: Any, given: Mapping[str, Any], path: Path | None) -> str:
    key = str(entry["loc"][0])
    bare = key.removeprefix(PREFIX.lower())
    if entry["type"] == "extra_forbidden":
        return f"{key} (in {path}): there is no such setting. {_nearest(bare)}"
    if bare in given:
        source = f"--{bare.replace('_', '-')}"
    elif f"{PREFIX}{bare.upper()}" in os.environ:
        source = f"the variable {PREFIX}{bare.upper()}"
    else:
        source = str(path)
    return f"{bare} (from {source}): {entry['msg']}. It is: {Settings.model_fields[bare].description}."


def _misspelled_variables() -> list[str]:
    """PLEURA_ variables that are almost a setting. Others are left alone: other programs share the prefix."""
    known = {f"{PREFIX}{key.upper()}" for key in Settings.model_fields} | {CONFIG_VARIABLE, AGENT_VARIABLE}
    return [
        f"{name} (a variable): there is no such setting. {_nearest(name.removeprefix(PREFIX).lower())}"
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and name not in known and difflib.get_close_matches(name, known, 1, _CLOSE)
    ]


def _nearest(key: str) -> str:
    near = difflib.get_close_matches(key, Settings.model_fields, 1, 0.5)
    return f"Did you mean {near[0]}?" if near else f"The settings are: {', '.join(Settings.model_fields)}."
