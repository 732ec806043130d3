"""No key shows in a repr, a format, a pickle, a log line or a traceback."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
import uuid

import pytest

from crypto import envelope
from crypto.ckks_secret import SecretContext
from crypto.epochs import WRAP_LABEL, unwrap
from crypto.errors import CryptoError
from crypto.identity import Identity
from crypto.lwe import Sealer, Unsealer
from crypto.schemes import scheme

IDENTITY = Identity.generate()
SECRET = SecretContext.generate()
SEALER = Sealer.fresh(uuid.UUID(int=1))
UNSEALER = Unsealer(uuid.UUID(int=1), SEALER.secret)
HOLDERS = {"identity": IDENTITY, "secret context": SECRET, "sealer": SEALER, "unsealer": UNSEALER}


def secrets_of_identity(tmp_path) -> list[str]:
    IDENTITY.save(tmp_path / "identity.json")
    keys = json.loads((tmp_path / "identity.json").read_text())
    return [value for name, value in keys.items() if name != "format"]


def spellings(secret: bytes) -> list[str]:
    """How a key may look in text: hex, and the start of its bytes literal."""
    return [secret.hex(), repr(secret)[2:-1], str(list(secret))[1:-1]]


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_what_shows_is_short_and_says_hidden(holder):
    for shown in (repr(holder), str(holder), f"{holder}", f"{holder!r:>10}", "%s" % holder, repr([holder])):  # noqa: UP031
        assert "hidden" in shown
        assert len(shown) < 120


def test_an_identity_shows_none_of_its_keys(tmp_path):
    keys = secrets_of_identity(tmp_path)
    assert [len(key) for key in keys] == [64, 128, 64]
    shown = repr(IDENTITY) + str(IDENTITY) + repr(IDENTITY.hpke()) + repr(IDENTITY.private_key) + repr(IDENTITY.public)
    for key in keys:
        for spelling in spellings(bytes.fromhex(key)):
            assert spelling not in shown


@pytest.mark.parametrize("holder", [IDENTITY, SECRET], ids=["identity", "secret context"])
def test_keys_are_not_pickled_or_copied(holder):
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled or copied"):
            attempt(holder)
    with pytest.raises(TypeError):
        vars(holder)


def test_log_lines_show_no_key(caplog, federation, tmp_path):
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("pleura").info("dealt %s by %r with %s", federation.dealt.secret, IDENTITY, SEALER)
    assert caplog.messages[0].count("hidden") == 3
    for key in secrets_of_identity(tmp_path):
        assert key not in caplog.text


def test_a_sealed_contribution_shows_no_secret(federation, random):
    update = random.normal(0, 0.1, federation.layout.size).astype("float32")
    sealed = scheme("lwe-ckks").seal(federation.plan, federation.layout, update, 40, [0] * 4, federation.public)
    assert "array" not in repr(sealed)
    list(sealed)
    assert not any(isinstance(value, Sealer) for value in vars(sealed).values())


# --- tracebacks: the text that ends up in a log when an error is not caught


def trace_of(call) -> str:
    with pytest.raises((CryptoError, OSError, ValueError, TypeError)) as caught:
        call()
    return "".join(traceback.format_exception(caught.value))


def failures(federation, tmp_path):
    """Calls that fail while a key is at hand, each with the key."""
    site = federation.sites[1]
    record = federation.dealt.record.message
    key = SECRET.secret_bytes()
    sealed = envelope.seal(IDENTITY.public, key, WRAP_LABEL, record.context, site, site)
    shortened = key[:-10]
    mine = tmp_path / "damaged.json"
    IDENTITY.save(mine)
    mine.write_text(mine.read_text().replace("v1", "v2"))
    mine.chmod(0o600)
    return [
        (key, lambda: unwrap(IDENTITY, site, record, sealed)),
        (key, lambda: envelope.open(Identity.generate(), sealed, WRAP_LABEL, record.context, site, site)),
        (key, lambda: envelope.open(IDENTITY, sealed, "another", record.context, site, site)),
        (shortened, lambda: SecretContext.load(shortened)),
        (key, lambda: SECRET.decrypt_sum([key])),
        (key, lambda: SECRET.decrypt_sum([federation.public.encrypt(SEALER.secret)])),
        (IDENTITY.private_key.private_bytes_raw(), lambda: Identity.load(mine)),
        (IDENTITY.private_key.private_bytes_raw(), lambda: pickle.dumps(IDENTITY)),
        (IDENTITY.private_key.private_bytes_raw(), lambda: IDENTITY.save(mine)),
    ]


def test_tracebacks_show_no_key(federation, tmp_path):
    for key, call in failures(federation, tmp_path):
        shown = trace_of(call)
        assert "Traceback" in shown
        for start in (key[:24], key[-24:]):
            for spelling in spellings(start):
                assert spelling not in shown


def test_tracebacks_with_locals_show_no_identity(federation, tmp_path):
    """Rich and other renderers print the locals of every frame."""
    path = tmp_path / "identity.json"
    IDENTITY.save(path)
    with pytest.raises(FileExistsError) as caught:
        IDENTITY.save(path)
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = "".join(trace.format())
    assert "private keys hidden" in shown
    assert IDENTITY.private_key.private_bytes_raw().hex() not in shown
