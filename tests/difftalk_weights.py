"""Small DiffTalk networks with random weights, for tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from vivavoce.nets.difftalk import DiffTalk, DiffTalkConfig
from vivavoce.nets.unet import SpatialTransformer, UNetConfig
from vivavoce.nets.vae import FirstStageConfig
from vivavoce.recipes.difftalk import PAINTING, TALK

TINY = DiffTalkConfig(
    FirstStageConfig(kind="kl", width=8, multiples=(1,), blocks=1, attention=False, groups=4, fold=4, direct=True),
    UNetConfig(context=128, width=8, multiples=(1, 2), blocks=1, attention=(1,), head=8, groups=4, patch=2),
    TALK,
    painting=PAINTING,
)


def tiny(config: DiffTalkConfig = TINY) -> DiffTalk:
    """Networks that paint something, and something else for every sound."""
    torch.manual_seed(0)
    net = DiffTalk(config)
    for parameter in net.unet.out.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    for block in net.unet.modules():
        if isinstance(block, SpatialTransformer):
            torch.nn.init.normal_(block.proj_out.weight, std=0.3)
    return net.eval().requires_grad_(False)


@cache
def made() -> DiffTalk:
    return tiny()


def written(folder: Path, features: int = TALK.features) -> Path:
    conditions = replace(TALK, features=features)
    tiny(replace(TINY, conditions=conditions)).save(folder, "# for tests\n")
    return folder
