"""Straight paths from noise (t = 0) to data (t = 1): what a flow is trained on, and where sampling starts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Rows = Float[Tensor, "b t d"]
Times = Float[Tensor, " b"]


def along(noise: Rows, data: Rows, t: Times) -> Rows:
    """Point at time ``t`` of the straight path: ``(1 - t) noise + t data`` (rectified flow, Liu et al. 2023)."""
    return torch.lerp(noise, data, t[:, None, None])


def arrival(x: Rows, velocity: Rows, t: Times) -> Rows:
    """Where a straight path through ``x`` at time ``t`` ends: the clean data that ``velocity`` predicts."""
    return x + (1 - t[:, None, None]) * velocity


def noise(seed: int, window: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise of one window of one session: a function of its place, not of how the run got there.

    Seed and index are mixed by ``SeedSequence``: torch's CPU generator looks only at the low 32 bits of a seed.
    """
    mixed = int(np.random.SeedSequence([seed, window]).generate_state(1)[0])
    return torch.randn(*shape, generator=torch.Generator().manual_seed(mixed))
