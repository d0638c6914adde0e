"""Denoise latents step by step along a noise table (DDIM, Song et al. 2021), keeping what must not change."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.sampling.diffusion import Diffusion

Latents = Float[Tensor, "b c h w"]
Predict = Callable[[Latents, float], Latents]  # noisy latents, their step -> the noise in them


def latent_diffusion(start: float = 0.0015, end: float = 0.0195, steps: int = 1000) -> Diffusion:
    """The table of latent diffusion (Rombach et al. 2022): square roots of the variances grow linearly.

    The defaults are DiffTalk's.
    """
    return Diffusion(np.linspace(math.sqrt(start), math.sqrt(end), steps) ** 2)


def published_steps(size: int, count: int) -> list[int]:
    """About ``count`` steps of a table of ``size`` as latent diffusion takes them, and 0 to end at.

    Every ``size // count``-th from 1 on, the largest first: it lies ``size // count`` below the end of the table, where
    data is still seen through the noise that sampling starts with, and there are more than ``count`` steps where
    ``count`` does not divide ``size``. A step beyond the end, where the published sampler fails, is the last one.

    Raises:
        InputError: fewer than 1 step, or more than half as many as the table has.
    """
    if not 1 <= count <= size // 2:
        raise InputError(f"latents are denoised in 1 to {size // 2} steps, not {count}")
    return [*(min(n + 1, size - 1) for n in reversed(range(0, size, size // count))), 0]


def spread_steps(size: int, count: int) -> list[int]:
    """``count`` steps from the very end of a table of ``size`` to 0, evenly.

    Raises:
        InputError: fewer than 1 step, or more than the table allows.
    """
    if not 1 <= count < size:
        raise InputError(f"latents are denoised in 1 to {size - 1} steps, not {count}")
    return [round((size - 1) * (count - n) / count) for n in range(count + 1)]


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays as it is while the rest is painted.

    Attributes:
        data: clean latents.
        where: 1 where they stay, 0 where they are painted.
        noise: standard normal noise of the shape of ``data`` for a step. The published sampler draws anew every time.
    """

    data: Latents
    where: Float[Tensor, "b 1 h w"]
    noise: Callable[[int], Latents]

    def into(self, x: Latents, share: float, step: int) -> Latents:
        """``x`` with what is kept as noisy as it is at ``step``, where ``share`` of the data's variance is left."""
        kept = math.sqrt(share) * self.data + math.sqrt(1 - share) * self.noise(step)
        return self.where * kept + (1 - self.where) * x


def ddim(predict: Predict, x: Latents, diffusion: Diffusion, steps: Sequence[int], kept: Kept | None = None) -> Latents:
    """``x`` from ``steps[0]`` of the table to ``steps[-1]``, without new noise (eta 0).

    What is kept is put in before every step and not after the last, as DiffTalk does: there the result is what the
    network makes of the data, close to it but not equal.
    """
    shares = diffusion.alpha_bars
    for step, then in pairwise(steps):
        now, next_ = float(shares[step]), float(shares[then])
        if kept is not None:
            x = kept.into(x, now, step)
        noise = predict(x, float(step))
        clean = (x - math.sqrt(1 - now) * noise) / math.sqrt(now)
        x = math.sqrt(next_) * clean + math.sqrt(1 - next_) * noise
    return x
