"""Inner loops of :mod:`vivavoce.nets.lia_quick`: into and out of Winograd's tiles, and features moved by a flow.

Tiles are Lavin and Gray's F(4x4, 3x3) (2016), as in :mod:`vivavoce.nets.quick_kernel`. Here what surrounds a
convolution happens on the way: scaling of channels, activation, and pictures taken apart or put together two by two.
Rows are taken apart into every fourth pixel first, so that all sums run over neighbours in memory.
"""

from __future__ import annotations

import inspect
from typing import Any

import numba
import numpy as np
from jaxtyping import Float32

from vivavoce.nets.quick_kernel import kernel

Row = Float32[np.ndarray, " t"]


def _into(n: int, a: Row, b: Row, e: Row, f: Row, g: Row, h: Row, out: Row) -> None:
    """Row ``n`` of the matrix that brings 6 pixels into the basis of the products. One sum a loop, to be vectorised."""
    size = len(out)
    if n == 0:
        for t in range(size):
            out[t] = 4 * a[t] - 5 * e[t] + g[t]
    elif n == 1:
        for t in range(size):
            out[t] = f[t] + g[t] - 4 * (b[t] + e[t])
    elif n == 2:  # noqa: PLR2004
        for t in range(size):
            out[t] = 4 * (b[t] - e[t]) - f[t] + g[t]
    elif n == 3:  # noqa: PLR2004
        for t in range(size):
            out[t] = 2 * (f[t] - b[t]) + g[t] - e[t]
    elif n == 4:  # noqa: PLR2004
        for t in range(size):
            out[t] = 2 * (b[t] - f[t]) + g[t] - e[t]
    else:
        for t in range(size):
            out[t] = 4 * b[t] - 5 * f[t] + h[t]


def _back(n: int, a: Row, b: Row, e: Row, f: Row, g: Row, h: Row, out: Row) -> None:
    """Pixel ``n`` of the 4 that 6 products give."""
    size = len(out)
    if n == 0:
        for t in range(size):
            out[t] = a[t] + b[t] + e[t] + f[t] + g[t]
    elif n == 1:
        for t in range(size):
            out[t] = b[t] - e[t] + 2 * (f[t] - g[t])
    elif n == 2:  # noqa: PLR2004
        for t in range(size):
            out[t] = b[t] + e[t] + 4 * (f[t] + g[t])
    else:
        for t in range(size):
            out[t] = b[t] - e[t] + 8 * (f[t] - g[t]) + h[t]


_inner: Any = numba.njit(nogil=True, fastmath=True, cache=True)
into, back = _inner(inspect.unwrap(_into)), _inner(inspect.unwrap(_back))


@kernel
def enter(
    x: Float32[np.ndarray, "c h w"],
    style: Float32[np.ndarray, " c"],
    factor: int,
    top: int,
    rows: int,
    entered: Float32[np.ndarray, "36 k t"],
) -> None:
    """Tiles of 6 x 6 pixels, every 4 pixels, from tile row ``top`` on, in the basis of the products.

    Channels are scaled by ``style``; each becomes ``factor * factor`` of every ``factor``-th row and column. Sides must
    be multiples of ``4 * factor``.
    """
    channels, height, width = x.shape
    fine, across = factor * factor, width // factor // 4
    for k in numba.prange(channels * fine):
        c, a, b = k // fine, k % fine // factor, k % factor
        scale = style[c]
        apart = np.zeros((6, 4, across + 1), np.float32)  # every fourth pixel, the first before the row's beginning
        turned = np.empty((4, across + 1), np.float32)
        for row in range(rows):
            for n in range(6):
                y = factor * (4 * (top + row) + n - 1) + a
                if 0 <= y < height:
                    for t in range(across):
                        at = 4 * factor * t + b
                        apart[n, 1, t] = x[c, y, at] * scale
                        apart[n, 2, t] = x[c, y, at + factor] * scale
                        apart[n, 3, t] = x[c, y, at + 2 * factor] * scale
                        apart[n, 0, t + 1] = x[c, y, at + 3 * factor] * scale
                else:
                    apart[n] = 0
            first = row * across
            flat = apart.reshape(6, 4 * (across + 1))
            for n in range(6):
                into(n, flat[0], flat[1], flat[2], flat[3], flat[4], flat[5], turned.reshape(4 * (across + 1)))
                p, q, r, s = turned[0], turned[1], turned[2], turned[3]
                for m in range(6):
                    out = entered[6 * n + m, k, first : first + across]
                    into(m, p[:across], q[:across], r[:across], s[:across], p[1:], q[1:], out)


