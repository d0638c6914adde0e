"""The phone network: normalised log-mel rows (100 Hz) to phone classes and a compact hidden layer (50 Hz).

Every layer looks a fixed number of rows back and ahead and keeps the rows it has yet to look back at in an
explicit memory, so feeding a recording in pieces gives the rows of feeding it whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu

from vivavoce.speech import phones
from vivavoce.speech.mel import BANDS

Memory = tuple[Float[Tensor, "b _c _t"], ...]


@dataclass(frozen=True, slots=True)
class PhoneConfig:
    """Size of the network. A block sees rows ``dilation * (-back .. +ahead)`` of the layer below it (20 ms rows)."""

    width: int = 176
    hidden: int = 48  # numbers of the hidden layer that are the features
    expand: int = 2
    dropout: float = 0.1
    blocks: tuple[tuple[int, int, int], ...] = (  # (dilation, back, ahead)
        (1, 2, 2), (1, 2, 2), (2, 3, 1), (2, 4, 0), (4, 4, 0), (8, 4, 0), (1, 4, 0),
    )  # fmt: skip

    @property
    def ahead(self) -> int:
        """20 ms rows of the future one output row depends on, not counting the first layer's."""
        return sum(dilation * ahead for dilation, _, ahead in self.blocks)


class Block(nn.Module):
    """Depth-wise dilated convolution and a pointwise pair, around a residual connection."""

    def __init__(self, width: int, expand: int, dropout: float, shape: tuple[int, int, int]) -> None:
        super().__init__()
        dilation, back, ahead = shape
        self.back, self.ahead = dilation * back, dilation * ahead
        self.norm = nn.BatchNorm1d(width)
        self.near = nn.Conv1d(width, width, back + ahead + 1, dilation=dilation, groups=width)
        self.widen = nn.Conv1d(width, expand * width, 1)
        self.narrow = nn.Conv1d(expand * width, width, 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b c t"]) -> Float[Tensor, "b c u"]:
        """``x`` holds ``back + ahead`` rows more than come out."""
        y = self.drop(self.narrow(gelu(self.widen(self.near(self.norm(x))))))
        return x[:, :, self.back : x.shape[2] - self.ahead] + y


class PhoneNetwork(nn.Module):
    """Phones from sound. Pure network: what it must remember between calls is handed in and out."""

    first = 6  # mel rows the first layer sees for each of its rows: two before, its own two, two after

    def __init__(self, config: PhoneConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PhoneConfig()
        self.enter = nn.Conv1d(BANDS, config.width, self.first, stride=2)
        self.blocks = nn.ModuleList(Block(config.width, config.expand, config.dropout, b) for b in config.blocks)
        self.norm = nn.BatchNorm1d(config.width)
        self.compress = nn.Conv1d(config.width, config.hidden, 1)
        self.level = nn.BatchNorm1d(config.hidden, affine=False)  # features leave with unit variance
        self.classify = nn.Conv1d(config.hidden, len(phones.CLASSES), 1)

    @property
    def ahead(self) -> int:
        """Mel rows after a 20 ms row's own two that its output depends on."""
        return 2 + 2 * self.config.ahead

    def start(self, batch: int = 1) -> Memory:
        """Memory before any sound: silence of zero rows."""
        width = self.config.width
        layers = [self.enter.weight.new_zeros(batch, BANDS, 2)]
        layers += [self.enter.weight.new_zeros(batch, width, block.back) for block in self._blocks]
        return tuple(layers)

    def forward(
        self, rows: Float[Tensor, "b t 64"], memory: Memory
    ) -> tuple[Float[Tensor, "b u 29"], Float[Tensor, "b u h"], Memory]:
        """Class logits and features of every 20 ms row whose future is all there, and the memory to go on with.

        ``t`` is even. The first call gives ``t // 2 - ahead // 2`` rows (``ahead`` mel rows are still missing for
        the rest), every later one ``t // 2``.
        """
        x, layers = rows.mT, []
        x = torch.cat([memory[0], x], 2)
        layers.append(x[:, :, x.shape[2] - self.first + 2 :])
        x = gelu(self.enter(x))
        for block, held in zip(self._blocks, memory[1:], strict=True):
            x = torch.cat([held, x], 2)
            layers.append(x[:, :, x.shape[2] - block.back - block.ahead :])
            x = block(x)
        hidden = self.level(self.compress(self.norm(x)))
        return self.classify(gelu(hidden)).mT, hidden.mT, tuple(layers)

    @property
    def _blocks(self) -> Sequence[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]
