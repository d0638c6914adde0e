"""Appearance volume + two sets of keypoints -> the features of the picture to draw (Wang et al. 2021)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.nets import volume as volumes
from vivavoce.nets.convolution import ConvNorm, EnlargedConv, fused

VARIANCE = 0.01  # of the bump around a keypoint
SLOPE = 0.01  # of the last activation below zero


@dataclass(frozen=True, slots=True)
class WarpingConfig:
    """Widths; the defaults are those of LivePortrait (Guo et al. 2024), 45,529,829 parameters."""

    keypoints: int = 21
    channels: int = 32  # of the volume
    depth: int = 16
    compressed: int = 4  # channels of the volume that the motion network looks at
    first: int = 32  # channels of the hourglass's last layer; they double with every halving, up to ``most``
    halvings: int = 5
    most: int = 1024
    outside: int = 256  # channels of the features


class Seen(NamedTuple):
    """What depends on the source alone, so that a stream computes it once."""

    compressed: Float[Tensor, "b m d h w"]
    bumps: Float[Tensor, "b k d h w"]


class Warped(NamedTuple):
    """Features of the picture to draw, and how they came about."""

    features: Float[Tensor, "b o h w"]
    occlusion: Float[Tensor, "b 1 h w"]  # 0 where nothing of the source is seen, 1 where all is
    deformation: Float[Tensor, "b d h w 3"]  # where in the source each cell comes from, in [-1, 1]


class Warping(nn.Module):
    """Guesses a dense deformation from what each keypoint alone would do, and applies it."""

    def __init__(self, config: WarpingConfig) -> None:
        super().__init__()
        self.config = config
        candidates = config.keypoints + 1  # the first stays where it is
        inside = candidates * (config.compressed + 1)
        self.compress: nn.Module = nn.Conv3d(config.channels, config.compressed, 1)
        self.compress_norm: nn.Module = nn.BatchNorm3d(config.compressed)
        self.hourglass = Hourglass(inside, config)
        self.mask = nn.Conv3d(self.hourglass.outside, candidates, 7, padding=3)
        self.occlusion = nn.Conv2d(self.hourglass.outside * config.depth, 1, 7, padding=3)
        self.mix = ConvNorm(config.channels * config.depth, config.outside)
        self.out = nn.Conv2d(config.outside, config.outside, 1)

    def seen(self, volume: Float[Tensor, "b c d h w"], source: Float[Tensor, "b k 3"]) -> Seen:
        """Everything about the source that :meth:`forward` needs again for every frame."""
        compressed = functional.relu(self.compress_norm(self.compress(volume)))
        return Seen(compressed, volumes.bumps(_size(volume), source, VARIANCE))

    def forward(
        self,
        volume: Float[Tensor, "b c d h w"],
        driving: Float[Tensor, "b k 3"],
        source: Float[Tensor, "b k 3"],
        seen: Seen | None = None,
    ) -> Warped:
        """Move ``volume`` so that its keypoints ``source`` come to lie at ``driving``.

        Args:
            volume: of the source.
            driving: keypoints to show, in half widths of the picture.
            source: keypoints of the source.
            seen: what :meth:`seen` gave for this source; computed when not given.
        """
        seen = seen or self.seen(volume, source)
        shift = (source - driving).float()
        # Places are computed in single precision whatever the networks run in: half would be off by pixels.
        with _precisely(volume):
            evidence = self._evidence(seen, driving, shift)
        prediction = self.hourglass(evidence)
        mask, occlusion = self.mask(prediction), torch.sigmoid(self.occlusion(prediction.flatten(1, 2)))
        with _precisely(volume):
            deformation = self._deformation(mask.float(), shift)
            moved = volumes.sample(volume.float(), deformation).flatten(1, 2)
        features = self.out(functional.leaky_relu(self.mix(moved), SLOPE)) * occlusion
        return Warped(features, occlusion, deformation)

    def _evidence(self, seen: Seen, driving: Tensor, shift: Tensor) -> Tensor:
        """For every candidate motion: where its keypoint was and is, and the volume moved by it."""
        compressed = seen.compressed.float()
        stays = torch.zeros_like(shift[:, :1])
        moved = volumes.shifted(compressed, torch.cat([stays, shift], 1))
        bumps = volumes.bumps(_size(compressed), driving.float(), VARIANCE) - seen.bumps
        bumps = torch.cat([torch.zeros_like(bumps[:, :1]), bumps], 1)
        return torch.cat([bumps.unsqueeze(2), moved], 2).flatten(1, 2)

    def _deformation(self, mask: Tensor, shift: Tensor) -> Tensor:
        """The candidates' motions, weighed: the grid itself, plus the weighted mean of their shifts."""
        share = mask.softmax(1)[:, 1:]
        mean = torch.einsum("bkdhw,bkc->bdhwc", share, shift)
        return volumes.grid(*_size(mask), like=mask) + mean


class Hourglass(nn.Module):
    """Halves height and width again and again and comes back, every size joined with what was there before."""

    def __init__(self, inside: int, config: WarpingConfig) -> None:
        super().__init__()
        widths = [min(config.most, config.first << n) for n in range(config.halvings + 1)]
        entering = [inside, *widths[1:]]
        self.down = nn.ModuleList(ConvNorm(a, b, 3) for a, b in zip(entering, widths[1:], strict=False))
        levels = range(config.halvings, 0, -1)
        self.up = nn.ModuleList(
            EnlargedNorm(widths[n] * (1 if n == config.halvings else 2), widths[n - 1]) for n in levels
        )
        self.outside = widths[0] + inside
        self.last = ConvNorm(self.outside, self.outside, 3)

    def forward(self, x: Float[Tensor, "b i d h w"]) -> Float[Tensor, "b o d h w"]:
        """Same depth, height and width."""
        passed = [x]
        for down in self.down:
            passed.append(functional.avg_pool3d(functional.relu(down(passed[-1])), (1, 2, 2)))
        x = passed.pop()
        for up in self.up:
            x = torch.cat([functional.relu(up(x)), passed.pop()], 1)
        return functional.relu(self.last(x))


class EnlargedNorm(nn.Module):
    """A convolution of the map at twice its height and width, and a batch norm."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv: nn.Module = EnlargedConv(inside, outside, 2, dims=3)
        self.norm: nn.Module = nn.BatchNorm3d(outside)

    def forward(self, x: Float[Tensor, "b i d h w"]) -> Float[Tensor, "b o d h2 w2"]:
        """Twice as high and wide."""
        return self.norm(self.conv(x))

    def folded(self) -> None:
        """Multiply the norm's gain into the kernel. Only for networks in evaluation mode."""
        if not isinstance(self.norm, nn.Identity):
            self.conv, self.norm = fused(self.conv, self.norm), nn.Identity()


def _precisely(like: Tensor) -> AbstractContextManager[object]:
    """Single precision, whatever the networks run in; what has no numbers has no precision."""
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)


def _size(volume: Tensor) -> tuple[int, int, int]:
    depth, height, width = volume.shape[2:]
    return depth, height, width
