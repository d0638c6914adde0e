"""The latent image animator for inference in single precision on CPUs: the same function, a fraction of the work.

- A convolution that enlarges, with the blur after it, is one 3-wide convolution that gives four pixels for each; one
  that halves, with the blur before it, is one of four pixels taken as channels.
- All 3-wide convolutions of large maps go through Winograd's tiles, with the latent's scaling, bias, activation and
  residual sum done on the way in and out.
- Moving features and then reducing them to colours is reducing and then moving: colours of the source are computed
  once a portrait, and of the finest features nothing else is needed.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.nets import lia_kernel
from vivavoce.nets.lia import (
    SLOPE,
    Appearance,
    Encoder,
    FlowHead,
    HalvingBlock,
    Level,
    Lia,
    ModulatedConv,
    Painted,
    Synthesis,
    activated,
    grid,
)
from vivavoce.nets.quick import turned
from vivavoce.nets.quick_kernel import kernels

_TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
_BLOCK = 1 << 20  # numbers of transformed input and output held at once, about what a core's share of caches keeps
_SMALLEST = 16  # side of the maps from which tiles pay
_SMALLEST_TURNED = 64  # and of those that are enlarged or halved on the way, whose kernels are four times as large


def enlarging(weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "_o i 3 3"]:
    """A transposed convolution of stride 2 and a blur after it, as one kernel for each of four neighbouring pixels."""
    # Pixel 2p + a takes from p + d what tap u puts there and the blur carries on, by 2d - a + 1 + u.
    spread = _reached([[[2 * d - a + 1 + u for u in range(3)] for d in (-1, 0, 1)] for a in (0, 1)], 2.0)
    return torch.einsum("adu,bev,oiuv->oabide", spread, spread, weight.double()).flatten(0, 2)


def halving(weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "o _i 3 3"]:
    """A blur and a convolution of stride 2 after it, as one kernel over the four pixels of every square as channels."""
    spread = _reached([[[2 * d + a + 2 - u for u in range(3)] for d in (-1, 0, 1)] for a in (0, 1)], 1.0)
    return torch.einsum("adu,bev,oiuv->oiabde", spread, spread, weight.double()).flatten(1, 3)


def _reached(steps: list[list[list[int]]], gain: float) -> Float[Tensor, "2 3 3"]:
    """The blur's tap at each of ``steps``; nothing beyond its four taps."""
    at = torch.tensor(steps)
    return torch.where((at >= 0) & (at < len(_TAPS)), gain * _TAPS[at.clamp(0, 3)], 0.0)


