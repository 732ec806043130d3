"""From a home folder to a working agent: make one, enrol it, put its pieces together."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

import httpx

from crypto.identity import Identity
from crypto.ring import FftMultiplier, MakeMultiplier
from participant.client import Client, Leaving, Witness, connect
from participant.documents import Enrolment, Study
from participant.files import write_whole
from participant.keys import Keyring
from participant.ledger import Ledger
from participant.model_store import ModelStore
from participant.opened import OpenedStore
from participant.pace import Pace
from participant.policy import Policy, Refused, load_policy, sample
from participant.progress import Reporter
from participant.record import Record
from participant.sealed import SealedStore
from participant.session import Patience, Pause, Session, SiteAuth
from participant.settings import Config, ConfigError, Home, dump
from participant.shares import limit_gpu, threads_of
from participant.steps.desk import Site, Trainer, TrainerFactory

log = logging.getLogger(__name__)

_COMMAND_TRIES: Final = 3  # a person waits for a command's answer; the agent itself is patient


def make_home(home: Home, config: Config, peers: Literal["auto", "ask"]) -> Identity:
    """A new home folder: settings, policy and an identity that only this user can read.

    Raises:
        FileExistsError: there is something of an agent already; nothing was changed.
    """
    for file in (home.config, home.policy, home.identity):
        if file.exists():
            raise FileExistsError(f"{file} exists already. Choose another --home, or move that folder away first.")
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    identity = Identity.generate()
    identity.save(home.identity)
    write_whole(home.policy, sample(peers).encode(), 0o644)
    write_whole(home.config, dump(config).encode(), 0o644)
    return identity


def enrol(home: Home, invitation: str, http: httpx.Client | None = None) -> Enrolment:
    """Redeem an invitation; from then on this home is that site.

    A site that enrols again, with new keys, knows nothing of what it signed with the former ones: its record counts as
    lost, so that it sits out what is under way.

    Raises:
        ConfigError: the home is already enrolled, or not usable.
        Problem, Unreachable: from the coordinator.
    """
    if home.enrolment.exists():
        raise ConfigError(f"{home.path} is enrolled already, as site {enrolment_of(home).site}.")
    config, identity, ledger = home.load_config(), Identity.load(home.identity), Ledger(home.ledger)
    _check_coordinator(home, config)
    with http or _connect(home, config) as connection:
        client = Client(Session(connection, patience=Patience(tries=1)), _witness(ledger, config))
        enrolment = client.enrol(invitation, config.name, identity)
    Record(home.record, fresh=not enrolment.again).close()
    write_whole(home.enrolment, enrolment.model_dump_json(indent=2).encode() + b"\n")
    ledger.append(
        "enrolled-again" if enrolment.again else "enrolled",
        site=str(enrolment.site),
        coordinator=str(enrolment.coordinator),
        url=config.coordinator,
        fingerprint=identity.public.fingerprint,
    )
    return enrolment


def enrolment_of(home: Home) -> Enrolment:
    """Who this site is at its coordinator.

    Raises:
        ConfigError: it has not enrolled.
    """
    if not home.enrolment.is_file():
        raise ConfigError(f"{home.path} is not enrolled. Ask the coordinator's operator for an invitation, then run: "
                          "pleura-participant enrol INVITATION")  # fmt: skip
    value = json.loads(home.enrolment.read_text())
    return Enrolment(site=UUID(value["site"]), coordinator=UUID(value["coordinator"]))


@contextmanager
def open_site(
    home: Home,
    reporter: Reporter,
    *,
    pause: Pause | None = None,
    make_trainer: TrainerFactory | None = None,
    http: httpx.Client | None = None,
) -> Iterator[Site]:
    """Everything a site works with, closed at the end.

    Args:
        pause: how the client waits between tries, for ever; without it, a few tries only, as for a command.
        make_trainer: in place of the one that trains on this site's images.

    Raises:
        ConfigError: config, policy or enrolment cannot be used.
        Refused: the policy allows another coordinator.
    """
    config, policy, enrolment = home.load_config(), load_policy(home.policy), enrolment_of(home)
    _check_coordinator(home, config)
    identity, ledger = Identity.load(home.identity), Ledger(home.ledger)
    with closing(Record(home.record)) as record, http or _connect(home, config) as connection:
        session = Session(connection, patience=Patience(tries=None if pause else _COMMAND_TRIES))
        session = session.signing(SiteAuth(identity, enrolment.site, enrolment.coordinator, session.clock))
        if pause is not None:
            session = session.pausing(pause)
        if policy.upload_rate != "any":
            session = replace(session, pace=Pace(policy.upload_rate))
        yield Site(
            me=enrolment.site,
            identity=identity,
            client=Client(session, _witness(ledger, config)),
            record=record,
            ledger=ledger,
            sealed=SealedStore(home.sealed, home.residuals, record, home.local_state),
            opened=OpenedStore(home.opened),
            keyring=Keyring(home.keys),
            models=ModelStore(home.models),
            policy=policy,
            reporter=reporter,
            timings=home.timings,
            make_trainer=make_trainer or image_trainer(home, config, policy),
            multiplier=(lambda: FftMultiplier) if make_trainer else partial(_multiplier, config.device),
        )


def image_trainer(home: Home, config: Config, policy: Policy | None = None) -> TrainerFactory:
    """Makes the trainer of a study on this site's own images, within the machine's shares that the policy allows."""
    allowed = policy or Policy()
    _check_tensorboard(home, config)

    def make(study: Study) -> Trainer:
        from models.recipe import Recipe
        from participant.training import Machine, site_trainer

        recipe = Recipe.from_json(study.recipe, f"the recipe of {study.name}")
        data, cache = home.resolved(config.data), home.resolved(config.cache)
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        limit_gpu(allowed.gpu_share)
        return site_trainer(
            recipe,
            data,
            cache,
            config.seed,
            state_dir=home.local_state(study.id),  # the cases are shared by studies of one recipe, this is not
            checkpoints=home.checkpoints,
            cache_limit=round(config.cache_gb * 1e9),
            machine=Machine(
                device=config.device,
                devices=config.devices,
                threads=threads_of(allowed.cpu_share, config.threads),
                precision=config.precision,
                micro_batch=config.micro_batch,
                log_dir=home.tensorboard(study.id) if config.tensorboard else None,
                gpu_share=allowed.gpu_share,
            ),
            study=str(study.id),
        )

    return make


def _check_tensorboard(home: Home, config: Config) -> None:
    if config.tensorboard and find_spec("tensorboard") is None:
        words = "this needs a package that is not there. Install it (pip install tensorboard), or remove the key."
        raise ConfigError(f"{home.config} cannot be used:\n  tensorboard: {words}")


def _check_coordinator(home: Home, config: Config) -> None:
    """Raises Refused, which is in the ledger then: nothing was sent there."""
    try:
        load_policy(home.policy).check_coordinator(config.coordinator)
    except Refused as error:
        Ledger(home.ledger).append("refusal", code=error.code, words=error.words)
        raise


def ca_file_of(home: Home, config: Config) -> Path | None:
    """The private certificate authority that this site trusts, if it has one.

    Raises:
        ConfigError: the file is not there, or has no certificate in it.
    """
    if not config.ca_file:
        return None
    ca_file, where = home.resolved(config.ca_file), f"{home.config} cannot be used:\n  ca_file:"
    if not ca_file.is_file():
        raise ConfigError(f"{where} there is no {ca_file}. Correct the path.")
    try:
        ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise ConfigError(f"{where} {ca_file} holds no certificate as PEM ({error.reason}). Convert it.") from error
    return ca_file


def _connect(home: Home, config: Config) -> httpx.Client:
    return connect(config.coordinator, ca_file_of(home, config))


def _witness(ledger: Ledger, config: Config) -> Witness:
    """Write down what is about to leave, before it does."""

    def witness(leaving: Leaving) -> None:
        ledger.append(
            "sent",
            what=leaving.what,
            bytes=leaving.size,
            sha256=leaving.sha256,
            study=None if leaving.study is None else str(leaving.study),
            round=leaving.round,
            attempt=leaving.attempt,
            coordinator=config.coordinator,
        )

    return witness


def _multiplier(device: str) -> MakeMultiplier:
    from participant.gpu_ring import multiplier_for  # torch, which training has loaded by then

    return multiplier_for(device)
