"""What an untrained animator paints: the source itself, moved.

Published weights do not need it. From nothing, networks take days to learn to copy; begun here, they learn only what a
copy lacks.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from vivavoce.nets.lia import Level, Lia

TAKEN = (
    2.0  # where masks begin, before the sigmoid: nearly all is taken from the source until something better is known
)
STILL = 0.1  # further shrinks the random flows that all levels add up


@torch.no_grad()
def start_as_source(lia: Lia) -> None:
    """Set weights so that the picture is the source, every pixel taken from where the flow says: nearly where it is.

    Colours, in [-1, 1], enter the finest map plus one, where activations are linear; the finest level takes the one off
    again. All other colour outputs begin at zero. The first layer is frozen: it would drift while codes are learned
    without painting, and one to one is all it can do for a picture.
    """
    enter = lia.encoder.enter
    enter.weight[:3].copy_(torch.eye(3)[..., None, None] / math.sqrt(2))
    _bias(enter)[:3] = 1 / math.sqrt(2)
    enter.requires_grad_(False)
    levels = [level for level in lia.synthesis.levels if isinstance(level, Level)]
    for level in levels:
        level.paint.weight.zero_()
        for conv in (level.flow.tell, level.flow.local):
            if conv is not None:
                conv.weight.mul_(STILL)
    share = torch.tensor(TAKEN).sigmoid()
    levels[-1].paint.weight[:, :3].copy_(torch.eye(3)[..., None, None] / math.sqrt(2) / share)
    levels[-1].bias.fill_(-1.0)
    _bias(levels[0].flow.tell)[-1] = TAKEN  # finer levels add to what it says


def _bias(conv: nn.Conv2d) -> torch.Tensor:
    assert conv.bias is not None  # noqa: S101  (for the type checker)
    return conv.bias
