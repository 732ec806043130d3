"""`lwe-shamir` from update to mean: shares, answers, wrong ones, and what a coordinator or a member may try."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest

from crypto import checks, envelope, shamir
from crypto.canonical import sha256
from crypto.errors import (
    CanaryMismatch,
    Malformed,
    MalformedKeyPart,
    OpeningRefused,
    OutOfRange,
    SharesDisagree,
    SharesRefused,
    TooFewShares,
    WrongDigest,
    WrongRecipient,
)
from crypto.identity import Identity
from crypto.lwe import draw_secret
from crypto.manifest import Ballot, Manifest, Opening, Refusal, ShareOpening, ShareRefusal, Vote
from crypto.parameters import N
from crypto.plan import Member, Plan, Roster
from crypto.schemes import Recipients, scheme, shares
from crypto.schemes.shares import SEALED_SHARE_BYTES, SHARE_LABEL, open_shares
from crypto.shamir import P

ROOT = Path(__file__).parents[2]
COUNTS = [5, 0, 1, 2**24 - 1]
SCHEME = scheme("lwe-shamir")
SITES = [uuid.UUID(int=number) for number in range(1, 8)]
IDENTITIES = {site: Identity.generate() for site in SITES}
STRANGER = Identity.generate()


class Round:
    """A whole round in memory, of seven sites of which five open: one wrong answer of seven can be told.

    Indices are not places: the roster is sorted by site id, and members joined in another order.
    """

    def __init__(self, federation, updates, samples, contributors=SITES, indices=(7, 3, 5, 1, 2, 6, 4), **changes):
        self.roster = Roster(
            study=federation.roster.study,
            members=tuple(
                Member(
                    site=site,
                    name=f"Hospital {index}",
                    index=index,
                    signing_key=IDENTITIES[site].public.signing_key.hex(),
                    hpke_key=IDENTITIES[site].public.hpke_key.hex(),
                )
                for site, index in zip(SITES, indices, strict=True)
            ),
        )
        ours = {"scheme": "lwe-shamir", "epoch": None, "threshold": 5, "k_max": 7, "roster": self.roster.digest}
        ours["expected"] = [str(site) for site in SITES]
        self.plan = Plan.from_json(federation.plan.to_json() | ours | changes)
        self.layout = federation.layout
        parts = range(len(SCHEME.part_sizes(self.plan, self.layout)))
        adders = [SCHEME.adder(self.plan, self.layout, number) for number in parts]
        self.key_parts, self.sealed, self.manifests = {}, {}, {}
        for site, update, number in zip(contributors, updates, samples, strict=False):
            sealed = self.seal(site, update, number)
            parts = []
            for adder, part in zip(adders, sealed, strict=True):
                adder.add(part)
                parts.append(sha256(part))
            self.sealed[site], self.key_parts[site] = sealed, sealed.key_parts
            self.manifests[site] = tuple(parts), tuple(map(sha256, sealed.key_parts))
        self.totals = [adder.total() for adder in adders]

    def seal(self, site, update, samples):
        return SCHEME.seal(self.plan, self.layout, update, samples, COUNTS, Recipients(self.roster, site))

    @property
    def ballot(self) -> Ballot:
        signed = [
            IDENTITIES[site].sign(Manifest(plan=self.plan.digest, site=site, parts=parts, key_parts=key_parts))
            for site, (parts, key_parts) in self.manifests.items()
        ]
        return Ballot(plan=self.plan.digest, manifests=tuple(signed))

    def replace_share(self, sender, recipient, data):
        """What a member does that seals something else, and signs for it."""
        place = SITES.index(recipient)
        mine = list(self.key_parts[sender])
        mine[place] = data
        self.key_parts[sender] = tuple(mine)
        self.manifests[sender] = self.manifests[sender][0], tuple(map(sha256, mine))

    def served(self, site):
        return {sender: mine[SITES.index(site)] for sender, mine in self.key_parts.items()}

    def answer(self, site, **changes):
        given = {"plan": self.plan, "roster": self.roster, "ballot": self.ballot, "sealed": self.served(site)}
        given |= {"identity": IDENTITIES[site], "me": site}
        return open_shares(**(given | changes))

    def answers(self, sites=SITES):
        return [self.answer(site) for site in sites]

    def combine(self, answers):
        return SCHEME.combine(self.plan, self.roster, answers)

    def reveal(self, values):
        return SCHEME.reveal(self.plan, self.layout, self.totals, values, len(self.manifests))


def changed(answer: ShareOpening, columns=slice(None), by=1) -> ShareOpening:
    values = np.array(answer.share_sum)
    values[columns] = (values[columns] + by) % P
    return answer.model_copy(update={"share_sum": tuple(values.tolist())})


@pytest.fixture
def updates(federation, random):
    return random.normal(0, 0.2, (7, federation.layout.size)).astype(np.float32).clip(-0.9, 0.9)


@pytest.fixture
def played(federation, updates):
    return Round(federation, updates[:3], [40, 250, 80])


# --- the whole way


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


# --- wrong and missing answers


def test_a_wrong_answer_is_named_and_the_round_opens(played, updates):
    right = played.combine(played.answers()).values
    for columns in (slice(None), slice(5, 6)):
        answers = played.answers()
        answers[2] = changed(answers[2], columns)
        combined = played.combine(answers)
        assert combined.wrong == (SITES[2],)
        assert combined.values == right
    assert played.reveal(right).mean is not None


def test_a_share_dealt_wrongly_names_who_got_it(played):
    """What a contributor did wrong looks like the answerer's doing; the round opens all the same."""
    sender, victim = SITES[1], SITES[4]
    other = shamir.write_share(shamir.split(draw_secret(), 5, range(1, 8))[2])
    public = IDENTITIES[victim].public
    played.replace_share(sender, victim, envelope.seal(public, other, SHARE_LABEL, played.plan.digest, sender, victim))
    combined = played.combine(played.answers())
    assert combined.wrong == (victim,)
    played.reveal(combined.values)


