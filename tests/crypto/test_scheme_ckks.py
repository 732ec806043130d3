"""`ckks` from update to mean through the facade, and every way a part, a sum or an opening can be wrong."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tenseal as ts

from crypto.canonical import sha256
from crypto.ckks_body import write_frames
from crypto.ckks_public import PublicContext
from crypto.ckks_secret import SecretContext, opening_noise
from crypto.errors import CanaryMismatch, Malformed, NegativeCount, OpeningRefused, OutOfRange, WrongDigest
from crypto.layout import Layout, Tensor
from crypto.manifest import Ballot, BodyOpening, Opening
from crypto.parameters import CKKS_OPENING_NOISE, CKKS_SLOTS, PART_BYTES, N
from crypto.schemes import Recipients, check_release, scheme
from crypto.schemes.opening import open_bodies
from crypto.slots import SlotFormat

CKKS = scheme("ckks")
COUNTS = [5, 0, 1, 2**24 - 1]
NOISE = 7 * CKKS_OPENING_NOISE  # a few thousand Gaussian samples stay within seven deviations


@pytest.fixture
def study(federation):
    return federation.with_plan(scheme="ckks")


@pytest.fixture
def updates(federation, random):
    wide = np.repeat([0.9, 50.0], [2400, 7])
    return (random.uniform(-1, 1, (4, federation.layout.size)) * wide).astype(np.float32)


class Round:
    """A whole round in memory: who sealed what, and the coordinator's sums."""

    def __init__(self, study, updates, samples, counts=COUNTS):
        self.study, self.plan, self.layout = study, study.plan, study.layout
        self.sealed = [self.seal(update, n, counts) for update, n in zip(updates, samples, strict=False)]
        self.bodies = [list(sealed) for sealed in self.sealed]
        self.totals = [self.add(parts) for parts in zip(*self.bodies, strict=True)]
        signed = tuple(
            study.identities[site].sign(study.manifest(site, parts=tuple(map(sha256, body)), key_parts=()))
            for site, body in zip(study.sites, self.bodies, strict=False)
        )
        self.ballot = Ballot(plan=self.plan.digest, manifests=signed)

    def seal(self, update, samples, counts=COUNTS):
        return CKKS.seal(self.plan, self.layout, update, samples, counts, self.study.public)

    def add(self, parts, number=0):
        adder = CKKS.adder(self.plan, self.layout, number, self.study.public)
        for part in parts:
            CKKS.check_part(self.plan, self.layout, number, part, self.study.public)
            adder.add(part)
        return adder.total()

    def open(self, **changes):
        given = {"plan": self.plan, "layout": self.layout, "ballot": self.ballot, "totals": self.totals}
        return list(open_bodies(**(given | {"secret": self.study.dealt.secret} | changes)))

    def reveal(self, opened=None):
        opened = self.open() if opened is None else opened
        return CKKS.reveal(self.plan, self.layout, opened, (), len(self.ballot.manifests))


@pytest.fixture
def played(study, updates):
    return Round(study, updates[:3], [40, 250, 80])


# --- the whole way


def test_mean_counts_and_weights(played, updates):
    revealed = played.reveal()
    weights = np.array([0.4, 1.0, 0.8])
    expected = weights @ updates[:3].astype(np.float64) / weights.sum()
    bounds = np.repeat([1.0, 64.0], [2400, 7])
    assert revealed.mean.dtype == np.float32
    assert (np.abs(revealed.mean - expected) <= (NOISE / weights.sum() + 2e-7) * bounds).all()
    assert revealed.weight_sum == pytest.approx(2.2)
    assert (revealed.counts.samples, revealed.counts.capped_samples) == (370, 220)
    assert revealed.counts.recipe == tuple(3 * count for count in COUNTS)


def test_the_error_is_the_opening_noise_in_units_of_the_bound(played, updates):
    """Neither CKKS nor float32 adds anything that shows beside it, for small bounds as for large ones."""
    weights = np.array([0.4, 1.0, 0.8])
    exact = weights @ updates[:3].astype(np.float64) / weights.sum()
    error = (played.reveal().mean - exact)[:2400] * weights.sum() / CKKS_OPENING_NOISE
    assert error.std() == pytest.approx(1.0, abs=0.1)
    assert abs(error.mean()) < 0.1


