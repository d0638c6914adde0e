"""Small TGDM networks with random weights, for tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from vivavoce.nets.textures import PainterConfig, TextureAttention, Told
from vivavoce.nets.tgdm import Tgdm, TgdmConfig
from vivavoce.nets.vae import FirstStageConfig

Net = TypeVar("Net", bound=nn.Module)

STAGE = FirstStageConfig(kind="kl", width=8, multiples=(1,), blocks=1, attention=False, groups=4, fold=4, direct=True)
PAINTER = PainterConfig(
    fold=4, width=8, multiples=(1, 2), blocks=1, attention=(1,), head=8, embedding=16, groups=4, patch=2, dropout=0.0
)
TINY = TgdmConfig(PAINTER, STAGE, 256, "clean")


def awake(net: Net, size: float = 0.05) -> Net:
    """Layers that begin as 0 do something."""
    for module in net.modules():
        if isinstance(module, Told):
            nn.init.normal_(module.conv2.weight, std=size)
            nn.init.normal_(module.adapt.weight, std=0.3)
        if isinstance(module, TextureAttention):
            nn.init.normal_(module.out.weight, std=0.3)
    return net


def tiny(config: TgdmConfig = TINY) -> Tgdm:
    torch.manual_seed(0)
    net = Tgdm(config)
    awake(net)
    nn.init.normal_(net.painter.last.weight, std=0.02)
    return net.eval().requires_grad_(False)


def written(folder: Path, **changes: Any) -> Path:
    tiny(replace(TINY, painter=replace(PAINTER, **changes))).save(folder, "# for tests\n")
    return folder
