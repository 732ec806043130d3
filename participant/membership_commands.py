"""`pleura-participant words, roster, approve, leave, join`: with whom this hospital works."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from crypto.identity import Identity, PublicIdentity
from crypto.plan import Member, Roster
from participant.documents import Study
from participant.steps import membership
from participant.steps.desk import Desk, Site
from participant.steps.peers import tend_peers, usable_identity, words_of_hex
from participant.terminal import HomeOption, end, explained, home_of, line, opened_site, studies_of


def words(context: typer.Context, home: HomeOption = None) -> None:
    """This site's own words: read them to a hospital that is to approve it. They are no secret."""
    with explained():
        place = home_of(context, home)
        line(f"{place.load_config().name}: {Identity.load(place.identity).public.words}")


def roster(
    context: typer.Context,
    study: Annotated[str | None, typer.Argument(help="Name or id; all studies unless given.")] = None,
    home: HomeOption = None,
) -> None:
    """Who takes part, with the words of each, approved or not, and what changed since."""
    with explained(), opened_site(context, home) as site:
        for each in studies_of(site, study):
            _show_roster(site, each, site.client.roster(each.id), _former(site, each))


def approve(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Name or id.")],
    peer: Annotated[str, typer.Argument(metavar="SITE", help="Name or id of a site, or all.")],
    yes: Annotated[bool, typer.Option("--yes", help="The words were compared already; do not ask.")] = False,
    home: HomeOption = None,
) -> None:
    """Approve a peer's keys, after comparing the words with that hospital by telephone."""
    with explained(), opened_site(context, home) as site:
        (chosen,) = studies_of(site, study)
        everyone = [*site.client.roster(chosen.id).members, *_former(site, chosen)]
        members = [member for member in everyone if member.site != site.me]
        wanted = [member for member in members if peer in ("all", member.name, str(member.site))]
        if not wanted:
            names = ", ".join(member.name for member in members) or "none yet"
            end(f"{peer} is no member of {chosen.name}. Its other members: {names}.")
        for member in wanted:
            _ask(site, chosen, member, yes=yes, by_name=peer != "all")
        tend_peers(Desk(site, chosen))  # tells the coordinator now; a running agent would within seconds


def leave(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Name or id.")],
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Where sites that left still count: not this one. Also after leaving.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """Take part in a study no longer. The others go on with a new key; this site's are deleted."""
    with explained(), opened_site(context, home) as site:
        (chosen,) = studies_of(site, study)
        membership.leave(site, chosen, withdraw=withdraw)
        line(f"Left {chosen.name}. To come back: pleura-participant join {shlex.quote(chosen.name)}")
        if chosen.carries:
            line(_after_leaving(chosen, withdrawn=withdraw))


def join(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Name or id.")],
    home: HomeOption = None,
) -> None:
    """Come back to a study that was left; others are joined by `run` as the policy allows."""
    with explained(), opened_site(context, home) as site:
        (chosen,) = studies_of(site, study)
        site.record.rejoin(chosen.id)
        line(f"{chosen.name} is joined when the agent starts next, if policy.toml allows it: pleura-participant run")


def _former(site: Site, study: Study) -> list[Member]:
    """Members that left and still count: they are approved as the others are."""
    return site.client.former_members(study.id) if study.carries and study.member else []


def _after_leaving(study: Study, *, withdrawn: bool) -> str:
    if withdrawn:
        return "From the next plan on, its last contribution is not summed any more, and is deleted."
    how = f"pleura-participant leave {shlex.quote(study.name)} --withdraw"
    return f"Its last contribution still counts there, as often as can be without giving it away. To take it out: {how}"


def _show_roster(site: Site, study: Study, members: Roster, former: list[Member]) -> None:
    approved = site.record.approved(study.id)
    line(f"{study.name}:")
    for member in [*members.members, *former]:
        public, known = PublicIdentity.of_member(member), approved.get(member.site)
        if member.site == site.me:
            mark = "this site"
        elif known is None:
            mark = "not approved"
        else:
            mark = "approved" if known == public.fingerprint else "NOT approved: other keys than were approved here"
        left = "left and still counts, " if member in former else ""
        line(f"  {member.name} ({member.site}), {left}{mark}: {public.words}")
        if known not in (None, public.fingerprint):
            line(f"    approved were: {words_of_hex(str(known))}")
    shown = {member.site for member in (*members.members, *former)}
    gone = sorted(str(each) for each in approved if each not in shown)
    if gone:
        line(f"  approved here and no member now: {', '.join(gone)}")


def _ask(site: Site, study: Study, member: Member, *, yes: bool, by_name: bool) -> None:
    """Approve one peer, if it has usable keys and a person says yes; changed keys only where it was named itself."""
    public, known = usable_identity(member), site.record.approved(study.id).get(member.site)
    line(f"{member.name}: {public.words}")
    if known == public.fingerprint:
        line(f"{member.name} is approved already.")
        return
    if known is not None:
        line(f"  Its keys are not those approved here before: {words_of_hex(known)}")
        if not by_name:
            how = f"pleura-participant approve {shlex.quote(study.name)} {shlex.quote(member.name)}"
            line(f"  Not approved with the others. Ask that hospital why its keys changed, then: {how}")
            return
    if yes or typer.confirm("Did that hospital read out the same words?"):
        site.record.approve(study.id, member.site, public.fingerprint)
        site.ledger.append("peer-approved", study=str(study.id), site=str(member.site), name=member.name,
                           fingerprint=public.fingerprint, former=known, how="operator")  # fmt: skip
        line(f"Approved {member.name}.")
