"""The inner loops of the mesh renderer: triangles to a sampling map, layers to pixels.

Compiled by numba on first use and cached on disk. They release the interpreter lock, so a second thread can encode.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

Kernel = TypeVar("Kernel", bound=Callable[..., None])

ALL, BACK, FRONT = 0, 1, 2  # which triangles to draw: all in order; those seen from behind; the others, nearest wins


def kernel(function: Kernel) -> Kernel:
    """Compile ``function``. Unwrapped first: run-time type checkers wrap functions in what numba cannot compile."""
    compiled: Any = numba.njit(cache=True, nogil=True, fastmath=True, boundscheck=False, error_model="numpy")(
        inspect.unwrap(function)
    )
    return compiled


@kernel
def _mixed(colour, behind, keep, skin, part):
    """``colour`` (in 1/256) over ``behind`` with opacity ``keep`` (of 255), then ``part`` (of 256) of ``skin``."""
    value = int(behind) + ((colour - (int(behind) << 8)) * keep + 32640) // 65280
    return value + (((int(skin) - value) * part) >> 8)


@kernel
def draw_triangles(  # noqa: C901, PLR0912
    triangles, vertices, depth, texture, faces, nearest, sampling
):
    """Write where each covered pixel takes its colour from.

    Args:
        triangles: int32 ``[f 3]``, rows of ``vertices``; seen from the front when clockwise on screen.
        vertices: float32 ``[n 2]``, x right and y down, in pixels; pixel centres lie at whole numbers.
        depth: float32 ``[n]``, larger is further away.
        texture: float32 ``[n 3]``, x and y of each vertex in the source picture, and the share of bare skin.
        faces: ``ALL``, ``BACK`` or ``FRONT``.
        nearest: float32 ``[h w]``, depth of what was drawn; read and written by ``FRONT`` only.
        sampling: float32 ``[h w 3]``, written: ``texture`` at each pixel.
    """
    height, width = nearest.shape
    for k in range(triangles.shape[0]):
        i, j, m = triangles[k, 0], triangles[k, 1], triangles[k, 2]
        x0, y0 = vertices[i, 0], vertices[i, 1]
        ex1, ey1 = vertices[j, 0] - x0, vertices[j, 1] - y0
        ex2, ey2 = vertices[m, 0] - x0, vertices[m, 1] - y0
        area = ex1 * ey2 - ex2 * ey1
        if abs(area) < 1e-6 or (faces == 2 and area < 0) or (faces == 1 and area > 0):
            continue
        top = max(0, math.ceil(y0 + min(0.0, ey1, ey2) - 1e-3))
        bottom = min(height - 1, math.floor(y0 + max(0.0, ey1, ey2) + 1e-3))
        left = max(0, math.ceil(x0 + min(0.0, ex1, ex2) - 1e-3))
        right = min(width - 1, math.floor(x0 + max(0.0, ex1, ex2) + 1e-3))
        if top > bottom or left > right:
            continue
        inverse = 1.0 / area
        # Weights of the second and third corner grow by these per pixel to the right and down.
        ax, ay = ey2 * inverse, -ex2 * inverse
        bx, by = -ey1 * inverse, ex1 * inverse
        u0, v0, s0, z0 = texture[i, 0], texture[i, 1], texture[i, 2], depth[i]
        du1, dv1, ds1, dz1 = texture[j, 0] - u0, texture[j, 1] - v0, texture[j, 2] - s0, depth[j] - z0
        du2, dv2, ds2, dz2 = texture[m, 0] - u0, texture[m, 1] - v0, texture[m, 2] - s0, depth[m] - z0
        for y in range(top, bottom + 1):
            a = ax * (left - x0) + ay * (y - y0)
            b = bx * (left - x0) + by * (y - y0)
            # The span of pixels where all three weights are positive, a hair more so that no seam stays open.
            low, high = 0.0, float(right - left)
            for side in range(3):
                if side == 0:
                    weight, slope = a, ax
                elif side == 1:
                    weight, slope = b, bx
                else:
                    weight, slope = 1 - a - b, -ax - bx
                if slope > 1e-12:
                    low = max(low, (-1e-4 - weight) / slope)
                elif slope < -1e-12:
                    high = min(high, (-1e-4 - weight) / slope)
                elif weight < -1e-4:
                    high = -1.0
            if low > high:
                continue
            for n in range(math.ceil(low), math.floor(high) + 1):
                p, q, x = a + ax * n, b + bx * n, left + n
                if faces == 2:
                    z = z0 + p * dz1 + q * dz2
                    if z >= nearest[y, x]:
                        continue
                    nearest[y, x] = z
                sampling[y, x, 0] = u0 + p * du1 + q * du2
                sampling[y, x, 1] = v0 + p * dv1 + q * dv2
                sampling[y, x, 2] = s0 + p * ds1 + q * ds2


@kernel
def compose(foreground, bare, plate, sampling, out):
    """Fetch the foreground where ``sampling`` says (bilinear) and lay it over the plate.

    Args:
        foreground: uint32 ``[h w]``, bytes red, green, blue (not premultiplied) and opacity, red lowest.
        bare: uint8 ``[h w 3]``, skin to show where the picture does not have any.
        plate: uint8 ``[h w 3]``, what is behind.
        sampling: float32 ``[h w 3]``, x and y in ``foreground`` (outside it the nearest pixel counts) and the share of
            ``bare`` (negative: at most what the foreground leaves open).
        out: uint8 ``[h w 3]``, written.
    """
    height, width = out.shape[0], out.shape[1]
    right, bottom = np.float32(width - 1.001), np.float32(height - 1.001)
    pair = np.uint64(0x00FF00FF)
    for y in range(height):
        for x in range(width):
            u = min(max(sampling[y, x, 0], np.float32(0.0)), right)
            v = min(max(sampling[y, x, 1], np.float32(0.0)), bottom)
            share = sampling[y, x, 2]
            i, j = int(v), int(u)
            fx, fy = int((u - j) * 256 + np.float32(0.5)), int((v - i) * 256 + np.float32(0.5))
            w11 = (fx * fy + 128) >> 8
            w10, w01 = np.uint64(fx - w11), np.uint64(fy - w11)
            w00, w11 = np.uint64(256 - fx - fy + w11), np.uint64(w11)
            p00, p10 = np.uint64(foreground[i, j]), np.uint64(foreground[i, j + 1])
            p01, p11 = np.uint64(foreground[i + 1, j]), np.uint64(foreground[i + 1, j + 1])
            if share == 0 and (p00 | p10 | p01 | p11) >> np.uint64(24) == 0:
                out[y, x, 0], out[y, x, 1], out[y, x, 2] = plate[y, x, 0], plate[y, x, 1], plate[y, x, 2]
                continue
            # Two bytes at once, 16 bits apart: their weighted sums cannot reach each other.
            rb = w00 * (p00 & pair) + w10 * (p10 & pair) + w01 * (p01 & pair) + w11 * (p11 & pair)
            p00, p10, p01, p11 = p00 >> np.uint64(8), p10 >> np.uint64(8), p01 >> np.uint64(8), p11 >> np.uint64(8)
            ga = w00 * (p00 & pair) + w10 * (p10 & pair) + w01 * (p01 & pair) + w11 * (p11 & pair)
            alpha = np.int64(ga >> np.uint64(16))
            red, green = np.int64(rb & np.uint64(0xFFFF)), np.int64(ga & np.uint64(0xFFFF))
            blue = np.int64(rb >> np.uint64(16))
            if alpha == 65280 and share <= 0:
                out[y, x, 0], out[y, x, 1], out[y, x, 2] = (red + 128) >> 8, (green + 128) >> 8, (blue + 128) >> 8
                continue
            if share < 0:  # skin only where the picture ends
                share = -share * (np.float32(1.0) - alpha * np.float32(1 / 65280))
            part, keep = int(min(share, np.float32(1.0)) * 256), alpha >> 8
            out[y, x, 0] = _mixed(red, plate[y, x, 0], keep, bare[i, j, 0], part)
            out[y, x, 1] = _mixed(green, plate[y, x, 1], keep, bare[i, j, 1], part)
            out[y, x, 2] = _mixed(blue, plate[y, x, 2], keep, bare[i, j, 2], part)


@kernel
def soften_tears(sampling, threshold, picture, out):
    """Smooth the pixels where the sampling map jumps: there one part hides another, and the edge has stair steps.

    Args:
        sampling: float32 ``[h w 3]``; the first two count.
        threshold: jump between neighbours, in pixels, above which an edge is an edge.
        picture: uint8 ``[h w 3]``.
        out: uint8 ``[h w 3]``, a copy of ``picture``, overwritten at the edges.
    """
    height, width = out.shape[0], out.shape[1]
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            u, v = sampling[y, x, 0], sampling[y, x, 1]
            jump = max(
                abs(sampling[y, x + 1, 0] - u) + abs(sampling[y, x + 1, 1] - v),
                abs(sampling[y, x - 1, 0] - u) + abs(sampling[y, x - 1, 1] - v),
                abs(sampling[y + 1, x, 0] - u) + abs(sampling[y + 1, x, 1] - v),
                abs(sampling[y - 1, x, 0] - u) + abs(sampling[y - 1, x, 1] - v),
            )
            if jump <= threshold:
                continue
            for c in range(3):
                total = 4 * int(picture[y, x, c])
                total += 2 * (int(picture[y - 1, x, c]) + int(picture[y + 1, x, c]))
                total += 2 * (int(picture[y, x - 1, c]) + int(picture[y, x + 1, c]))
                total += int(picture[y - 1, x - 1, c]) + int(picture[y - 1, x + 1, c])
                total += int(picture[y + 1, x - 1, c]) + int(picture[y + 1, x + 1, c])
                out[y, x, c] = total >> 4


@kernel
def paste(drawn, weight, left, top, frame):
    """Blend a redrawn region into a planar frame.

    Args:
        drawn: uint8 ``[h w 3]``.
        weight: uint8 ``[h w]``; 255 takes ``drawn``, 0 keeps the frame.
        left: x of the region in the frame.
        top: y of the region in the frame.
        frame: uint8 ``[3 H W]``, changed in place.
    """
    for c in range(3):
        for y in range(drawn.shape[0]):
            for x in range(drawn.shape[1]):
                w = int(weight[y, x])
                if w == 255:
                    frame[c, top + y, left + x] = drawn[y, x, c]
                elif w:
                    old = int(frame[c, top + y, left + x])
                    frame[c, top + y, left + x] = old + ((int(drawn[y, x, c]) - old) * w + 127) // 255
