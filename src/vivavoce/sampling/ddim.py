"""Denoise latents step by step along a fixed noise table (DDIM, Song et al. 2021), keeping what must not change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vivavoce.errors import InputError

Latents = Float[Tensor, "b c h w"]
Predict = Callable[[Latents, float], Latents]  # noisy latents, their time step -> the noise in them


@dataclass(frozen=True, slots=True)
class NoiseTable:
    """How much of the data is left at every time step, 0 the cleanest.

    Attributes:
        kept: share of the data's variance, falling; the rest is noise. ``x_t = sqrt(kept) x + sqrt(1 - kept) noise``.
    """

    kept: Float[Tensor, " t"]

    @classmethod
    def of(cls, betas: Float[Tensor, " t"]) -> NoiseTable:
        """From the share of variance that every step replaces by noise."""
        return cls((1 - betas.double()).cumprod(0).float())

    @classmethod
    def latent(cls, start: float = 0.0015, end: float = 0.0195, steps: int = 1000) -> NoiseTable:
        """The table of latent diffusion (Rombach et al. 2022): square roots of the shares rise linearly."""
        return cls.of(latent_betas(start, end, steps))

    def noised(self, data: Latents, t: Int[Tensor, " b"], noise: Latents) -> Latents:
        """``data`` as it is at time steps ``t``."""
        kept = self.kept.to(data)[t][:, None, None, None]
        return kept.sqrt() * data + (1 - kept).sqrt() * noise

    def times(self, count: int) -> list[int]:
        """About ``count`` steps as published: every ``T // count``-th from 1 on, largest first, and 0 to end at.

        The first lies below the end of the table, and there are more than ``count`` steps where ``count`` does not
        divide the table's length.

        Raises:
            InputError: fewer than 1 step or more than half as many as the table has.
        """
        size = len(self.kept)
        if not 1 <= count <= size // 2:
            raise InputError(f"latents are denoised in 1 to {size // 2} steps, not {count}")
        return [*(t + 1 for t in reversed(range(0, size, size // count))), 0]

    def spread(self, count: int) -> list[int]:
        """``count`` steps from the very end of the table to 0, evenly.

        Raises:
            InputError: fewer than 1 step or more than the table allows.
        """
        size = len(self.kept)
        if not 1 <= count < size:
            raise InputError(f"latents are denoised in 1 to {size - 1} steps, not {count}")
        return [round((size - 1) * (count - n) / count) for n in range(count + 1)]


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays as it is while the rest is painted.

    Attributes:
        data: clean latents.
        where: 1 where they stay, 0 where they are painted.
        noise: standard normal noise for a time step, of the shape of ``data``. The published sampler draws anew at
            every step.
    """

    data: Latents
    where: Float[Tensor, "b 1 h w"]
    noise: Callable[[int], Latents]

    def into(self, x: Latents, table: NoiseTable, t: int) -> Latents:
        """``x`` with what stays as it is at time step ``t``."""
        at = torch.full((len(x),), t, device=x.device)
        return self.where * table.noised(self.data, at, self.noise(t)) + (1 - self.where) * x


def ddim(predict: Predict, x: Latents, table: NoiseTable, times: Sequence[int], kept: Kept | None = None) -> Latents:
    """``x`` at time step ``times[0]`` to ``times[-1]``, without new noise.

    What is kept is put in before every step, and not after the last, as in RePaint and DiffTalk: within ``kept.where``
    the result is what the network makes of it, close to the data but not equal.
    """
    for t, t_next in pairwise(times):
        if kept is not None:
            x = kept.into(x, table, t)
        noise = predict(x, float(t))
        now, then = table.kept[t].to(x), table.kept[t_next].to(x)
        clean = (x - (1 - now).sqrt() * noise) / now.sqrt()
        x = then.sqrt() * clean + (1 - then).sqrt() * noise
    return x


def latent_betas(start: float, end: float, steps: int) -> Float[Tensor, " t"]:
    """Shares of variance that become noise, step by step: the squares of evenly spaced numbers, in double precision."""
    return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
