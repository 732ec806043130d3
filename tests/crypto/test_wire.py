"""Messages have one byte form: what is not it is refused, and what is signed names its kind."""

from __future__ import annotations

import json
import uuid

import pytest

from crypto.canonical import canonical, sha256
from crypto.epoch import Approval, CkksParameters, EpochRecord, Wrap, WrapAddition
from crypto.errors import Malformed
from crypto.layout import Layout
from crypto.manifest import Ballot, BodyOpening, Manifest, Opening, Refusal, ShareOpening, ShareRefusal, Vote
from crypto.parameters import N
from crypto.plan import Plan, Roster
from crypto.wire import Signed

SITE = uuid.UUID(int=1)
WRAP = Wrap(recipient=SITE, sha256="12" * 32)
NOT_SORTED = [(1, 0), (0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 0)]  # places of two entries, the first with the lower id


@pytest.fixture
def messages(federation):
    return [
        federation.plan,
        federation.roster,
        federation.roster.members[0],
        federation.manifest(SITE),
        federation.ballot(),
        Vote(ballot="12" * 32, site=SITE),
        Opening(ballot="12" * 32, site=SITE, secret_sum=tuple(range(N))),
        Refusal(site=SITE, step="plan", about="12" * 32, code="unknown-peer", words="Hospital 4 is not approved."),
        CkksParameters(),
        federation.dealt.record.message,
        WRAP,
        WrapAddition(epoch="12" * 32, holder=SITE, wrap=WRAP),
        Approval(study=uuid.UUID(int=77), site=SITE, peers={str(SITE): "12" * 32}),
    ]


def test_every_message_survives_the_wire(messages):
    for message in messages:
        data = message.encode()
        again = type(message).decode(data)
        assert again == message
        assert again.encode() == data == canonical(json.loads(data))
        assert message.digest == (message.digest if isinstance(message, Ballot) else sha256(data))


def test_every_signed_message_survives_the_wire(messages, federation):
    identity = federation.identities[SITE]
    for message in messages:
        signed = identity.sign(message)
        again = type(signed).decode(signed.encode())
        assert again == signed
        assert type(again.message) is type(message)


def test_every_kind_has_a_name_of_its_own(messages):
    kinds = [type(message).kind_name for message in messages]
    assert len(set(kinds)) == len(kinds)
    for message in messages:
        start = b"pleura/" + type(message).kind_name.encode() + b"/v1\x00"
        assert message.signed_bytes() == start + message.encode()


def test_an_unknown_or_a_missing_key_is_refused(messages):
    for message in messages:
        fields = message.to_json()
        with pytest.raises(Malformed, match="extra"):
            type(message).from_json(fields | {"extra": 1})
    fields = Vote(ballot="12" * 32, site=SITE).to_json()
    del fields["ballot"]
    with pytest.raises(Malformed, match="vote: ballot"):
        Vote.from_json(fields)


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, True])
def test_what_is_no_object_is_refused(value):
    with pytest.raises(Malformed):
        Vote.from_json(value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b'{"site":"%s", "ballot":"%s"}' % (str(SITE).encode(), b"12" * 32), b"[" * 100_000]
)
def test_other_spellings_are_refused(data):
    with pytest.raises(Malformed):
        Vote.decode(data)


def nested(wrap, depth=2000):
    value = 1
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        {"\ud800": 1},
        ["\ud800"],
        nested(lambda inner: [inner]),
        nested(lambda inner: {"a": inner}),
        10**5000,
        {1: 1},
        {1},
    ],
    ids=["key", "text", "lists", "objects", "number", "no-text-key", "set"],
)
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(Malformed, match="no canonical JSON form"):
        canonical(value)
    with pytest.raises(Malformed, match="no canonical JSON form"):
        Vote.from_json(value)


@pytest.mark.parametrize(
    "spelled", [f"{{{SITE}}}", f"urn:uuid:{SITE}", SITE.hex, "0000000A-0000-0000-0000-000000000001"]
)
def test_an_id_is_spelled_in_one_way(spelled):
    fields = Vote(ballot="12" * 32, site=SITE).to_json() | {"site": spelled}
    with pytest.raises(Malformed, match=r"vote: .* another way"):
        Vote.from_json(fields)


