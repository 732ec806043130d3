"""Numbers to lanes and back: formats, clipping and its residual, counts, canaries, where things lie, bounds."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.errors import CanaryMismatch, NegativeCount, OutOfRange
from crypto.lanes import (
    LaneFormat,
    OpenedCounts,
    RealEncoder,
    adapt_bounds,
    check_bounds,
    count_vector,
    decode_counts,
    decode_real,
    encode_counts,
)
from crypto.layout import CountField, Layout, Tensor
from crypto.parameters import CANARIES, COUNT_LIMIT, PART_BYTES, PART_VALUES, N
from crypto.vector import VectorShape

FORMAT = LaneFormat(16)
LAYOUT = Layout(
    (
        Tensor("conv.weight", (4, 5), "parameter"),
        Tensor("bias", (), "parameter"),
        Tensor("norm.mean", (9,), "buffer"),
    ),
    (CountField("confusion", (2, 2)), CountField("seen", ())),
)
BOUNDS = (1.0, 0.5, 64.0)


def encoder(update, bounds=BOUNDS, weight=1.0):
    return RealEncoder(np.asarray(update, np.float32), LAYOUT, bounds, weight, FORMAT)


# --- formats


@pytest.mark.parametrize(
    ("k_max", "kappa", "Q", "T", "D"),
    [(1, 0, 2**31 - 33, 8, 23), (2, 1, 2**30 - 33, 9, 21), (16, 4, 2**27 - 33, 10, 17), (1024, 10, 2**21 - 33, 13, 8)],
)
def test_format_is_that_of_the_protocol(k_max, kappa, Q, T, D):
    assert dataclasses.astuple(LaneFormat(k_max)) == (k_max, kappa, Q, T, D)


def test_every_format_leaves_room_for_sum_and_noise():
    for k_max in range(1, 1025):
        lane = LaneFormat(k_max)
        assert lane.kappa == math.ceil(math.log2(k_max))
        assert math.ceil(math.log2(4 * math.sqrt(k_max))) + 6 == lane.T
        assert k_max * (lane.Q + 32) < 2**31
        assert k_max * (((2**lane.D - 1) << lane.T) + 32) < 2**31
        assert 3 * lane.D >= 24
        assert 32 * 4 * math.sqrt(k_max) <= 2 ** (lane.T - 1)
        assert lane.canary_limit <= min(32 * k_max, 2 ** (lane.T - 1))


@pytest.mark.parametrize("k_max", [0, -1, 1025])
def test_no_format_for_more_contributors_than_the_protocol_admits(k_max):
    with pytest.raises(OutOfRange, match="1 to 1024"):
        LaneFormat(k_max)


# --- real lanes


def test_lanes_follow_the_formula():
    update = np.linspace(-2, 2, 30, dtype=np.float32)
    lanes = encoder(update, weight=0.75).encode(0, 30)
    bounds = np.repeat(BOUNDS, [20, 1, 9])
    expected = np.clip(np.rint(0.75 * update.astype(np.float64) / bounds * FORMAT.Q), -FORMAT.Q, FORMAT.Q)
    assert lanes.dtype == np.int32
    np.testing.assert_allclose(lanes, expected, rtol=0, atol=1)


def test_any_consecutive_slices_give_the_lanes_of_the_whole():
    update = np.random.default_rng(1).normal(0, 1, 30).astype(np.float32)
    whole, sliced = encoder(update), encoder(update)
    lanes = whole.encode(0, 30)
    pieces = [sliced.encode(start, stop) for start, stop in [(0, 0), (0, 7), (7, 21), (21, 30)]]
    np.testing.assert_array_equal(np.concatenate(pieces), lanes)
    assert sliced.clipped == whole.clipped
    np.testing.assert_array_equal(sliced.residual, whole.residual)


def test_clipping_is_counted_and_what_it_cut_off_is_kept():
    update = np.zeros(30, np.float32)
    update[[0, 3, 20, 25]] = 1.5, -3.0, 2.0, -100.0
    before = update.copy()
    real = encoder(update, weight=0.5)  # so values up to 2 b pass
    lanes = real.encode(0, 30)
    assert lanes[[3, 20, 25]].tolist() == [-FORMAT.Q, FORMAT.Q, -round(100 * 0.5 / 64 * FORMAT.Q)]
    assert real.clipped == [1, 1, 0]
    assert real.residual.dtype == np.float32
    assert real.residual[[0, 3, 20, 25]].tolist() == [0.0, -1.0, 1.0, 0.0]
    assert np.count_nonzero(real.residual) == 2
    np.testing.assert_array_equal(update, before)


def test_a_value_on_its_bound_is_not_clipped():
    real = encoder(np.repeat(np.float32(BOUNDS), [20, 1, 9]))
    assert set(real.encode(0, 30).tolist()) == {FORMAT.Q}
    assert real.clipped == [0, 0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("where", "name"), [(0, "conv.weight"), (20, "bias"), (29, "norm.mean")])
def test_a_value_that_is_no_number_names_its_tensor(bad, where, name):
    update = np.zeros(30, np.float32)
    update[where] = bad
    with pytest.raises(OutOfRange, match=name):
        encoder(update).encode(0, 30)


@pytest.mark.parametrize("weight", [0.0, -0.1, 1.0001, np.nan, np.inf])
def test_weight_out_of_range(weight):
    with pytest.raises(OutOfRange, match="weight"):
        encoder(np.zeros(30), weight=weight)


@pytest.mark.parametrize("bound", [0.0, -1.0, np.nan, np.inf, 1e-30, 2.0**33])
def test_bound_out_of_range_names_its_tensor(bound):
    with pytest.raises(OutOfRange, match="bias"):
        check_bounds((1.0, bound, 1.0), LAYOUT)
    with pytest.raises(OutOfRange, match="bias"):
        encoder(np.zeros(30), bounds=(1.0, bound, 1.0))


def test_update_and_bounds_have_to_fit_the_layout():
    with pytest.raises(ValueError, match="30 float32"):
        encoder(np.zeros(29))
    with pytest.raises(ValueError, match="30 float32"):
        RealEncoder(np.zeros(30), LAYOUT, BOUNDS, 1.0, FORMAT)
    with pytest.raises(ValueError, match="shorter"):
        encoder(np.zeros(30), bounds=(1.0, 1.0))


def test_slices_that_would_count_values_twice_are_refused():
    real = encoder(np.zeros(30))
    real.encode(0, 10)
    for start, stop in [(0, 10), (11, 12), (10, 31), (10, 9)]:
        with pytest.raises(ValueError, match="those from 10 on come next"):
            real.encode(start, stop)


@given(start=st.integers(0, 30), length=st.integers(0, 30), weight=st.floats(0.01, 1))
def test_decoding_inverts_encoding_from_any_place(start, length, weight):
    update = np.random.default_rng(2).uniform(-0.5, 0.5, 30).astype(np.float32)
    stop = min(start + length, 30)
    real = encoder(update, weight=weight)
    real.encode(0, start)
    decoded = decode_real(real.encode(start, stop), start, LAYOUT, BOUNDS, FORMAT, weight)
    error = np.abs(decoded - update[start:stop])
    assert (error <= np.repeat(BOUNDS, [20, 1, 9])[start:stop] / (FORMAT.Q * weight)).all()


# --- count lanes

count_lists = st.lists(st.integers(0, COUNT_LIMIT - 1), max_size=20)


@given(k_max=st.integers(1, 1024), data=st.data())
@settings(max_examples=60, deadline=None)
def test_counts_are_exact_under_the_largest_noise_that_is_not_a_fault(k_max, data):
    lane = LaneFormat(k_max)
    contributors = data.draw(st.integers(1, k_max))
    counts = data.draw(count_lists)
    noise_limit = lane.canary_limit - 1
    total = contributors * encode_counts(counts, lane).astype(np.int64)
    noise = np.random.default_rng(contributors).integers(-noise_limit, noise_limit + 1, total.size)
    signed = (total + noise).astype(np.uint32).view(np.int32)
    assert decode_counts(signed, len(counts), lane) == [contributors * count for count in counts]


def test_digits_lie_low_first_above_the_shift():
    count = 5 + (7 << FORMAT.D)
    lanes = encode_counts([count], FORMAT)
    assert lanes.tolist() == [0] * CANARIES + [5 << FORMAT.T, 7 << FORMAT.T, 0]


def test_sums_of_digits_carry():
    lane = LaneFormat(1024)
    lanes = 1000 * encode_counts([COUNT_LIMIT - 1, 255, 0], lane)
    assert decode_counts(lanes, 3, lane) == [1000 * (COUNT_LIMIT - 1), 255_000, 0]


@pytest.mark.parametrize("count", [-1, COUNT_LIMIT])
def test_counts_out_of_range(count):
    with pytest.raises(OutOfRange, match=str(count)):
        encode_counts([1, count], FORMAT)


def test_a_count_that_is_no_integer_is_not_truncated():
    with pytest.raises(TypeError):
        encode_counts([1.5], FORMAT)


@pytest.mark.parametrize("k_max", [1, 2, 4, 16, 128, 1024])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("place", [0, 31, CANARIES - 1])
def test_a_canary_may_hold_noise_and_no_more(k_max, sign, place):
    lane = LaneFormat(k_max)
    lanes = encode_counts([3], lane)
    lanes[place] = sign * lane.canary_limit
    assert decode_counts(lanes, 1, lane) == [3]
    lanes[place] += sign
    with pytest.raises(CanaryMismatch, match=f"1 of {CANARIES}"):
        decode_counts(lanes, 1, lane)


def test_the_most_negative_canary_is_caught_too():
    lanes = encode_counts([3], FORMAT)
    lanes[0] = np.iinfo(np.int32).min
    with pytest.raises(CanaryMismatch):
        decode_counts(lanes, 1, FORMAT)


def test_canary_limit_is_the_smaller_of_all_noise_and_half_a_digit_step():
    assert [LaneFormat(k).canary_limit for k in (1, 3, 4, 16, 1024)] == [32, 96, 128, 512, 4096]


def test_a_negative_digit_fails_the_round_even_where_the_count_would_not_be():
    lanes = encode_counts([1 << FORMAT.D], FORMAT)
    lanes[CANARIES] = -(1 << FORMAT.T)
    with pytest.raises(NegativeCount):
        decode_counts(lanes, 1, FORMAT)


def test_forged_digits_do_not_overflow():
    lanes = np.full(CANARIES + 3, np.iinfo(np.int32).max - 2**10, np.int32)
    lanes[:CANARIES] = 0
    lane = LaneFormat(1)
    digit = (2**31 - 1 - 2**10 + 2**7) >> 8
    assert decode_counts(lanes, 1, lane) == [digit + (digit << 23) + (digit << 46)]


def test_decoding_wants_the_lanes_of_as_many_counts():
    with pytest.raises(ValueError, match="2 counts have 70 lanes"):
        decode_counts(encode_counts([1], FORMAT), 2, FORMAT)


def test_count_vector_and_back():
    vector = count_vector(500, 300, [0, 2, 1], [10, 1, 2, 20, 33])
    assert vector == [300, 500, 0, 2, 1, 10, 1, 2, 20, 33]
    assert len(vector) == VectorShape.of(LAYOUT).counts
    opened = OpenedCounts.from_vector(vector, len(LAYOUT.tensors))
    assert opened == OpenedCounts(300, 500, (0, 2, 1), (10, 1, 2, 20, 33))
    assert count_vector(299, 300, [], [])[0] == 299


# --- shapes


def test_count_lanes_start_at_a_new_polynomial():
    shape = VectorShape(real=N + 1, counts=4)
    assert (shape.real_polynomials, shape.count_polynomials, shape.polynomials, shape.parts) == (2, 1, 3, 1)
    assert shape.part_bytes(0) == 3 * 4 * N
    assert shape.pieces(0) == (slice(0, N + 1), slice(0, N + 1), slice(0, 76), slice(2 * N, 2 * N + 76))


def test_evaluation_only_rounds_have_counts_alone():
    shape = VectorShape.of(LAYOUT, evaluation_only=True)
    assert (shape.real, shape.real_polynomials, shape.polynomials) == (0, 0, 1)
    assert shape.counts == VectorShape.of(LAYOUT).counts == 10


def test_a_full_part_before_the_counts():
    shape = VectorShape(real=PART_VALUES, counts=1)
    assert shape.parts == 2
    assert [shape.part_bytes(0), shape.part_bytes(1)] == [PART_BYTES, 4 * N]
    with pytest.raises(IndexError, match="parts 0 to 1"):
        shape.part_values(2)
    with pytest.raises(IndexError):
        shape.part_values(-1)


@given(real=st.integers(0, 3 * PART_VALUES), counts=st.integers(0, PART_VALUES))
def test_pieces_of_all_parts_hold_every_lane_once(real, counts):
    shape = VectorShape(real, counts)
    seen_real = seen_counts = 0
    for index in range(shape.parts):
        values, real_place, digits, count_place = shape.pieces(index)
        for piece, place in [(values, real_place), (digits, count_place)]:
            assert piece.stop - piece.start == place.stop - place.start
            assert 0 <= place.start <= place.stop
            assert place.start == place.stop or place.stop <= shape.part_values(index)
        if values.start < values.stop:
            assert values.start == seen_real
            seen_real = values.stop
        if digits.start < digits.stop:
            assert digits.start == seen_counts
            assert (index * PART_VALUES + count_place.start) == shape.real_polynomials * N + seen_counts
            seen_counts = digits.stop
    assert (seen_real, seen_counts) == (real, shape.count_lanes)
    assert sum(shape.part_values(i) for i in range(shape.parts)) == shape.polynomials * N


# --- bounds

WIDE = Layout((Tensor("a", (100_000,), "parameter"),))


def next_bound(bound, clipped, lowest):
    (adapted,) = adapt_bounds([bound], [clipped], WIDE, 4, [lowest])
    return adapted


def test_bounds_double_above_a_thousandth_clipped():
    assert next_bound(1.0, 401, 1.0) == 2.0
    assert next_bound(1.0, 400, 1.0) == 1.0


def test_bounds_halve_below_a_hundred_thousandth_clipped():
    assert next_bound(1.0, 3, 1.0) == 0.5
    assert next_bound(1.0, 4, 1.0) == 1.0
    assert adapt_bounds([1.0], [0], WIDE, 4) == [1.0]


def test_bounds_fall_no_further_than_pays():
    both = Layout((Tensor("a", (10,), "parameter"), Tensor("b", (10,), "buffer")))
    bounds = [1.0, 64.0]
    for _ in range(20):
        bounds = adapt_bounds(bounds, [0, 0], both, 4, bounds)
    assert bounds == [2.0**-4, 8.0]
    assert next_bound(2.0**-10, 0, 2.0**-10) == 2.0**-10, "one that is lower already is not raised for it"


def test_bounds_stay_within_what_lanes_carry():
    low, high = 2.0**-16, 2.0**32
    assert next_bound(low, 0, low) == low
    assert next_bound(high, 400_000, low) == high
    check_bounds([low], WIDE)
    check_bounds([high], WIDE)


@given(reach=st.floats(0.01, 1000), start=st.sampled_from([1.0, 64.0]))
def test_bounds_settle(reach, start):
    """A tensor all of whose values have one size is the worst case: nothing or everything is clipped."""
    bounds = [start]
    for _ in range(30):
        clipped = 400_000 if reach > bounds[-1] else 0
        bounds.append(next_bound(bounds[-1], clipped, min(bounds)))
    assert len(set(bounds[-10:])) == 1
    assert reach <= bounds[-1]
    assert bounds[-1] <= max(2 * reach, start) * 2
