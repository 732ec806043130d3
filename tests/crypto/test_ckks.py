"""Key parts under CKKS: sums are exact, whatever is no key part is refused, and a private context is never public."""

from __future__ import annotations

import struct
import subprocess
import sys

import numpy as np
import pytest
import tenseal as ts

from crypto.canonical import sha256
from crypto.ckks_public import KEY_PART_LIMIT, SCALE, PublicContext, add, check_key_part, preset_id
from crypto.ckks_secret import SecretContext
from crypto.errors import Malformed, MalformedKeyPart, OpeningRefused, PrivateContext
from crypto.lwe import draw_secret
from crypto.parameters import CKKS_SLOTS, SECRET_BOUND


@pytest.fixture(scope="module")
def secret() -> SecretContext:
    return SecretContext.generate()


@pytest.fixture(scope="module")
def published(secret) -> bytes:
    return secret.public_bytes()


@pytest.fixture(scope="module")
def public(published) -> PublicContext:
    return PublicContext.load(published)


@pytest.fixture(scope="module")
def raw(secret) -> ts.Context:
    """The key pair as plain TenSEAL, to make what no honest site would."""
    return ts.context_from(
        secret._context.serialize(save_secret_key=True, save_galois_keys=False, save_relin_keys=False), 1
    )


def context_of(degree=4096, moduli=(50, 20), scale=SCALE, **options) -> ts.Context:
    context = ts.context(ts.SCHEME_TYPE.CKKS, degree, coeff_mod_bit_sizes=list(moduli), n_threads=1, **options)
    if scale is not None:
        context.global_scale = scale
    return context


def public_bytes_of(context: ts.Context, **options) -> bytes:
    keys = {"save_secret_key": False, "save_galois_keys": False, "save_relin_keys": False}
    return context.serialize(**(keys | options))


# --- sums


@pytest.mark.parametrize("contributors", [1, 2, 5])
def test_the_sum_of_secrets_is_exact(secret, public, contributors):
    secrets = [draw_secret() for _ in range(contributors)]
    opened = secret.decrypt_sum([public.encrypt(values) for values in secrets])
    assert opened.dtype == np.int64
    np.testing.assert_array_equal(opened, np.sum(secrets, axis=0))


def test_a_thousand_extreme_secrets_decode_far_from_the_limit(secret, public):
    extreme = np.where(np.arange(CKKS_SLOTS) % 3, SECRET_BOUND, -SECRET_BOUND)
    parts = [public.encrypt(extreme) for _ in range(64)] * 16
    np.testing.assert_array_equal(secret.decrypt_sum(parts), 1024 * extreme)
    values = np.array(ts.ckks_vector_from(secret._context, add(public, parts)).decrypt())
    assert np.abs(values - np.rint(values)).max() < 1e-3


def test_adding_is_the_same_as_opening_the_parts(secret, public):
    secrets = [draw_secret() for _ in range(3)]
    parts = [public.encrypt(values) for values in secrets]
    np.testing.assert_array_equal(secret.decrypt_sum(parts), secret.decrypt_sum(parts[::-1]))
    with pytest.raises(OpeningRefused, match="within 32"):  # a sum handed in as if it were one site's secret
        secret.decrypt_sum([add(public, [public.encrypt(np.full(CKKS_SLOTS, 20))] * 2)])


def test_the_key_travels_without_its_public_half(secret, public):
    again = SecretContext.load(secret.secret_bytes())
    again.check_pair(public)
    with pytest.raises(ValueError, match="dealer"):
        again.public_bytes()


def test_sizes_stay_small(secret, public, published):
    assert len(published) < 120_000
    assert len(secret.secret_bytes()) < 60_000
    assert len(public.encrypt(draw_secret())) < 60_000


# --- what does not open


def test_another_key_is_noticed(public):
    other = SecretContext.generate()
    with pytest.raises(OpeningRefused, match="another key"):
        other.decrypt_sum([public.encrypt(draw_secret())])
    with pytest.raises(OpeningRefused, match="another key"):
        other.check_pair(public)


def test_one_foreign_key_part_spoils_the_sum(secret, public):
    foreign = PublicContext.load(SecretContext.generate().public_bytes())
    with pytest.raises(OpeningRefused):
        secret.decrypt_sum([public.encrypt(draw_secret()), foreign.encrypt(draw_secret())])


