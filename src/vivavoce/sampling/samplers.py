"""Integrate dx/dt = v(x, t) from noise (t = 0) to data (t = 1). Functions only; no schedule objects."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol, runtime_checkable

from vivavoce.sampling.paths import Rows

Velocity = Callable[[Rows, float], Rows]


@runtime_checkable
class Sampler(Protocol):
    """``x`` at ``times[0]`` -> ``x`` at ``times[-1]``."""

    def __call__(self, velocity: Velocity, x: Rows, times: Sequence[float]) -> Rows: ...


def uniform(steps: int) -> list[float]:
    """``steps`` equal intervals, hence ``steps + 1`` times from 0 to 1."""
    return [i / steps for i in range(steps + 1)]


def shifted(steps: int, shift: float) -> list[float]:
    """Times that crowd near the noise for ``shift`` > 1 and near the data for ``shift`` < 1; 1 is uniform.

    The resolution shift of flow matching (Esser et al. 2024) with t counted from noise: ``u / (u + shift (1 - u))``.
    """
    return [u / (u + shift * (1 - u)) for u in uniform(steps)]


def euler(velocity: Velocity, x: Rows, times: Sequence[float]) -> Rows:
    """First order; one model call per step."""
    for t, t_next in pairwise(times):
        x = x + (t_next - t) * velocity(x, t)
    return x


def heun(velocity: Velocity, x: Rows, times: Sequence[float]) -> Rows:
    """Second order; two model calls per step."""
    for t, t_next in pairwise(times):
        v = velocity(x, t)
        x = x + (t_next - t) * (v + velocity(x + (t_next - t) * v, t_next)) / 2
    return x


def multistep(velocity: Velocity, x: Rows, times: Sequence[float]) -> Rows:
    """Second order with one model call per step: DPM-Solver++(2M) (Lu et al. 2022) on straight paths.

    The clean data that the velocity points to is extrapolated in ``log(t / (1 - t))`` from this step and the one
    before. The first step, and the last one, which ends in the data itself, are of first order.
    """
    data: Rows | None = None
    before = math.inf  # length of the last step; nothing is known before the first
    for t, t_next in pairwise(times):
        now = x + (1 - t) * velocity(x, t)
        ahead = _log_ratio(t_next) - _log_ratio(t)
        guess = now
        if data is not None and math.isfinite(before) and math.isfinite(ahead):
            guess = now + (now - data) * (ahead / (2 * before))
        left = (1 - t_next) / (1 - t)
        x = left * x + (t_next - left * t) * guess
        data, before = now, ahead
    return x


def _log_ratio(t: float) -> float:
    return -math.inf if t <= 0 else math.inf if t >= 1 else math.log(t / (1 - t))
