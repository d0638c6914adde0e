"""Part of a picture painted anew, with soft edges."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from vivavoce.face.lower import Place
from vivavoce.render.shots import Rgb

FEATHER = 0.014  # standard deviation of the soft edge, in sides of the square


def softened(inside: np.ndarray, window: tuple[slice, slice]) -> Float32[np.ndarray, "s s"]:
    """Weight of what is painted: 1 well inside the region and the window, falling to 0 at their edges."""
    side = inside.shape[0]
    sigma = FEATHER * side
    reach = int(3 * sigma)
    there = np.zeros((side, side), np.float32)
    there[window] = inside[window]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    core = cv2.erode(there, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.minimum(cv2.GaussianBlur(core, (2 * reach + 1, 2 * reach + 1), sigma), 1) * there


def laid(made: UInt8[np.ndarray, "s s 3"], weight: Float32[np.ndarray, "s s"], at: Place, picture: Rgb) -> Rgb:
    """``picture`` with the square ``made`` laid over it where ``weight`` says; elsewhere the same bit for bit."""
    side = made.shape[0]
    rows, columns = np.nonzero(weight)
    if not len(rows):
        return picture
    matrix = at.square.to_picture(side)
    ends = np.array([[x, y, 1] for x in (columns.min(), columns.max() + 1) for y in (rows.min(), rows.max() + 1)])
    corners = ends @ matrix.T
    low = np.clip(np.floor(corners.min(0)).astype(int) - 1, 0, picture.shape[1::-1])
    high = np.clip(np.ceil(corners.max(0)).astype(int) + 2, 0, picture.shape[1::-1])
    if np.any(high <= low):
        return picture
    matrix[:, 2] -= low
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    over = cv2.warpAffine(made, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(weight, matrix, size, flags=cv2.INTER_LINEAR)[..., None]
    out = picture.copy()
    box = (slice(low[1], high[1]), slice(low[0], high[0]))
    was = picture[box]
    out[box] = np.rint(was + (over.astype(np.float32) - was) * share).astype(np.uint8)
    return out