def test_equal_weights(study, updates):
    played = Round(study.with_plan(weighting="equal"), updates, [1, 1000, 3, 70])
    revealed = played.reveal()
    assert revealed.weight_sum == 4.0
    exact = updates[:, :2400].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(revealed.mean[:2400], exact, rtol=0, atol=NOISE / 4 + 2e-7)


def test_clipping_is_counted_and_kept(study, updates):
    updates[0, 5], updates[1, 5], updates[1, -1] = 3.0, -2.5, 70.0
    played = Round(study, updates[:2], [100, 100])
    first, second = played.sealed
    assert (first.clipped, second.clipped) == ((1, 0), (1, 1))
    assert first.residual[5] == pytest.approx(2.0, abs=1e-6)
    assert np.flatnonzero(second.residual).tolist() == [5, 2406]
    revealed = played.reveal()
    assert revealed.counts.clipped == (2, 1)
    assert revealed.mean[5] == pytest.approx(0.0, abs=NOISE)


def test_an_evaluation_round_carries_counts_alone(study):
    played = Round(study.with_plan(kind="evaluation"), [None, None, None], [40, 0, 250])
    assert CKKS.opened_sizes(played.plan, played.layout) == (4 * CKKS_SLOTS,)
    assert all(sealed.residual is None and sealed.clipped == (0, 0) for sealed in played.sealed)
    revealed = played.reveal()
    assert revealed.mean is None
    assert revealed.counts.recipe == tuple(3 * count for count in COUNTS)


def test_several_parts_stay_within_their_size(federation, random):
    layout = Layout((Tensor("big", (64 * CKKS_SLOTS - 3,), "parameter"),))
    study = federation.with_plan(scheme="ckks", layout=layout.digest, bounds=[2.0])
    sizes, opened_sizes = CKKS.part_sizes(study.plan, layout), CKKS.opened_sizes(study.plan, layout)
    assert opened_sizes == (4 * 64 * CKKS_SLOTS, 4 * CKKS_SLOTS)
    assert sizes[0] == PART_BYTES
    updates = random.uniform(-2, 2, (2, layout.size)).astype(np.float32)
    adders = [CKKS.adder(study.plan, layout, number, study.public) for number in (0, 1)]
    for update in updates:
        for number, part in enumerate(CKKS.seal(study.plan, layout, update, 100, [], study.public)):
            assert 0.8 * sizes[number] < len(part) <= sizes[number]
            adders[number].add(memoryview(part))
    ballot = study.ballot(study.sites[:2])
    totals = (adder.total() for adder in adders)
    opened = list(open_bodies(study.plan, layout, ballot, totals, study.dealt.secret))
    assert tuple(map(len, opened)) == opened_sizes
    mean = CKKS.reveal(study.plan, layout, iter(opened), (), 2).mean
    np.testing.assert_allclose(mean, updates.mean(axis=0, dtype=np.float64), rtol=0, atol=2 * NOISE)


def test_digits_are_exact_at_the_largest_number_of_contributors(study):
    """1,024 times the largest count, by adding one contribution ten times to itself."""
    played = Round(study.with_plan(k_max=1024, kind="evaluation", n_max=2**24 - 1), [None], [2**24 - 1], COUNTS)
    total = played.totals[0]
    for _ in range(10):
        total = played.add([total, total])
    played.ballot = played.ballot.model_copy(update={"manifests": played.ballot.manifests * 1024})
    counts = played.reveal(played.open(totals=[total])).counts
    assert counts.samples == 1024 * (2**24 - 1)
    assert counts.recipe == tuple(1024 * count for count in COUNTS)


def test_the_scale_leaves_room_for_the_sum():
    for k_max, bits in ((1, 40), (16, 40), (511, 40), (512, 39), (1023, 39), (1024, 38)):
        assert SlotFormat(k_max).scale_bits == bits
        assert k_max * 2**bits < 2**49
        assert bits == 40 or k_max * 2 ** (bits + 1) >= 2**49
    for wrong in (0, 1025):
        with pytest.raises(OutOfRange):
            SlotFormat(wrong)