@kernel
def leave(
    left: Float32[np.ndarray, "36 k t"],
    scale: Float32[np.ndarray, " c"],
    bias: Float32[np.ndarray, " c"],
    slope: float,
    gain: float,
    add: bool,
    factor: int,
    top: int,
    out: Float32[np.ndarray, "c h w"],
) -> None:
    """The products' way back, from tile row ``top`` on: scaled, biased, activated (``slope`` below zero), times ``gain``.

    ``factor * factor`` channels of products make one of ``factor`` times the side. ``add`` to what is there.
    """
    channels, _, width = out.shape
    fine, across = factor * factor, width // factor // 4
    rows = left.shape[2] // across
    for c in numba.prange(channels):
        half = np.empty((6, across), np.float32)
        line = np.empty(across, np.float32)
        lines = np.empty((4 * factor, width), np.float32)
        scaled, biased, below = np.float32(scale[c] * gain), np.float32(bias[c] * gain), np.float32(slope)
        for row in range(rows):
            here = slice(row * across, (row + 1) * across)
            for part in range(fine):
                k, a, b = c * fine + part, part // factor, part % factor
                for y in range(4):
                    for n in range(6):
                        p, q, r = left[n, k, here], left[6 + n, k, here], left[12 + n, k, here]
                        s, u, v = left[18 + n, k, here], left[24 + n, k, here], left[30 + n, k, here]
                        back(y, p, q, r, s, u, v, half[n])
                    for m in range(4):
                        back(m, half[0], half[1], half[2], half[3], half[4], half[5], line)
                        for t in range(across):
                            value = line[t] * scaled + biased
                            line[t] = max(value, value * below)
                        to = lines[y * factor + a]
                        for t in range(across):
                            to[(4 * t + m) * factor + b] = line[t]
            first = 4 * factor * (top + row)
            for y in range(4 * factor):
                if add:
                    for t in range(width):
                        out[c, first + y, t] += lines[y, t]
                else:
                    out[c, first + y] = lines[y]


@kernel
def warp(
    features: Float32[np.ndarray, "k h w"],
    flow: Float32[np.ndarray, "2 h w"],
    mask: Float32[np.ndarray, "h w"],
    x: Float32[np.ndarray, "c h w"],
    painted: Float32[np.ndarray, "3 h w"],
) -> None:
    """Features taken from ``flow`` (places in half widths), bilinear, nothing outside; times ``mask``.

    The last three channels go to ``painted``; the others are blended into ``x``, which stays where the mask is 0.
    """
    channels, height, width = features.shape
    kept = channels - 3
    for y in numba.prange(height):
        at = np.empty((4, width), np.int32)
        share = np.empty((4, width), np.float32)
        for t in range(width):
            right = (flow[0, y, t] + 1) * width / 2 - 0.5
            down = (flow[1, y, t] + 1) * height / 2 - 0.5
            left, above = int(np.floor(right)), int(np.floor(down))
            u, v = right - left, down - above
            for n in range(4):
                row, column = above + n // 2, left + n % 2
                inside = 0 <= row < height and 0 <= column < width
                at[n, t] = row * width + column if inside else 0
                weight = (v if n // 2 else 1 - v) * (u if n % 2 else 1 - u)
                share[n, t] = weight * mask[y, t] if inside else 0
        for k in range(channels):
            one = features[k].reshape(height * width)
            to = x[k, y] if k < kept else painted[k - kept, y]
            for t in range(width):
                moved = (
                    one[at[0, t]] * share[0, t]
                    + one[at[1, t]] * share[1, t]
                    + one[at[2, t]] * share[2, t]
                    + one[at[3, t]] * share[3, t]
                )
                to[t] = moved + to[t] * (1 - mask[y, t]) if k < kept else moved


@kernel
def enlarge(x: Float32[np.ndarray, "c h w"], out: Float32[np.ndarray, "c h2 w2"]) -> None:
    """Add ``x``, enlarged smoothly to twice its side (taps 1 3 3 1 over 4), to ``out``."""
    channels, height, width = x.shape
    for job in numba.prange(channels * height):
        c, row = job // height, job % height
        blend = np.zeros(width + 2, np.float32)
        for side in range(2):
            other = row - 1 + 2 * side
            for t in range(width):
                blend[t + 1] = 0.5625 * x[c, row, t]  # (3 / 4) ** 2
            if 0 <= other < height:
                for t in range(width):
                    blend[t + 1] += 0.1875 * x[c, other, t]  # 3 / 4 * 1 / 4
            to = out[c, 2 * row + side]
            for t in range(width):
                to[2 * t] += blend[t + 1] + blend[t] / 3
                to[2 * t + 1] += blend[t + 1] + blend[t + 2] / 3


@kernel
def thin(x: Float32[np.ndarray, "c h w"], out: Float32[np.ndarray, "c h2 w2"]) -> None:
    """Every second pixel of ``x`` smoothed (taps 1 3 3 1 over 8)."""
    channels, height, width = x.shape
    for job in numba.prange(channels * height // 2):
        c, row = job // (height // 2), job % (height // 2)
        blend = np.zeros(width + 2, np.float32)  # a zero at both ends
        for n in range(4):
            y = 2 * row - 1 + n
            tap = np.float32(0.375 if n in (1, 2) else 0.125)
            if 0 <= y < height:
                for t in range(width):
                    blend[t + 1] += tap * x[c, y, t]
        for t in range(width // 2):
            near = blend[2 * t + 1] + blend[2 * t + 2]
            out[c, row, t] = np.float32(0.375) * near + np.float32(0.125) * (blend[2 * t] + blend[2 * t + 3])
