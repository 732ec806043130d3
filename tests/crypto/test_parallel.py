"""Work in order on several threads: results, bounds on what is under way, errors, and stopping early."""

from __future__ import annotations

import threading

import pytest

from crypto.parallel import cores, in_order


@pytest.mark.parametrize("threads", [1, 2, 7, None])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_results_come_in_the_order_of_the_items(threads, count):
    assert list(in_order(lambda item: item * item, range(count), threads)) == [item * item for item in range(count)]


def test_threads_work_at_once():
    """Each of three waits for the other two."""
    meeting = threading.Barrier(3, timeout=60)
    assert sorted(in_order(lambda _: meeting.wait(), range(6), 3)) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("threads", [1, 3])
def test_only_a_few_items_are_taken_ahead(threads):
    taken = []

    def items():
        for item in range(30):
            taken.append(item)
            yield item

    for read, _ in enumerate(in_order(lambda item: item, items(), threads)):
        assert len(taken) <= read + threads + 1
    assert len(taken) == 30


def test_items_are_taken_in_the_callers_thread():
    seen = []

    def items():
        for item in range(5):
            seen.append(threading.get_ident())
            yield item

    elsewhere = list(in_order(lambda _: threading.get_ident(), items(), 2))
    assert set(seen) == {threading.get_ident()}
    assert threading.get_ident() not in elsewhere


def test_an_error_reaches_the_reader_after_the_results_before_it():
    results = in_order(lambda item: 1 // (3 - item), range(10), 2)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_whoever_stops_reading_leaves_nothing_running():
    before = threading.active_count()
    results = in_order(lambda item: item, range(100), 4)
    next(results)
    results.close()
    assert threading.active_count() == before


def test_an_error_of_the_items_passes_through():
    def items():
        yield 1
        raise LookupError

    with pytest.raises(LookupError):
        list(in_order(lambda item: item, items(), 2))
    assert cores() >= 1