def test_a_sum_of_the_largest_values_does_not_wrap_around(study, updates):
    """511 contributions of all ones: the sum comes within 2^40 of half the modulus, by doubling and adding one."""
    full = Round(study.with_plan(k_max=511, weighting="equal"), [np.full_like(updates[0], 1.0)], [1])
    (one,) = full.totals
    total = one
    for _ in range(8):
        total = full.add([total, total, one])
    full.ballot = full.ballot.model_copy(update={"manifests": full.ballot.manifests * 511})
    (opened,) = full.open(totals=[total])
    slots = np.frombuffer(opened, "<f4")
    np.testing.assert_allclose(slots[:2400], 511.0, rtol=0, atol=1e-4)
    np.testing.assert_allclose(slots[2400:2407], 511.0 / 64.0, rtol=0, atol=1e-5)


def test_sealing_twice_shares_nothing(played, updates):
    first, second = (b"".join(played.seal(updates[0], 40)) for _ in range(2))
    assert first != second
    assert not np.array_equal(np.frombuffer(first[200:4200], "<u4"), np.frombuffer(second[200:4200], "<u4"))


def test_a_contribution_is_read_once(played, updates):
    sealed = played.seal(updates[0], 40)
    with pytest.raises(ValueError, match="once all parts"):
        _ = sealed.residual
    assert len(list(sealed)) == 1
    assert sealed.key_parts == ()
    with pytest.raises(ValueError, match="sealed once"):
        list(sealed)


# --- opening noise


def test_each_opening_has_its_own_noise(played):
    first, second = (np.frombuffer(played.open()[0], "<f4") for _ in range(2))
    difference = (first.astype(np.float64) - second)[2500:4000]  # zeros between values and counts
    assert difference.std() == pytest.approx(np.sqrt(2) * CKKS_OPENING_NOISE, rel=0.1)


def test_the_noise_covers_that_of_decryption(played, updates):
    """What decryption alone leaves in a slot is far smaller than what the opener adds."""
    context, (first, *_) = played.study.dealt.secret._context, frames_of(played.totals[0])
    values = np.array(ts.ckks_vector_from(context, first).decrypt())
    weights = np.array([0.4, 1.0, 0.8])
    exact = (weights[:, None] * updates[:3, :CKKS_SLOTS].astype(np.float64)).astype(np.float32).sum(axis=0, dtype=float)
    assert 0 < (values - exact).std() < CKKS_OPENING_NOISE / 100
    opened = np.frombuffer(played.open()[0], "<f4")[:CKKS_SLOTS]
    assert np.abs(opened - exact).max() < NOISE


def test_noise_is_gaussian():
    noise = opening_noise(200_000) / CKKS_OPENING_NOISE
    assert noise.mean() == pytest.approx(0.0, abs=0.01)
    assert noise.std() == pytest.approx(1.0, abs=0.01)
    for deviations, share in ((1, 0.3173), (2, 0.0455), (3, 0.0027)):
        assert (np.abs(noise) > deviations).mean() == pytest.approx(share, rel=0.15)


# --- parts that are none


def frames_of(part: bytes) -> list[bytes]:
    frames, place = [], 0
    while place < len(part):
        length = int.from_bytes(part[place : place + 4], "little")
        frames.append(part[place + 4 : place + 4 + length])
        place += 4 + length
    return frames


