"""What is seen between the lips, as six numbers: where bright teeth, dark cavity and red tongue are.

The inside of the lips is cut out of the picture, made shape-free (columns run from corner to corner, rows from the
upper to the lower lip) and divided by the face's skin. Its low-resolution look is then written in a basis learned
from talking people (recipe ``interior``): the mean look at this opening plus six principal components.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from vivavoce import weights
from vivavoce.face.mesh import LOWER_INNER, UPPER_INNER, lip_opening

ROWS, COLUMNS = 8, 16
COMPONENTS = 6
# Y, and R - (G + B) / 2 less that of the skin; both divided by the luminance of the skin.
CHANNELS = ("luminance", "redness")
_CHEEKS = (50, 280, 205, 425, 101, 330)
_CORNERS = 0.06  # share of the mouth's width left out at each corner, where the lips touch
_LIPS = 0.06  # share of the opening left out at each lip: landmarks are not exact to the pixel
_OVERSAMPLE = 2  # samples per cell along each axis
CLOSED, OPEN = 0.008, 0.025  # opening, in face widths, from which on the numbers fade in, and are fully there

Grid = Float32[np.ndarray, "2 rows columns"]


@dataclass(frozen=True, slots=True)
class Basis:
    """Looks inside the lips: the mean at several openings, and what people and sounds change about it."""

    openings: Float32[np.ndarray, " k"]  # face widths, rising
    means: Float32[np.ndarray, "k 2 rows columns"]
    components: Float32[np.ndarray, "6 2 rows columns"]  # look of one standard deviation
    rows: Float32[np.ndarray, "6 2 rows columns"]  # dual of ``components``: look -> standard deviations

    def mean(self, opening: float) -> Grid:
        """Average look at ``opening`` (face widths), linear between the learned openings, constant beyond."""
        share = np.interp(opening, self.openings, np.arange(len(self.openings)))
        below = min(int(share), len(self.openings) - 2)
        part = np.float32(share - below)
        return (1 - part) * self.means[below] + part * self.means[below + 1]

    def look(self, interior: Float[np.ndarray, " 6"], opening: float) -> Grid:
        """Six numbers -> ``[2, rows, columns]``, in units of the skin's luminance. See :data:`CHANNELS`."""
        return self.mean(opening) + np.tensordot(interior.astype(np.float32), self.components, 1)

    def project(self, grid: Grid, opening: float) -> Float32[np.ndarray, " 6"]:
        """Least-squares inverse of :meth:`look` within the basis."""
        return np.tensordot(self.rows, grid - self.mean(opening), 3).astype(np.float32)


@cache
def basis(name: str | Path = "interior") -> Basis:
    """The packaged basis, or one from a ``.safetensors`` file. Raises :class:`vivavoce.errors.InputError`."""
    tensors, _ = weights.read(name)
    arrays = {key: value.float().numpy() for key, value in tensors.items()}
    return Basis(arrays["openings"], arrays["means"], arrays["components"], arrays["rows"])


def measure_interior(
    rgb: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "478 3"]
) -> Float32[np.ndarray, " 6"]:
    """Six interior channels of ``face-mesh/1`` of one frame, in standard deviations over the training clips.

    0 while the lips are closed (fading in between the openings :data:`CLOSED` and :data:`OPEN`). ``landmarks`` are
    in pixels of ``rgb``.
    """
    opening = mouth_opening(landmarks)
    share = visible(opening)
    if share == 0:
        return np.zeros(COMPONENTS, np.float32)
    return np.float32(share) * basis().project(look_inside(rgb, landmarks), opening)


def mouth_opening(landmarks: Float[np.ndarray, "478 3"]) -> float:
    """Gap between the inner lips in the middle of the mouth, in face widths (points 234 to 454, in space); >= 0."""
    return lip_opening(landmarks) / max(face_width(landmarks), 1e-6)


def face_width(landmarks: Float[np.ndarray, "478 3"]) -> float:
    """Distance between the points in front of the ears, in space, in the units of ``landmarks``."""
    return float(np.linalg.norm(landmarks[234] - landmarks[454]))


