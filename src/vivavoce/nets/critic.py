"""Judges of drawn pictures: how real each patch looks, at several sizes (Wang et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2  # of the activations below zero


@dataclass(frozen=True, slots=True)
class CriticConfig:
    """Widths; the defaults are customary for pictures 512 pixels wide."""

    scales: int = 2  # pictures it looks at: the whole one, then each half the size of the one before
    first: int = 64  # channels after the first halving; they double with every further one, up to ``most``
    halvings: int = 4
    most: int = 512


class Opinion(NamedTuple):
    """What one judge thinks of one size of the pictures."""

    real: Float[Tensor, "b 1 h w"]  # of every patch; above 0 where it looks real
    layers: tuple[Float[Tensor, "b _c _h _w"], ...]  # what it looked at, from fine to coarse


class Critic(nn.Module):
    """One patch judge for each size. Its inner layers double as a measure of likeness that needs no other network."""

    def __init__(self, config: CriticConfig) -> None:
        super().__init__()
        self.config = config
        self.judges = nn.ModuleList(PatchCritic(config) for _ in range(config.scales))

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> list[Opinion]:
        """RGB in [0, 1] -> an opinion for each size, the largest first."""
        found = []
        for judge in self.judges:
            found.append(judge(pictures))
            pictures = functional.avg_pool2d(pictures, 2)
        return found


class PatchCritic(nn.Module):
    """Halving convolutions, each with its spectral norm kept at 1, so that opinions cannot grow without bound."""

    def __init__(self, config: CriticConfig) -> None:
        super().__init__()
        widths = [3, *(min(config.most, config.first << n) for n in range(config.halvings))]
        self.layers = nn.ModuleList(spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1)) for a, b in pairwise(widths))
        self.last = spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, pictures: Float[Tensor, "b 3 h w"]) -> Opinion:
        """RGB in [0, 1] -> an opinion."""
        x, seen = 2 * pictures - 1, []
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), SLOPE)
            seen.append(x)
        return Opinion(self.last(x), tuple(seen))


def hinge(real: Sequence[Opinion], drawn: Sequence[Opinion]) -> Float[Tensor, ""]:
    """What the critic descends: real patches should score above 1, drawn ones below -1 (Lim and Ye 2017)."""
    parts = [functional.relu(1 - r.real).mean() + functional.relu(1 + d.real).mean() for r, d in _both(real, drawn)]
    return torch.stack(parts).mean()


def deceit(drawn: Sequence[Opinion]) -> Float[Tensor, ""]:
    """What the painter descends: its patches should score high."""
    return -torch.stack([opinion.real.mean() for opinion in drawn]).mean()


def unlikeness(real: Sequence[Opinion], drawn: Sequence[Opinion]) -> Float[Tensor, ""]:
    """Mean difference of what the critic sees in both; 0 for the same pictures. The real side is taken as given."""
    parts = [
        functional.l1_loss(b.float(), a.detach().float())
        for r, d in _both(real, drawn)
        for a, b in zip(r.layers, d.layers, strict=True)
    ]
    return torch.stack(parts).mean()


def _both(real: Sequence[Opinion], drawn: Sequence[Opinion]) -> list[tuple[Opinion, Opinion]]:
    return list(zip(real, drawn, strict=True))
