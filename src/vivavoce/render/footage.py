"""Draw a portrait that is itself a video: its head, eyes and background move on, lips and jaw say something else."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from vivavoce.face.mesh import LOWER_INNER, LOWER_OUTER, OVAL, UPPER_INNER, Points, Pose
from vivavoce.face.model import FaceModel
from vivavoce.render.layers import fill_smoothly
from vivavoce.render.likeness import Likeness, Row
from vivavoce.render.raster import ALL, BACK, FRONT, draw_triangles
from vivavoce.render.surface import FACE, clockwise, face_triangles, smoothstep

_RINGS = (1.0, 1.07, 1.16, 1.28, 1.45)  # around the oval, as multiples of its radius; the last does not move
_UPPER, _LOWER = list(UPPER_INNER[1:-1]), list(LOWER_INNER[1:-1])
_SHUT, _PARTED = 0.006, 0.016  # lip gaps in face widths between which what is seen in the picture's mouth is removed
_BRIM = 0.007  # how far beyond the lips' inner edges, in face widths: landmarks are not exact
_SEAM_DEPTH = 0.6  # share of light missing where lips meet


class Footage:
    """Moves the lower face of video frames; one per stream, frames do not depend on each other."""

    def __init__(self, model: FaceModel, *, empties: bool = True) -> None:
        """``empties`` takes out what the film shows between the lips; the inside of the mouth must then be painted."""
        self.model, self.empties = model, empties
        self.face = face_triangles(model.triangles, model.mean)
        self.rings = _ring_triangles()

    def draw(
        self, picture: UInt8[np.ndarray, "h w 3"], sitter: Likeness, row: Row
    ) -> tuple[UInt8[np.ndarray, "h w 3"], Points, Pose]:
        """``picture`` with the lips and jaw of a motion row, the landmarks it shows and its head pose.

        Args:
            picture: one frame of the video, the region that is redrawn.
            sitter: the person in that frame.
            row: the motion; only its expression counts.
        """
        target, pose = sitter.posed(self.model, row, lower=True)
        around, moved = _rings(sitter.landmarks, target)
        height, width = picture.shape[:2]
        low = np.clip(np.floor(around.min(0)).astype(int), 0, [width, height])
        high = np.clip(np.ceil(around.max(0)).astype(int) + 1, 0, [width, height])
        if (high - low < 2).any():
            return picture, target, pose
        texture = np.zeros((FACE + len(around), 3), np.float32)
        texture[:, :2] = np.vstack([sitter.landmarks[:, :2], around]) - low
        vertices = (np.vstack([target[:, :2], moved]) - low).astype(np.float32)
        depth = np.concatenate([target[:, 2], np.full(len(around), target[:, 2].max())]).astype(np.float32)
        sampling = _identity(int(high[0] - low[0]), int(high[1] - low[1]))
        nearest = np.full(sampling.shape[:2], np.inf, np.float32)
        draw_triangles(self.rings, vertices, depth, texture, ALL, nearest, sampling)
        draw_triangles(self.face, vertices, depth, texture, BACK, nearest, sampling)
        draw_triangles(self.face, vertices, depth, texture, FRONT, nearest, sampling)
        box = (slice(low[1], high[1]), slice(low[0], high[0]))
        drawn = picture.copy()
        across, down = cv2.split(sampling)[:2]
        shown = picture[box]
        if self.empties:
            shown = _emptied(shown, sitter.landmarks[:, :2] - low, sitter.pose.scale)
        drawn[box] = cv2.remap(shown, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return drawn, target, pose


def _emptied(
    picture: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "478 2"], scale: float
) -> UInt8[np.ndarray, "h w 3"]:
    """``picture`` with nothing between the lips but the dark line where lips meet.

    Lips that close over what was there would leave slivers of teeth, and lips that open wider would stretch it.
    """
    gap = float((landmarks[_LOWER, 1] - landmarks[_UPPER, 1]).max()) / scale
    share = np.float32(smoothstep(np.array((gap - _SHUT) / (_PARTED - _SHUT))))
    ring = landmarks[[*UPPER_INNER, *LOWER_INNER[::-1]]]
    edge = max(1, round(_BRIM * scale))
    low = np.maximum(np.floor(ring.min(0)).astype(int) - 6 * edge, 0)
    high = np.minimum(np.ceil(ring.max(0)).astype(int) + 6 * edge, picture.shape[1::-1])
    if share == 0 or np.any(high - low < 4):
        return picture
    hole = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    cv2.fillPoly(hole, [np.round(ring - low).astype(np.int32)], 255)
    depth = cv2.GaussianBlur(hole, (0, 0), 0.5 * edge).astype(np.float32) / 255
    hole = cv2.dilate(hole, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * edge + 1, 2 * edge + 1)))
    cover = cv2.GaussianBlur(hole, (0, 0), 0.4 * edge).astype(np.float32)[..., None] * (share / 255)
    box = (slice(low[1], high[1]), slice(low[0], high[0]))
    here = picture[box].astype(np.float32)
    # Where the edge of a lip is taken for the mouth the lip must go on, so half of the filling has its colour.
    filled = 0.5 * fill_smoothly(here, (hole == 0).astype(np.float32)) + 0.5 * _lip_colour(picture, landmarks)
    filled = filled * (1 - _SEAM_DEPTH * depth[..., None])
    out = picture.copy()
    out[box] = np.clip(here + (filled - here) * cover + 0.5, 0, 255).astype(np.uint8)
    return out


def _lip_colour(picture: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "478 2"]) -> Float[np.ndarray, " 3"]:
    """Of the lower lip's middle, which is seen best."""
    middle = (landmarks[list(LOWER_INNER[3:8])] + landmarks[list(LOWER_OUTER[3:8])]) / 2
    x, y = np.clip(np.rint(middle).astype(int), 0, np.array(picture.shape[1::-1]) - 1).T
    return np.median(picture[y, x].astype(np.float64), axis=0)


