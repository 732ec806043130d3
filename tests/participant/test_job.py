"""A contribution in the making can be called off at any moment, also before it began."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from participant.job import Cancelled, Job


class Place:
    round = 3


def job(work: Any) -> Job:
    return Job(cast(Any, Place()), cast(Any, None), work)


def test_what_was_called_off_first_never_begins() -> None:
    ran = []
    called_off = job(ran.append)
    called_off.cancel()
    called_off.start()
    called_off.wait(5)
    assert not ran
    assert not called_off.running


def test_a_waiting_job_ends_when_it_is_called_off() -> None:
    waiting, ended = threading.Event(), threading.Event()

    def work(this: Job) -> None:
        waiting.set()
        with pytest.raises(Cancelled):
            this.pause(60)
        ended.set()

    started = job(work)
    started.start()
    assert waiting.wait(10)
    started.cancel()
    started.wait(10)
    assert ended.is_set()
    assert not started.running


def test_waiting_for_a_job_that_was_not_started_is_fine() -> None:
    job(lambda this: None).wait(0)


def test_what_fails_once_it_was_called_off_fails_in_silence() -> None:
    """A stopping agent waits a little, then closes its database under whatever still runs."""

    def work(this: Job) -> None:
        this.cancel()
        raise RuntimeError("Cannot operate on a closed database")

    job(work).run()


def test_what_fails_while_it_is_wanted_is_raised() -> None:
    def work(this: Job) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        job(work).run()
