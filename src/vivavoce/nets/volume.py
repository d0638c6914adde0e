"""Feature volumes sampled where a field points, in operations every exporter knows.

Coordinates are in [-1, 1], in the order x (right), y (down), z (in). Two conventions meet in this family of models
and must both be kept: grids put -1 and 1 on the *middles* of the first and last cell, sampling takes them as the
*outer edges* of those cells (PyTorch's ``align_corners=False``). Outside the volume everything is zero.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def exporting() -> bool:
    """Whether a graph is being made for another program right now."""
    return torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting()


def axis(count: int, like: Tensor) -> Float[Tensor, " n"]:
    """Coordinates of ``count`` cells along one axis, -1 and 1 on the middles of the outermost ones."""
    return 2 * torch.arange(count, device=like.device, dtype=like.dtype) / (count - 1) - 1


def grid(depth: int, height: int, width: int, like: Tensor) -> Float[Tensor, "d h w 3"]:
    """Coordinates (x, y, z) of every cell of a volume."""
    z, y, x = torch.meshgrid(axis(depth, like), axis(height, like), axis(width, like), indexing="ij")
    return torch.stack([x, y, z], -1)


def sample(volume: Float[Tensor, "b c d h w"], at: Float[Tensor, "b e i j 3"]) -> Float[Tensor, "b c e i j"]:
    """Trilinear samples of ``volume`` at the coordinates ``at``; zero outside.

    PyTorch's own operator where it runs; while a graph is being exported, the same from eight gathers, because
    five-dimensional sampling is missing in ONNX Runtime, OpenVINO and TensorRT.
    """
    if exporting():
        return sample_by_gathering(volume, at)
    return functional.grid_sample(volume, at, align_corners=False)


def sample_by_gathering(
    volume: Float[Tensor, "b c d h w"], at: Float[Tensor, "b e i j 3"]
) -> Float[Tensor, "b c e i j"]:
    """:func:`sample` from gathers and sums only."""
    batch, channels, *size = volume.shape
    flat = volume.flatten(2)
    total = torch.zeros(batch, channels, at[0, ..., 0].numel(), dtype=volume.dtype, device=volume.device)
    lows, shares = [], []
    for dim, count in enumerate(reversed(size)):  # x, y, z
        place = ((at[..., dim] + 1) * count - 1) / 2
        low = place.floor()
        lows.append(low)
        shares.append(place - low)
    for corner in range(8):
        index, weight = _corner(corner, lows, shares, tuple(size))
        picked = flat.gather(2, index.reshape(batch, 1, -1).expand(-1, channels, -1))
        total = total + picked * weight.reshape(batch, 1, -1)
    return total.unflatten(2, at.shape[1:4])


def _corner(
    corner: int, lows: list[Tensor], shares: list[Tensor], size: tuple[int, ...]
) -> tuple[Int[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Flat index of one of the eight cells around each place, and its weight (0 where it lies outside)."""
    depth, height, width = size
    cells, weight = [], torch.ones_like(shares[0])
    for dim, count in enumerate((width, height, depth)):
        upper = corner >> dim & 1
        cell = lows[dim] + upper
        inside = ((cell >= 0) & (cell <= count - 1)).to(weight.dtype)
        weight = weight * inside * (shares[dim] if upper else 1 - shares[dim])
        cells.append(cell.clamp(0, count - 1).long())
    x, y, z = cells
    return (z * height + y) * width + x, weight


def shifted(volume: Float[Tensor, "b c d h w"], by: Float[Tensor, "b k 3"]) -> Float[Tensor, "b k c d h w"]:
    """What :func:`sample` gives on the whole grid moved by each of ``by``, at a fraction of the cost.

    A constant shift makes trilinear sampling a product of three one-dimensional interpolations, which are small
    matrix products. They need no gathers, so they export anywhere.
    """
    size = volume.shape[2:]
    x, y, z = (_hats(count, by[..., dim]) for dim, count in enumerate(reversed(size)))
    # Depth first: it is the shortest, so the two larger products work on what it has selected.
    rows = torch.matmul(z.unsqueeze(2), volume.flatten(3).unsqueeze(1))  # [b k c d (h w)]
    rows = rows.unflatten(-1, size[1:])
    rows = torch.matmul(y[:, :, None, None], rows)
    return torch.matmul(rows, x[:, :, None, None].transpose(-1, -2))


def _hats(count: int, shift: Float[Tensor, "b k"]) -> Float[Tensor, "b k n n"]:
    """Row i: the weights of all cells at the i-th grid coordinate moved by ``shift``."""
    place = ((axis(count, shift) + shift[..., None] + 1) * count - 1) / 2
    cells = torch.arange(count, device=shift.device, dtype=shift.dtype)
    return (1 - (place[..., None] - cells).abs()).clamp_min(0)


def bumps(size: tuple[int, int, int], middles: Float[Tensor, "b k 3"], variance: float) -> Float[Tensor, "b k d h w"]:
    """Gaussian bumps ``exp(-|grid - middle|^2 / (2 variance))``, as products of three one-dimensional ones."""
    depth, height, width = size
    parts = []
    for dim, count in enumerate((width, height, depth)):
        away = axis(count, middles) - middles[..., dim, None]
        parts.append(torch.exp(-0.5 / variance * away.square()))
    x, y, z = parts
    return z[..., :, None, None] * (y[..., :, None] * x[..., None, :]).unsqueeze(-3)