def test_wrong_answers_are_named_in_the_rosters_order(played):
    """One of seven for each coefficient; hospitals 7 and 1 are the first and the fourth of the roster."""
    answers = played.answers()
    answers[3], answers[0] = changed(answers[3], slice(0, 1)), changed(answers[0], slice(1, 2))
    assert played.combine(answers).wrong == (SITES[0], SITES[3])


def test_two_wrong_answers_of_seven_are_too_many(played):
    answers = played.answers()
    answers[1], answers[4] = changed(answers[1], by=3), changed(answers[4], by=8)
    with pytest.raises(SharesDisagree, match="at most 1 wrong"):
        played.combine(answers)


def test_a_wrong_answer_among_five_shows_when_the_sum_is_opened(played):
    for columns in (slice(None), slice(5, 6)):
        answers = played.answers(SITES[:5])
        answers[0] = changed(answers[0], columns)
        combined = played.combine(answers)
        assert combined.wrong == ()
        with pytest.raises(OpeningRefused):
            played.reveal(combined.values)


def test_too_few_answers(played):
    for number in (0, 1, 4):
        with pytest.raises(TooFewShares, match="it takes 5"):
            played.combine(played.answers(SITES[:number]))


def test_answers_that_do_not_belong_together(played, federation, updates):
    answers = played.answers()
    other = Round(federation, updates[:3], [40, 250, 80], attempt=2).answer(SITES[0])
    with pytest.raises(Malformed, match="two ballots"):
        played.combine([other, *answers[1:]])
    with pytest.raises(Malformed, match=f"{SITES[0]} answered twice"):
        played.combine([*answers, answers[0]])
    stranger = answers[0].model_copy(update={"site": uuid.UUID(int=50)})
    with pytest.raises(Malformed, match="not on the plan's roster"):
        played.combine([*answers, stranger])


def test_another_sum_gives_no_mean(played):
    """Answers for fewer contributors than were added up."""
    del played.manifests[SITES[1]]
    combined = played.combine(played.answers())
    with pytest.raises(CanaryMismatch):
        SCHEME.reveal(played.plan, played.layout, played.totals, combined.values, 3)


# --- shares that do not open


