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

# Single precision throughout: a whole number times one would be double, and half as many at a time.
ONE, TWO, FOUR, FIVE, EIGHT = np.float32(1), np.float32(2), np.float32(4), np.float32(5), np.float32(8)
HALF, THIRD = np.float32(0.5), np.float32(1 / 3)
Row = Float32[np.ndarray, " t"]


def _into(  # noqa: C901  (one flat list of cases)
    n: int, src: Row, at: tuple[int, ...], made: Row, to: int, size: int
) -> None:
    """Row ``n`` of the matrix that brings 6 pixels, ``src`` from ``at`` on, into the basis of the products.

    One sum a loop, so that it is vectorised; views are made in here, where their counting costs nothing.
    """
    a, b, e, f = src[at[0] :], src[at[1] :], src[at[2] :], src[at[3] :]
    g, h, out = src[at[4] :], src[at[5] :], made[to : to + size]
    if n == 0:
        for t in range(size):
            out[t] = FOUR * a[t] - FIVE * e[t] + g[t]
    elif n == 1:
        for t in range(size):
            out[t] = f[t] + g[t] - FOUR * (b[t] + e[t])
    elif n == 2:
        for t in range(size):
            out[t] = FOUR * (b[t] - e[t]) - f[t] + g[t]
    elif n == 3:
        for t in range(size):
            out[t] = TWO * (f[t] - b[t]) + g[t] - e[t]
    elif n == 4:
        for t in range(size):
            out[t] = TWO * (b[t] - f[t]) + g[t] - e[t]
    else:
        for t in range(size):
            out[t] = FOUR * b[t] - FIVE * f[t] + h[t]


def _back(n: int, src: Row, at: tuple[int, ...], made: Row, to: int, size: int) -> None:
    """Pixel ``n`` of the 4 that 6 products, ``src`` from ``at`` on, give."""
    a, b, e, f = src[at[0] :], src[at[1] :], src[at[2] :], src[at[3] :]
    g, h, out = src[at[4] :], src[at[5] :], made[to : to + size]
    if n == 0:
        for t in range(size):
            out[t] = a[t] + b[t] + e[t] + f[t] + g[t]
    elif n == 1:
        for t in range(size):
            out[t] = b[t] - e[t] + TWO * (f[t] - g[t])
    elif n == 2:
        for t in range(size):
            out[t] = b[t] + e[t] + FOUR * (f[t] + g[t])
    else:
        for t in range(size):
            out[t] = b[t] - e[t] + EIGHT * (f[t] - g[t]) + h[t]


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
    pitch, made = across + 1, entered.reshape(entered.size)
    for k in numba.prange(channels * fine):
        c, a, b = k // fine, k % fine // factor, k % factor
        scale = style[c]
        apart = np.zeros((6, 4, pitch), np.float32)  # every fourth pixel, the first before the row's beginning
        turned = np.empty(4 * pitch, np.float32)
        flat = apart.reshape(24 * pitch)
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
            size = 4 * pitch
            for n in range(6):
                into(n, flat, (0, size, 2 * size, 3 * size, 4 * size, 5 * size), turned, 0, size)
                for m in range(6):
                    to = ((6 * n + m) * len(entered[0]) + k) * rows * across + row * across
                    into(m, turned, (0, pitch, 2 * pitch, 3 * pitch, 1, pitch + 1), made, to, across)


@kernel
def leave(  # noqa: C901, PLR0913, PLR0917  (kernels see arrays and numbers only, and one pass does it all)
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
    """The products' way back, from tile row ``top`` on: scaled, biased, activated, times ``gain``.

    ``slope`` is the activation's below zero. ``factor * factor`` channels of products make one of ``factor`` times the
    side.
    ``add`` to what is there.
    """
    channels, _, width = out.shape
    fine, across = factor * factor, width // factor // 4
    rows, products = left.shape[2] // across, left.reshape(left.size)
    plane = left.shape[1] * left.shape[2]
    for c in numba.prange(channels):
        half = np.empty(6 * across, np.float32)
        line = np.empty(across, np.float32)
        lines = np.empty((4 * factor, width), np.float32)
        scaled, biased, below = np.float32(scale[c] * gain), np.float32(bias[c] * gain), np.float32(slope)
        for row in range(rows):
            for part in range(fine):
                k, a, b = c * fine + part, part // factor, part % factor
                begin = k * rows * across + row * across
                for y in range(4):
                    for n in range(6):
                        p = begin + n * plane
                        at = (p, p + 6 * plane, p + 12 * plane, p + 18 * plane, p + 24 * plane, p + 30 * plane)
                        back(y, products, at, half, n * across, across)
                    for m in range(4):
                        at = (0, across, 2 * across, 3 * across, 4 * across, 5 * across)
                        back(m, half, at, line, 0, across)
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
    kept, wide, high = channels - 3, np.float32(width / 2), np.float32(height / 2)
    for y in numba.prange(height):
        at = np.empty((4, width), np.int32)
        share = np.empty((4, width), np.float32)
        stays = ONE - mask[y]
        for t in range(width):
            right = (flow[0, y, t] + ONE) * wide - HALF
            down = (flow[1, y, t] + ONE) * high - HALF
            left, above = int(np.floor(right)), int(np.floor(down))
            u, v = right - np.float32(left), down - np.float32(above)
            for n in range(4):
                row, column = above + n // 2, left + n % 2
                inside = 0 <= row < height and 0 <= column < width
                at[n, t] = row * width + column if inside else 0
                weight = (v if n // 2 else ONE - v) * (u if n % 2 else ONE - u)
                share[n, t] = weight * mask[y, t] if inside else np.float32(0)
        for k in range(channels):
            one = features[k].reshape(height * width)
            to = x[k, y] if k < kept else painted[k - kept, y]
            if k == kept:
                stays[:] = 0
            for t in range(width):
                near = one[at[0, t]] * share[0, t] + one[at[1, t]] * share[1, t]
                far = one[at[2, t]] * share[2, t] + one[at[3, t]] * share[3, t]
                to[t] = to[t] * stays[t] + near + far


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
                blend[t + 1] = np.float32(0.5625) * x[c, row, t]  # (3 / 4) ** 2
            if 0 <= other < height:
                for t in range(width):
                    blend[t + 1] += np.float32(0.1875) * x[c, other, t]  # 3 / 4 * 1 / 4
            to = out[c, 2 * row + side]
            for t in range(width):
                to[2 * t] += blend[t + 1] + THIRD * blend[t]
                to[2 * t + 1] += blend[t + 1] + THIRD * blend[t + 2]


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
