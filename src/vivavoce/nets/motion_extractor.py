"""Picture -> canonical keypoints, pose and expression: a ConvNeXt V2 with seven heads."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-6
BINS = 66  # of each head angle, three degrees wide


@dataclass(frozen=True, slots=True)
class MotionExtractorConfig:
    """Widths; the defaults are ConvNeXt V2 tiny (Woo et al. 2023) with LivePortrait's heads, 28,118,728 parameters."""

    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    keypoints: int = 21


class Heads(NamedTuple):
    """What the network says, undecoded (see ``vivavoce.motion.keypoints.decoded``)."""

    canonical: Float[Tensor, "b n"]  # keypoints of the person at rest, x y z each, in half widths of the picture
    scale: Float[Tensor, "b 1"]
    pitch: Float[Tensor, "b 66"]  # logits over bins of three degrees
    yaw: Float[Tensor, "b 66"]
    roll: Float[Tensor, "b 66"]
    translation: Float[Tensor, "b 3"]
    expression: Float[Tensor, "b n"]


class MotionExtractor(nn.Module):
    """ConvNeXt V2 without its classifier; one linear head for each thing to know."""

    def __init__(self, config: MotionExtractorConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, stride=4), ChannelNorm(widths[0]))
        self.down = nn.ModuleList(
            nn.Sequential(ChannelNorm(a), nn.Conv2d(a, b, 2, stride=2)) for a, b in pairwise(widths)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth)))
            for width, depth in zip(widths, config.depths, strict=True)
        )
        self.norm = nn.LayerNorm(widths[-1], eps=EPS)
        numbers = 3 * config.keypoints
        sizes = {"canonical": numbers, "scale": 1, "pitch": BINS, "yaw": BINS, "roll": BINS, "translation": 3}
        self.heads = nn.ModuleDict({n: nn.Linear(widths[-1], k) for n, k in (sizes | {"expression": numbers}).items()})

    def forward(self, picture: Float[Tensor, "b 3 h w"]) -> Heads:
        """RGB in [0, 1], 256 x 256, to every head's raw output."""
        x = self.stages[0](self.stem(picture))
        for down, stage in zip(self.down, list(self.stages)[1:], strict=True):
            x = stage(down(x))
        pooled = self.norm(x.mean((-2, -1)))
        return Heads(*(self.heads[name](pooled) for name in Heads._fields))


class ChannelNorm(nn.Module):
    """Layer norm over the channels of a map, each pixel by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Mean 0 and variance 1 over channels, then gain and offset."""
        last = functional.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, EPS)
        return last.movedim(-1, 1)


class Block(nn.Module):
    """Wide depthwise convolution, then two linear layers with global response normalisation between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.widen = nn.Linear(width, 4 * width)
        self.gain = nn.Parameter(torch.zeros(4 * width))
        self.offset = nn.Parameter(torch.zeros(4 * width))
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Residual block of the same shape."""
        y = functional.gelu(self.widen(self.norm(self.depthwise(x).movedim(1, -1))))
        # Channels compete: each is weighed by its size over the picture relative to the mean of all.
        size = torch.linalg.vector_norm(y, dim=(1, 2), keepdim=True)
        y = y + self.gain * (y * (size / (size.mean(-1, keepdim=True) + EPS))) + self.offset
        return x + self.narrow(y).movedim(-1, 1)
