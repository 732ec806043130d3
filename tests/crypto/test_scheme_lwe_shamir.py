"""`lwe-shamir` from update to mean, its messages, and what it imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import shamir_round
from shamir_round import COUNTS, IDENTITIES, SCHEME, SITES, STRANGER, Round

from crypto import checks, envelope, epochs
from crypto.errors import Malformed, MalformedKeyPart, SharesRefused
from crypto.manifest import Ballot, Manifest, Opening, Refusal, ShareOpening, ShareRefusal, Vote
from crypto.parameters import N
from crypto.schemes import shares
from crypto.schemes.shares import SEALED_SHARE_BYTES
from crypto.shamir import P

ROOT = Path(__file__).parents[2]
updates, played = shamir_round.updates, shamir_round.played


@pytest.mark.parametrize("openers", [SITES, SITES[:5], SITES[2:], [SITES[k] for k in (6, 0, 5, 2, 3, 1)]])
def test_mean_counts_and_weights(played, updates, openers):
    checks.check_roster(played.plan, played.roster)
    checks.check_ballot(played.ballot, played.plan, played.roster, SITES[6], None, 3)
    combined = played.combine(played.answers(openers))
    assert combined.wrong == ()
    revealed = played.reveal(combined.values)
    weights = np.array([0.4, 1.0, 0.8])
    expected = weights @ updates[:3].astype(np.float64) / weights.sum()
    bounds = np.repeat([1.0, 64.0], [2400, 7])
    assert revealed.mean.dtype == np.float32
    assert (np.abs(revealed.mean - expected) <= 1e-6 * bounds).all()
    assert revealed.weight_sum == pytest.approx(2.2)
    assert (revealed.counts.samples, revealed.counts.capped_samples) == (370, 220)
    assert revealed.counts.recipe == tuple(3 * count for count in COUNTS)


def test_an_evaluation_round_carries_counts_alone(federation):
    played = Round(federation, [None] * 7, [40, 0, 250, 1, 1, 1, 1], kind="evaluation")
    revealed = played.reveal(played.combine(played.answers(SITES[:5])).values)
    assert revealed.mean is None
    assert revealed.counts.samples == 294
    assert all(sealed.residual is None for sealed in played.sealed.values())


def test_every_member_gets_a_share_of_its_own(played):
    for sealed in played.sealed.values():
        assert len(sealed.key_parts) == 7 == len(set(sealed.key_parts))
        assert {len(part) for part in sealed.key_parts} == {SEALED_SHARE_BYTES}
    assert SCHEME.key_part_limit(played.plan) == SEALED_SHARE_BYTES == 8192 + 1120 + 16


def test_an_answer_is_the_sum_of_the_shares_in_its_envelopes(played):
    """Opened by hand, added with Python's integers."""
    site = SITES[3]
    total = [0] * N
    for sender, data in played.served(site).items():
        plain = envelope.open(IDENTITIES[site], data, "pleura/share/v1", played.plan.digest, sender, site)
        values = [int.from_bytes(plain[4 * k : 4 * k + 4], "little") for k in range(N)]
        total = [(one + other) % (2**31 - 1) for one, other in zip(total, values, strict=True)]
    answer = played.answer(site)
    assert (answer.ballot, answer.site, list(answer.share_sum)) == (played.ballot.digest, site, total)


def test_sealing_twice_shares_nothing(played, updates):
    first, second = (b"".join(played.seal(SITES[0], updates[0], 40)) for _ in range(2))
    assert (np.frombuffer(first, "<u4") == np.frombuffer(second, "<u4")).mean() < 0.01


def test_a_sealed_contribution_shows_no_secret(played, updates):
    sealed = played.seal(SITES[0], updates[0], 40)
    assert "array" not in repr(sealed)
    assert "values" not in repr(played.combine(played.answers()))


# --- messages


def test_messages_survive_the_wire():
    messages = [
        ShareOpening(ballot="12" * 32, site=SITES[0], share_sum=(*range(N - 1), P - 1)),
        ShareRefusal(ballot="12" * 32, site=SITES[0], senders=tuple(SITES)),
    ]
    kinds = {kind.kind_name for kind in (Manifest, Vote, Opening, Refusal, Ballot, ShareOpening, ShareRefusal)}
    assert len(kinds) == 7
    for message in messages:
        assert type(message).decode(message.encode()) == message
        signed = STRANGER.sign(message)
        assert type(signed).decode(signed.encode()) == signed
        assert message.signed_bytes().startswith(b"pleura/share-")


@pytest.mark.parametrize("values", [(0,) * (N - 1), (0,) * (N + 1), (P, *(0,) * (N - 1)), (-1, *(0,) * (N - 1))])
def test_an_answer_has_2048_residues(values):
    with pytest.raises(Malformed, match="share_sum"):
        ShareOpening.from_json({"ballot": "12" * 32, "site": str(SITES[0]), "share_sum": list(values)})


@pytest.mark.parametrize("senders", [[], [SITES[1], SITES[0]], [SITES[0], SITES[0]]])
def test_a_refusal_names_each_sender_once_in_order(senders):
    with pytest.raises(Malformed):
        ShareRefusal.from_json({"ballot": "12" * 32, "site": str(SITES[0]), "senders": [str(each) for each in senders]})


def test_refused_shares_are_malformed_key_parts():
    error = SharesRefused("What happened.")
    assert isinstance(error, MalformedKeyPart)
    assert (str(error), error.senders) == ("What happened.", ())


# --- who imports what


def test_neither_side_needs_ckks_keys_or_torch():
    code = (
        "import sys, crypto.schemes.lwe_shamir, crypto.schemes.shares; "
        "print(sorted({'torch', 'crypto.ckks_secret'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_the_label_keeps_shares_and_wraps_apart():
    assert shares.SHARE_LABEL == "pleura/share/v1" != epochs.WRAP_LABEL
