"""Which face, which part of the picture is redrawn, and how the picture reaches the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from vivavoce.errors import InputError
from vivavoce.face.track import Face

Picture = UInt8[np.ndarray, "h w 3"]

_SIDE = 2.9  # of the head crop, in face widths: room for hair, neck and the fading of motion
_ABOVE = 0.52  # part of the crop above the middle of the face
_VIEW_SIDE = 2.5  # of the square head view (``crop=True``), in face widths


@dataclass(frozen=True, slots=True)
class Framing:
    """Picture -> output: ``output = picture * scale - offset``, plus the region that is redrawn."""

    scale: tuple[float, float]  # x, y
    offset: tuple[int, int]  # x, y of the output's corner in the scaled picture; negative where it leaves the picture
    size: tuple[int, int]  # width, height of the output; even
    region: tuple[int, int, int, int]  # left, top, right, bottom of what is redrawn, in pixels of the output

    def points(self, landmarks: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Points of the picture -> points of the redrawn region."""
        sx, sy = self.scale
        corner = np.array([self.offset[0] + self.region[0], self.offset[1] + self.region[1], 0.0])
        return landmarks * np.array([sx, sy, (sx + sy) / 2]) - corner

    def picture(self, rgb: Picture) -> UInt8[np.ndarray, "high wide 3"]:
        """The whole output frame before anything moves. At scale 1 every pixel is the input's, bit for bit."""
        height, width = rgb.shape[:2]
        scaled = (max(1, round(width * self.scale[0])), max(1, round(height * self.scale[1])))
        if scaled != (width, height):
            how = cv2.INTER_AREA if self.scale[0] < 1 else cv2.INTER_CUBIC
            rgb = cv2.resize(rgb, scaled, interpolation=how)
        (left, top), (wide, high) = self.offset, self.size
        pads = (max(0, -top), max(0, top + high - scaled[1]), max(0, -left), max(0, left + wide - scaled[0]))
        inside = rgb[max(0, top) : top + high, max(0, left) : left + wide]
        return _extend(inside, pads) if any(pads) else np.ascontiguousarray(inside)


def choose_face(faces: Sequence[Face], which: str | int) -> int:
    """Index in ``faces`` of the face the user means: "largest", "left", "right", or its number from left, from 0.

    Raises:
        InputError: there is no face, or not that one.
    """
    if not faces:
        raise InputError("no face was found in the picture: give one where a face is clearly visible from the front")
    from_left = sorted(range(len(faces)), key=lambda n: faces[n].box[0] + faces[n].box[2])
    if which == "largest":
        return max(range(len(faces)), key=lambda n: faces[n].width)
    if which in ("left", "right"):
        return from_left[0 if which == "left" else -1]
    try:
        index = int(which)
    except ValueError:
        raise InputError(f"face {which!r} is not one of largest, left, right, 0, 1, 2 ...") from None
    if not 0 <= index < len(faces):
        has = "1 face (0)" if len(faces) == 1 else f"{len(faces)} faces (0 to {len(faces) - 1}, from left to right)"
        raise InputError(f"there is no face {index} in the picture: it has {has}")
    return from_left[index]


def whole_picture(width: int, height: int, faces: Sequence[Face], size: int, longest: int) -> Framing:
    """Keep the input's framing; scale down once, so that the head crop needs at most ``size`` pixels.

    Args:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        faces: the face that will move, in pixels of the picture; in a video, wherever it goes.
        size: largest side of the redrawn region, in pixels.
        longest: largest side of the output, in pixels.
    """
    left, top, right, bottom = _around(faces, _SIDE)
    left, top, right, bottom = max(0.0, left), max(0.0, top), min(width, right), min(height, bottom)
    scale = min(1.0, size / max(right - left, bottom - top), longest / max(width, height))
    if scale < 1:
        wide, high = max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
        scales = (wide / width, high / height)
    else:  # an odd last row or column is dropped rather than the whole picture resampled
        wide, high, scales = width // 2 * 2, height // 2 * 2, (1.0, 1.0)
    region = (
        max(0, int(left * scales[0])),
        max(0, int(top * scales[1])),
        min(wide, int(np.ceil(right * scales[0]))),
        min(high, int(np.ceil(bottom * scales[1]))),
    )
    return Framing(scales, (0, 0), (wide, high), region)


def head_view(faces: Sequence[Face], size: int) -> Framing:
    """A square of ``size`` x ``size`` pixels around the head, scaled up when the face is small."""
    left, top, right, bottom = _around(faces, _VIEW_SIDE)
    side = max(right - left, bottom - top)
    left, top = (left + right - side) / 2, (top + bottom - side) / 2
    scale = size / side
    return Framing((scale, scale), (round(left * scale), round(top * scale)), (size, size), (0, 0, size, size))


def _around(faces: Sequence[Face], side: float) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the squares of ``side`` face widths around a head in all its places."""
    corners = []
    for face in faces:
        left, top, right, bottom = face.box
        # A turned head shows less width than it has, so the box alone would make the crop too small.
        unit = max(face.width, 0.72 * (bottom - top))
        x, y = (left + right - side * unit) / 2, (top + bottom) / 2 - _ABOVE * side * unit
        corners.append((x, y, x + side * unit, y + side * unit))
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    return float(low[0]), float(low[1]), float(high[2]), float(high[3])


def _extend(inside: Picture, pads: tuple[int, int, int, int]) -> UInt8[np.ndarray, "high wide 3"]:
    """Continue a picture beyond its border: mirrored, at the bottom drawn out, and the blurrier the further out."""
    top, bottom, left, right = pads
    fits = top < inside.shape[0] and max(left, right) < inside.shape[1]
    how = cv2.BORDER_REFLECT_101 if fits else cv2.BORDER_REPLICATE
    whole = cv2.copyMakeBorder(inside, top, 0, left, right, how)
    whole = cv2.copyMakeBorder(whole, 0, bottom, 0, 0, cv2.BORDER_REPLICATE)  # a mirrored chin would look up from below
    outside = np.ones(whole.shape[:2], np.uint8)
    outside[top : top + inside.shape[0], left : left + inside.shape[1]] = 0
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, 3)[..., None]
    side = max(whole.shape[:2])
    out = whole.astype(np.float32)
    for sigma in (0.01 * side, 0.04 * side):
        blurred = cv2.GaussianBlur(whole, (0, 0), sigma).astype(np.float32)
        out += (blurred - out) * np.clip(distance / (2 * sigma), 0, 1)
    return np.clip(out + 0.5, 0, 255).astype(np.uint8)