def test_a_share_copied_into_another_manifest_names_the_copier(played):
    """A member that passes off another's sealed shares as its own, to have them added twice."""
    owner, copier = SITES[0], SITES[2]
    for recipient, data in zip(SITES, played.key_parts[owner], strict=True):
        played.replace_share(copier, recipient, data)
    for site in SITES:
        with pytest.raises(SharesRefused, match=f"do not open, or hold no share: {copier}") as caught:
            played.answer(site)
        assert caught.value.senders == (copier,)


def test_a_share_of_another_attempt_does_not_open(federation, played, updates):
    later = Round(federation, updates[:3], [40, 250, 80], attempt=2)
    later.replace_share(SITES[0], SITES[4], played.key_parts[SITES[0]][4])
    with pytest.raises(SharesRefused) as caught:
        later.answer(SITES[4])
    assert caught.value.senders == (SITES[0],)
    later.answer(SITES[5])


def test_shares_sealed_to_the_wrong_members_name_their_sender(played):
    first, second, *rest = played.key_parts[SITES[1]]
    for recipient, data in zip(SITES, (second, first, *rest), strict=True):
        played.replace_share(SITES[1], recipient, data)
    for site in SITES[:2]:
        with pytest.raises(SharesRefused) as caught:
            played.answer(site)
        assert caught.value.senders == (SITES[1],)
    played.answer(SITES[2])


@pytest.mark.parametrize(
    "content", [b"", bytes(8191), bytes(8193), b"\xff" * 8192, bytes(8188) + P.to_bytes(4, "little")], ids=len
)
def test_an_envelope_without_a_share_names_its_sender(played, content):
    sender, site = SITES[2], SITES[6]
    public = IDENTITIES[site].public
    played.replace_share(sender, site, envelope.seal(public, content, SHARE_LABEL, played.plan.digest, sender, site))
    with pytest.raises(SharesRefused) as caught:
        played.answer(site)
    assert caught.value.senders == (sender,)


def test_every_sender_is_named_at_once(played):
    for sender, data in ((SITES[0], b""), (SITES[2], b"junk" * 2000)):
        played.replace_share(sender, SITES[6], data)
    with pytest.raises(SharesRefused) as caught:
        played.answer(SITES[6])
    assert caught.value.senders == (SITES[0], SITES[2])
    refusal = ShareRefusal(ballot=played.ballot.digest, site=SITES[6], senders=caught.value.senders)
    signed = IDENTITIES[SITES[6]].sign(refusal)
    assert type(signed).decode(signed.encode()) == signed


def test_the_others_open_what_one_cannot(played, updates):
    played.replace_share(SITES[0], SITES[6], b"junk" * 2000)
    combined = played.combine(played.answers(SITES[:6]))
    assert combined.wrong == ()
    assert played.reveal(combined.values).counts.samples == 370


def test_what_the_coordinator_serves_is_what_was_signed(played):
    """Its own doing, or damage on the way: no contributor is blamed."""
    site = SITES[3]
    served = played.served(site)
    for wrong in (served[SITES[1]], served[SITES[0]][:-1], b""):
        with pytest.raises(WrongDigest, match=f"share sealed by site {SITES[0]}"):
            played.answer(site, sealed=served | {SITES[0]: wrong})
    del served[SITES[0]]
    with pytest.raises(Malformed, match=f"{SITES[0]} sealed to this site was not served") as caught:
        played.answer(site, sealed=served)
    assert not isinstance(caught.value, SharesRefused)


def test_shares_beyond_the_ballot_are_not_added(played):
    answer = played.answer(SITES[0])
    more = played.served(SITES[0]) | {SITES[5]: b"junk"}
    assert played.answer(SITES[0], sealed=more) == answer


def test_a_site_that_joined_later_holds_no_shares(played):
    with pytest.raises(WrongRecipient, match="from the next plan on"):
        played.answer(SITES[0], me=uuid.UUID(int=50), identity=STRANGER)


def test_another_identity_opens_nothing(played):
    with pytest.raises(SharesRefused):
        played.answer(SITES[0], identity=STRANGER)