def visible(opening: float) -> float:
    """How much an interior can be seen at ``opening``: smooth from 0 at :data:`CLOSED` to 1 at :data:`OPEN`."""
    x = min(max((opening - CLOSED) / (OPEN - CLOSED), 0.0), 1.0)
    return x * x * (3 - 2 * x)


def look_inside(rgb: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "478 3"]) -> Grid:
    """Low-resolution, shape-free look inside the lips, in units of the skin's luminance. See :data:`CHANNELS`."""
    places = _places(landmarks[list(UPPER_INNER), :2], landmarks[list(LOWER_INNER), :2])
    cells = _sample(rgb, places).reshape(ROWS, _OVERSAMPLE, COLUMNS, _OVERSAMPLE, 3).mean((1, 3))
    skin = skin_colour(rgb, landmarks)
    looks = np.stack([luminance(cells), redness(cells) - redness(skin)]) / max(float(luminance(skin)), 1.0)
    return np.clip(looks, -2.0, 2.0).astype(np.float32)


def luminance(rgb: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape"]:
    """Luma of sRGB values (Rec. 601 weights), in the same unit."""
    return np.asarray(rgb @ np.array([0.299, 0.587, 0.114], rgb.dtype))


def redness(rgb: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape"]:
    """How much red exceeds the mean of green and blue, in the unit of ``rgb``; 0 for grey."""
    return np.asarray(rgb @ np.array([1.0, -0.5, -0.5], rgb.dtype))


def skin_colour(rgb: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "478 3"]) -> Float32[np.ndarray, " 3"]:
    """Mean colour of the lit cheeks, 0-255: the four brightest of six patches, so that beards and shade count less."""
    height, width = rgb.shape[:2]
    radius = max(1, round(0.015 * face_width(landmarks)))
    patches = []
    for x, y in np.rint(landmarks[list(_CHEEKS), :2]).astype(int):
        x, y = int(np.clip(x, 0, width - 1)), int(np.clip(y, 0, height - 1))
        patch = rgb[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
        patches.append(patch.reshape(-1, 3).mean(0, dtype=np.float32))
    colours = np.stack(patches)
    return colours[np.argsort(luminance(colours))[2:]].mean(0)


def _places(upper: Float[np.ndarray, "n 2"], lower: Float[np.ndarray, "n 2"]) -> Float32[np.ndarray, "r c 2"]:
    """Sample places in pixels: columns evenly spaced in landmark order, rows from lip to lip."""
    across = np.linspace(_CORNERS, 1 - _CORNERS, COLUMNS * _OVERSAMPLE) * (len(upper) - 1)
    down = np.linspace(_LIPS, 1 - _LIPS, ROWS * _OVERSAMPLE)[:, None, None]
    index = np.arange(len(upper))
    top, bottom = (np.stack([np.interp(across, index, edge[:, axis]) for axis in (0, 1)], 1) for edge in (upper, lower))
    return ((1 - down) * top + down * bottom).astype(np.float32)


def _sample(rgb: UInt8[np.ndarray, "h w 3"], places: Float32[np.ndarray, "r c 2"]) -> Float32[np.ndarray, "r c 3"]:
    """Colours at ``places``, averaged over the spacing of the samples so that sharp pictures do not alias."""
    low = np.floor(places.min((0, 1))).astype(int) - 2
    high = np.ceil(places.max((0, 1))).astype(int) + 3
    low, high = np.maximum(low, 0), np.minimum(high, [rgb.shape[1], rgb.shape[0]])
    if np.any(high - low < 2):  # the mouth is outside the picture
        return np.zeros((*places.shape[:2], 3), np.float32)
    crop = rgb[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    step = (places[:, 1:] - places[:, :-1]).mean((0, 1)), (places[1:] - places[:-1]).mean((0, 1))
    across, down = (max(1, round(float(np.linalg.norm(s)))) for s in step)
    if across > 1 or down > 1:
        crop = cv2.blur(crop, (across, down), borderType=cv2.BORDER_REPLICATE)
    shifted = places - low.astype(np.float32)
    x, y = shifted[..., 0].copy(), shifted[..., 1].copy()
    return cv2.remap(crop, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
