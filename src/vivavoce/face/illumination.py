"""Light on a face: spherical harmonics up to the second order, 9 numbers per colour (Ramamoorthi & Hanrahan 2001)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

HARMONICS = 9
WHITE = np.zeros((HARMONICS, 3))  # light from everywhere, of strength 1: pictures as bright as their texture
WHITE[0] = 1.0
_TRUST = np.array([30.0, *(3.0,) * 3, *(6.0,) * 5])  # of the guess that light is white and even, per coefficient
_TINT = 4.0  # how much more colours of light are doubted than its directions
_ROBUST = 0.08  # misfit of a point, in shares of full brightness, at which it starts to count less
_PASSES = 3


def harmonics(normals: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 9"]:
    """Polynomials of the harmonics at unit ``normals`` (x right, y down, z away): 1, x, y, z, xy, yz, 3zz-1, xz, xx-yy.

    The constants of the harmonics are left to the coefficients.
    """
    x, y, z = normals.T
    return np.stack([np.ones_like(x), x, y, z, x * y, y * z, (3 * z * z - 1) / 2, x * z, (x * x - y * y) / 2], axis=1)


def shading(light: Float[np.ndarray, "9 3"], normals: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """How much red, green and blue reaches each point, >= 0; 1 is a picture as bright as the texture."""
    return np.maximum(harmonics(normals) @ light, 0.0)


def lit(
    colours: Float[np.ndarray, "n 3"],
    albedo: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    weight: Float[np.ndarray, " n"],
) -> Float[np.ndarray, "9 3"]:
    """The light that explains ``colours`` of points with this ``albedo`` (both in [0, 1]).

    Weighted ridge regression, repeated with less weight for points that do not fit (Huber), such as highlights, hair
    and glasses: first white light, drawn towards even light, then each colour's own, drawn towards the white one.
    Colour of skin and of light cannot be told apart: what is even is taken for skin.
    """
    terms, each = harmonics(normals), np.repeat(weight, 3)
    rows = (terms[:, None, :] * albedo[:, :, None]).reshape(-1, HARMONICS)
    white = _regressed(rows, colours.reshape(-1), each, WHITE[:, 0], 3 * _TRUST)
    found = [_regressed(rows[k::3], colours[:, k], weight, white, _TINT * _TRUST) for k in range(3)]
    return np.stack(found, axis=1)


def _regressed(
    rows: Float[np.ndarray, "n 9"],
    wanted: Float[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"],
    guess: Float[np.ndarray, " 9"],
    trust: Float[np.ndarray, " 9"],
) -> Float[np.ndarray, " 9"]:
    found, prior, counted = guess, np.diag(trust) * weight.mean(), weight
    for _ in range(_PASSES):
        gram = rows.T @ (rows * counted[:, None]) + prior
        found = np.linalg.solve(gram, rows.T @ (counted * wanted) + prior @ guess)
        counted = weight / np.maximum(1.0, np.abs(wanted - rows @ found) / _ROBUST)
    return found
