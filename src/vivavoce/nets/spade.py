"""Warped features -> picture: a decoder steered everywhere by the features themselves (Park et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.nets.convolution import EnlargedConv

SLOPE = 0.2  # of the activations below zero


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Widths; the defaults are those of LivePortrait (Guo et al. 2024), 55,365,388 parameters."""

    inside: int = 256  # channels of the features
    wide: int = 512  # at their size
    last: int = 64  # at four times their size
    hidden: int = 128  # of every modulation
    blocks: int = 6  # before the first enlargement


class SpadeDecoder(nn.Module):
    """Residual blocks at the features' size, then two enlargements; the picture is eight times as large."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        inside, wide = config.inside, config.wide
        self.first = nn.Conv2d(inside, wide, 3, padding=1)
        self.middle = nn.ModuleList(SpadeBlock(wide, wide, 1, config) for _ in range(config.blocks))
        self.twice = SpadeBlock(wide, inside, 2, config)
        self.fourfold = SpadeBlock(inside, config.last, 4, config)
        self.colour = nn.Conv2d(config.last, 12, 3, padding=1)

    def forward(self, features: Float[Tensor, "b i h w"]) -> Float[Tensor, "b 3 h8 w8"]:
        """RGB in [0, 1]."""
        x = self.first(features)
        for block in self.middle:
            x = block(x, features)
        x = self.fourfold(self.twice(x, features), features)
        return torch.sigmoid(functional.pixel_shuffle(self.colour(functional.leaky_relu(x, SLOPE)), 2))


class SpadeBlock(nn.Module):
    """Two modulated convolutions around a shortcut, all at ``factor`` times the features' size.

    A block with ``factor`` above 1 takes a map half as large as it gives, and enlarges it first.
    """

    def __init__(self, inside: int, outside: int, factor: int, config: DecoderConfig) -> None:
        super().__init__()
        between = min(inside, outside)
        self.enlarges = factor > 1
        self.modulate_in = Modulation(inside, factor, config)
        self.conv_in = nn.Conv2d(inside, between, 3, padding=1)
        self.modulate_out = Modulation(between, factor, config)
        self.conv_out = nn.Conv2d(between, outside, 3, padding=1)
        self.modulate_short = Modulation(inside, factor, config) if inside != outside else None
        self.conv_short = nn.Conv2d(inside, outside, 1, bias=False) if inside != outside else None

    def forward(self, x: Float[Tensor, "b i h w"], features: Float[Tensor, "b f hf wf"]) -> Float[Tensor, "b o h2 w2"]:
        """Same size, or twice as high and wide."""
        # Repeating pixels changes neither mean nor variance, so the small map is normalised.
        normal = functional.instance_norm(x)
        if self.enlarges:
            normal = functional.interpolate(normal, scale_factor=2.0, mode="nearest")
        y = self.conv_in(functional.leaky_relu(self.modulate_in(normal, features), SLOPE))
        y = self.conv_out(functional.leaky_relu(self.modulate_out(functional.instance_norm(y), features), SLOPE))
        if self.modulate_short is not None and self.conv_short is not None:
            return self.conv_short(self.modulate_short(normal, features)) + y
        return x + y


class Modulation(nn.Module):
    """Gives a normalised map a gain and an offset that the features choose for every pixel and channel."""

    def __init__(self, channels: int, factor: int, config: DecoderConfig) -> None:
        super().__init__()
        inside, hidden = config.inside, config.hidden
        self.shared = nn.Conv2d(inside, hidden, 3, padding=1) if factor == 1 else EnlargedConv(inside, hidden, factor)
        self.gain_offset = nn.Conv2d(hidden, 2 * channels, 3, padding=1)

    def forward(
        self, normal: Float[Tensor, "b c h w"], features: Float[Tensor, "b f hf wf"]
    ) -> Float[Tensor, "b c h w"]:
        """``normal * (1 + gain) + offset``."""
        gain, offset = self.gain_offset(functional.relu(self.shared(features))).chunk(2, 1)
        return torch.addcmul(normal + offset, normal, gain)