class Tiled(nn.Module):
    """A 3-wide convolution in Winograd's tiles and all that happens around it, of one map at a time.

    Args:
        weight: [out, in, 3, 3].
        apart: rows and columns of the map taken as channels, 1 or 2.
        together: channels put back as rows and columns, 1 or 2.
        slope: of the activation below zero, 1 for none.
        gain: what the result is multiplied by.
    """

    def __init__(
        self,
        weight: Float[Tensor, "o i 3 3"],
        *,
        apart: int = 1,
        together: int = 1,
        slope: float = SLOPE,
        gain: float = math.sqrt(2),
    ) -> None:
        super().__init__()
        self.apart, self.together, self.slope, self.gain = apart, together, slope, gain
        self.register_buffer("kernel", turned(weight.detach().unsqueeze(2)), persistent=False)  # [36 o i]
        self.kernel: Tensor

    def forward(
        self,
        x: Float[Tensor, "c h w"],
        bias: Float[Tensor, " o"],
        *,
        style: Float[Tensor, " c"] | None = None,
        scale: Float[Tensor, " o"] | None = None,
        onto: Float[Tensor, "o _h _w"] | None = None,
    ) -> Float[Tensor, "o _h _w"]:
        """Channels times ``style``, convolved, times ``scale``, biased, activated, added to ``onto`` (in place)."""
        x = x.contiguous()
        outside, inside = self.kernel.shape[1:]
        channels, side = outside // self.together**2, x.shape[-1] // self.apart
        across = down = side // 4
        rows = min(down, max(1, _BLOCK // (36 * across * (inside + outside))))
        rows = next(n for n in range(rows, 0, -1) if down % n == 0)
        entered, left = torch.empty(36, inside, rows * across), torch.empty(36, outside, rows * across)
        style = torch.ones(len(x)) if style is None else style.contiguous()
        scale = torch.ones(channels) if scale is None else scale.contiguous()
        out = torch.empty(channels, side * self.together, side * self.together) if onto is None else onto
        for top in range(0, down, rows):
            with kernels():
                lia_kernel.enter(x.numpy(), style.numpy(), self.apart, top, rows, entered.numpy())
            torch.bmm(self.kernel, entered, out=left)
            around = (scale.numpy(), bias.detach().numpy(), self.slope, self.gain, onto is not None, self.together)
            with kernels():
                lia_kernel.leave(left.numpy(), *around, top, out.numpy())
        return out


class QuickModulatedConv(nn.Module):
    """:class:`vivavoce.nets.lia.ModulatedConv` in tiles."""

    def __init__(self, conv: ModulatedConv) -> None:
        super().__init__()
        self.style, self.bias = conv.style, conv.bias
        weight = conv.weight.detach()
        self.register_buffer("power", weight.square().sum((2, 3)).T.contiguous(), persistent=False)
        self.power: Tensor
        self.tiled = Tiled(enlarging(weight), together=2) if conv.enlarge else Tiled(weight)

    def forward(self, x: Float[Tensor, "1 i h w"], latent: Float[Tensor, "1 s"]) -> Float[Tensor, "1 o _h _w"]:
        """Activated maps, twice as wide if the convolution enlarges."""
        style = self.style(latent)
        scale = (style.square() @ self.power + 1e-8).rsqrt()
        return self.tiled(x[0], self.bias, style=style[0], scale=scale[0])[None]


class QuickHalvingBlock(nn.Module):
    """:class:`vivavoce.nets.lia.HalvingBlock` in tiles; without norms."""

    def __init__(self, block: HalvingBlock) -> None:
        super().__init__()
        self.conv, self.halve = block.conv, block.halve
        self.enter = Tiled(block.conv.weight)
        self.leave = Tiled(halving(block.halve.weight), apart=2, gain=1.0)  # activations grow by what the sum shrinks
        thin = block.skip.weight.detach().flatten(1) / math.sqrt(2)
        self.register_buffer("skip", thin.contiguous(), persistent=False)
        self.skip: Tensor

    def forward(self, x: Float[Tensor, "1 i h w"]) -> Float[Tensor, "1 o h2 w2"]:
        """Half as wide."""
        channels, side = x.shape[1], x.shape[-1] // 2
        thin = torch.empty(channels, side, side)
        with kernels():
            lia_kernel.thin(x[0].contiguous().numpy(), thin.numpy())
        onto = (self.skip @ thin.flatten(1)).view(-1, side, side)
        changed = self.enter(x[0], self.conv.bias)
        return self.leave(changed, self.halve.bias, onto=onto)[None]


class QuickEncoder(nn.Module):
    """:class:`vivavoce.nets.lia.Encoder`, one picture at a time."""

    def __init__(self, encoder: Encoder, size: int) -> None:
        super().__init__()
        self.encoder = encoder
        blocks = [block for block in encoder.blocks if isinstance(block, HalvingBlock)]
        sides = [size >> n for n in range(len(blocks))]
        self.blocks = nn.ModuleList(
            QuickHalvingBlock(block) if side >= _SMALLEST_TURNED else block
            for block, side in zip(blocks, sides, strict=True)
        )

    def forward(self, picture: Float[Tensor, "b 3 h w"]) -> Appearance:
        """RGB in [-1, 1] -> appearance."""
        enter = self.encoder.enter
        seen: list[list[Tensor]] = []
        for one in picture.split(1):
            maps = [activated(enter(one))]
            for block in self.blocks:
                maps.append(block(maps[-1]))
            seen.append(maps)
        maps = [torch.cat(some) for some in zip(*seen, strict=True)]
        return Appearance(self.encoder.leave(maps.pop()).flatten(1), tuple(reversed(maps)))

    def code(self, latent: Float[Tensor, "b s"]) -> Float[Tensor, "b d"]:
        """The motion in a picture whose latent this is."""
        return self.encoder.code(latent)


class QuickSynthesis(nn.Module):
    """:class:`vivavoce.nets.lia.Synthesis`, one picture at a time."""

    def __init__(self, synthesis: Synthesis) -> None:
        super().__init__()
        self.start, self.first = synthesis.start, synthesis.first
        self.levels = synthesis.levels
        convs: list[nn.Module] = []
        for n, level in enumerate(_levels(synthesis.levels)):
            side = 8 << n
            quick = side // 2 >= _SMALLEST_TURNED
            convs.append(QuickModulatedConv(level.enlarge) if quick else level.enlarge)
            convs.append(QuickModulatedConv(level.conv) if side >= _SMALLEST else level.conv)
        self.convs = nn.ModuleList(convs)

    def prepared(self, features: tuple[Float[Tensor, "b _c _h _w"], ...]) -> tuple[Float[Tensor, "b _k _h _w"], ...]:
        """What of a portrait's features moves: three channels of colour come last; of the finest, these alone."""
        made = []
        for n, (level, feature) in enumerate(zip(_levels(self.levels), features, strict=True)):
            colours = functional.conv2d(feature, level.paint.weight)
            made.append(colours if n == len(features) - 1 else torch.cat([feature, colours], 1))
        return tuple(made)

    def forward(self, latent: Float[Tensor, "b s"], features: tuple[Float[Tensor, "b _c _h _w"], ...]) -> Painted:
        """``features`` as they are or :meth:`prepared`."""
        if features[0].shape[1] == len(self.start):  # that of the coarsest maps is known
            features = self.prepared(features)
        each = [self._one(row, tuple(f[n] for f in features)) for n, row in enumerate(latent.split(1))]
        return Painted(*(torch.cat(part) for part in zip(*each, strict=True)))

    def _one(self, latent: Float[Tensor, "1 s"], features: tuple[Float[Tensor, "_k _h _w"], ...]) -> Painted:
        x = self.first(self.start[None], latent)
        told: Tensor | None = None
        picture: Tensor | None = None
        flow = mask = x
        for n, (level, feature) in enumerate(zip(_levels(self.levels), features, strict=True)):
            x = self.convs[2 * n + 1](self.convs[2 * n](x, latent), latent)
            told = _told(level.flow, x, latent, told)
            flow = level.flow.blended(told[:, :-1])[0] + grid(told).movedim(-1, 0)
            mask = told[:, -1:].sigmoid()
            painted = torch.zeros(3, *x.shape[-2:])
            x = x.contiguous()
            with kernels():
                lia_kernel.warp(
                    feature.contiguous().numpy(), flow.numpy(), mask[0, 0].numpy(), x[0].numpy(), painted.numpy()
                )
            painted = activated(painted + _bias(level.paint)[:, None, None]) + level.bias[:, None, None]
            picture = _enlarged(picture, painted)
        assert picture is not None  # noqa: S101  (for the type checker)
        return Painted(picture[None], flow.movedim(0, -1)[None], mask)


def _told(head: FlowHead, x: Tensor, latent: Tensor, coarser: Tensor | None) -> Tensor:
    """What a flow head tells; the latent scales its few weights instead of the maps."""
    style = head.style(latent)[0]
    tell = head.tell.weight[:, :, 0, 0] * style
    told = torch.addmm(_bias(head.tell)[:, None], tell, x[0].flatten(1)).view(-1, *x.shape[-2:])
    if head.local is not None:
        kernel = head.local.weight * style.view(head.groups, 1, -1).expand(-1, 3, -1).flatten(0, 1)[..., None, None]
        local = functional.conv2d(x, kernel, head.local.bias, padding=1, groups=head.groups)[0]
        told = torch.cat([local, told])
    return _enlarged(coarser[0] if coarser is not None else None, told)[None]


def _enlarged(coarser: Tensor | None, onto: Tensor) -> Tensor:
    if coarser is not None:
        onto = onto.contiguous()
        with kernels():
            lia_kernel.enlarge(coarser.contiguous().numpy(), onto.numpy())
    return onto


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None  # noqa: S101  (for the type checker)
    return conv.bias


def _levels(levels: nn.ModuleList) -> list[Level]:
    return [level for level in levels if isinstance(level, Level)]


def quicken(networks: Lia) -> Lia:
    """Replace the networks of ``networks``, frozen on a CPU and without norms, by quicker ones, in place.

    They draw one picture at a time, in single precision only, and cannot be trained or exported.

    Raises:
        ValueError: the networks still have their norms (see :meth:`vivavoce.nets.lia.Lia.plain`).
    """
    if networks.config.normalised:
        raise ValueError("networks with norms must be made plain first")
    networks.encoder = QuickEncoder(networks.encoder, networks.config.size)  # type: ignore[assignment]
    networks.synthesis = QuickSynthesis(networks.synthesis)  # type: ignore[assignment]
    return networks.eval()


def prepared(networks: Lia, appearance: Appearance) -> Appearance:
    """A portrait's appearance, ready to be moved many times."""
    synthesis = networks.synthesis
    if not isinstance(synthesis, QuickSynthesis):
        return appearance
    return Appearance(appearance.latent, synthesis.prepared(appearance.features))