@pytest.mark.parametrize("distance", [0.3, 0.5])
def test_values_between_integers_are_refused(secret, public, distance):
    values = draw_secret().astype(np.float64)
    values[17] += distance
    with pytest.raises(OpeningRefused, match="integers"):
        secret.decrypt_sum([public.encrypt(values)])


@pytest.mark.parametrize("value", [SECRET_BOUND + 1, -SECRET_BOUND - 1, 30_000])
def test_values_that_no_secret_has_are_refused(secret, public, value):
    values = draw_secret()
    values[0] = value
    with pytest.raises(OpeningRefused, match="stays within"):
        secret.decrypt_sum([public.encrypt(values)])


@pytest.mark.parametrize("size", [0, 1, CKKS_SLOTS - 1, CKKS_SLOTS + 1])
def test_a_key_part_is_made_of_2048_values(public, size):
    with pytest.raises(ValueError, match="2048 values"):
        public.encrypt(np.zeros(size))


def test_no_key_part_is_no_sum(secret):
    with pytest.raises(MalformedKeyPart, match="no key part"):
        secret.decrypt_sum([])


# --- what is no key part


def wrong_parts(raw: ts.Context, honest: bytes) -> dict[str, bytes]:
    ones = [1.0] * CKKS_SLOTS
    vector = ts.ckks_vector(raw, ones)
    raw.auto_relin = raw.auto_rescale = False
    root = ts.ckks_vector(raw, ones, scale=2.0**15)
    square = root * root  # at the right scale
    other = context_of(8192, (60, 40, 60))
    changed = bytearray(honest)
    changed[honest.index(b"\x5e\xa1")] ^= 0xFF  # SEAL's magic number; further inside, a byte may change unseen
    return {
        "empty": b"",
        "one byte": honest[:1],
        "truncated": honest[:-1],
        "half": honest[: len(honest) // 2],
        "longer": honest + b"\x00",
        "twice": honest + honest,
        "random": np.random.default_rng(1).bytes(len(honest)),
        "random inside": honest[:9] + np.random.default_rng(1).bytes(len(honest) - 18) + honest[-9:],
        "another magic number": bytes(changed),
        "oversize": bytes(KEY_PART_LIMIT + 1),
        "other parameters": ts.ckks_vector(other, ones).serialize(),
        "another scale": ts.ckks_vector(raw, ones, scale=2.0**29).serialize(),
        "another scale, said to be right": ts.ckks_vector(raw, ones, scale=2.0**29).serialize()[:-9] + honest[-9:],
        "short vector": ts.ckks_vector(raw, ones[:-1]).serialize(),
        "two ciphertexts": ts.ckks_vector(raw, ones * 2).serialize(),
        "three polynomials": square.serialize(),
        "three polynomials, said to have the scale": square.serialize()[:-9] + honest[-9:],
        "a tensor": ts.ckks_tensor(raw, ones[:1]).serialize(),
        "slots overstated": b"\x0a\x02\x81\x10" + honest[4:],
        "slots hidden": b"\x0a\x03\x00\x80\x10" + honest[4:],
        "no slots": honest[4:],
        "no scale": vector.serialize()[:-9],
    }


def refused(public: PublicContext, data: bytes) -> bool:
    try:
        check_key_part(public, data)
    except MalformedKeyPart:
        return True
    return False


def test_what_is_no_key_part_is_refused(secret, public, raw):
    honest = public.encrypt(draw_secret())
    check_key_part(public, honest)
    secret.check_key_part(honest)
    for name, data in wrong_parts(raw, honest).items():
        assert refused(public, data), f"{name} was taken for a key part"
        with pytest.raises(MalformedKeyPart, match="key part 2 of 2"):
            secret.decrypt_sum([honest, data])


def test_a_ciphertext_that_lies_open_is_refused(public):
    """Zero ciphertexts decrypt under every key. SEAL writes them, so they are made by hand: all coefficients zero."""
    honest = public.encrypt(np.zeros(CKKS_SLOTS))
    identity = struct.pack("<4Q", *public.context.seal_context().data.first_parms_id())
    coefficients = struct.pack("<Q", 2 * 4096) + bytes(2 * 4096 * 8)
    version = honest[11:13]
    inner = struct.pack("<HB2sBHQ", 0xA15E, 16, version, 0, 0, 16 + len(coefficients)) + coefficients
    members = identity + struct.pack("<?QQQdQ", True, 2, 4096, 1, SCALE, 1) + inner
    ciphertext = struct.pack("<HB2sBHQ", 0xA15E, 16, version, 0, 0, 16 + len(members)) + members
    length = len(ciphertext)
    framed = honest[:5] + bytes((length & 127 | 128, length >> 7 & 127 | 128, length >> 14)) + ciphertext + honest[-9:]
    with pytest.raises(MalformedKeyPart, match="lies open"):
        check_key_part(public, framed)


def test_a_thousand_damaged_key_parts_never_end_the_process(published):
    """In a process of its own, so that a crash in C++ would be seen as one."""
    code = """
import sys
import numpy as np
from crypto.ckks_public import PublicContext, check_key_part
from crypto.errors import MalformedKeyPart
public = PublicContext.load(sys.stdin.buffer.read())
honest, random = public.encrypt(np.ones(2048)), np.random.default_rng(2)
refused = 0
for trial in range(1000):
    data = bytearray(honest)
    reach = (40, 200, len(data))[trial % 3]
    for place in random.integers(0, reach, 1 + trial % 4):
        data[place] = random.integers(256)
    try:
        check_key_part(public, bytes(data))
    except MalformedKeyPart:
        refused += 1
print(refused)
"""
    done = subprocess.run([sys.executable, "-c", code], input=published, capture_output=True, timeout=240)
    assert done.returncode == 0, done.stderr.decode()
    assert 500 < int(done.stdout) <= 1000


# --- contexts


def test_the_same_bytes_are_one_context(published):
    first, second = PublicContext.load(published), PublicContext.load(bytes(bytearray(published)))
    assert first.context is second.context
    assert first.digest == sha256(published)


@pytest.mark.parametrize("everything", [True, False])
def test_a_private_context_offered_as_public_is_refused(raw, secret, everything):
    data = raw.serialize(save_secret_key=True) if everything else secret.secret_bytes()
    with pytest.raises(PrivateContext, match="new epoch"):
        PublicContext.load(data)


def test_a_context_without_the_public_key_is_refused(raw):
    with pytest.raises(Malformed, match="no other"):
        PublicContext.load(public_bytes_of(raw, save_public_key=False))


def test_evaluation_keys_have_no_place_in_a_public_context():
    with pytest.raises(Malformed, match="no other"):
        PublicContext.load(public_bytes_of(context_of(), save_relin_keys=True))


@pytest.mark.parametrize(
    ("degree", "moduli", "scale"),
    [
        (4096, (50, 20), 2.0**31),
        (4096, (50, 20), None),
        (4096, (50, 49), SCALE),
        (4096, (36, 36, 37), SCALE),
        (8192, (50, 20), SCALE),
    ],
)
def test_other_parameters_are_refused(degree, moduli, scale):
    with pytest.raises(Malformed, match="CKKS context"):
        PublicContext.load(public_bytes_of(context_of(degree, moduli, scale)))


def test_a_symmetric_and_a_bfv_context_are_refused():
    symmetric = context_of(encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC)
    bfv = ts.context(ts.SCHEME_TYPE.BFV, 4096, 1032193, n_threads=1)
    for data in (symmetric.serialize(save_public_key=False, save_secret_key=False), public_bytes_of(bfv)):
        with pytest.raises(Malformed):
            PublicContext.load(data)


def test_bytes_that_are_no_context_are_refused(published):
    for data in (b"", b"\x00", b"{}", published[:1000], published[:-1], bytes(1000), bytes((1 << 22) + 1)):
        with pytest.raises(Malformed):
            PublicContext.load(data)


def test_a_public_context_is_no_secret_one(published):
    with pytest.raises(Malformed, match="no secret key"):
        SecretContext.load(published)


def test_the_preset_is_the_protocols(public):
    assert public.context.seal_context().data.key_parms_id() == preset_id()
    assert public.context.global_scale == 2.0**30
