"""Classifier-free guidance along any of the conditions, each with its own scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Protocol, TypeVar, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from vivavoce.sampling.paths import Rows, Times
from vivavoce.sampling.samplers import Velocity

H = TypeVar("H")


@runtime_checkable
class Hidable(Protocol):
    """Conditions of a batch, any of which can be hidden by name."""

    def hide(self: H, *names: str) -> H:
        """The same with ``names`` absent."""
        ...

    def cat(self: H, items: list[H], /) -> H:
        """``items`` stacked along the batch."""
        ...


C = TypeVar("C", bound=Hidable)
# Conditions -> velocity of rows at times: what depends on the conditions alone is computed once for all steps.
Prepared = Callable[[C], Callable[[Rows, Times], Rows]]


def guided(
    prepared: Prepared[C],
    conditions: C,
    scales: Sequence[tuple[str, float]] = (),
    where: Float[Tensor, " d"] | None = None,
) -> Velocity:
    """Nested classifier-free guidance: each ``(name, scale)`` pushes along what ``name`` adds to the rest.

    With branches v_0 (all guided names hidden), v_1 (first revealed), ..., v_n (all revealed):
    ``v = v_0 + sum_k scale_k (v_k - v_{k-1})``. All branches run as one batch; neighbours with equal scales are
    revealed together, which gives the same sum with fewer branches. No scales, one branch.
    ``where`` weighs the push per motion number, in [0, 1]: where it is 0 the velocity is the conditional one.
    """
    together = [(scale, [name for name, _ in group]) for scale, group in groupby(scales, key=lambda one: one[1])]
    hidden = [[name for _, names in together[k:] for name in names] for k in range(len(together) + 1)]
    velocity_of = prepared(conditions.cat([conditions.hide(*names) for names in hidden]))
    count = len(hidden)

    def velocity(x: Rows, t: float) -> Rows:
        v = velocity_of(x.repeat(count, 1, 1), x.new_full((count * len(x),), t)).chunk(count)
        out = v[-1]
        for (scale, _), low, high in zip(together, v[:-1], v[1:], strict=True):
            push = (scale - 1) * (high - low)
            out = out + (push if where is None else where * push)
        return out

    return velocity
