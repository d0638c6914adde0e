"""Inner loops of :mod:`vivavoce.nets.quick`: into Winograd's tiles, out of them, and the sums of enlarged maps."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import numba
import numpy as np
import torch
from jaxtyping import Float32

Kernel = TypeVar("Kernel", bound=Callable[..., None])
_turn = threading.Lock()


def kernel(function: Kernel) -> Kernel:
    """Compile ``function``, on several threads. Unwrapped first: run-time type checkers wrap what numba must see."""
    compiled: Any = numba.njit(cache=True, parallel=True, nogil=True, fastmath=True)(inspect.unwrap(function))
    return compiled


@contextmanager
def kernels() -> Iterator[None]:
    """Run kernels of this module in here: as many threads as torch uses."""
    with _turn if _taking_turns() else nullcontext():
        # Numba and torch may share one pool: a number set for the one is then the other's, too, and stays.
        threads = torch.get_num_threads()
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        try:
            yield
        finally:
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)


def _taking_turns() -> bool:
    """Whether callers of several threads must: one of the ways numba may have found to run threads ends the process."""
    try:
        return numba.threading_layer() == "workqueue"  # type: ignore[attr-defined]
    except ValueError:  # it looks for a way when the first kernel runs
        return True


@kernel
def enter(
    x: Float32[np.ndarray, "i d h w"],
    top: int,
    rows: int,
    across: int,
    pad: int,
    entered: Float32[np.ndarray, "36 k t"],
) -> None:
    """Tiles of 6 x 6 pixels, every 4 pixels, from tile row ``top`` on, in the basis of the products.

    ``entered`` [36, (d + 2 pad) i, rows * across] takes them; its first and last ``pad`` depths stay zero.
    """
    inside, depth, height, width = x.shape
    for job in numba.prange(inside * depth):
        c, z = job // depth, job % depth
        k = (z + pad) * inside + c
        line = np.zeros((6, 4 * across + 2), np.float32)
        tile = np.zeros((6, 4 * across + 2), np.float32)
        for row in range(rows):
            start = 4 * (top + row) - 1
            for n in range(6):
                y = start + n
                if 0 <= y < height:
                    line[n, 1 : width + 1] = x[c, z, y]
                else:
                    line[n, :] = 0
            for m in range(4 * across + 2):
                a, b, e, f, g, h = line[0, m], line[1, m], line[2, m], line[3, m], line[4, m], line[5, m]
                tile[0, m] = 4 * a - 5 * e + g
                tile[1, m] = -4 * (b + e) + f + g
                tile[2, m] = 4 * (b - e) - f + g
                tile[3, m] = 2 * (f - b) + g - e
                tile[4, m] = 2 * (b - f) + g - e
                tile[5, m] = 4 * b - 5 * f + h
            at = row * across
            for n in range(6):
                for t in range(across):
                    m = 4 * t
                    a, b, e = tile[n, m], tile[n, m + 1], tile[n, m + 2]
                    f, g, h = tile[n, m + 3], tile[n, m + 4], tile[n, m + 5]
                    entered[6 * n, k, at + t] = 4 * a - 5 * e + g
                    entered[6 * n + 1, k, at + t] = -4 * (b + e) + f + g
                    entered[6 * n + 2, k, at + t] = 4 * (b - e) - f + g
                    entered[6 * n + 3, k, at + t] = 2 * (f - b) + g - e
                    entered[6 * n + 4, k, at + t] = 2 * (b - f) + g - e
                    entered[6 * n + 5, k, at + t] = 4 * b - 5 * f + h


@kernel
def leave(
    left: Float32[np.ndarray, "36 o t"],
    bias: Float32[np.ndarray, " o"],
    at: int,
    top: int,
    across: int,
    out: Float32[np.ndarray, "o d h w"],
) -> None:
    """The products' way back: every tile gives 4 x 4 pixels of depth ``at``, from tile row ``top`` on."""
    outside, height, width = out.shape[0], out.shape[2], out.shape[3]
    rows = left.shape[2] // across
    for c in numba.prange(outside):
        half = np.empty((4, 6, across), np.float32)
        line = np.empty((4, 4 * across), np.float32)
        for row in range(rows):
            if 4 * (top + row) >= height:
                break
            first = row * across
            for n in range(6):
                for t in range(across):
                    a, b, e = left[n, c, first + t], left[6 + n, c, first + t], left[12 + n, c, first + t]
                    f, g, h = left[18 + n, c, first + t], left[24 + n, c, first + t], left[30 + n, c, first + t]
                    half[0, n, t] = a + b + e + f + g
                    half[1, n, t] = b - e + 2 * (f - g)
                    half[2, n, t] = b + e + 4 * (f + g)
                    half[3, n, t] = b - e + 8 * (f - g) + h
            for y in range(4):
                for t in range(across):
                    a, b, e = half[y, 0, t], half[y, 1, t], half[y, 2, t]
                    f, g, h = half[y, 3, t], half[y, 4, t], half[y, 5, t]
                    line[y, 4 * t] = a + b + e + f + g + bias[c]
                    line[y, 4 * t + 1] = b - e + 2 * (f - g) + bias[c]
                    line[y, 4 * t + 2] = b + e + 4 * (f + g) + bias[c]
                    line[y, 4 * t + 3] = b - e + 8 * (f - g) + h + bias[c]
                if 4 * (top + row) + y < height:
                    out[c, at, 4 * (top + row) + y] = line[y, :width]


@kernel
def spread(
    taps: Float32[np.ndarray, "9 o d h w"],
    bias: Float32[np.ndarray, " o"],
    factor: int,
    out: Float32[np.ndarray, "o d hf wf"],
) -> None:
    """Sums of the taps' products where a 3-wide kernel would meet them on the map enlarged ``factor`` times."""
    outside, depth, height, width = taps.shape[1:]
    for job in numba.prange(outside * depth):
        c, z = job // depth, job % depth
        column = np.zeros((3, width + 2), np.float32)  # for each tap along the row; zero at both ends
        for row in range(height * factor):
            y, phase = row // factor, row % factor
            for x in range(3):
                column[x, 1 : width + 1] = taps[3 + x, c, z, y]
                above = y - 1 if phase == 0 else y
                below = y + 1 if phase == factor - 1 else y
                if above >= 0:
                    column[x, 1 : width + 1] += taps[x, c, z, above]
                if below < height:
                    column[x, 1 : width + 1] += taps[6 + x, c, z, below]
            for x in range(width):
                a, b, e = column[0, x + 1], column[1, x + 1] + bias[c], column[2, x + 1]
                out[c, z, row, x * factor] = column[0, x] + b + e
                for n in range(1, factor - 1):
                    out[c, z, row, x * factor + n] = a + b + e
                out[c, z, row, (x + 1) * factor - 1] = a + b + column[2, x + 2]
