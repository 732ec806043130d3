"""Many agents that wait for news of one study ask the database as one, and each hears what concerns it."""

from __future__ import annotations

from uuid import UUID, uuid4

import anyio
import pytest

from coordinator.surveys import Surveys

STUDY = UUID(int=1)


class Looks:
    """A look that says how often it was taken, and may be held up."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, study: UUID) -> int:
        self.count += 1
        return self.count


def of(looks: Looks, spread: float = 0.0) -> Surveys:
    return Surveys(looks, spread)  # type: ignore[arg-type]  # what a survey holds is nothing to it


def test_who_asks_at_the_same_time_shares_a_look() -> None:
    looks, found = Looks(), []

    async def ask() -> None:
        surveys, moment = of(looks), anyio.current_time()

        async def once() -> None:
            found.append(await surveys.since(STUDY, moment))

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(once)

    anyio.run(ask)
    assert (looks.count, found) == (1, [1] * 50)


def test_who_asks_later_gets_a_look_of_its_own() -> None:
    """What a site did before it asked is in the answer."""
    looks = Looks()

    async def ask() -> list[object]:
        surveys = of(looks)
        first = await surveys.since(STUDY, anyio.current_time())
        moment = anyio.current_time()
        while anyio.current_time() == moment:
            await anyio.lowlevel.checkpoint()
        later = anyio.current_time()
        return [first, await surveys.since(STUDY, moment - 60), await surveys.since(STUDY, later)]

    assert anyio.run(ask) == [1, 1, 2]


def test_a_look_that_fails_is_nobody_elses_answer() -> None:
    looks = Looks()

    def fails_once(study: UUID) -> int:
        if looks(study) == 1:
            raise KeyError(study)
        return looks.count

    async def ask() -> object:
        surveys = Surveys(fails_once, 0.0)  # type: ignore[arg-type]
        with pytest.raises(KeyError):
            await surveys.since(STUDY, 0.0)
        return await surveys.since(STUDY, 0.0)

    assert anyio.run(ask) == 2


def test_a_look_that_fails_makes_the_one_before_no_newer() -> None:
    looks = Looks()

    def fails_the_second_time(study: UUID) -> int:
        if looks(study) == 2:
            raise KeyError(study)
        return looks.count

    async def ask() -> object:
        surveys = Surveys(fails_the_second_time, 0.0)  # type: ignore[arg-type]
        await surveys.since(STUDY, 0.0)
        moment = anyio.current_time()
        while (later := anyio.current_time()) == moment:
            await anyio.lowlevel.checkpoint()
        with pytest.raises(KeyError):
            await surveys.since(STUDY, later)
        return await surveys.since(STUDY, later)

    assert anyio.run(ask) == 3


def test_the_more_wait_the_longer_news_takes_to_reach_them_all() -> None:
    async def spreads() -> list[float]:
        surveys, found = of(Looks(), spread=0.5), []
        with surveys.waiting(STUDY) as alone:
            found.append(max(alone() for _ in range(200)))
            with surveys.waiting(STUDY), surveys.waiting(STUDY) as crowded:
                found.append(max(crowded() for _ in range(200)))
        return found

    alone, crowded = anyio.run(spreads)
    assert alone == 0.0
    assert 0.5 < crowded <= 1.0


def test_only_the_newest_studies_are_kept() -> None:
    looks = Looks()

    async def ask() -> None:
        surveys, moment = of(looks), anyio.current_time()
        for _ in range(2):
            for study in (STUDY, *(uuid4() for _ in range(70))):
                await surveys.since(study, moment)

    anyio.run(ask)
    assert looks.count == 142


def test_what_a_site_did_itself_is_no_news_to_it(world) -> None:
    world.begin()
    site = world.sites[0]
    cursor = site.task()["cursor"]
    site.contribute()
    after = site.task()
    assert (after["contributed"], after["cursor"]) == (True, cursor)


def test_who_has_just_joined_is_told_at_once(new_world) -> None:
    """The last look at the study is older than that, and not too old for those that wait."""
    world = new_world(poll_seconds=20)
    world.begin()
    world.sites[0].ok("GET", f"{world.study}/task?cursor=x&wait=25")
    newcomer = world.new_site("newcomer")
    newcomer.ok("PUT", f"{world.study}/membership")
    told = newcomer.ok("GET", f"{world.study}/task?wait=25").json()
    assert told["members"] == newcomer.task()["members"]


def test_a_stranger_is_refused_whatever_was_seen_last(new_world, refused) -> None:
    world = new_world(poll_seconds=20)
    world.begin()
    world.sites[0].ok("GET", f"{world.study}/task?cursor=x&wait=25")
    stranger = world.new_site("stranger")
    refused(stranger.call("GET", f"{world.study}/task?wait=25"), 403, "not-a-member")


def test_a_vote_is_news_to_those_who_count_votes_alone(world) -> None:
    """Each of hundreds of votes would wake each of hundreds of agents otherwise."""
    world.begin()
    for site in world.sites:
        site.contribute()
    world.conduct()
    before = [site.task()["cursor"] for site in world.sites]
    world.sites[0].vote()
    voter, other, third = (site.task() for site in world.sites)
    assert (voter["voted"], other["votes"], third["votes"]) == (True, 1, 1)
    assert [each["cursor"] for each in (voter, other, third)] == before
    world.sites[1].vote()
    world.conduct()
    openers = world.sites[0].task()["openers"]
    asked = next(site for site in world.sites if str(site.id) in openers)
    cursor = asked.task()["cursor"]
    world.sites[2].vote()
    assert asked is not world.sites[2]
    assert asked.task()["cursor"] != cursor
