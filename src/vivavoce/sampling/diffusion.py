"""Denoising diffusion: the noise table, what a network is trained on, and how to sample it like a flow.

A diffusion of T steps makes ``x_n = a_n data + s_n noise`` with ``a_n^2 + s_n^2 = 1``. Divided by ``a_n + s_n`` that is
the point ``t data + (1 - t) noise`` of a straight path at ``t = a_n / (a_n + s_n)``, so a network that tells the noise
also tells the velocity of that path. Everything in :mod:`vivavoce.sampling` then works on it: Euler steps are exactly
DDIM with eta 0 (Song et al. 2021), and :func:`vivavoce.sampling.samplers.multistep` is DPM-Solver++(2M).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from vivavoce.sampling.paths import Rows, Times

Steps = Int[Tensor, " b"]
TINY = 1e-20


@dataclass(frozen=True, slots=True, eq=False)
class Diffusion:
    """The table of a discrete diffusion: ``betas[n]`` is the variance that step n adds."""

    betas: Float64[np.ndarray, " n"]

    @staticmethod
    def linear(steps: int = 1000, first: float = 1e-4, last: float = 2e-2) -> Diffusion:
        """Variances that grow linearly (Ho et al. 2020)."""
        return Diffusion(np.linspace(first, last, steps))

    @property
    def alpha_bars(self) -> Float64[np.ndarray, " n"]:
        """Share of the data's variance left after every step: ``a_n^2``."""
        return np.cumprod(1 - self.betas)

    @property
    def path_times(self) -> Float64[np.ndarray, " n"]:
        """Time on the straight path that every step corresponds to; falls from nearly 1 to nearly 0."""
        data, noise = np.sqrt(self.alpha_bars), np.sqrt(1 - self.alpha_bars)
        return data / (data + noise)

    def times(self, steps: int) -> tuple[float, ...]:
        """Times of ``steps`` model calls at equal distances in the table, the last step included, and then 1."""
        count = len(self.betas)
        if not 1 <= steps <= count:
            raise ValueError(f"{count} diffusion steps can be sampled in 1 to {count}, not in {steps}")
        chosen = np.round(count - np.arange(steps) * count / steps).astype(int) - 1
        return (*self.path_times[chosen].tolist(), 1.0)

    def steps_at(self, t: Times) -> Times:
        """The diffusion step of path times, between the table's steps by linear interpolation; inverse of the table."""
        found = np.interp(t.double().cpu().numpy(), self.path_times[::-1], np.arange(len(self.betas))[::-1])
        return torch.from_numpy(found).to(t)

    def noised(self, data: Rows, noise: Rows, n: Steps) -> Rows:
        """``x_n``: the data after step ``n``."""
        bars = self._at(self.alpha_bars, n, data)
        return bars.sqrt() * data + (1 - bars).sqrt() * noise

    def clean(self, x: Rows, noise: Rows, n: Steps) -> Rows:
        """The data that ``x = noised(data, noise, n)`` was made of."""
        bars = self._at(self.alpha_bars, n, x)
        return (x - (1 - bars).sqrt() * noise) / bars.sqrt()

    def _at(self, table: Float64[np.ndarray, " n"], n: Steps, like: Tensor) -> Tensor:
        return torch.from_numpy(table).to(like.device, torch.float64)[n].to(like.dtype)[:, None, None]

    def posterior(self, data: Rows, x: Rows, n: Steps) -> tuple[Rows, Float[Tensor, "b 1 1"]]:
        """Mean and logarithm of the variance of ``x_{n-1}`` given ``x_n`` and the data (Ho et al. 2020, eq. 6, 7).

        The variance at step 0, where it is 0, is taken from step 1, as is custom.
        """
        bars, betas = self.alpha_bars, self.betas
        before = np.concatenate([[1.0], bars[:-1]])
        variance = betas * (1 - before) / (1 - bars)
        variance[0] = variance[min(1, len(variance) - 1)]
        of_data = betas * np.sqrt(before) / (1 - bars)
        of_x = (1 - before) * np.sqrt(1 - betas) / (1 - bars)
        mean = self._at(of_data, n, x) * data + self._at(of_x, n, x) * x
        return mean, self._at(np.log(np.maximum(variance, TINY)), n, x)

    def variance(self, share: Rows, n: Steps) -> Rows:
        """Logarithm of the variance for a network's ``share``: -1 the posterior's, 1 that of the step's own noise.

        Learned-range variances (Nichol and Dhariwal 2021, eq. 15).
        """
        _, low = self.posterior(share, share, n)
        high = self._at(np.log(self.betas), n, share)
        part = (share + 1) / 2
        return part * high + (1 - part) * low

    def bound(self, data: Rows, x: Rows, noise: Rows, share: Rows, n: Steps) -> Rows:
        """Term ``n`` of the variational bound for every number, in bits; only ``share`` receives gradients.

        The divergence of the true posterior from the predicted one, and for step 0 the Gaussian code length of the
        data itself. (The usual code takes the latter as that of 8-bit pixels, which codes are not.)
        """
        mean, log_variance = self.posterior(data, x, n)
        guess, _ = self.posterior(self.clean(x, noise.detach(), n), x, n)
        learned = self.variance(share, n)
        apart = (mean - guess).square()
        divergence = (learned - log_variance + torch.exp(log_variance - learned) + apart * torch.exp(-learned) - 1) / 2
        length = ((data - guess).square() * torch.exp(-learned) + learned + math.log(2 * math.pi)) / 2
        return torch.where((n == 0)[:, None, None], length, divergence) / math.log(2)

    def velocity(
        self,
        predict: Callable[[Rows, Times], Rows],
        x: Rows,
        t: Times,
        within: tuple[Float[Tensor, " d"], Float[Tensor, " d"]] | None = None,
    ) -> Rows:
        """Velocity at ``x`` of the straight path at times ``t``, from ``predict(x_n, n) -> noise``.

        ``within`` are the least and largest values of clean data. At the first steps, which are 160 parts noise to one
        of data, a small error of the noise would be a large one of the data otherwise.
        """
        t = t.clamp(float(self.path_times[-1]), float(self.path_times[0]))
        along = t[:, None, None]
        length = torch.sqrt(along.square() + (1 - along).square())
        noise = predict(x / length, self.steps_at(t))
        data = (x - (1 - along) * noise) / along
        if within is None:
            return data - noise
        data = data.clamp(*within)
        return (data - x) / (1 - along)


def losses(
    diffusion: Diffusion, output: Float[Tensor, "b t e"], data: Rows, noise: Rows, n: Steps
) -> tuple[Rows, Rows]:
    """What a network that gives noise and variance shares end to end is trained on, number by number.

    Squared error of the noise, and the variational bound in bits, whose gradient reaches the variances alone.
    """
    told, share = output.chunk(2, dim=-1)
    x = diffusion.noised(data, noise, n)
    return (told - noise).square(), diffusion.bound(data, x, told, share, n)
