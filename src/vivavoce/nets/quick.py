"""Convolutions with fewer multiplications, for inference in single precision on CPUs.

Nothing here changes what a network computes, beyond rounding: 3-wide convolutions go through Winograd's minimal
filtering, the one very wide convolution through Fourier space, and the sums of an enlarged convolution through one
pass over memory. :func:`quicken` puts them in the place of the ordinary modules, which stay the way to train, to
export and to run on GPUs.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivavoce.nets.convolution import EnlargedConv
from vivavoce.nets.quick_kernel import enter, kernels, leave, spread

# Lavin and Gray 2016, F(4x4, 3x3): tiles of 6 x 6 pixels give 4 x 4, with 36 multiplications instead of 144.
_KERNEL = (
    torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64) / 24
)
_TILE = 4
_BLOCK = 4 << 20  # numbers of transformed input and output held at once, about what the caches keep
_COLUMNS = 256  # of the matrices multiplied, at least
_LEAST = 112  # channels from which transforming pays
_SMALLEST = 32 * 32  # and pixels
_WINDOW = 28  # pixels of a Fourier tile


def turned(weight: Float[Tensor, "o i d 3 3"]) -> Float[Tensor, "36 o di"]:
    """Kernels in the basis of the products, in single precision."""
    products = torch.einsum("ay,oidyx,bx->abodi", _KERNEL, weight.double(), _KERNEL).float()
    return products.flatten(3).flatten(0, 1).contiguous()


class WinogradConv(nn.Module):
    """A 3-wide convolution of two or three dimensions with padding 1, of one picture or volume at a time."""

    def __init__(self, conv: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        weight = conv.weight.detach().double()
        weight = weight.unsqueeze(2) if weight.ndim == 4 else weight  # [o i d 3 3]
        self.depth = weight.shape[2]
        self.plain = conv
        bias = conv.bias if conv.bias is not None else torch.zeros(len(weight))
        self.register_buffer("kernel", turned(weight), persistent=False)
        self.register_buffer("bias", bias.detach().float().clone(), persistent=False)
        self.kernel: Tensor
        self.bias: Tensor

    def forward(self, x: Float[Tensor, "b i *s"]) -> Float[Tensor, "b o *s"]:
        """Same size."""
        if x.shape[-2] * x.shape[-1] < _SMALLEST or not _single(x):
            return self.plain(x)
        volumes = x.unsqueeze(2) if x.ndim == 4 else x
        made = torch.stack([self._one(volume.contiguous()) for volume in volumes])
        return made.squeeze(2) if x.ndim == 4 else made

    def _one(self, x: Float[Tensor, "i d h w"]) -> Float[Tensor, "o d h w"]:
        inside, depth, height, width = x.shape
        outside, pad = len(self.bias), self.depth // 2
        across, down = -(-width // _TILE), -(-height // _TILE)
        rows = max(1, min(down, max(_COLUMNS // across, _BLOCK // (36 * across * (inside + outside)))))
        out = torch.empty(outside, depth, height, width)
        entered = spaced((depth + 2 * pad) * inside, rows * across).zero_()
        left = torch.empty(36, outside, rows * across)
        for top in range(0, down, rows):
            with kernels():
                enter(x.numpy(), top, rows, across, pad, entered.numpy())
            for at in range(depth):
                torch.bmm(self.kernel, entered[:, at * inside : (at + self.depth) * inside], out=left)
                with kernels():
                    leave(left.numpy(), self.bias.numpy(), at, top, across, out.numpy())
        return out


def spaced(rows: int, columns: int) -> Float[Tensor, "36 r c"]:
    """36 matrices to write to, whose starts do not fall on the same line of a cache, as multiples of a page would."""
    size = rows * columns + 16
    size += 0 if size // 16 % 2 else 16
    return torch.empty(36 * size).as_strided((36, rows, columns), (size, columns, 1))


class QuickEnlargedConv(nn.Module):
    """:class:`vivavoce.nets.convolution.EnlargedConv`, its sums in one pass."""

    def __init__(self, conv: EnlargedConv) -> None:
        super().__init__()
        self.conv = conv
        taps = conv.weight.detach().movedim((-2, -1), (0, 1)).flatten(0, 2).contiguous()  # [(row column out) in *depth]
        self.register_buffer("taps", taps[..., None, None], persistent=False)
        self.taps: Tensor

    def forward(self, x: Float[Tensor, "b i *s h w"]) -> Float[Tensor, "b o *s hf wf"]:
        """What the ordinary convolution gives on ``x`` enlarged."""
        if not _single(x):
            return self.conv(x)
        flat = self.conv.dims == 2
        if flat:
            products = nn.functional.conv2d(x, self.taps).unsqueeze(2)
        else:
            products = nn.functional.conv3d(x, self.taps, padding=(1, 0, 0))
        factor, outside = self.conv.factor, len(self.conv.bias)
        batch, _, depth, height, width = products.shape
        made = torch.empty(batch, outside, depth, height * factor, width * factor)
        for product, out in zip(products, made, strict=True):
            taps = product.contiguous().view(9, outside, depth, height, width)
            with kernels():
                spread(taps.numpy(), self.conv.bias.detach().numpy(), factor, out.numpy())
        return made.squeeze(2) if flat else made


class FourierConv(nn.Module):
    """A wide convolution of a volume, by products in Fourier space: height and width in overlapping tiles.

    Depth stays in ordinary space; its taps are summed after the products.
    """

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.plain = conv
        outside, inside, depth, side = conv.weight.shape[:4]
        self.outside, self.taps, self.side = outside, depth, side
        # Fourier products convolve, networks correlate: the kernel is turned round.
        turned = torch.fft.rfft2(conv.weight.detach().double().flip(-2, -1), s=(_WINDOW, _WINDOW))
        kernel = turned.permute(3, 4, 2, 0, 1).reshape(-1, depth * outside, inside)
        self.register_buffer("kernel", kernel.to(torch.complex64).contiguous(), persistent=False)  # [f (d o) i]
        bias = conv.bias if conv.bias is not None else torch.zeros(outside)
        self.register_buffer("bias", bias.detach().float().clone(), persistent=False)
        self.kernel: Tensor
        self.bias: Tensor

    def forward(self, x: Float[Tensor, "b i d h w"]) -> Float[Tensor, "b o d h w"]:
        """Same size."""
        return torch.stack([self._one(volume) for volume in x]) if _single(x) else self.plain(x)

    def _one(self, x: Float[Tensor, "i d h w"]) -> Float[Tensor, "o d h w"]:
        inside, depth, height, width = x.shape
        reach, step = self.side // 2, _WINDOW - self.side + 1
        down, across = -(-height // step), -(-width // step)
        below, right = down * step - height, across * step - width
        padded = nn.functional.pad(x, (reach, right + reach, reach, below + reach))
        tiles = padded.unfold(2, _WINDOW, step).unfold(3, _WINDOW, step)  # [i d down across window window]
        seen = torch.fft.rfft2(tiles).permute(4, 5, 0, 1, 2, 3).reshape(self.kernel.shape[0], inside, -1).contiguous()
        products = torch.bmm(self.kernel, seen).view(-1, self.taps, self.outside, depth, down * across)
        total = _summed_over_depth(products)
        total = total.view(_WINDOW, -1, self.outside, depth, down, across).permute(2, 3, 4, 5, 0, 1)
        made = torch.fft.irfft2(total, s=(_WINDOW, _WINDOW))[..., self.side - 1 :, self.side - 1 :]
        made = made.permute(0, 1, 2, 4, 3, 5).reshape(self.outside, depth, down * step, across * step)
        return made[..., :height, :width] + self.bias[:, None, None, None]


def _single(x: Tensor) -> bool:
    """Whether to compute in single precision on a CPU; anything else is for the ordinary modules."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def _summed_over_depth(products: Tensor) -> Tensor:
    """``[f taps o d t]``: tap k of a cell belongs to the cell k - taps // 2 before it. -> ``[f o d t]``."""
    taps, depth = products.shape[1], products.shape[3]
    total = products[:, taps // 2].clone()
    for tap in range(taps):
        shift = tap - taps // 2
        if shift and abs(shift) < depth:
            first, last = max(0, -shift), depth - max(0, shift)
            total[:, :, first:last] += products[:, tap, :, first + shift : last + shift]
    return total


def quicken(network: nn.Module) -> nn.Module:
    """Replace the convolutions of a frozen network on a CPU by quicker ones, in place. Returns the network."""
    for name, module in list(network.named_children()):
        if (quicker := _quicker(module)) is not None:
            setattr(network, name, quicker.eval())
        else:
            quicken(module)
    return network


def _quicker(module: nn.Module) -> nn.Module | None:
    if isinstance(module, EnlargedConv):
        return QuickEnlargedConv(module)
    if not isinstance(module, nn.Conv2d | nn.Conv3d) or module.groups > 1 or set(module.stride) != {1}:
        return None
    if set(module.kernel_size) == {3} and set(module.padding) == {1} and min(module.weight.shape[:2]) >= _LEAST:
        return WinogradConv(module)
    if isinstance(module, nn.Conv3d) and set(module.kernel_size) == {7} and set(module.padding) == {3}:
        return FourierConv(module)
    return None
