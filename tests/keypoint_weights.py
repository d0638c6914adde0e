"""Toy-size weights in the folder format of the keypoint renderer, drawn at random: everything runs, in milliseconds."""

from __future__ import annotations

from pathlib import Path

import torch

from vivavoce.nets.appearance import AppearanceConfig
from vivavoce.nets.liveportrait import Networks, NetworksConfig
from vivavoce.nets.motion_extractor import MotionExtractorConfig
from vivavoce.nets.retargeting import RetargetingConfig
from vivavoce.nets.spade import DecoderConfig
from vivavoce.nets.warping import WarpingConfig

TOY = NetworksConfig(
    AppearanceConfig(first=2, channels=2, depth=4, blocks=1),
    MotionExtractorConfig(depths=(1, 1, 1, 1), widths=(2, 4, 4, 8)),
    WarpingConfig(channels=2, depth=4, compressed=1, first=1, halvings=2, most=4, outside=4),
    DecoderConfig(inside=4, wide=6, last=2, hidden=2, blocks=1),
    RetargetingConfig(stitching=(4,), eyes=(4,), lips=(4,)),
)


def toy_networks(seed: int = 0) -> Networks:
    """Random networks whose keypoints lie in the picture."""
    torch.manual_seed(seed)
    networks = Networks(TOY).eval()
    with torch.no_grad():
        networks.motion.heads["scale"].bias.fill_(1.0)  # type: ignore[operator]
        for name in ("canonical", "expression", "translation", "scale"):
            networks.motion.heads[name].weight.mul_(0.2)  # type: ignore[operator]
    return networks


def write_toy(folder: Path, seed: int = 0) -> Path:
    """A weight folder that ``Networks.load`` reads; returns it."""
    toy_networks(seed).save(folder, "# Toy weights\n", sources={})
    return folder
