"""Sealing and opening by parts, whole contributions, and what must not open or show."""

from __future__ import annotations

import traceback
import tracemalloc
import uuid

import numpy as np
import pytest

from crypto.errors import CanaryMismatch, Malformed, OpeningRefused, OutOfRange
from crypto.lanes import LaneFormat, OpenedCounts, RealEncoder, count_vector
from crypto.layout import CountField, Layout, Tensor
from crypto.lwe import Sealer, Unsealer, add, check_secret_sum, draw_secret, seal_parts, unseal_parts
from crypto.parameters import PART_BYTES, PART_VALUES, SECRET_BOUND, N
from crypto.sampling import binomial
from crypto.vector import VectorShape

STUDY = uuid.UUID(int=11)
FORMAT = LaneFormat(4)
RANDOM = np.random.default_rng(3)


def layout_of(size):
    tensors = (Tensor("body", (size - 3,), "parameter"), Tensor("tail", (3,), "buffer"))
    return Layout(tensors, (CountField("confusion", (2, 2)),))


def total_of(parts):
    total = np.zeros_like(parts[0])
    for part in parts:
        add(total, part)
    return total


# --- parts


@pytest.mark.parametrize("length", [1, N - 1, N, N + 1, 3 * N])
def test_a_sum_of_parts_opens_to_messages_and_small_noise(length):
    sealers = [Sealer.fresh(STUDY) for _ in range(3)]
    messages = RANDOM.integers(-(2**28), 2**28, (3, length), np.int32)
    total = total_of([sealer.seal_part(5, message) for sealer, message in zip(sealers, messages, strict=True)])
    assert total.size == -(-length // N) * N
    opened = Unsealer(STUDY, sum(sealer.secret for sealer in sealers)).unseal_part(5, total)
    expected = np.zeros(total.size, np.int64)
    expected[:length] = messages.sum(axis=0, dtype=np.int64)
    noise = opened - expected
    assert 0 < np.abs(noise).max() <= 3 * SECRET_BOUND
    assert noise.std() == pytest.approx(4 * np.sqrt(3), rel=0.2)


def test_sums_wrap_around_where_integers_would_overflow():
    sealers = [Sealer.fresh(STUDY) for _ in range(4)]
    message = np.full(N, FORMAT.Q, np.int32)
    total = total_of([sealer.seal_part(0, message) for sealer in sealers])
    opened = Unsealer(STUDY, sum(sealer.secret for sealer in sealers)).unseal_part(0, total)
    assert np.abs(opened.astype(np.int64) - 4 * FORMAT.Q).max() <= 4 * SECRET_BOUND


def test_a_part_sealed_again_is_the_same_part():
    keys = bytes(range(32)), bytes(range(32, 64))
    messages = RANDOM.integers(-1000, 1000, 5000, np.int32)
    first = Sealer(STUDY, *keys)
    later = [first.seal_part(index, messages) for index in (0, 1, 2)]
    restarted = Sealer(STUDY, *keys)
    for index in (2, 0, 1):
        np.testing.assert_array_equal(restarted.seal_part(index, messages), later[index])
    assert not np.array_equal(later[0], later[1])


def test_parts_join_into_one_body():
    """Part 1 continues with polynomial 512: sealing across the border gives no other numbers than in one go."""
    keys = bytes(32), bytes([1] * 32)
    s = draw_secret(keys[0])
    tail = Sealer(STUDY, *keys).seal_part(1, np.zeros(N, np.int32))
    opened = Unsealer(STUDY, s).unseal_part(1, tail)
    np.testing.assert_array_equal(opened, binomial(keys[1], PART_VALUES, N))


def test_fresh_sealers_share_nothing():
    message = np.zeros(N, np.int32)
    one, other = Sealer.fresh(STUDY), Sealer.fresh(STUDY)
    assert not np.array_equal(one.secret, other.secret)
    assert not np.array_equal(one.seal_part(0, message), other.seal_part(0, message))
    assert not np.array_equal(draw_secret(), draw_secret())


def test_one_key_for_both_would_put_the_secret_into_the_error():
    with pytest.raises(ValueError, match="a key each"):
        Sealer(STUDY, bytes(32), bytes(32))


def test_the_secret_given_out_is_a_copy():
    sealer = Sealer.fresh(STUDY)
    sealer.secret[:] = 0
    assert sealer.secret.any()


def test_secrets_do_not_print():
    keys = b"\xabsecret-key".ljust(32, b"s"), b"\xcderror-key".ljust(32, b"e")
    sealer = Sealer(STUDY, *keys)
    unsealer = Unsealer(STUDY, sealer.secret)
    with pytest.raises(ValueError, match="int32 lanes") as caught:
        sealer.seal_part(0, np.zeros(3))
    shown = repr(sealer) + str(sealer) + f"{unsealer!r}" + "".join(traceback.format_exception(caught.value))
    for hidden in ("secret-key", "error-key", keys[0].hex(), keys[1].hex(), str(sealer.secret[:4])[1:-1]):
        assert hidden not in shown


@pytest.mark.parametrize(
    "messages",
    [np.zeros(0, np.int32), np.zeros(PART_VALUES + 1, np.int32), np.zeros((2, N), np.int32), np.zeros(N, np.int64)],
)
def test_what_is_no_part_is_not_sealed(messages):
    with pytest.raises(ValueError, match="int32 lanes"):
        Sealer.fresh(STUDY).seal_part(0, messages)


@pytest.mark.parametrize(
    "total", [np.zeros(N - 1, np.uint32), np.zeros(0, np.uint32), np.zeros(N, np.int32), np.zeros((1, N), np.uint32)]
)
def test_what_is_no_part_is_not_opened(total):
    with pytest.raises(Malformed, match="whole polynomials"):
        Unsealer(STUDY, draw_secret()).unseal_part(0, total)


def test_adding_is_in_place_and_modulo_two_to_the_32():
    total = np.array([1, 2**32 - 1], np.uint32)
    add(total, np.array([2, 3], np.uint32))
    assert total.tolist() == [3, 2]
    with pytest.raises(Malformed):
        add(total, np.zeros(1, np.uint32))
    with pytest.raises(Malformed):
        add(total, np.zeros(2, np.int32))


def test_a_part_read_from_a_file_can_be_added_without_a_copy():
    part = np.frombuffer(np.arange(4, dtype="<u4").tobytes(), "<u4")
    total = np.ones(4, np.uint32)
    add(total, part)
    assert total.tolist() == [1, 2, 3, 4]


# --- sums of secrets


def test_secret_sums_within_their_bound_pass():
    check_secret_sum(np.full(N, 96), 3)
    check_secret_sum(np.full(N, -96), 3)
    check_secret_sum(sum(draw_secret() for _ in range(3)), 3)


@pytest.mark.parametrize("value", [97, -97, np.iinfo(np.int64).min])
def test_secret_sums_beyond_their_bound_are_refused(value):
    secret_sum = np.zeros(N, np.int64)
    secret_sum[-1] = value
    with pytest.raises(OpeningRefused, match="3 secrets stays within 96"):
        check_secret_sum(secret_sum, 3)


@pytest.mark.parametrize("secret_sum", [np.zeros(N - 1, np.int64), np.zeros((1, N), np.int64), np.zeros(N)])
def test_what_is_no_secret_sum_is_refused(secret_sum):
    with pytest.raises(OpeningRefused, match="2048 integers"):
        check_secret_sum(secret_sum, 3)


def test_no_unsealer_for_an_impossible_sum():
    with pytest.raises(OutOfRange):
        Unsealer(STUDY, np.full(N, 32 * 1024 + 1))


# --- whole contributions


class Federation:
    """Three sites that sealed one update each; weights are sample counts over the plan's cap."""

    def __init__(self, size, bounds=(1.0, 64.0), *, evaluation_only=False):
        self.layout, self.bounds = layout_of(size), bounds
        self.shape = VectorShape.of(self.layout, evaluation_only=evaluation_only)
        self.samples, self.n_max = (100, 250, 400), 400
        self.updates = RANDOM.uniform(-0.9, 0.9, (3, size)).astype(np.float32)
        self.sealers = [Sealer.fresh(STUDY) for _ in self.samples]
        self.encoders = [
            None if evaluation_only else RealEncoder(update, self.layout, bounds, n / self.n_max, FORMAT)
            for update, n in zip(self.updates, self.samples, strict=True)
        ]
        self.bodies = [list(self.seal(site)) for site in range(3)]

    def counts(self, site):
        clipped = self.encoders[site].clipped if self.encoders[site] else [0, 0]
        return count_vector(self.samples[site], self.n_max, clipped, [site, 1, 2, 3])

    def seal(self, site):
        return seal_parts(self.sealers[site], self.encoders[site], lambda: self.counts(site), self.shape, FORMAT)

    def totals(self):
        return (total_of(parts) for parts in zip(*self.bodies, strict=True))

    def open(self, secrets, totals=None, weight=lambda counts: counts.capped_samples / 400):
        unsealer = Unsealer(STUDY, sum(secrets))
        totals = self.totals() if totals is None else totals
        return unseal_parts(unsealer, totals, self.shape, self.layout, self.bounds, FORMAT, weight)

    @property
    def secrets(self):
        return [sealer.secret for sealer in self.sealers]


@pytest.mark.parametrize("size", [5, N, 3 * N + 17])
def test_a_round_opens_to_mean_and_counts(size):
    federation = Federation(size)
    mean, counts = federation.open(federation.secrets)
    expected = np.average(federation.updates.astype(np.float64), axis=0, weights=federation.samples)
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean[: size - 3], expected[: size - 3], rtol=0, atol=1e-6)
    np.testing.assert_allclose(mean[size - 3 :], expected[size - 3 :], rtol=0, atol=64e-6)
    assert counts == OpenedCounts(750, 750, (0, 0), (3, 3, 6, 9))
    assert all(len(body) == 1 for body in federation.bodies)


