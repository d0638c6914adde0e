"""Work whose steps are too short to be shared among threads: a thread does such work alone, several do several.

Networks that make a frame in some ten milliseconds are of that kind. Two threads in one of their steps wait for each
other longer than they compute; a frame for each uses the same cores and waits for nobody. And what is computed alone
does not depend on how many threads there are.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
_starting = threading.Lock()


def alone(work: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
    """What ``work`` gives, done by one thread in inference mode."""
    return _team().submit(_inferred, work, *given, **named).result()


def side_by_side(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``work`` on every item, in order, each :func:`alone`; at most one more than there are threads are begun ahead.

    There are as many threads as torch would use for one item.
    """
    team, waiting = _team(), deque[Future[R]]()
    try:
        for item in items:
            waiting.append(team.submit(_inferred, work, item))
            if len(waiting) > team.threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for one in waiting:
            one.cancel()


def _inferred(work: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
    with torch.inference_mode():
        return work(*given, **named)


class _Team(ThreadPoolExecutor):
    """Threads in which torch starts no others."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads, thread_name_prefix="alone")
        self.threads = threads
        met = threading.Barrier(threads)

        def settle() -> None:
            torch.get_num_threads()  # a thread takes over the number that torch remembers when it first asks
            torch.set_num_threads(1)
            met.wait()

        # torch remembers the last number set anywhere for threads that start later: it gets its own back.
        before = torch.get_num_threads()
        for one in [self.submit(settle) for _ in range(threads)]:
            one.result()
        torch.set_num_threads(before)


@cache
def _made(threads: int) -> _Team:
    return _Team(threads)


def _team() -> _Team:
    """The process's own, shared by all streams: more threads than cores would only wait for each other."""
    with _starting:
        return _made(max(1, torch.get_num_threads()))