def wrong_parts(played) -> dict[str, bytes]:
    honest, public = played.bodies[0][0], played.study.public
    first, *rest = frames_of(honest)
    ones = [1.0] * CKKS_SLOTS
    other_scale = ts.ckks_vector(public.context, ones, scale=2.0**39).serialize()
    short = ts.ckks_vector(public.context, ones[:-1], scale=2.0**40).serialize()
    foreign = ts.context(ts.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 60], n_threads=1)
    return {
        "empty": b"",
        "a length alone": b"\x00\x00\x00\x00",
        "cut short": honest[:-1],
        "cut in a length": honest[: 4 + len(first) + 2],
        "longer": honest + b"\x00",
        "one ciphertext fewer": write_frames(rest),
        "one ciphertext more": write_frames([first, first, *rest]),
        "an endless length": b"\xff" * 4 + honest[4:],
        "a length beyond the end": struct.pack("<I", len(honest)) + honest[4:],
        "no ciphertext": write_frames([b"", *rest]),
        "random bytes": write_frames([np.random.default_rng(1).bytes(len(first)), *rest]),
        "random inside": write_frames([first[:9] + bytes(len(first) - 18) + first[-9:], *rest]),
        "another scale": write_frames([other_scale, *rest]),
        "another scale, said to be right": write_frames([other_scale[:-9] + first[-9:], *rest]),
        "the scale of key parts": write_frames([public.encrypt(np.ones(CKKS_SLOTS)), *rest]),
        "fewer slots": write_frames([short, *rest]),
        "slots overstated": write_frames([b"\x0a\x02\x81\x10" + first[4:], *rest]),
        "other parameters": write_frames([ts.ckks_vector(foreign, ones, scale=2.0**40).serialize(), *rest]),
    }


def refused(played, data: bytes) -> bool:
    try:
        CKKS.check_part(played.plan, played.layout, 0, data, played.study.public)
    except Malformed:
        return True
    return False


def test_what_is_no_part_is_refused_everywhere(played):
    secret = played.study.dealt.secret
    CKKS.check_part(played.plan, played.layout, 0, played.bodies[0][0], played.study.public)
    for name, data in wrong_parts(played).items():
        assert refused(played, data), f"{name} was taken for a part"
        adder = CKKS.adder(played.plan, played.layout, 0, played.study.public)
        adder.add(played.bodies[0][0])
        with pytest.raises(Malformed):
            adder.add(data)
        assert len(frames_of(adder.total())) == 3
        with pytest.raises(Malformed, match="summed part 0"):
            list(open_bodies(played.plan, played.layout, played.ballot, [data], secret))


def test_a_part_has_a_number(played):
    for call in (CKKS.check_part, lambda *given: CKKS.adder(*given[:3], given[4])):
        with pytest.raises(IndexError):
            call(played.plan, played.layout, 1, played.bodies[0][0], played.study.public)


def test_nothing_is_sealed_checked_or_added_without_the_public_context(played, updates):
    with pytest.raises(TypeError, match="public context"):
        CKKS.seal(
            played.plan, played.layout, updates[0], 40, COUNTS, Recipients(played.study.roster, played.study.sites[0])
        )
    with pytest.raises(TypeError, match="public context"):
        CKKS.check_part(played.plan, played.layout, 0, played.bodies[0][0])
    with pytest.raises(TypeError, match="public context"):
        CKKS.adder(played.plan, played.layout, 0)
    with pytest.raises(ValueError, match="no part was added"):
        CKKS.adder(played.plan, played.layout, 0, played.study.public).total()


# --- what does not open


def test_another_key_opens_nothing(played):
    with pytest.raises(OpeningRefused, match="another key"):
        played.open(secret=SecretContext.generate())


def test_one_contribution_under_another_key_spoils_the_sum(played, updates):
    foreign = PublicContext.load(SecretContext.generate().public_bytes())
    (part,) = CKKS.seal(played.plan, played.layout, updates[0], 40, COUNTS, foreign)
    total = played.add([played.bodies[0][0], part])  # no one can tell before the opening
    with pytest.raises(OpeningRefused, match="another key"):
        played.open(totals=[total])


def test_another_plans_ballot_is_not_opened(played):
    with pytest.raises(WrongDigest, match="another plan"):
        played.open(plan=played.study.with_plan(attempt=2).plan)


def test_missing_and_surplus_sums_are_noticed(played):
    with pytest.raises(Malformed, match="0 of 1"):
        played.open(totals=[])
    with pytest.raises(Malformed, match="more than 1"):
        played.open(totals=played.totals * 2)


def test_more_contributions_than_the_ballot_lists_may_show(played, study, updates):
    """A contribution that is in the sum and not in the ballot shows where slots exceed what those listed can reach."""
    two = Round(study, [np.full_like(update, 1.0) for update in updates[:2]], [100, 100])
    two.ballot = two.ballot.model_copy(update={"manifests": two.ballot.manifests[:1]})
    with pytest.raises(OpeningRefused, match="1 contributions never add up"):
        two.open()


