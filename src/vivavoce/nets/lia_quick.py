"""The latent image animator for inference in single precision on CPUs: the same function, a fraction of the work.

- Of a convolution that enlarges only the products are a matrix's; their sums, the blur after it and all that follows
  are one pass over memory.
- One that halves, with the blur before it, is a 3-wide one of four pixels taken as channels. All 3-wide convolutions of
  many channels go through Winograd's tiles, with the latent's scaling, bias, activation and residual sum done on the
  way in and out. Of few channels, the latent scales the kernel instead of the maps.
- Moving features and then reducing them to colours is reducing and then moving: colours of the source are computed
  once a portrait, and of the finest features nothing else is needed.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Float32
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
from vivavoce.nets.quick import spaced, turned
from vivavoce.nets.quick_kernel import kernels

_TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
_BLOCK = 1 << 22  # numbers of products and of what goes into them held at once
_COLUMNS = 64  # of the matrices multiplied, at least
_LEAST, _SMALLEST = 48, 16  # channels, and sides of maps, from which tiles pay
_NARROW = 16  # channels up to which all taps are summed at once
_SMALLEST_HALVED = 64  # of those that are halved on the way, whose kernels are four times as large


def halving(weight: Float[Tensor, "o i 3 3"]) -> Float[Tensor, "o _i 3 3"]:
    """A blur and a convolution of stride 2 after it, as one kernel over the four pixels of every square as channels."""
    at = torch.tensor([[[2 * d + a + 2 - u for u in range(3)] for d in (-1, 0, 1)] for a in (0, 1)])
    spread = torch.where((at >= 0) & (at < len(_TAPS)), _TAPS[at.clamp(0, 3)], 0.0)
    return torch.einsum("adu,bev,oiuv->oiabde", spread, spread, weight.double()).flatten(1, 3)


class Tiled(nn.Module):
    """A 3-wide convolution in Winograd's tiles and all that happens around it, of one map at a time.

    Args:
        weight: [out, in, 3, 3].
        apart: rows and columns of the map taken as channels, 1 or 2.
        slope: of the activation below zero, 1 for none.
        gain: what the result is multiplied by.
    """

    def __init__(
        self,
        weight: Float[Tensor, "o i 3 3"],
        *,
        apart: int = 1,
        slope: float = SLOPE,
        gain: float = math.sqrt(2),
    ) -> None:
        super().__init__()
        self.apart, self.slope, self.gain = apart, slope, gain
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
        side = x.shape[-1] // self.apart
        down, pitch = side // 4, side // 4 + 1
        rows = min(down, max(1, _BLOCK // (36 * pitch * (inside + outside)), _COLUMNS // pitch))
        rows = next(n for n in range(rows, 0, -1) if down % n == 0)
        entered, left = spaced(inside, rows * pitch), spaced(outside, rows * pitch)
        style = torch.ones(len(x)) if style is None else style.contiguous()
        scale = torch.ones(outside) if scale is None else scale.contiguous()
        out = torch.empty(outside, side, side) if onto is None else onto
        around = (scale.numpy(), bias.detach().numpy(), self.slope, self.gain, onto is not None)
        for top in range(0, down, rows):
            with kernels():
                lia_kernel.enter(x.numpy(), style.numpy(), self.apart, top, rows, entered.stride(0), _flat(entered))
            torch.bmm(self.kernel, entered, out=left)
            with kernels():
                lia_kernel.leave(_flat(left), left.stride(0), rows, *around, top, out.numpy())
        return out


def _flat(matrices: Float[Tensor, "36 r c"]) -> Float32[np.ndarray, " n"]:
    return matrices.as_strided((36 * matrices.stride(0),), (1,)).numpy()


class QuickModulatedConv(nn.Module):
    """:class:`vivavoce.nets.lia.ModulatedConv`, of maps ``side`` wide: what the latent scales once is kept."""

    def __init__(self, conv: ModulatedConv, side: int) -> None:
        super().__init__()
        self.style, self.bias = conv.style, conv.bias
        weight = conv.weight.detach()
        self.register_buffer("power", weight.square().sum((2, 3)).T.contiguous(), persistent=False)
        self.power: Tensor
        pays = side >= _SMALLEST and min(weight.shape[:2]) >= _LEAST
        self.tiled = Tiled(weight) if pays and not conv.enlarge else None
        kernel = weight.movedim(1, -1).flatten(0, 2) if conv.enlarge else weight  # [(out tap) in] or [out in 3 3]
        self.register_buffer("kernel", kernel.contiguous(), persistent=False)
        self.kernel: Tensor

    def forward(self, x: Float[Tensor, "1 i h w"], latent: Float[Tensor, "1 s"]) -> Float[Tensor, "1 o _h _w"]:
        """Activated maps, twice as wide if the convolution enlarges."""
        style = self.style(latent)
        scale = (style.square() @ self.power + 1e-8).rsqrt()[0]
        if self.tiled is not None:
            return self.tiled(x[0], self.bias, style=style[0], scale=scale)[None]
        x, kernel = self._scaled(x, style)
        if self.kernel.ndim == 2:
            return self._enlarged(x[0], kernel, scale)[None]
        if max(kernel.shape[:2]) <= _NARROW:
            gain = math.sqrt(2)
            return narrow(x, kernel * (gain * scale[:, None, None, None]), gain * self.bias, SLOPE)
        made = functional.conv2d(x, kernel, padding=1)[0]
        return activated(made.mul_(scale[:, None, None]).add_(self.bias[:, None, None]))[None]

    def _scaled(self, x: Tensor, style: Float[Tensor, "1 i"]) -> tuple[Tensor, Tensor]:
        """Maps and kernel, one of which the latent scales: the smaller one."""
        if self.kernel.numel() > x.numel():
            return x * style[..., None, None], self.kernel
        return x, self.kernel * (style if self.kernel.ndim == 2 else style[..., None, None])

    def _enlarged(
        self, x: Float[Tensor, "i h w"], kernel: Float[Tensor, "_k i"], scale: Float[Tensor, " o"]
    ) -> Float[Tensor, "o _h _w"]:
        height, width = x.shape[1:]
        out = torch.empty(len(self.bias), 2 * height, 2 * width)
        some = max(1, _BLOCK // (9 * height * width))  # channels whose products the caches keep
        for at in range(0, len(out), some):
            products = (kernel[9 * at : 9 * (at + some)] @ x.flatten(1)).view(-1, 9, height, width)
            few = slice(at, at + some)
            with kernels():
                lia_kernel.gather(
                    products.numpy(), scale[few].numpy(), self.bias.detach()[few].numpy(), out[few].numpy()
                )
        return out


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
            QuickHalvingBlock(block) if side >= _SMALLEST_HALVED and len(block.conv.weight) >= _LEAST else block
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
        self.start, self.first = synthesis.start, QuickModulatedConv(synthesis.first, 4)
        self.levels = synthesis.levels
        convs: list[nn.Module] = []
        for n, level in enumerate(_levels(synthesis.levels)):
            side = 8 << n
            convs += [QuickModulatedConv(level.enlarge, side // 2), QuickModulatedConv(level.conv, side)]
        self.convs = nn.ModuleList(convs)
        self._places = [grid(torch.empty(1, 1, 8 << n, 8 << n)).movedim(-1, 0) for n in range(len(self.levels))]

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
            flow = _blended(told[0, :-1], level.flow.groups).add_(self._places[n])
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
    local = head.local
    told = torch.empty(head.tell.out_channels + (local.out_channels if local is not None else 0), *x.shape[-2:])
    if local is not None:
        kernel = local.weight * style.view(head.groups, 1, -1).expand(-1, 3, -1).flatten(0, 1)[..., None, None]
        if kernel.shape[1] <= _NARROW:
            narrow(x, kernel, _bias(local), 1.0, told[None, :-1])
        else:
            told[:-1] = functional.conv2d(x, kernel, local.bias, padding=1, groups=head.groups)[0]
    last = told[-head.tell.out_channels :].flatten(1)
    torch.addmm(_bias(head.tell)[:, None], head.tell.weight[:, :, 0, 0] * style, x[0].flatten(1), out=last)
    return _enlarged(coarser[0] if coarser is not None else None, told)[None]


def _blended(told: Float[Tensor, "k h w"], groups: int) -> Float[Tensor, "2 h w"]:
    """:meth:`vivavoce.nets.lia.FlowHead.blended` of one picture, in place wherever memory has been touched already."""
    if groups == 1:
        return told.tanh()
    parts = told.unflatten(0, (groups, 3))
    share = parts[:, 2:].sub(parts[:, 2:].amax(0, keepdim=True)).exp_()
    return parts[:, :2].tanh().mul_(share).sum(0).div_(share.sum(0))


def narrow(
    x: Float[Tensor, "1 i h w"],
    kernel: Float[Tensor, "o _k 3 3"],
    bias: Float[Tensor, " o"],
    slope: float,
    out: Float[Tensor, "1 o h w"] | None = None,
) -> Float[Tensor, "1 o h w"]:
    """A convolution of few channels, in as many groups as ``kernel`` leaves, activated: below zero times ``slope``."""
    out = torch.empty(1, len(kernel), *x.shape[-2:]) if out is None else out
    bordered = functional.pad(x, (1, 1, 1, 1))[0].numpy()
    with kernels():
        lia_kernel.narrow(bordered, kernel.contiguous().numpy(), bias.detach().numpy(), slope, out[0].numpy())
    return out


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
