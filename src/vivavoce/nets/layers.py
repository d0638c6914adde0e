"""Small parts of transformers that several networks share."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Turn = tuple[Tensor, Tensor]  # cosines and sines of a rotary embedding, each [t, head / 2]


class RmsNorm(nn.Module):
    """Root-mean-square normalisation (Zhang and Sennrich 2019), with a learned gain per channel if ``gain``."""

    def __init__(self, width: int, *, eps: float = 1e-6, gain: bool = False) -> None:
        super().__init__()
        self.width, self.eps = width, eps
        self.weight = nn.Parameter(torch.ones(width)) if gain else None

    def forward(self, x: Float[Tensor, "*b w"]) -> Float[Tensor, "*b w"]:
        """``x / rms(x)``, times the gain."""
        return rms_scaled(x, self.eps) if self.weight is None else rms_scaled(x, self.eps) * self.weight


def rms_scaled(x: Float[Tensor, "*b w"], eps: float) -> Float[Tensor, "*b w"]:
    """``x / sqrt(mean(x^2) + eps)``, in few passes: torch's own ``rms_norm`` takes eight on a CPU."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return x * torch.rsqrt(length * length / x.shape[-1] + eps).to(x.dtype)


def mlp(*widths: int, act: type[nn.Module] = nn.SiLU) -> nn.Sequential:
    """Linear layers from width to width with ``act`` between them."""
    layers: list[nn.Module] = []
    for low, high in pairwise(widths):
        layers += [nn.Linear(low, high), act()]
    return nn.Sequential(*layers[:-1])


def sinusoid(t: Float[Tensor, " b"], width: int, period: float = 10_000.0) -> Float[Tensor, "b w"]:
    """``[cos(t f), sin(t f)]`` for ``width / 2`` frequencies falling from 1 to ``1 / period`` (Vaswani et al. 2017)."""
    ramp = torch.arange(width // 2, device=t.device, dtype=torch.float32) / (width // 2)
    angle = t[:, None].float() * period**-ramp
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def rotary(positions: Int[Tensor, " t"], head: int, theta: float) -> Turn:
    """Rotary position embedding (Su et al. 2021): position p turns pair i by ``p theta^(-2 i / head)``."""
    ramp = torch.arange(0, head, 2, device=positions.device, dtype=torch.float32) / head
    angle = positions[:, None].float() * theta**-ramp
    return angle.cos(), angle.sin()


def turn(x: Float[Tensor, "*b t n h"], by: Turn) -> Float[Tensor, "*b t n h"]:
    """Rotate neighbouring pairs of channels by the angle of their token, keeping the length of every vector."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = (part[:, None].to(x.dtype) for part in by)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)
