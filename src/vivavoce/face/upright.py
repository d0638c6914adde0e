"""An upright square around a face, cut out and put back: how networks that draw aligned faces meet pictures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from vivavoce.face.mesh import BROWS, INNER_LIPS, LEFT_EYE, OUTER_LIPS, OVAL, RIGHT_EYE, Points

Picture = UInt8[np.ndarray, "h w 3"]

SOURCE = (2.3, -0.125, True)  # side over the face's extent, shift down the face, turned upright: of what is redrawn
DRIVING = (2.2, -0.1, False)  # and of what is only watched
FEATHER = 16  # pixels over which a drawn square fades out, at 512
_SIDE = 512
# The features and the outline below the brows: the published crops are made from landmarks without a forehead.
_SHOWN = tuple(sorted({*BROWS, *LEFT_EYE, *RIGHT_EYE, *INNER_LIPS, *OUTER_LIPS, *OVAL[7:30]}))
_CORNERS = (61, 291)  # of the mouth


@dataclass(frozen=True, slots=True)
class Square:
    """A square in a picture."""

    x: float  # middle, in pixels
    y: float
    side: float  # pixels
    turn: float  # radians; positive where the square's upper side falls to the right, like a head leaning that way

    def to_picture(self, side: int) -> Float[np.ndarray, "2 3"]:
        """Pixels of the square drawn ``side`` wide -> pixels of the picture."""
        scale, c, s = self.side / side, np.cos(self.turn), np.sin(self.turn)
        matrix = scale * np.array([[c, -s], [s, c]])
        return np.column_stack([matrix, np.array([self.x, self.y]) - matrix @ [side / 2, side / 2]])

    def scaled(self, x: float, y: float) -> Square:
        """The square in a picture stretched by these factors (nearly equal)."""
        return Square(self.x * x, self.y * y, self.side * (x + y) / 2, self.turn)


def around(landmarks: Points, scale: float, down: float, upright: bool) -> Square:
    """The square around a face.

    Args:
        landmarks: the 478 points of the face, in pixels.
        scale: side of the square over the larger extent of brows, eyes, mouth and jaw.
        down: how far the square's middle lies below that of the face, in sides (negative: above).
        upright: turn the square with the line from eyes to mouth.
    """
    points = landmarks[:, :2].astype(np.float64)
    eyes = (points[list(LEFT_EYE)].mean(0) + points[list(RIGHT_EYE)].mean(0)) / 2
    below = points[list(_CORNERS)].mean(0) - eyes if upright else np.array([0.0, 1.0])
    if np.linalg.norm(below) < 1e-3:
        below = np.array([0.0, 1.0])
    y = below / np.linalg.norm(below)
    axes = np.stack([[y[1], -y[0]], y])  # right and down along the face
    along = points[list(_SHOWN)] @ axes.T
    low, high = along.min(0), along.max(0)
    side = scale * float((high - low).max())
    x_middle, y_middle = ((low + high) / 2 + [0.0, down * side]) @ axes
    return Square(float(x_middle), float(y_middle), side, float(np.arctan2(axes[0, 1], axes[0, 0])))


def within(square: Square, width: int, height: int) -> Square:
    """``square`` made smaller and moved, if need be, so that it does not leave a picture of this size."""
    reach = abs(np.cos(square.turn)) + abs(np.sin(square.turn))  # of a turned square's corners, in half sides
    side = min(square.side, min(width, height) / reach)
    half = side * reach / 2
    x, y = (float(np.clip(at, half, most - half)) for at, most in ((square.x, width), (square.y, height)))
    return Square(x, y, float(side), square.turn)


def cut(picture: Picture, square: Square, side: int = _SIDE) -> UInt8[np.ndarray, "s s 3"]:
    """The square, upright; black where it leaves the picture."""
    shrink = square.side / side
    if shrink > 2:  # sampling single pixels would flicker
        size = (max(1, round(picture.shape[1] / shrink)), max(1, round(picture.shape[0] / shrink)))
        ratio = size[0] / picture.shape[1], size[1] / picture.shape[0]
        picture, square = cv2.resize(picture, size, interpolation=cv2.INTER_AREA), square.scaled(*ratio)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, square.to_picture(side), (side, side), flags=flags)


def put_back(drawn: UInt8[np.ndarray, "s s 3"], square: Square, picture: Picture) -> None:
    """Lay a drawn square over ``picture``, fading out towards its border. Pixels it does not meet are not touched."""
    wanted = max(2, round(square.side))
    if wanted < drawn.shape[0]:
        drawn = cv2.resize(drawn, (wanted, wanted), interpolation=cv2.INTER_AREA)
    side = drawn.shape[0]
    matrix = square.to_picture(side)
    corners = np.array([[0, 0, 1], [side, 0, 1], [0, side, 1], [side, side, 1]]) @ matrix.T
    low = np.clip(np.floor(corners.min(0)).astype(int), 0, picture.shape[1::-1])
    high = np.clip(np.ceil(corners.max(0)).astype(int) + 1, 0, picture.shape[1::-1])
    if (high <= low).any():
        return
    matrix[:, 2] -= low
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    there = picture[low[1] : high[1], low[0] : high[0]]
    weight = cv2.warpAffine(feather(side), matrix, size, flags=cv2.INTER_LINEAR)
    # Beyond its border the square goes on as at the border: black must not bleed into the fading pixels.
    over = cv2.warpAffine(drawn, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    there[:] = cv2.blendLinear(over, there, weight, 1 - weight)


@lru_cache(maxsize=8)
def feather(side: int) -> Float[np.ndarray, "s s"]:
    """How much of a drawn square shows: 1 inside, falling to 0 over the outermost pixels, round at the corners."""
    wide = FEATHER * side / _SIDE
    at = np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5)
    short = np.clip(1 - at / wide, 0, 1)
    shown = np.clip(1 - np.hypot(short[:, None], short[None, :]), 0, 1).astype(np.float32)
    shown.flags.writeable = False
    return shown


def openings(landmarks: Points) -> Float[np.ndarray, "3"]:
    """Left eye, right eye (in the picture) and lips: distance of the middles of upper and lower over the width."""
    pairs = ((159, 145, 33, 133), (386, 374, 362, 263), (13, 14, *_CORNERS))
    flat = landmarks[:, :2].astype(np.float64)
    gap, wide = (np.array([np.linalg.norm(flat[p[n]] - flat[p[n + 1]]) for p in pairs]) for n in (0, 2))
    return gap / (wide + 1e-6)
