"""The lower face: what is hidden of it and painted anew, where, and the 68 landmarks that may be seen meanwhile.

Where a face is cut out and what is hidden follows from points above the mouth alone. A crop around the jaw, or a mask
along it, would tell how far the mouth is open, and a network that paints mouths would read that instead of the speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from vivavoce.face.mesh import Points, Pose, align
from vivavoce.face.model import FaceModel
from vivavoce.face.upright import Square

# The 68 landmarks of the 300-W scheme (Sagonas et al. 2013) as points of the mesh; left is left in the picture.
JAW = (127, 234, 93, 132, 58, 136, 149, 148, 152, 377, 378, 365, 288, 361, 323, 454, 356)  # 0-16, from left to right
LEFT_BROW, RIGHT_BROW = (70, 63, 105, 66, 107), (336, 296, 334, 293, 300)  # 17-21, 22-26
NOSE_RIDGE, NOSE_BASE = (168, 197, 5, 4), (98, 97, 2, 326, 327)  # 27-30 downwards, 31-35
LEFT_EYE, RIGHT_EYE = (33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380)  # 36-41, 42-47
OUTER = (61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91)  # 48-59, lips
INNER = (78, 81, 13, 311, 308, 402, 14, 178)  # 60-67
POINTS = (*JAW, *LEFT_BROW, *RIGHT_BROW, *NOSE_RIDGE, *NOSE_BASE, *LEFT_EYE, *RIGHT_EYE, *OUTER, *INNER)
# Of the 68: what DiffTalk is told, and what of it the mouth cannot move: brows, ridge of the nose, eyes.
PUBLISHED = (0, 1, 2, 3, *range(13, 48))
UPPER = (*range(17, 31), *range(36, 48))
SPACE = 256  # pixels; side of the crop in which landmarks are counted
# Which of the 68 each one is in a mirror.
MIRRORED = (
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
)  # fmt: skip

# Forehead, bridge of the nose, eye corners, temples: what stands still when the mouth opens.
STEADY = (
    10, 338, 297, 109, 67, 103, 332, 54, 284, 151, 9, 8, 168, 6, 197, 195, 33, 133, 362, 263,
    127, 356, 162, 389, 21, 251,
)  # fmt: skip
_SIDE = 1.8  # of the crop, in face widths
_MIDDLE = (0.0, 0.27, 0.1)  # of the crop, in the canonical frame
_EARS = (93, 323)
_MOUTH, _NOSE, _TIP = 13, 2, 4  # upper lip, base and tip of the nose
# How much wider, and further to the front, the painted region is than the average face: for other faces and cheeks that
# blow up; and how far an open mouth lowers the chin, in face widths.
_GROWN, _DROP = 1.15, 0.24
_BEYOND = 0.06  # sides of the square (0.11 face widths) that are laid over beyond the outline of the jaw


@dataclass(frozen=True, slots=True)
class Place:
    """Where a face is: its pose by the points that stand still, and the square that is cut out around it."""

    pose: Pose
    square: Square

    def into(self, points: Float[np.ndarray, "n d"], side: int) -> Float[np.ndarray, "n 2"]:
        """Pixels of the picture -> pixels of the square drawn ``side`` wide."""
        matrix = self.square.to_picture(side)
        return (points[:, :2] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T


def place(landmarks: Points, model: FaceModel) -> Place:
    """Where the face with these 478 landmarks (pixels) is. Below the eyes only the ridge of the nose matters."""
    pose = align(model.mean, landmarks, STEADY)
    middle = pose.apply(np.array([_MIDDLE]))[0]
    turn = float(np.arctan2(pose.rotation[1, 0], pose.rotation[0, 0]))
    return Place(pose, Square(float(middle[0]), float(middle[1]), _SIDE * pose.scale, turn))


def places68(landmarks: Points, at: Place) -> Float[np.ndarray, "68 2"]:
    """The 68 landmarks of space ``landmarks68/1``: x, y in pixels of the square drawn 256 wide, whatever its size."""
    return at.into(landmarks[list(POINTS)].astype(np.float64), SPACE)


def region(at: Place, side: int, model: FaceModel) -> Bool[np.ndarray, "s s"]:
    """What is painted anew: from the base of the nose to below an open mouth's chin, jaw and a little beyond.

    The average face's, put where the face is: its edge says nothing of this person's mouth or jaw.
    """
    shape = model.mean
    lower = shape[shape[:, 1] >= shape[_NOSE, 1]]
    middle = np.array([0.0, shape[_MOUTH, 1], shape[list(_EARS), 2].mean()])
    grown = middle + _GROWN * (lower - middle)
    grown[:, 1] = np.maximum(grown[:, 1], shape[_NOSE, 1])  # the nose stays
    open_ = grown.copy()
    open_[:, 1] += _DROP * (grown[:, 1] - shape[_NOSE, 1]) / (grown[:, 1].max() - shape[_NOSE, 1])  # a hinge
    outline = at.into(at.pose.apply(np.concatenate([grown, open_])), side)
    hull = cv2.convexHull(np.round(outline).astype(np.int32))
    drawn = cv2.fillConvexPoly(np.zeros((side, side), np.uint8), hull, 1)
    return drawn.astype(bool)


def band(at: Place, side: int, model: FaceModel) -> Bool[np.ndarray, "s s"]:
    """What DiffTalk hides: everything from the tip of the nose down, over the whole width, and the painted region.

    The tip is the average face's, where the published code takes the person's own; the region is part of the band
    unless the head leans.
    """
    tip = at.into(at.pose.apply(model.mean[[_TIP]]), side)[0, 1]
    rows = np.arange(side)[:, None] >= tip
    return np.broadcast_to(rows, (side, side)) | region(at, side, model)


def within(outlines: Sequence[Float[np.ndarray, "n 2"]], side: int) -> Bool[np.ndarray, "s s"]:
    """What of a square lies in jaws or near them: collar, hair and hands beyond need not be painted to be there.

    Unlike :func:`region` this follows the person's own jaw, so nobody may see it who paints.

    Args:
        outlines: of the jaw as it is and as it is to be, from ear to ear; pixels of the square drawn 256 wide.
        side: of the square, in pixels.
    """
    hull = cv2.convexHull(np.round(np.concatenate(outlines) * (side / SPACE)).astype(np.int32))
    drawn = cv2.fillConvexPoly(np.zeros((side, side), np.uint8), hull, 1)
    reach = round(_BEYOND * side)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate(drawn, disc).astype(bool)


def masked(picture: UInt8[np.ndarray, "s s 3"], hidden: Bool[np.ndarray, "s s"]) -> UInt8[np.ndarray, "s s 3"]:
    """The picture, black where it is hidden."""
    return np.where(hidden[..., None], np.uint8(0), picture)


def stays(hidden: Bool[np.ndarray, "s s"], factor: int) -> Float[np.ndarray, "z z"]:
    """For latent pixels of ``factor`` x ``factor`` pixels: 1 where nothing is hidden, else 0."""
    z = hidden.shape[0] // factor
    blocks = hidden[: z * factor, : z * factor].reshape(z, factor, z, factor)
    return np.where(np.any(blocks, axis=(1, 3)), 0.0, 1.0)
