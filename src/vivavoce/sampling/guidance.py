"""Classifier-free guidance along any of the conditions, each with its own scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from vivavoce.motion.conditions import Conditions
from vivavoce.sampling.paths import Rows, Times
from vivavoce.sampling.samplers import Velocity

Model = Callable[[Rows, Times, Conditions], Rows]


def guided(
    model: Model,
    conditions: Conditions,
    scales: Sequence[tuple[str, float]] = (),
    where: Float[Tensor, " d"] | None = None,
) -> Velocity:
    """Nested classifier-free guidance: each ``(name, scale)`` pushes along what ``name`` adds to the rest.

    With branches v_0 (all guided names hidden), v_1 (first revealed), ..., v_n (all revealed):
    ``v = v_0 + sum_k scale_k (v_k - v_{k-1})``. All branches run as one batch. No scales, one branch.
    ``where`` weighs the push per motion number, in [0, 1]: where it is 0 the velocity is the conditional one.
    """
    names = [name for name, _ in scales]
    count = len(names) + 1
    branches = Conditions.cat([conditions.hide(*names[k:]) for k in range(count)])

    def velocity(x: Rows, t: float) -> Rows:
        v = model(x.repeat(count, 1, 1), x.new_full((count * len(x),), t), branches).chunk(count)
        out = v[-1]
        for (_, scale), low, high in zip(scales, v[:-1], v[1:], strict=True):
            push = (scale - 1) * (high - low)
            out = out + (push if where is None else where * push)
        return out

    return velocity
