"""Whom a site may approve at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest

from crypto.epoch import Approval
from crypto.errors import Malformed
from crypto.identity import Identity
from crypto.plan import Member, Roster
from crypto.wire import Signed
from participant.record import Record
from participant.steps.desk import Desk
from participant.steps.peers import fingerprint, tend_peers, usable_identity, words_of_hex

PUBLIC = Identity.generate().public


def member(hpke_key: bytes) -> Member:
    keys = {"signing_key": PUBLIC.signing_key.hex(), "hpke_key": hpke_key.hex()}
    return Member(site=UUID(int=1), name="north", index=1, **keys)


def test_usable_keys() -> None:
    assert usable_identity(member(PUBLIC.hpke_key)) == PUBLIC
    assert words_of_hex(PUBLIC.fingerprint) == PUBLIC.words


@pytest.mark.parametrize("spoiled", [PUBLIC.hpke_key[:-32] + bytes(32), PUBLIC.hpke_key[:-1]])
def test_keys_that_nothing_can_be_sealed_to(spoiled: bytes) -> None:
    """A point of low order passes for a key; approved, it would keep every dealer from dealing."""
    with pytest.raises(Malformed, match="keys of north are not usable"):
        usable_identity(member(spoiled))


def test_who_is_approved_while_the_coordinator_is_told_is_in_the_next_look(tmp_path: Path) -> None:
    """A person approves in another process, at any moment."""
    study, own = UUID(int=9), Identity.generate()
    keys = [own.public, Identity.generate().public, Identity.generate().public]
    members = tuple(
        Member(
            site=UUID(int=number),
            name=f"hospital-{number}",
            index=number,
            signing_key=public.signing_key.hex(),
            hpke_key=public.hpke_key.hex(),
        )
        for number, public in enumerate(keys, 1)
    )
    record, sent = Record(tmp_path / "record.sqlite", fresh=True), []
    record.approve(study, members[1].site, fingerprint(members[1]))

    def approve(signed: Signed[Approval]) -> None:
        sent.append(set(signed.message.peers))
        record.approve(study, members[2].site, fingerprint(members[2]))

    client = SimpleNamespace(roster=lambda *_: Roster(study=study, members=members), approve=approve)
    policy = SimpleNamespace(peers="ask")
    site = SimpleNamespace(me=members[0].site, identity=own, record=record, client=client, policy=policy)
    desk = SimpleNamespace(site=site, study=SimpleNamespace(id=study, name="tiny", carries=False))
    desk.approved, desk.sent_approval, desk.known, desk.say_once = None, None, None, lambda *_: None
    noted: list[tuple[str, str]] = []
    desk.note_once = lambda subject, event, plan, **fields: noted.append((event, fields["name"]))
    found = [tend_peers(cast(Desk, desk)) for _ in range(2)]
    record.close()
    assert [len(roster.members) for roster in found if roster is not None] == [2, 3]
    assert sent == [{str(members[1].site)}, {str(members[1].site), str(members[2].site)}]
    assert noted == [("peer-waits", members[2].name)], "the local page shows who waits"


def test_members_that_are_known_are_not_asked_for_again(tmp_path: Path) -> None:
    """The coordinator says whose list is the latest with every task; hundreds of agents ask for tasks all the time."""
    study, own = UUID(int=9), Identity.generate()
    keys = {"signing_key": own.public.signing_key.hex(), "hpke_key": own.public.hpke_key.hex()}
    member = Member(site=UUID(int=1), name="hospital-1", index=1, **keys)
    roster, asked = Roster(study=study, members=(member,)), []

    def listed(*_: object) -> Roster:
        asked.append(1)
        return roster

    record = Record(tmp_path / "record.sqlite", fresh=True)
    client = SimpleNamespace(roster=listed, approve=lambda signed: None)
    site = SimpleNamespace(
        me=member.site, identity=own, record=record, client=client, policy=SimpleNamespace(peers="ask")
    )
    desk = SimpleNamespace(site=site, study=SimpleNamespace(id=study, name="tiny", carries=False))
    desk.approved, desk.sent_approval, desk.known, desk.say_once = None, None, roster, lambda *_: None
    for digest, times in ((roster.digest, 0), ("0" * 64, 1), (None, 2)):
        assert tend_peers(cast(Desk, desk), digest) == roster
        assert len(asked) == times
    record.close()
