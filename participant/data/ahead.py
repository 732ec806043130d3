"""Loading ahead of whoever uses what is loaded, so that a GPU does not wait for the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")

THREADS: Final = 3  # threads, not processes: what takes long lets go of Python's lock, and nothing has to be copied


def ahead(loads: Iterable[Callable[[], T]], threads: int = THREADS) -> Iterator[T]:
    """What the loads return, in their order, while `threads` of the next are under way.

    A load that raises does so here, in its place. Loads that have not begun when nobody asks for more never begin.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="loading")
    waiting: deque[Future[T]] = deque()
    try:
        for load in loads:
            waiting.append(pool.submit(load))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
