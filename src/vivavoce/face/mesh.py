"""Topology of the 478-point face mesh, rigid alignment and head angles.

Axes everywhere: x to the right of the picture, y down, z away from the camera. The canonical frame has no pose: unit
is the face width (points 234 to 454 of the mean face), origin the mean of the rigid points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "n 3"]

UPPER_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)  # from the left of the picture to the right
LOWER_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
UPPER_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
UPPER_LIP, LOWER_LIP = (82, 13, 312), (87, 14, 317)  # inner edges, middle third
INNER_LIPS = (*UPPER_INNER, *LOWER_INNER[-2:0:-1])  # closed ring of 20
OUTER_LIPS = (*UPPER_OUTER, *LOWER_OUTER[-2:0:-1])
LEFT_UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133)  # the eye on the left of the picture
LEFT_LOWER_LID = (33, 7, 163, 144, 145, 153, 154, 155, 133)
RIGHT_UPPER_LID = (362, 398, 384, 385, 386, 387, 388, 466, 263)
RIGHT_LOWER_LID = (362, 382, 381, 380, 374, 373, 390, 249, 263)
LEFT_EYE = (*LEFT_UPPER_LID, *LEFT_LOWER_LID[-2:0:-1])  # closed ring of 16
RIGHT_EYE = (*RIGHT_UPPER_LID, *RIGHT_LOWER_LID[-2:0:-1])
LEFT_IRIS = (468, 469, 470, 471, 472)  # centre first
RIGHT_IRIS = (473, 474, 475, 476, 477)
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
BROWS = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107, 276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
# Points that expression moves least: forehead, bridge and tip of the nose, eye corners, temples, upper cheeks.
RIGID = (
    10, 338, 297, 109, 67, 103, 332, 54, 284, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 33, 133, 362, 263,
    127, 356, 234, 454, 93, 323, 162, 389, 21, 251, 117, 346, 123, 352, 50, 280, 205, 425, 129, 358,
)  # fmt: skip
# Pairs that mirror each other, used to find the plane of symmetry.
MIRRORED_PAIRS = ((33, 263), (133, 362), (61, 291), (234, 454), (127, 356), (78, 308))


@dataclass(frozen=True, slots=True)
class Pose:
    """A similarity from canonical space to pixels: ``p = scale * rotation @ c + translation``."""

    scale: float  # pixels per face width
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]

    def apply(self, points: Points) -> Points:
        """Canonical points to pixels."""
        return self.scale * points @ self.rotation.T + self.translation

    def undo(self, points: Points) -> Points:
        """Pixels to canonical points."""
        return (points - self.translation) @ self.rotation / self.scale


def align(source: Points, target: Points, points: tuple[int, ...] = RIGID) -> Pose:
    """Best similarity that carries ``source[points]`` onto ``target[points]`` (Umeyama 1991, eq. 40-42)."""
    a, b = source[list(points)].astype(np.float64), target[list(points)].astype(np.float64)
    mean_a, mean_b = a.mean(0), b.mean(0)
    a, b = a - mean_a, b - mean_b
    u, singular, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / np.square(a).sum())
    return Pose(scale, rotation, mean_b - scale * rotation @ mean_a)


def rotation_matrix(angles: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """[yaw, pitch, roll] in degrees -> matrix ``Ry(-yaw) Rx(pitch) Rz(roll)``.

    Positive yaw turns the nose to the right of the picture, positive pitch down, positive roll clockwise.
    """
    yaw, pitch, roll = np.radians(np.asarray(angles, np.float64))
    cy, sy, cp, sp, cr, sr = np.cos(yaw), -np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def head_angles(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3"]:
    """Inverse of :func:`rotation_matrix` for pitch within ±90 degrees."""
    yaw = -np.arctan2(rotation[0, 2], rotation[2, 2])
    pitch = np.arcsin(np.clip(-rotation[1, 2], -1, 1))
    roll = np.arctan2(rotation[1, 0], rotation[1, 1])
    return np.degrees([yaw, pitch, roll])


def lip_opening(points: Points) -> float:
    """Mean distance between the inner lips at the middle third of the mouth, in the units of ``points``."""
    above, below = points[list(UPPER_LIP), :2], points[list(LOWER_LIP), :2]
    return float(np.linalg.norm(above - below, axis=1).mean())


def eye_openings(points: Points) -> Float[np.ndarray, "2"]:
    """Lid distance over eye width of the eye on the left and on the right of the picture."""
    out = []
    for above, below, corners in (
        ((160, 159, 158), (144, 145, 153), (33, 133)),
        ((385, 386, 387), (380, 374, 373), (362, 263)),
    ):
        gap = np.linalg.norm(points[list(above), :2] - points[list(below), :2], axis=1).mean()
        out.append(gap / max(1e-6, float(np.linalg.norm(points[corners[0], :2] - points[corners[1], :2]))))
    return np.array(out)


def iris_offsets(points: Points) -> Float[np.ndarray, "2"]:
    """Iris centres from the middles of the eye corners, in eye widths, mean of both eyes (x right, y down)."""
    both = []
    for iris, corners in ((468, (33, 133)), (473, (362, 263))):
        middle = points[list(corners), :2].mean(0)
        width = max(1e-6, float(np.linalg.norm(points[corners[0], :2] - points[corners[1], :2])))
        both.append((points[iris, :2] - middle) / width)
    return np.mean(both, axis=0)
