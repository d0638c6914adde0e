"""Inner loops of :mod:`vivavoce.nets.lia_quick`: into and out of Winograd's tiles, and features moved by a flow.

Tiles are Lavin and Gray's F(4x4, 3x3) (2016), as in :mod:`vivavoce.nets.quick_kernel`. Here what surrounds a
convolution happens on the way: scaling of channels, activation, and pictures taken apart or put together two by two.
Maps are taken apart into every fourth pixel first, so that all sums run over neighbours in memory.
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
HALF, THIRD, GAIN = np.float32(0.5), np.float32(1 / 3), np.float32(np.sqrt(2))
# Of the smoothed double of a row, for even and odd rows: what three rows' taps 0, 1 and 2 count.
CARRIED = np.array(
    [[[0, 1, 3], [3, 3, 1], [1, 0, 0]], [[0, 0, 1], [1, 3, 3], [3, 1, 0]]], np.float32
) / np.float32(4)  # fmt: skip
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
    plane: int,
    made: Float32[np.ndarray, " n"],
) -> None:
    """Tiles of 6 x 6 pixels, every 4 pixels, ``rows`` tile rows from ``top`` on, in the basis of the products.

    Channels are scaled by ``style``; each becomes ``factor * factor`` of every ``factor``-th row and column. Sides must
    be multiples of ``4 * factor``. ``made`` takes 36 matrices, each ``plane`` numbers after the one before: a row for
    each channel, of all tiles, and one more at the end of each tile row that means nothing. So all sums run over all
    tiles at once.
    """
    channels, height, width = x.shape
    fine, across = factor * factor, width // factor // 4
    pitch, size = across + 1, rows * (across + 1)
    for k in numba.prange(channels * fine):
        c, a, b = k // fine, k % fine // factor, k % factor
        scale = style[c]
        # Every fourth pixel of every fourth row, the first before the picture's edge.
        apart = np.zeros((4, 4, size + pitch), np.float32)
        turned = np.zeros(4 * size + 1, np.float32)
        for n in range(4 * rows + 2):
            y, first = factor * (4 * top + n - 1) + a, n // 4 * pitch
            if 0 <= y < height:
                for t in range(across):
                    at = 4 * factor * t + b
                    apart[1, n % 4, first + t] = x[c, y, at] * scale
                    apart[2, n % 4, first + t] = x[c, y, at + factor] * scale
                    apart[3, n % 4, first + t] = x[c, y, at + 2 * factor] * scale
                    apart[0, n % 4, first + t + 1] = x[c, y, at + 3 * factor] * scale
        flat, step = apart.reshape(apart.size), size + pitch
        for n in range(6):
            for m in range(4):
                p = 4 * m * step
                at = (p, p + step, p + 2 * step, p + 3 * step, p + pitch, p + step + pitch)
                into(n, flat, at, turned, m * size, size)
            for m in range(6):
                into(m, turned, (0, size, 2 * size, 3 * size, 1, size + 1), made, (6 * n + m) * plane + k * size, size)


@kernel
def leave(  # noqa: PLR0913, PLR0917  (kernels see arrays and numbers only, and one pass does it all)
    products: Float32[np.ndarray, " n"],
    plane: int,
    rows: int,
    scale: Float32[np.ndarray, " c"],
    bias: Float32[np.ndarray, " c"],
    slope: float,
    gain: float,
    add: bool,
    top: int,
    out: Float32[np.ndarray, "c h w"],
) -> None:
    """The products' way back, ``rows`` tile rows from ``top`` on: scaled, biased, activated, times ``gain``.

    ``slope`` is the activation's below zero. ``add`` to what is there. ``products`` lie as :func:`enter` lays them.
    """
    channels, _, width = out.shape
    pitch, size = width // 4 + 1, rows * (width // 4 + 1)
    for c in numba.prange(channels):
        half, lines = np.empty(6 * size, np.float32), np.empty(4 * size, np.float32)
        scaled, biased, below = np.float32(scale[c] * gain), np.float32(bias[c] * gain), np.float32(slope)
        for y in range(4):
            for n in range(6):
                p = n * plane + c * size
                at = (p, p + 6 * plane, p + 12 * plane, p + 18 * plane, p + 24 * plane, p + 30 * plane)
                back(y, products, at, half, n * size, size)
            for m in range(4):
                back(m, half, (0, size, 2 * size, 3 * size, 4 * size, 5 * size), lines, m * size, size)
            for t in range(4 * size):
                value = lines[t] * scaled + biased
                lines[t] = max(value, value * below)
            for row in range(rows):
                to, first = out[c, 4 * (top + row) + y], row * pitch
                for t in range(width // 4):
                    for m in range(4):
                        kept = to[4 * t + m] if add else np.float32(0)
                        to[4 * t + m] = kept + lines[m * size + first + t]


@kernel
def gather(
    products: Float32[np.ndarray, "c 9 h w"],
    scale: Float32[np.ndarray, " c"],
    bias: Float32[np.ndarray, " c"],
    out: Float32[np.ndarray, "c h2 w2"],
) -> None:
    """What a transposed convolution of stride 2 and a blur after it make of its nine taps' products; activated.

    Pixel ``2 p + a`` takes from ``p + d`` what tap u puts there and the blur carries on, by ``2 d - a + 1 + u``; the
    same along rows and along columns.
    """
    channels, _, height, width = products.shape
    low, high, slope = np.float32(0.25), np.float32(0.75), np.float32(0.2)
    for c in numba.prange(channels):
        column = np.zeros((3, width + 2), np.float32)  # for each tap along the row; zero at both ends
        gained, biased = np.float32(scale[c] * GAIN), np.float32(bias[c] * GAIN)
        for y in range(2 * height):
            for v in range(3):
                to = column[v, 1:-1]
                to[:] = 0
                for d in range(3):
                    row = y // 2 + d - 1
                    if 0 <= row < height:
                        i, j, k = CARRIED[y % 2, d, 0], CARRIED[y % 2, d, 1], CARRIED[y % 2, d, 2]
                        e, f, g = products[c, v, row], products[c, 3 + v, row], products[c, 6 + v, row]
                        for t in range(width):
                            to[t] += i * e[t] + j * f[t] + k * g[t]
            line, zeroth, first, second = out[c, y], column[0], column[1], column[2]
            for t in range(width):
                even = high * (zeroth[t + 1] + first[t + 1] + second[t])
                even = even + low * (second[t + 1] + first[t] + zeroth[t + 2])
                odd = high * (first[t + 1] + second[t + 1] + zeroth[t + 2])
                odd = odd + low * (zeroth[t + 1] + second[t] + first[t + 2])
                even, odd = even * gained + biased, odd * gained + biased
                line[2 * t] = max(even, even * slope)
                line[2 * t + 1] = max(odd, odd * slope)


@kernel
def narrow(
    x: Float32[np.ndarray, "i hp wp"],
    weight: Float32[np.ndarray, "o k 3 3"],
    bias: Float32[np.ndarray, " o"],
    slope: float,
    out: Float32[np.ndarray, "o h w"],
) -> None:
    """A 3-wide convolution of few channels, in i / k groups, of maps that have a border of 1; then activated.

    All nine taps in one sum: what is summed up is loaded once for nine products.
    """
    channels, height, width = out.shape
    each, groups = weight.shape[1], len(x) // weight.shape[1]
    for y in numba.prange(height):
        total, below = np.empty(width, np.float32), np.float32(slope)
        for c in range(channels):
            total[:] = bias[c]
            for k in range(each):
                i, w = c * groups // channels * each + k, weight[c, k]
                a, b, e = x[i, y], x[i, y + 1], x[i, y + 2]
                p, q, r, s, u, v = w[0, 0], w[0, 1], w[0, 2], w[1, 0], w[1, 1], w[1, 2]
                f, g, h = w[2, 0], w[2, 1], w[2, 2]
                for t in range(width):
                    above = p * a[t] + q * a[t + 1] + r * a[t + 2]
                    total[t] += above + s * b[t] + u * b[t + 1] + v * b[t + 2] + f * e[t] + g * e[t + 1] + h * e[t + 2]
            to = out[c, y]
            for t in range(width):
                to[t] = max(total[t], total[t] * below)


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
