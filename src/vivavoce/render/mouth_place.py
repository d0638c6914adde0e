"""Where the mouth is in a frame, and what of the teeth can be seen from there.

The mouth's frame has its origin where closed lips meet, x and y along the canonical axes of the face, z away from the
viewer, and one face width as its unit. Only x and y matter to the painter; depth shows as a shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from vivavoce.face.interior import mouth_opening
from vivavoce.face.mesh import LOWER_INNER, UPPER_INNER, Points, Pose
from vivavoce.render.teeth import Arch

BEHIND = 0.035  # the front teeth lie this far behind the inner edge of the upper lip
COLUMNS = 65  # of the tables along the mouth
MIDLINE = (1, 2, 164, 168, 6, 4)  # nose and philtrum: they keep the middle when the lips do not
CHIN = (152, 148, 377, 175)
_SEAM = 0.005  # face widths
_NARROWEST = 0.05  # width in face widths under which a mouth is seen too much from the side to be painted


@dataclass(frozen=True, slots=True)
class Place:
    """The mouth in one frame."""

    low: Int[np.ndarray, " 2"]  # x and y of the box around the lips, in pixels
    high: Int[np.ndarray, " 2"]  # one past its last pixel
    corner: Float32[np.ndarray, " 2"]  # the box's first pixel, in the mouth's frame
    inverse: Float32[np.ndarray, "2 2"]  # pixels to the mouth's frame
    lips: Float32[np.ndarray, "n 4"]  # x, y of the upper and of the lower lip, landmark index in [0, 1]
    towards: Float[np.ndarray, " 2"]  # shift along x and y per depth
    scale: float  # pixels per face width
    opening: float  # between the lips, in face widths
    drop: float  # of the lower lip's middle below the origin
    chin: float  # y of the chin in the canonical frame

    @property
    def width(self) -> float:
        """Distance between the corners of the lips, in face widths."""
        return float(self.lips[-1, 0] - self.lips[0, 0])

    @property
    def gap(self) -> float:
        """Largest distance between the lips, in face widths."""
        return float((self.lips[:, 2] - self.lips[:, 1]).max())


def locate(origin: Float[np.ndarray, " 3"], landmarks: Points, pose: Pose, size: tuple[int, int]) -> Place | None:
    """Place of the mouth whose ``origin`` is given in the canonical frame.

    Args:
        origin: where closed lips meet, in the canonical frame.
        landmarks: in pixels.
        pose: canonical frame to pixels.
        size: height and width of the picture.

    Returns:
        ``None`` if the mouth is outside the picture or seen from the side.
    """
    inverse = np.linalg.inv(pose.scale * pose.rotation[:2, :2])
    centre = pose.apply(origin[None].astype(np.float64))[0, :2]
    ring = landmarks[[*UPPER_INNER, *LOWER_INNER], :2].astype(np.float64)
    low = np.maximum(np.floor(ring.min(0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(ring.max(0)).astype(int) + 3, size[::-1])
    lips = _lips((ring - centre) @ inverse.T)
    if lips is None or np.any(high - low < 3):
        return None
    return Place(
        low=low,
        high=high,
        corner=(inverse @ (low - centre)).astype(np.float32),
        inverse=inverse.astype(np.float32),
        lips=lips,
        towards=inverse @ (pose.scale * pose.rotation[:2, 2]),
        scale=pose.scale,
        opening=mouth_opening(landmarks),
        drop=max(0.0, float(np.interp(0.0, lips[:, 0], lips[:, 2]))),
        chin=float(pose.undo(landmarks[list(CHIN)].astype(np.float64))[:, 1].mean()),
    )


def arch_table(
    arch: Arch, x: Float[np.ndarray, " n"], towards: Float[np.ndarray, " 2"], edge: float, light: float
) -> Float[np.ndarray, "n 4"]:
    """What a row of teeth shows at each ``x``: arc length, y of the incisal edge, brightness, and if there is any.

    Turning the head shifts far teeth against near ones; those that would lie behind others are left out.
    """
    points = arch.points()
    depth = points[:, 1] + BEHIND
    seen = points[:, 0] + depth * towards[0]
    middle = len(seen) // 2
    left = np.minimum.accumulate(seen[middle::-1])[::-1]
    seen = np.concatenate([left[:-1], np.maximum.accumulate(seen[middle:])]) + 1e-7 * np.arange(len(seen))
    there = np.clip((x - seen[0]) / 0.03, 0, 1) * np.clip((seen[-1] - x) / 0.03, 0, 1)
    z = np.interp(x, seen, depth)
    shade = light * np.exp(-(z - BEHIND) / 0.16)
    return np.stack([np.interp(x, seen, points[:, 2]), edge + z * towards[1], shade, there], 1)


def _lips(ring: Float[np.ndarray, "22 2"]) -> Float32[np.ndarray, "n 4"] | None:
    """Both lips as smooth curves over x, evenly sampled from corner to corner."""
    upper, lower = ring[:11], ring[11:]
    left, right = min(upper[0, 0], lower[0, 0]), max(upper[-1, 0], lower[-1, 0])
    if right - left < _NARROWEST:
        return None
    x = np.linspace(left, right, COLUMNS)
    edges = [np.interp(x, _rising(edge[:, 0]), edge[:, 1]) for edge in (upper, lower)]
    for edge in edges:
        edge[1:-1] = np.convolve(edge, (0.25, 0.5, 0.25), "valid")
    # The picture's own dark line along the lower lip belongs to the inside: paint over it.
    edges[1] += _SEAM * np.clip((edges[1] - edges[0]) / 0.05, 0, 1)
    index = np.interp(x, _rising((upper[:, 0] + lower[:, 0]) / 2), np.linspace(0, 1, 11))
    return np.stack([x, *edges, index], 1).astype(np.float32)


def _rising(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.maximum.accumulate(x) + 1e-7 * np.arange(len(x))
