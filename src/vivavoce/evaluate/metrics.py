"""How close pictures are: PSNR, SSIM, and what both reward wrongly: sharpness and life inside the lips.

Regions are given by the landmarks of the true frame. All pictures are sRGB, 0 to 255.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float64, UInt8

from vivavoce.face.interior import face_width, luminance, mouth_opening
from vivavoce.face.mesh import INNER_LIPS, LEFT_EYE, OUTER_LIPS, OVAL, RIGHT_EYE

Rgb = UInt8[np.ndarray, "h w 3"]
Landmarks = Float[np.ndarray, "478 3"]

LIMIT = 60.0  # dB reported for pictures that differ by less than rounding
WINDOW, SIGMA = 11, 1.5  # of SSIM
MOUTH_REACH = 0.26  # face widths from the middle of the mouth to the border of its box
EYE_MARGIN = 0.06  # face widths around the eyes
SEEN = 0.025  # lip opening in face widths from which the inside of the mouth is worth measuring
PATCH = (48, 96)  # height and width in pixels of the stabilised mouth; its corners are 64 pixels apart


@dataclass(frozen=True, slots=True)
class Box:
    """Part of a picture, in whole pixels; right and bottom are not in it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        """Pixels inside; 0 when it lies outside the picture."""
        return max(0, self.right - self.left) * max(0, self.bottom - self.top)

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """The part of ``picture`` (rows first)."""
        return picture[self.top : self.bottom, self.left : self.right]


def regions(landmarks: Landmarks, width: int, height: int) -> dict[str, Box]:
    """Boxes of the whole frame, the face oval, both eyes and the mouth (a square of ±0.26 face widths).

    ``landmarks`` are in pixels of a picture of ``width`` x ``height`` pixels; boxes are cut off at its borders.
    """
    points, unit = landmarks[:, :2], face_width(landmarks)
    mouth = points[list(OUTER_LIPS)].mean(0)
    eyes = points[[*LEFT_EYE, *RIGHT_EYE]]
    corners = {
        "frame": (np.zeros(2), np.array([width, height])),
        "face": (points[list(OVAL)].min(0), points[list(OVAL)].max(0)),
        "eyes": (eyes.min(0) - EYE_MARGIN * unit, eyes.max(0) + EYE_MARGIN * unit),
        "mouth": (mouth - MOUTH_REACH * unit, mouth + MOUTH_REACH * unit),
    }
    limit = np.array([width, height])
    out = {}
    for name, (low, high) in corners.items():
        left, top = np.clip(np.floor(low), 0, limit).astype(int)
        right, bottom = np.clip(np.ceil(high), 0, limit).astype(int)
        out[name] = Box(int(left), int(top), int(right), int(bottom))
    return out


def psnr(shown: Rgb, true: Rgb) -> float:
    """Peak signal-to-noise ratio over all pixels and channels in dB, at most :data:`LIMIT`."""
    error = float(np.square(shown.astype(np.float64) - true).mean())
    return min(LIMIT, 10 * math.log10(255**2 / error)) if error else LIMIT


def ssim_map(shown: Rgb, true: Rgb) -> Float[np.ndarray, "h w"]:
    """Structural similarity of the luma at every pixel (Wang et al. 2004, eq. 13).

    Gaussian window of 11 x 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, borders mirrored.
    """
    a, b = _grey(shown), _grey(true)
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    both = _blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    return top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


def _grey(rgb: Rgb) -> Float64[np.ndarray, "h w"]:
    return np.asarray(luminance(rgb.astype(np.float64)))


def _blur(values: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(values, (WINDOW, WINDOW), SIGMA, borderType=cv2.BORDER_REFLECT_101)


def closeness(shown: Rgb, true: Rgb, boxes: dict[str, Box]) -> dict[str, tuple[float, float]]:
    """PSNR and mean SSIM inside every box that lies in the picture."""
    similar = ssim_map(shown, true)
    return {
        name: (psnr(box.cut(shown), box.cut(true)), float(box.cut(similar).mean()))
        for name, box in boxes.items()
        if box.area
    }


def inside_lips(landmarks: Landmarks, width: int, height: int) -> Bool[np.ndarray, "h w"] | None:
    """Pixels between the lips, one pixel off their edge; ``None`` when the lips are open by less than ``SEEN``."""
    if mouth_opening(landmarks) < SEEN:
        return None
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.rint(landmarks[list(INNER_LIPS), :2]).astype(np.int32)], 1)
    mask = cv2.erode(mask, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=(0,))
    return mask.astype(bool) if mask.any() else None


def sharpness(rgb: Rgb, mask: Bool[np.ndarray, "h w"]) -> float:
    """Mean absolute Laplacian (4 neighbours minus 4 times the pixel) of the luma over ``mask``, in grey levels."""
    edges = cv2.Laplacian(_grey(rgb), cv2.CV_64F, ksize=1, borderType=cv2.BORDER_REPLICATE)
    return float(np.abs(edges[mask]).mean())


@dataclass(frozen=True, slots=True)
class Mouth:
    """The mouth of one frame, turned and scaled so that its corners always lie in the same two places."""

    luma: Float[np.ndarray, "p q"]
    inside: Bool[np.ndarray, "p q"]  # between the lips


def stabilised(rgb: Rgb, landmarks: Landmarks) -> Mouth | None:
    """Cut the mouth out free of head movement; ``None`` when the lips are open by less than ``SEEN``."""
    if mouth_opening(landmarks) < SEEN:
        return None
    height, width = PATCH
    left, right = landmarks[78, :2].astype(np.float64), landmarks[308, :2].astype(np.float64)
    across = right - left
    scale = 64 / max(1e-6, float(np.hypot(*across)))
    cos, sin = scale * across / max(1e-6, float(np.hypot(*across)))
    turn = np.array([[cos, sin], [-sin, cos]])
    shift = np.array([width / 2, height / 3]) - turn @ ((left + right) / 2)
    matrix = np.concatenate([turn, shift[:, None]], 1)
    luma = cv2.warpAffine(_grey(rgb), matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    ring = landmarks[list(INNER_LIPS), :2] @ turn.T + shift
    mask = np.zeros(PATCH, np.uint8)
    cv2.fillPoly(mask, [np.rint(ring).astype(np.int32)], 1)
    return Mouth(luma, mask.astype(bool))


def change(before: Mouth | None, now: Mouth | None) -> float | None:
    """Mean absolute change of the luma between the lips from one frame to the next, in grey levels.

    Over the pixels between the lips in both frames; ``None`` when there are none.
    """
    if before is None or now is None:
        return None
    both = before.inside & now.inside
    return float(np.abs(now.luma - before.luma)[both].mean()) if both.any() else None
