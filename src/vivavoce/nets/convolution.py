"""Convolutions with their norms, foldable, and convolutions of enlarged maps that never enlarge them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vivavoce.nets.volume import exporting

Conv = nn.Conv2d | nn.Conv3d
_SIDE = 3  # of the kernels of enlarged maps


class ConvNorm(nn.Module):
    """A 3-wide convolution and a batch norm; :func:`fold` makes one convolution of them."""

    def __init__(self, inside: int, outside: int, dims: int = 2) -> None:
        super().__init__()
        convolution, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.conv: nn.Module = convolution(inside, outside, 3, padding=1)
        self.norm: nn.Module = norm(outside)

    def forward(self, x: Float[Tensor, "b i *s"]) -> Float[Tensor, "b o *s"]:
        """Convolved and normalised, no activation."""
        return self.norm(self.conv(x))

    def folded(self) -> None:
        """Multiply the norm's gain into the kernel. Only for networks in evaluation mode."""
        if isinstance(self.norm, nn.Identity):
            return
        self.conv, self.norm = fused(self.conv, self.norm), nn.Identity()


def fused(conv: nn.Module, norm: nn.Module) -> nn.Module:
    """``norm(conv(x))`` as one convolution of the same kind; both must be in evaluation mode."""
    if isinstance(conv, EnlargedConv):
        plain = conv.plain()
        return EnlargedConv.of(fuse_conv_bn_eval(plain, norm), conv.factor)  # type: ignore[type-var]
    return fuse_conv_bn_eval(conv, norm)  # type: ignore[type-var]


def fold(network: nn.Module) -> nn.Module:
    """Fold every batch norm that follows a convolution, in place; exact up to rounding. Returns the network."""
    for module in list(network.modules()):
        if module is not network and callable(getattr(module, "folded", None)):
            module.folded()  # type: ignore[operator]
    own = getattr(network, "folded", None)
    if callable(own):
        own()
    return network


class EnlargedConv(nn.Module):
    """A 3-wide convolution of a map enlarged ``factor`` times by repetition (last two axes), at the small size.

    ``conv(enlarge(x))``, exactly: within a repeated cell all taps of the kernel meet equal values, so each tap is
    multiplied with the small map once, and every output pixel is a sum of those products. That costs
    ``1 / factor^2`` of the multiplications.
    """

    def __init__(self, inside: int, outside: int, factor: int, dims: int = 2) -> None:
        super().__init__()
        self.factor, self.dims = factor, dims
        kernel = torch.empty(outside, inside, *(_SIDE,) * dims)
        self.weight = nn.Parameter(kernel)
        self.bias = nn.Parameter(torch.zeros(outside))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    @classmethod
    def of(cls, conv: Conv, factor: int) -> EnlargedConv:
        """The same kernel as an ordinary convolution's."""
        made = cls(conv.in_channels, conv.out_channels, factor, conv.weight.ndim - 2)
        with torch.no_grad():
            made.weight.copy_(conv.weight)
            if conv.bias is not None:
                made.bias.copy_(conv.bias)
        return made.train(conv.training).requires_grad_(conv.weight.requires_grad)

    def plain(self) -> Conv:
        """The ordinary convolution with this kernel, for maps that are already enlarged."""
        outside, inside = self.weight.shape[:2]
        kind = nn.Conv2d if self.dims == 2 else nn.Conv3d
        made = kind(inside, outside, _SIDE, padding=1)
        with torch.no_grad():
            made.weight.copy_(self.weight)
            made.bias.copy_(self.bias)  # type: ignore[union-attr]
        return made.train(self.training).requires_grad_(self.weight.requires_grad)

    def forward(self, x: Float[Tensor, "b i *s h w"]) -> Float[Tensor, "b o *s hf wf"]:
        """What the ordinary convolution gives on ``x`` enlarged."""
        if exporting():  # as one operator that every program knows; kernels made on the way are not understood
            rows = torch.stack([x] * self.factor, -2).flatten(-3, -2)
            large = torch.stack([rows] * self.factor, -1).flatten(-2, -1)
            convolve = functional.conv2d if self.dims == 2 else functional.conv3d
            return convolve(large, self.weight, self.bias, padding=1)
        products = self._products(x)  # 9 x [b o *s h w]: tap (row, column)
        rows = [self._spread(products[3 * n : 3 * n + 3], -1) for n in range(3)]
        out = self._spread(rows, -2)
        return out + self.bias.view(-1, *(1,) * self.dims)

    def _products(self, x: Tensor) -> tuple[Tensor, ...]:
        """Every tap of the kernel with the small map."""
        taps = self.weight.movedim((-2, -1), (0, 1)).flatten(0, 2)  # [(row column out) in *depth]
        if self.dims == 2:
            many = functional.conv2d(x, taps[..., None, None])
        else:
            many = functional.conv3d(x, taps[..., None, None], padding=(1, 0, 0))
        return many.chunk(_SIDE * _SIDE, dim=1)

    def _spread(self, taps: tuple[Tensor, ...] | list[Tensor], dim: int) -> Tensor:
        """Sums along one axis: the first phase of a cell also meets its left neighbour, the last its right one."""
        before, middle, after = taps
        size = before.shape[dim]
        left = torch.cat([torch.zeros_like(before.narrow(dim, 0, 1)), before.narrow(dim, 0, size - 1)], dim)
        right = torch.cat([after.narrow(dim, 1, size - 1), torch.zeros_like(after.narrow(dim, 0, 1))], dim)
        first, last = left + middle + after, before + middle + right
        phases = [first, *[before + middle + after] * (self.factor - 2), last]
        # Behind every pixel of the first phase come those of the others.
        return torch.stack(phases, dim).flatten(*((-2, -1) if dim == -1 else (-3, -2)))
