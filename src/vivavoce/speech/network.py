"""The phone network: normalised log-mel rows (100 Hz) to phone classes and a compact hidden layer (50 Hz).

Every layer looks a fixed number of rows back and ahead and keeps the rows it has yet to look back at in an
explicit memory, so feeding a recording in pieces gives the rows of feeding it whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu

from vivavoce.speech import phones
from vivavoce.speech.mel import BANDS

Memory = tuple[Float[Tensor, "b _t _c"], ...]


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


class Taps(nn.Module):
    """Depth-wise dilated convolution over time, rows last but one; a few multiply-adds beat a general one here."""

    def __init__(self, width: int, taps: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.weight = nn.Parameter(torch.empty(taps, width).uniform_(-1, 1) / math.sqrt(taps))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b u c"]:
        """``dilation * (taps - 1)`` rows fewer come out."""
        taps = len(self.weight)
        count = x.shape[1] - self.dilation * (taps - 1)
        y = self.bias
        for tap in range(taps):
            y = torch.addcmul(y, x[:, tap * self.dilation : tap * self.dilation + count], self.weight[tap])
        return y


class Rows(nn.BatchNorm1d):
    """Batch normalisation of ``[b t c]``."""

    def forward(self, input: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:  # noqa: A002  (torch's name)
        return super().forward(input.flatten(0, 1)).view_as(input)


class Block(nn.Module):
    """Dilated depth-wise convolution and two pointwise layers, around a residual connection."""

    def __init__(self, width: int, expand: int, dropout: float, shape: tuple[int, int, int]) -> None:
        super().__init__()
        dilation, back, ahead = shape
        self.back, self.ahead = dilation * back, dilation * ahead
        self.norm = Rows(width)
        self.near = Taps(width, back + ahead + 1, dilation)
        self.widen = nn.Linear(width, expand * width)
        self.narrow = nn.Linear(expand * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b u c"]:
        """``back + ahead`` rows fewer come out."""
        y = self.drop(self.narrow(gelu(self.widen(self.near(self.norm(x))))))
        return x[:, self.back : x.shape[1] - self.ahead] + y


class PhoneNetwork(nn.Module):
    """Phones from sound. Pure network: what it must remember between calls is handed in and out."""

    first = 6  # mel rows the first layer sees for each of its rows: two before, its own two, two after

    def __init__(self, config: PhoneConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PhoneConfig()
        self.enter = nn.Linear(BANDS * self.first, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.expand, config.dropout, b) for b in config.blocks)
        self.norm = Rows(config.width)
        self.compress = nn.Linear(config.width, config.hidden)
        self.level = Rows(config.hidden, affine=False)  # features leave with unit variance
        self.classify = nn.Linear(config.hidden, len(phones.CLASSES))

    @property
    def ahead(self) -> int:
        """Mel rows after a 20 ms row's own two that its output depends on."""
        return 2 + 2 * self.config.ahead

    def start(self, batch: int = 1) -> Memory:
        """Memory before any sound: zero rows in every layer."""
        width = self.config.width
        layers = [self.enter.weight.new_zeros(batch, 2, BANDS)]
        layers += [self.enter.weight.new_zeros(batch, block.back, width) for block in self._blocks]
        return tuple(layers)

    def forward(
        self, rows: Float[Tensor, "b t 64"], memory: Memory
    ) -> tuple[Float[Tensor, "b u 29"], Float[Tensor, "b u h"], Memory]:
        """Class logits and features of every 20 ms row whose future is all there, and the memory to go on with.

        ``t`` is even. The first call gives ``t // 2 - ahead // 2`` rows (``ahead`` mel rows are still missing for
        the rest), every later one ``t // 2``.
        """
        x = torch.cat([memory[0], rows], 1)
        layers = [x[:, x.shape[1] - self.first + 2 :]]
        x = gelu(self.enter(x.unfold(1, self.first, 2).flatten(2)))
        for block, held in zip(self._blocks, memory[1:], strict=True):
            x = torch.cat([held, x], 1)
            layers.append(x[:, x.shape[1] - block.back - block.ahead :])
            x = block(x)
        hidden = self.level(self.compress(self.norm(x)))
        return self.classify(gelu(hidden)), hidden, tuple(layers)

    @property
    def _blocks(self) -> Sequence[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]