@pytest.mark.parametrize("size", [PART_VALUES - N, PART_VALUES - N + 1, PART_VALUES + 5])
def test_contributions_of_several_parts(size):
    """The update ends just before the end of a part, within its last polynomial, and in the next part."""
    federation = Federation(size)
    sizes = [federation.shape.part_values(index) for index in range(federation.shape.parts)]
    assert [part.size for part in federation.bodies[0]] == sizes
    assert len(sizes) == (1 if size == PART_VALUES - N else 2)
    mean, counts = federation.open(federation.secrets)
    expected = np.average(federation.updates.astype(np.float64), axis=0, weights=federation.samples)
    np.testing.assert_allclose(mean[:-3], expected[:-3], rtol=0, atol=1e-6)
    assert counts.samples == 750


@pytest.mark.parametrize("threads", [2, 5])
def test_any_number_of_threads_seals_and_opens_the_same(threads):
    size = 3 * PART_VALUES + 5
    layout, shape = layout_of(size), VectorShape.of(layout_of(size))
    update = np.random.default_rng(1).normal(0, 0.5, size).astype(np.float32)

    def seal(number):
        sealer = Sealer(STUDY, bytes(32), bytes([1] * 32))
        encoder = RealEncoder(update, layout, (1.0, 64.0), 1.0, FORMAT)
        counts = lambda: count_vector(5, 9, encoder.clipped, [1, 2, 3, 4])  # noqa: E731
        return list(seal_parts(sealer, encoder, counts, shape, FORMAT, number)), encoder

    (alone, first), (together, second) = seal(1), seal(threads)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
    assert first.clipped == second.clipped
    np.testing.assert_array_equal(first.residual, second.residual)

    def unseal(number):
        unsealer = Unsealer(STUDY, draw_secret(bytes(32)))
        return unseal_parts(unsealer, alone, shape, layout, (1.0, 64.0), FORMAT, lambda _: 1.0, number)

    (mean, counts), (again, same) = unseal(1), unseal(threads)
    np.testing.assert_array_equal(mean, again)
    assert counts == same