def test_nothing_is_filled_in(federation):
    """A record that leaves out what has a default would have a second spelling."""
    plan = federation.plan.to_json()
    del plan["version"]
    with pytest.raises(Malformed, match="another way"):
        Plan.from_json(plan)
    with pytest.raises(Malformed, match="another way"):
        CkksParameters.from_json({})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ballot", "12" * 31),
        ("ballot", "AB" * 32),
        ("ballot", 5),
        ("site", "site-1"),
        ("site", 1),
    ],
)
def test_wrong_types_are_refused_by_name(field, value):
    fields = Vote(ballot="12" * 32, site=SITE).to_json() | {field: value}
    with pytest.raises(Malformed, match=f"vote: {field}"):
        Vote.from_json(fields)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"round": 0}, "round"),
        ({"round": "3"}, "round"),
        ({"round": True}, "round"),
        ({"round": 3.5}, "round"),
        ({"round": 2**53}, "no canonical JSON"),
        ({"version": 2}, "version"),
        ({"scheme": "plain"}, "scheme"),
        ({"bounds": [0.0, 1.0]}, "bounds"),
        ({"bounds": [-1.0, 1.0]}, "bounds"),
        ({"k_max": 1025}, "k_max"),
        ({"k_max": 3}, "admits fewer"),
        ({"minimum_contributors": 5}, "admits fewer"),
        ({"minimum_contributors": 1}, "minimum_contributors"),
        ({"n_max": 2**24}, "n_max"),
        ({"epoch": None}, "name an epoch"),
        ({"threshold": 3}, "no threshold"),
        ({"scheme": "lwe-shamir"}, "a threshold"),
        ({"expected": []}, "expected"),
        ({"expected": [str(uuid.UUID(int=2)), str(uuid.UUID(int=1))]}, "sorted"),
        ({"expected": [str(uuid.UUID(int=1))] * 2}, "sorted"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(federation, changes, words):
    with pytest.raises(Malformed, match=words):
        Plan.from_json(federation.plan.to_json() | changes)


def test_numbers_that_json_lacks_are_refused(federation):
    for number in (float("nan"), float("inf")):
        with pytest.raises(Malformed, match="no canonical JSON"):
            Plan.from_json(federation.plan.to_json() | {"bounds": [number, 1.0]})


def test_a_roster_lists_each_member_once_in_order(federation):
    members = [member.to_json() for member in federation.roster.members]
    study = str(federation.roster.study)
    wrong = [members[::-1], [members[0], members[0]], []]
    for field in ("index", "name", "signing_key", "hpke_key"):
        wrong.append([members[0], members[1] | {field: members[0][field]}])
    for each in wrong:
        with pytest.raises(Malformed):
            Roster.from_json({"study": study, "members": each})
    assert federation.roster.member(uuid.UUID(int=99)) is None


def sums(first):
    return [first] + [0] * (N - 1)


EXAMPLES = {
    Manifest: {"plan": "12" * 32, "site": str(SITE), "parts": ["12" * 32], "key_parts": []},
    Opening: {"ballot": "12" * 32, "site": str(SITE), "secret_sum": sums(0)},
    BodyOpening: {"ballot": "12" * 32, "site": str(SITE), "parts": ["12" * 32]},
    ShareOpening: {"ballot": "12" * 32, "site": str(SITE), "share_sum": sums(0)},
    ShareRefusal: {"ballot": "12" * 32, "site": str(SITE), "senders": [str(SITE)]},
    Refusal: {"site": str(SITE), "step": "plan", "about": "12" * 32, "code": "no", "words": "No."},
}
LIMIT = 32 * 1024
IDS = [str(uuid.UUID(int=number)) for number in range(1025)]
LIMITS = [  # the first value is the last that is taken, the others are not
    (Manifest, "parts", ["12" * 32] * 65536, [], ["12" * 32] * 65537),
    (Manifest, "key_parts", ["12" * 32] * 1024, ["12" * 32] * 1025),
    (Opening, "secret_sum", sums(LIMIT), sums(LIMIT + 1), sums(0)[1:], [*sums(0), 0]),
    (Opening, "secret_sum", sums(-LIMIT), sums(-LIMIT - 1)),
    (BodyOpening, "parts", ["12" * 32] * 65536, [], ["12" * 32] * 65537),
    (ShareOpening, "share_sum", sums(2**31 - 2), sums(2**31 - 1), sums(-1), sums(0)[1:], [*sums(0), 0]),
    (ShareRefusal, "senders", IDS[:1024], [], IDS),
    (Refusal, "code", "a" * 40, "a" * 41, "", "A", "a b", "a1"),
    (Refusal, "words", "W" * 500, "W" * 501, ""),
    (Refusal, "words", "W", ""),
]


@pytest.mark.parametrize(("kind", "field", "taken", "refused"), [(k, f, t, r) for k, f, t, *r in LIMITS])
def test_how_much_a_message_may_hold(kind, field, taken, refused):
    assert kind.from_json(EXAMPLES[kind]).to_json() == EXAMPLES[kind]
    assert kind.from_json(EXAMPLES[kind] | {field: taken}).to_json()[field] == taken
    for value in refused:
        with pytest.raises(Malformed, match=f"{kind.kind_name}: {field}"):
            kind.from_json(EXAMPLES[kind] | {field: value})


def test_senders_are_listed_once_in_order():
    for places in NOT_SORTED:
        with pytest.raises(Malformed, match="sorted by site id"):
            ShareRefusal.from_json(EXAMPLES[ShareRefusal] | {"senders": [IDS[place] for place in places]})


def test_a_ballot_lists_each_contributor_once_in_order(federation):
    fields = federation.ballot().to_json()
    for places in NOT_SORTED:
        with pytest.raises(Malformed, match="sorted by site id"):
            Ballot.from_json(fields | {"manifests": [fields["manifests"][place] for place in places]})
    assert len(Ballot.from_json(fields | {"manifests": fields["manifests"][:1]}).manifests) == 1
    with pytest.raises(Malformed, match="ballot: manifests"):
        Ballot.from_json(fields | {"manifests": []})


def test_an_epoch_record_wraps_once_for_each(federation):
    fields = federation.dealt.record.message.to_json()
    first, second = fields["wraps"][:2]
    for wraps in NOT_SORTED:
        with pytest.raises(Malformed, match="sorted by recipient"):
            EpochRecord.from_json(fields | {"wraps": [(first, second)[place] for place in wraps]})
    assert len(EpochRecord.from_json(fields | {"wraps": [first]}).wraps) == 1
    with pytest.raises(Malformed, match="epoch: wraps"):
        EpochRecord.from_json(fields | {"wraps": []})


def test_a_ballots_digest_covers_plan_and_every_manifest(federation):
    whole = federation.ballot()
    others = [federation.ballot(federation.sites[:3]), federation.with_plan(attempt=2).ballot()]
    site = federation.sites[0]
    changed = federation.identities[site].sign(federation.manifest(site, parts=("ab" * 32,)))
    others.append(Ballot(plan=whole.plan, manifests=(changed, *whole.manifests[1:])))
    others.append(Ballot(plan="99" * 32, manifests=whole.manifests))
    assert len({ballot.digest for ballot in (whole, *others)}) == 5
    assert Ballot.decode(whole.encode()).digest == whole.digest


@pytest.mark.parametrize("signature", ["", "12" * 63, "AB" * 64, "zz" * 64])
def test_a_signature_is_128_hex_digits(signature):
    fields = {"message": Vote(ballot="12" * 32, site=SITE).to_json(), "signature": signature}
    with pytest.raises(Malformed, match="signature"):
        Signed[Vote].from_json(fields)


LAYOUT = {"tensors": [{"name": "a", "shape": [], "kind": "buffer"}], "counts": [{"name": "c", "shape": [2]}]}


def test_a_layout_survives_the_wire():
    layout = Layout.from_json(LAYOUT)
    assert layout.to_json() == LAYOUT
    assert layout.digest == sha256(canonical(LAYOUT))


@pytest.mark.parametrize(
    "changed",
    [
        None,
        [],
        {"tensors": LAYOUT["tensors"]},
        {**LAYOUT, "extra": 1},
        {**LAYOUT, "tensors": []},
        {**LAYOUT, "tensors": "a"},
        {**LAYOUT, "tensors": LAYOUT["tensors"] * 2},
        {**LAYOUT, "counts": LAYOUT["counts"] * 2},
        {**LAYOUT, "counts": [{"name": "c", "shape": [2, 0]}]},
        *(
            {**LAYOUT, "tensors": [LAYOUT["tensors"][0] | wrong]}
            for wrong in (
                {"shape": {}},
                {"shape": ""},
                {"shape": [0]},
                {"shape": [-1]},
                {"shape": [True]},
                {"shape": [1.0]},
                {"shape": 3},
                {"name": 1},
                {"kind": "weights"},
                {"extra": 1},
            )
        ),
    ],
    ids=repr,
)
def test_what_is_no_layout(changed):
    with pytest.raises(Malformed, match="a layout"):
        Layout.from_json(changed)


def test_one_kind_is_not_read_as_another(federation):
    with pytest.raises(Malformed):
        Manifest.decode(Vote(ballot="12" * 32, site=SITE).encode())
    with pytest.raises(Malformed):
        Signed[Manifest].decode(federation.identities[SITE].sign(Vote(ballot="12" * 32, site=SITE)).encode())


def test_a_changed_copy_has_a_digest_of_its_own(messages):
    """A message computes its digest once; what was kept of it must not pass to a copy that says something else."""
    plan = messages[0]
    before = plan.digest
    copy = plan.model_copy(update={"round": plan.round + 1})
    assert copy.digest == sha256(copy.encode()) != before == plan.digest == plan.model_copy().digest


def test_a_changed_copy_of_a_roster_lists_its_own_members(federation):
    roster = federation.roster
    assert roster.member(SITE) is not None
    without = roster.model_copy(update={"members": tuple(each for each in roster.members if each.site != SITE)})
    assert without.member(SITE) is None
