"""Picture -> appearance volume: what a person looks like, in a form that can be moved (Wang et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.nets.convolution import ConvNorm, fused


@dataclass(frozen=True, slots=True)
class AppearanceConfig:
    """Widths; the defaults are those of LivePortrait (Guo et al. 2024), 836,224 parameters."""

    first: int = 64  # channels at full size; each halving doubles them
    halvings: int = 2
    channels: int = 32  # of the volume
    depth: int = 16
    blocks: int = 6


class AppearanceExtractor(nn.Module):
    """Two-dimensional features, unfolded into depth, refined in three dimensions."""

    def __init__(self, config: AppearanceConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.first << n for n in range(config.halvings + 1)]
        self.stem = ConvNorm(3, widths[0])
        self.down = nn.ModuleList(ConvNorm(a, b) for a, b in pairwise(widths))
        self.unfold = nn.Conv2d(widths[-1], config.channels * config.depth, 1)
        self.refine = nn.ModuleList(Residual(config.channels) for _ in range(config.blocks))

    def forward(self, picture: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c d hs ws"]:
        """RGB in [0, 1] -> volume at a quarter of the size."""
        x = functional.relu(self.stem(picture))
        for down in self.down:
            x = functional.avg_pool2d(functional.relu(down(x)), 2)
        volume = self.unfold(x).unflatten(1, (self.config.channels, self.config.depth))
        for block in self.refine:
            volume = block(volume)
        return volume


class Residual(nn.Module):
    """Norm, activation, convolution, twice, added to the input (He et al. 2016), in three dimensions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_in = nn.BatchNorm3d(channels)
        self.conv_in: nn.Module = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm_out: nn.Module = nn.BatchNorm3d(channels)
        self.conv_out = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Same shape."""
        inner = self.norm_out(self.conv_in(functional.relu(self.norm_in(x))))
        return x + self.conv_out(functional.relu(inner))

    def folded(self) -> None:
        """The second norm follows a convolution, so it can go into it; the first cannot."""
        if not isinstance(self.norm_out, nn.Identity):
            self.conv_in, self.norm_out = fused(self.conv_in, self.norm_out), nn.Identity()
