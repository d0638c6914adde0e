"""Small networks that move keypoints: so that the head fits its shoulders, and eyes and lips open as wished."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from vivavoce.nets.layers import mlp


@dataclass(frozen=True, slots=True)
class RetargetingConfig:
    """Hidden widths; the defaults are LivePortrait's: 45,249, 144,703 and 37,311 parameters."""

    keypoints: int = 21
    stitching: tuple[int, ...] = (128, 128, 64)
    eyes: tuple[int, ...] = (256, 256, 128, 128, 64)
    lips: tuple[int, ...] = (128, 128, 64)


def stitching(config: RetargetingConfig) -> nn.Sequential:
    """Source and driving keypoints, flat -> change of the driving ones, then of their common place (x, y)."""
    numbers = 3 * config.keypoints
    return mlp(2 * numbers, *config.stitching, numbers + 2, act=nn.ReLU)


def eyes(config: RetargetingConfig) -> nn.Sequential:
    """Source keypoints, opening of its left and right eye, wanted opening -> change of the keypoints."""
    numbers = 3 * config.keypoints
    return mlp(numbers + 3, *config.eyes, numbers, act=nn.ReLU)


def lips(config: RetargetingConfig) -> nn.Sequential:
    """Source keypoints, opening of its lips, wanted opening -> change of the keypoints."""
    numbers = 3 * config.keypoints
    return mlp(numbers + 2, *config.lips, numbers, act=nn.ReLU)