def test_sealing_and_opening_hold_a_few_parts_beside_the_update():
    """Whatever its size: here eight parts, of which two threads have three under way."""
    size = 8 * PART_VALUES
    layout, shape = layout_of(size), VectorShape.of(layout_of(size))
    sealer, update = Sealer.fresh(STUDY), np.full(size, 0.5, np.float32)
    unsealer = Unsealer(STUDY, sealer.secret)

    def peak_of(work):
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def seal():
        encoder = RealEncoder(update, layout, (1.0, 64.0), 1.0, FORMAT)
        for part in seal_parts(sealer, encoder, lambda: [0] * shape.counts, shape, FORMAT, 2):
            assert part.size

    def totals():
        for index in range(shape.parts):
            yield sealer.seal_part(index, np.zeros(shape.part_values(index), np.int32))

    def unseal():
        unseal_parts(unsealer, totals(), shape, layout, (1.0, 64.0), FORMAT, lambda _: 1.0, 2)

    result = update.nbytes  # the residual; the mean
    assert peak_of(seal) < result + 12 * PART_BYTES
    assert peak_of(unseal) < result + 12 * PART_BYTES


def test_clipping_is_counted_before_the_counts_are_sealed():
    federation = Federation(PART_VALUES + N, bounds=(0.01, 64.0))
    _, counts = federation.open(federation.secrets)
    expected = sum(encoder.clipped[0] for encoder in federation.encoders)
    assert counts.clipped == (expected, 0)
    assert expected > 1_000_000