# --- what is opened gives no model


def changed(opened: bytes, place: int, value: float) -> list[bytes]:
    slots = np.frombuffer(opened, "<f4").copy()
    slots[place] = value
    return [slots.tobytes()]


def test_canaries_outside_their_tolerance_give_no_mean(played):
    (opened,) = played.open()
    for place, value in ((2 * N, 2.0**-13), (2 * N + 63, -(2.0**-13))):
        with pytest.raises(CanaryMismatch):
            played.reveal(changed(opened, place, value))
    assert played.reveal(changed(opened, 2 * N + 5, 2.0**-15)).mean is not None


def test_a_canary_that_a_site_sealed_wrong_gives_no_mean(played):
    slots = np.zeros(CKKS_SLOTS)
    slots[17] = 0.01
    *values, _ = frames_of(played.bodies[1][0])
    forged = write_frames([*values, played.study.public.encrypt_slots(slots, 40)])
    total = played.add([played.bodies[0][0], forged, played.bodies[2][0]])
    with pytest.raises(CanaryMismatch, match="1 of 64"):
        played.reveal(played.open(totals=[total]))


def test_a_negative_digit_gives_no_mean(played):
    (opened,) = played.open()
    with pytest.raises(NegativeCount):
        played.reveal(changed(opened, 2 * N + 64, -1 / 256))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.01, -3.01])
def test_values_out_of_reach_give_no_mean(played, value):
    (opened,) = played.open()
    with pytest.raises(OpeningRefused, match="never add up"):
        played.reveal(changed(opened, 7, value))


def test_opened_parts_of_another_size_or_number(played):
    (opened,) = played.open()
    for wrong, message in (([opened[:-4]], "does not fit"), ([], "0 of 1"), ([opened, opened], "part 1 of 1")):
        with pytest.raises(Malformed, match=message):
            played.reveal(wrong)


def test_weights_beyond_the_plan_are_refused(study, updates):
    played = Round(study.with_plan(n_max=1000), updates[:2], [900, 900])
    opened = played.open()
    played.plan = study.plan
    with pytest.raises(OpeningRefused, match="more than the plan admits"):
        played.reveal(opened)


@pytest.mark.parametrize("contributors", [0, 5])
def test_contributors_beyond_the_plan(played, contributors):
    with pytest.raises(OutOfRange, match="admits 1 to 4"):
        CKKS.reveal(played.plan, played.layout, played.open(), (), contributors)


# --- answers and what people are told


def test_one_answer_names_the_opened_parts(played):
    opened = played.open()
    answer = BodyOpening(ballot=played.ballot.digest, site=played.study.sites[0], parts=tuple(map(sha256, opened)))
    combined = CKKS.combine(played.plan, played.study.roster, [answer])
    assert (combined.values, combined.wrong, combined.body, combined.opened) == ((), (), answer, answer.parts)
    assert CKKS.openings_needed(played.plan) == 1
    assert CKKS.key_part_limit(played.plan) == 0
    other = Opening(ballot=played.ballot.digest, site=played.study.sites[0], secret_sum=(0,) * N)
    for wrong in ([], [answer, answer], [other]):
        with pytest.raises(Malformed, match="answer of one opener"):
            CKKS.combine(played.plan, played.study.roster, wrong)


def test_every_scheme_says_whom_it_protects_against():
    assert "honest-but-curious coordinator only" in CKKS.trust
    assert "conspires" in scheme("lwe-ckks").trust
    assert "a third" in scheme("lwe-shamir").trust


def test_the_blind_coordinator_is_not_offered():
    with pytest.raises(ValueError, match="'members' is not offered with the scheme 'ckks'"):
        check_release("ckks", "members")
    for name, release in (("ckks", "open"), ("lwe-ckks", "members"), ("lwe-shamir", "members")):
        check_release(name, release)
    with pytest.raises(ValueError, match="no scheme"):
        check_release("bfv", "open")
