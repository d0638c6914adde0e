"""Frames that depend on nothing but their own motion, drawn by several threads at once.

Networks that draw a frame in some ten milliseconds are made of steps too short to be worth sharing among threads. A
frame for every thread uses the same cores, and does not wait for anybody.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")
_starting = threading.Lock()


def drawn(draw: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``draw`` of every item, in order, in inference mode; at most one more than there are threads are begun ahead.

    There are as many threads as torch would use for one. Each does its work alone, so what comes out does not depend
    on how many there are.
    """
    team = _team(max(1, torch.get_num_threads()))
    waiting = deque[Future[R]]()
    try:
        for item in items:
            waiting.append(team.submit(_inferred, draw, item))
            if len(waiting) > team.threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for one in waiting:
            one.cancel()


def _inferred(draw: Callable[[T], R], item: T) -> R:
    with torch.inference_mode():
        return draw(item)


class _Team(ThreadPoolExecutor):
    """Threads in which torch starts no others."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads, thread_name_prefix="drawing")
        self.threads = threads
        met = threading.Barrier(threads)

        def alone() -> None:
            torch.get_num_threads()  # a thread takes over the number that torch remembers when it first asks
            torch.set_num_threads(1)
            met.wait()

        # torch remembers the last number set anywhere for threads that start later: it gets its own back.
        before = torch.get_num_threads()
        for one in [self.submit(alone) for _ in range(threads)]:
            one.result()
        torch.set_num_threads(before)


@cache
def _made(threads: int) -> _Team:
    return _Team(threads)


def _team(threads: int) -> _Team:
    """The process's own, shared by all streams: more threads than cores would only wait for each other."""
    with _starting:
        return _made(threads)