def mirrored(frame: int, length: int) -> int:
    """Source frame shown at ``frame``: forwards, backwards, forwards, so that a short video never jumps."""
    period = max(1, 2 * length - 2)
    return min(frame % period, period - frame % period) if length > 1 else 0


def _rings(rest: Points, target: Points) -> tuple[Float[np.ndarray, "r 2"], Float[np.ndarray, "r 2"]]:
    """Rings around the oval at rest and as they move: with the oval inside, not at all outside."""
    oval, moved = rest[list(OVAL), :2], target[list(OVAL), :2]
    middle = oval.mean(0)
    around = [middle + (oval - middle) * k for k in _RINGS]
    shares = [np.square(1 - (k - 1) / (_RINGS[-1] - 1)) for k in _RINGS]
    return np.concatenate(around), np.concatenate([a + (moved - oval) * s for a, s in zip(around, shares, strict=True)])


def _ring_triangles() -> Int[np.ndarray, "f 3"]:
    count = len(OVAL)
    here = np.arange(count)
    following = (here + 1) % count
    triangles = []
    for ring in range(len(_RINGS) - 1):
        a, b = FACE + ring * count + here, FACE + ring * count + following
        c, d = a + count, b + count
        triangles += [np.stack([a, b, c], 1), np.stack([b, d, c], 1)]
    circle = np.zeros((FACE + len(_RINGS) * count, 2))
    angle = 2 * np.pi * here / count
    for ring, k in enumerate(_RINGS):
        circle[FACE + ring * count : FACE + (ring + 1) * count] = k * np.stack([np.sin(angle), -np.cos(angle)], 1)
    return clockwise(np.concatenate(triangles), circle)


def _identity(width: int, height: int) -> Float[np.ndarray, "h w 3"]:
    sampling = np.zeros((height, width, 3), np.float32)
    sampling[..., 0] = np.arange(width)
    sampling[..., 1] = np.arange(height)[:, None]
    return sampling
