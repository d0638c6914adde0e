"""Light in the mouth: colours that fit the face, the picture's own blur and grain, and the light seen between lips."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from vivavoce.face.interior import Basis, luminance, redness, skin_colour
from vivavoce.face.mesh import LOWER_INNER, LOWER_OUTER, UPPER_INNER, UPPER_OUTER, Points

Picture = UInt8[np.ndarray, "h w 3"]

_DARKEST, _BRIGHTEST = 0.42, 1.8  # relighting keeps within these factors: dark stays dark, nothing burns out
_OTHER_SIDE = (
    0.35  # of the mirrored look is mixed in: where the light comes from is told by the portrait, not the sound
)
_FLOOR = 12.0  # 0-255; added to both sides of the ratio, so that blacks are not amplified
_AROUND = (33, 263, 61, 291, 10, 152)  # eyes, mouth, forehead and chin


def mouth_colours(picture: Picture, landmarks: Points) -> Float32[np.ndarray, "4 3"]:
    """White tooth, cavity, tongue and inside of the lips in the light of ``picture``, 0-255.

    Skin tells brightness and tint of the light; most of its tint is taken for its own. A picture without colours
    gives greys.
    """
    skin = skin_colour(picture, landmarks)
    bright = max(float(luminance(skin)), 8.0)
    white = np.clip(1.10 * bright + 0.25 * max(0.0, 140 - bright), 30, 238) * (0.72 + 0.28 * skin / bright)
    lip = _lip_colour(picture, landmarks)
    flesh = 0.42 * lip + 0.38 * skin * np.array([1.0, 0.78, 0.80])
    flesh[2] = max(flesh[2], 0.92 * flesh[1])  # tongues are pink even in orange faces
    colours = np.stack([white, 0.16 * lip + 0.02 * skin, flesh, 0.85 * lip])
    grey = luminance(colours)[:, None]
    return (grey + (colours - grey) * colourfulness(skin)).astype(np.float32)


def colourfulness(skin: Float[np.ndarray, " 3"]) -> float:
    """1 for a picture in colour, 0 for one in greys, told by its skin."""
    return float(np.clip((skin.max() - skin.min()) / max(float(skin.max()), 1.0) / 0.12, 0, 1))


def _lip_colour(picture: Picture, landmarks: Points) -> Float[np.ndarray, " 3"]:
    last = np.array(picture.shape[1::-1]) - 1
    patches = []
    for inner, outer in ((UPPER_INNER, UPPER_OUTER), (LOWER_INNER, LOWER_OUTER)):
        for k in range(3, 8):
            place = 0.6 * landmarks[inner[k], :2] + 0.4 * landmarks[outer[k], :2]
            x, y = np.clip(np.rint(place).astype(int), 0, last)
            patches.append(picture[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].reshape(-1, 3).mean(0))
    return np.median(np.array(patches), axis=0)


def blur_of(picture: Picture, landmarks: Points) -> float:
    """Blur of the face in ``picture``, as the deviation of a Gaussian in pixels, in [0.3, 3].

    Read from how fast detail fades with scale, about the eyes and the mouth, over two pairs of octaves: grain hides
    blur from the finer pair only. The tables are those of sharp photos blurred on purpose.
    """
    grey = luminance(_around(picture, landmarks))
    if min(grey.shape) < 24:
        return 1.0
    scales = [grey, *(cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (1.0, 2.0, 4.0))]
    bands = [float(np.sqrt(np.mean(np.square(a - b)))) + 1e-3 for a, b in pairwise(scales)]
    fine = np.interp(bands[0] / bands[1], (0.38, 0.43, 0.48, 0.57, 0.67, 0.90), (3.0, 2.0, 1.5, 1.0, 0.7, 0.3))
    coarse = np.interp(bands[1] / bands[2], (0.36, 0.42, 0.48, 0.54, 0.60), (3.0, 2.0, 1.5, 1.0, 0.3))
    return float(max(fine, coarse))


def grain_of(picture: Picture, landmarks: Points) -> float:
    """Standard deviation of the picture's noise on the cheeks, 0-255 (Immerkaer 1996, with medians)."""
    grey = luminance(_around(picture, landmarks))
    if min(grey.shape) < 12:
        return 0.0
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
    return float(np.median(np.abs(cv2.filter2D(grey, -1, mask))) / 0.6745)


def _around(picture: Picture, landmarks: Points) -> Float32[np.ndarray, "box_h box_w 3"]:
    box = landmarks[list(_AROUND), :2]
    low, high = np.maximum(box.min(0), 0).astype(int), np.maximum(box.max(0), 0).astype(int)
    return picture[low[1] : high[1], low[0] : high[0]].astype(np.float32)


def relighting(
    drawn: Float32[np.ndarray, "3 rows columns"],
    skin: Float32[np.ndarray, " 3"],
    basis: Basis,
    interior: Float[np.ndarray, " 6"],
    opening: float,
) -> Float32[np.ndarray, "2 rows columns"]:
    """Factor on, and red to add to, what was drawn, so that its low frequencies are those the interior channels tell.

    Args:
        drawn: sums of luminance and redness (0-255), and number of pixels, per cell.
        skin: colour of the skin, 0-255.
        basis: of the looks.
        interior: channels in standard deviations; near 0 they tell nothing, and what was drawn stays.
        opening: between the lips, in face widths.
    """
    count = _blurred(drawn[2]) + 1e-3
    own, own_red = _blurred(drawn[0]) / count, _blurred(drawn[1]) / count
    look = basis.look(interior, opening)
    look = look + _OTHER_SIDE * (look[..., ::-1] - look)
    bright = float(luminance(skin))
    wanted = np.maximum(_blurred(look[0]), 0.04) * bright
    sure = 1 - np.exp(-float(np.square(interior).sum()) / 3)
    ratio = np.log((wanted + _FLOOR) / (own + _FLOOR))
    factor = np.exp(np.clip(0.9 * sure * ratio, np.log(_DARKEST), np.log(_BRIGHTEST)))
    red = _blurred(look[1]) * bright + float(redness(skin)) - own_red * factor
    return np.stack([factor, np.clip(0.7 * sure * red, -25, 30)]).astype(np.float32)


def _blurred(cells: Float32[np.ndarray, "rows columns"]) -> Float32[np.ndarray, "rows columns"]:
    return cv2.GaussianBlur(np.ascontiguousarray(cells), (0, 0), 0.8, borderType=cv2.BORDER_REPLICATE)