def test_another_plans_ballot_is_not_answered(played, federation, updates):
    later = Round(federation, updates[:3], [40, 250, 80], attempt=2)
    with pytest.raises(WrongDigest, match="another plan"):
        played.answer(SITES[0], ballot=later.ballot)


def test_a_manifest_with_another_number_of_shares_is_not_answered(played):
    parts, key_parts = played.manifests[SITES[0]]
    played.manifests[SITES[0]] = parts, key_parts[:-1]
    with pytest.raises(Malformed, match="6 shares, the roster 7"):
        played.answer(SITES[6])
    with pytest.raises(Malformed, match="6 key parts"):
        checks.check_ballot(played.ballot, played.plan, played.roster, SITES[6], None, 3)


# --- plans and rosters under which nothing is dealt


@pytest.mark.parametrize("threshold", [1, 3, 4, 8])
def test_a_threshold_that_would_not_hold_is_refused_by_all(federation, played, updates, threshold):
    plan = Plan.from_json(played.plan.to_json() | {"threshold": threshold})
    for call in (
        lambda: SCHEME.seal(plan, played.layout, updates[0], 40, COUNTS, Recipients(played.roster, SITES[0])),
        lambda: played.answer(SITES[0], plan=plan),
        lambda: SCHEME.combine(plan, played.roster, played.answers()),
    ):
        with pytest.raises(Malformed, match=f"5 to 7 of them open; the plan .lwe-shamir. says {threshold}"):
            call()


def test_a_higher_threshold_is_a_plans_choice(federation, updates):
    played = Round(federation, updates[:3], [40, 250, 80], threshold=7)
    played.reveal(played.combine(played.answers()).values)
    with pytest.raises(TooFewShares, match="it takes 7"):
        played.combine(played.answers(SITES[:6]))


def test_a_plan_of_another_scheme_has_no_shares(federation, played, updates):
    plan = federation.plan
    with pytest.raises(Malformed, match=r"\(lwe-ckks\) says nothing"):
        SCHEME.seal(plan, federation.layout, updates[0], 40, COUNTS, Recipients(federation.roster, SITES[0]))


@pytest.mark.parametrize("indices", [(P, 1, 2, 3, 4, 5, 6), (1, P + 1, 2, 3, 4, 5, 6)])
def test_an_index_that_would_give_the_secret_away(federation, updates, indices):
    """At p, which is 0, a share is the secret: a coordinator that numbers members so gets no shares."""
    with pytest.raises(Malformed, match="distinct indices"):
        Round(federation, updates[:3], [40, 250, 80], indices=indices)


def test_nothing_is_answered_under_such_an_index(played):
    members = [member.to_json() for member in played.roster.members]
    members[4]["index"] = P
    roster = Roster.from_json({"study": str(played.roster.study), "members": members})
    plan = Plan.from_json(played.plan.to_json() | {"roster": roster.digest})
    with pytest.raises(Malformed, match="distinct indices"):
        played.answer(SITES[0], plan=plan, roster=roster)


def test_another_roster_gets_no_shares(played, updates):
    fewer = Roster(study=played.roster.study, members=played.roster.members[:6])
    for call in (
        lambda: SCHEME.seal(played.plan, played.layout, updates[0], 40, COUNTS, Recipients(fewer, SITES[0])),
        lambda: played.answer(SITES[0], roster=fewer),
        lambda: SCHEME.combine(played.plan, fewer, played.answers()),
    ):
        with pytest.raises(WrongDigest, match="not the one that the plan names"):
            call()


def test_what_does_not_fit_is_said_as_in_lwe_ckks(played, updates):
    with pytest.raises(ValueError, match="training and no update"):
        played.seal(SITES[0], None, 40)
    with pytest.raises(OutOfRange, match="weight"):
        played.seal(SITES[0], updates[0], 0)
    with pytest.raises(OutOfRange, match="admits 1 to 7"):
        SCHEME.reveal(played.plan, played.layout, played.totals, [0] * N, 8)
    with pytest.raises(Malformed, match="4 bytes"):
        SCHEME.adder(played.plan, played.layout, 0).add(bytes(4))


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
    assert shares.SHARE_LABEL == "pleura/share/v1"