def test_an_evaluation_only_round_carries_counts():
    federation = Federation(50, evaluation_only=True)
    mean, counts = federation.open(federation.secrets)
    assert mean.size == 0
    assert counts == OpenedCounts(750, 750, (0, 0), (3, 3, 6, 9))
    assert [part.size for part in federation.bodies[0]] == [N]


def test_the_weighted_sum_is_the_mean_undivided():
    federation = Federation(100)
    mean, _ = federation.open(federation.secrets)
    total, _ = federation.open(federation.secrets, weight=lambda _: 1.0)
    np.testing.assert_allclose(total, mean * 750 / 400, rtol=1e-6)


def test_a_missing_or_foreign_secret_opens_noise_which_the_canaries_refuse():
    federation = Federation(100)
    for secrets in (federation.secrets[:2], [*federation.secrets[:2], draw_secret()], [draw_secret()]):
        with pytest.raises(CanaryMismatch):
            federation.open(secrets)


def test_a_foreign_study_opens_noise():
    federation = Federation(100)
    unsealer = Unsealer(uuid.uuid4(), sum(federation.secrets))
    with pytest.raises(CanaryMismatch):
        unseal_parts(unsealer, federation.totals(), federation.shape, federation.layout, (1, 64), FORMAT, lambda _: 1.0)


def test_a_secret_off_by_one_in_one_coefficient_is_refused():
    federation = Federation(100)
    wrong = sum(federation.secrets)
    wrong[1000] += 1
    with pytest.raises(CanaryMismatch):
        federation.open([wrong])


def test_weights_that_add_up_to_nothing_are_refused():
    federation = Federation(100)
    with pytest.raises(OpeningRefused, match="add up to nothing"):
        federation.open(federation.secrets, weight=lambda _: 0.0)


def test_parts_missing_or_of_the_wrong_size_are_named():
    federation = Federation(100)
    (total,) = federation.totals()
    with pytest.raises(Malformed, match="0 of 1 parts"):
        federation.open(federation.secrets, totals=[])
    with pytest.raises(Malformed, match="part 1 of 1"):
        federation.open(federation.secrets, totals=[total, total])
    with pytest.raises(Malformed, match="part 0 of 1"):
        federation.open(federation.secrets, totals=[total[:N]])


def test_encoder_and_counts_have_to_fit_the_shape():
    federation = Federation(100)
    sealer, shape = Sealer.fresh(STUDY), federation.shape
    with pytest.raises(ValueError, match="no encoder"):
        next(seal_parts(sealer, None, lambda: [], shape, FORMAT))
    encoder = RealEncoder(federation.updates[0], federation.layout, (1.0, 64.0), 1.0, FORMAT)
    with pytest.raises(ValueError, match="8 counts, 1 were given"):
        next(seal_parts(sealer, encoder, lambda: [1], shape, FORMAT))
