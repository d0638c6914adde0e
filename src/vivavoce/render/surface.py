"""The deformable surface around the face: ears, hair, neck and shoulders, and how much each follows the head."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int
from scipy.spatial import Delaunay

from vivavoce.face.mesh import (
    LEFT_LOWER_LID,
    LEFT_UPPER_LID,
    LOWER_INNER,
    OVAL,
    RIGHT_LOWER_LID,
    RIGHT_UPPER_LID,
    UPPER_INNER,
    Points,
    Pose,
)

FACE = 478  # the first rows of every vertex array are the landmarks
_RINGS = (1.08, 1.18, 1.32, 1.55)  # around the oval, as multiples of its radius
_CELLS = 22  # grid cells along the longer side of the region


@dataclass(frozen=True, slots=True)
class Surround:
    """The vertices outside the face oval; with the 478 landmarks before them they make the whole mesh."""

    triangles: Int[np.ndarray, "f 3"]  # rows of [landmarks; points]
    points: Float[np.ndarray, "n 2"]  # at rest, in pixels of the region
    shape: Float[np.ndarray, "n 3"]  # the same points without pose, canonical units
    follow: Float[np.ndarray, " n"]  # 1 = moves with the head, 0 = stays
    pull: Float[np.ndarray, "n 36"]  # how much of each oval point's own displacement a point takes over

    def moved(self, pose: Pose, oval: Float[np.ndarray, "36 2"]) -> tuple[Float[np.ndarray, "n 2"], np.ndarray]:
        """Positions and depths at head ``pose``; ``oval`` is what expression adds to the oval, in pixels."""
        rigid = pose.apply(self.shape)
        return self.points + (rigid[:, :2] - self.points) * self.follow[:, None] + self.pull @ oval, rigid[:, 2]


def face_triangles(surface: Int[np.ndarray, "f 3"], mean: Points) -> Int[np.ndarray, "g 3"]:
    """The face's triangles with eyes and mouth closed by strips, all clockwise on screen when seen from the front."""
    holes = [
        triangle
        for above, below in (
            (UPPER_INNER, LOWER_INNER),
            (LEFT_UPPER_LID, LEFT_LOWER_LID),
            (RIGHT_UPPER_LID, RIGHT_LOWER_LID),
        )
        for triangle in _strip(above, below)
    ]
    return clockwise(np.concatenate([surface, np.array(holes)]), mean)


def surround(
    landmarks: Points, pose: Pose, size: tuple[int, int], free: tuple[bool, bool, bool, bool], *, separate: bool
) -> Surround:
    """Cover the region around a face with vertices.

    Args:
        landmarks: of the face, in pixels of the region.
        pose: of the head, canonical to pixels of the region.
        size: width and height of the region.
        free: whether the left, top, right, bottom border of the region lies inside the picture; motion fades there.
        separate: whether the person has a layer of its own, so that nothing behind it is dragged along.
    """
    oval = landmarks[list(OVAL)]
    points = _scatter(oval[:, :2], size)
    triangles = _triangulate(oval[:, :2], points)
    middle = oval[:, :2].mean(0)
    ray, radius, edge, depth = _polar(points - middle, oval, middle)
    outside = np.maximum(radius - edge, 0)
    # The head recedes behind the oval: ears and hair lie further back than the cheeks.
    depth = depth + 0.22 * np.minimum(outside, 0.5 * pose.scale)
    shape = pose.undo(np.column_stack([points, depth]))
    follow = _head_weight(shape) if separate else _soft_weight(radius / np.maximum(edge, 1), ray, pose)
    fade = _border_fade(points, size, free)
    distance = np.linalg.norm(points[:, None] - oval[None, :, :2], axis=2)
    pull = np.exp(-(distance - distance.min(1, keepdims=True)) / (0.06 * pose.scale))
    pull /= pull.sum(1, keepdims=True)
    pull *= (np.exp(-np.square(distance.min(1) / (0.22 * pose.scale))) * fade)[:, None]
    return Surround(clockwise(triangles, np.vstack([landmarks[:, :2], points])), points, shape, follow * fade, pull)


def normals(triangles: Int[np.ndarray, "f 3"], shape: Points) -> Points:
    """Unit normals of the points, outward; ``triangles`` are clockwise on screen when seen from the front."""
    a, b, c = (shape[triangles[:, k]] for k in range(3))
    out = np.zeros_like(shape)
    for k in range(3):
        np.add.at(out, triangles[:, k], -np.cross(b - a, c - a))
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


def smoothstep(x: np.ndarray | float) -> np.ndarray:
    """0 below 0, 1 above 1, without corners between."""
    x = np.clip(np.asarray(x, np.float64), 0, 1)
    return np.asarray(x * x * (3 - 2 * x))


def _head_weight(shape: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """Head 1, down the neck to 0, and to 0 at the sides, where shoulders and other things begin."""
    across, down = np.abs(shape[:, 0]), shape[:, 1]
    neck = 1 - smoothstep((down - 0.58) / 0.85)
    side = 1 - smoothstep((across - 0.85) / 0.65)
    above = 1 - smoothstep((-down - 1.5) / 0.9)
    return neck * side * above


def _soft_weight(rho: np.ndarray, ray: np.ndarray, pose: Pose) -> Float[np.ndarray, " n"]:
    """Without layers the background must stretch: fade early and smoothly around the oval (radius ``rho`` = 1)."""
    up = -pose.rotation[:2, 1] / max(1e-6, float(np.linalg.norm(pose.rotation[:2, 1])))
    height = ray @ up
    inner = np.where(height > 0, 1.30 + 0.30 * height, 1.30 + 0.28 * height)
    outer = np.where(height > 0, 2.5, 2.5 + 0.25 * height)
    return 1 - smoothstep((rho - inner) / (outer - inner))


def _border_fade(points: np.ndarray, size: tuple[int, int], free: tuple[bool, bool, bool, bool]) -> np.ndarray:
    """0 at the borders of the region, 1 further in. Wider where the border cuts through the picture."""
    width, height = size
    fade = np.ones(len(points))
    distances = (points[:, 0], points[:, 1], width - 1 - points[:, 0], height - 1 - points[:, 1])
    for distance, cuts in zip(distances, free, strict=True):
        fade *= smoothstep(distance / ((0.11 if cuts else 0.07) * max(size)))
    return fade


def _scatter(oval: np.ndarray, size: tuple[int, int]) -> Float[np.ndarray, "n 2"]:
    """Rings that follow the oval, and a regular grid further out that includes the border."""
    width, height = size
    step = max(size) / _CELLS
    middle = oval.mean(0)
    rings = np.concatenate([middle + (oval - middle) * k for k in _RINGS])
    inside = (rings > 2).all(1) & (rings < np.array([width - 3, height - 3])).all(1)
    rings = rings[inside]
    polygon = oval.astype(np.float32)
    rings = rings[_signed_distance(polygon, rings) < -2]
    columns = np.linspace(0, width - 1, max(2, round(width / step) + 1))
    rows = np.linspace(0, height - 1, max(2, round(height / step) + 1))
    grid = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)
    border = (grid < 1).any(1) | (grid[:, 0] > width - 2) | (grid[:, 1] > height - 2)
    gap = np.linalg.norm(grid[:, None] - np.concatenate([rings, oval])[None], axis=2).min(1)
    keep = (gap > 0.45 * step) & (_signed_distance(polygon, grid) < -0.4 * step)
    beyond = _signed_distance(polygon, grid) < 0
    return np.concatenate([rings, grid[keep | (border & beyond)]])


def _triangulate(oval: np.ndarray, points: np.ndarray) -> Int[np.ndarray, "f 3"]:
    """Delaunay triangles outside the oval, as rows of [478 landmarks; points]."""
    every = np.concatenate([oval, points])
    triangles = Delaunay(every).simplices
    centres = every[triangles].mean(1)
    triangles = triangles[_signed_distance(oval.astype(np.float32), centres) < 0]
    rows = np.concatenate([np.array(OVAL), FACE + np.arange(len(points))])
    return rows[triangles]


def _polar(
    offset: np.ndarray, oval: np.ndarray, middle: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Direction and length of ``offset`` from the oval's middle; the oval's radius and depth in that direction."""
    radius = np.linalg.norm(offset, axis=1)
    around = oval[:, :2] - middle
    angle, own = np.arctan2(offset[:, 1], offset[:, 0]), np.arctan2(around[:, 1], around[:, 0])
    edge = np.interp(angle, *_sorted(own, np.linalg.norm(around, axis=1)), period=2 * np.pi)
    depth = np.interp(angle, *_sorted(own, oval[:, 2]), period=2 * np.pi)
    return offset / np.maximum(radius, 1e-6)[:, None], radius, edge, depth


def _sorted(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(x)
    return x[order], y[order]


def _signed_distance(polygon: Float32[np.ndarray, "n 2"], points: np.ndarray) -> Float[np.ndarray, " m"]:
    """Distance to the polygon, positive inside."""
    return np.array([cv2.pointPolygonTest(polygon, (float(x), float(y)), True) for x, y in points])


def _strip(above: tuple[int, ...], below: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Triangles between two chains of points that share their ends."""
    triangles = []
    for a, b, c, d in zip(above[:-1], above[1:], below[:-1], below[1:], strict=True):
        if a != c:
            triangles.append((a, b, c))
        if b != d:
            triangles.append((b, d, c))
    return triangles


def clockwise(triangles: np.ndarray, points: np.ndarray) -> Int[np.ndarray, "f 3"]:
    """The triangles ``[f 3]`` with their corners in clockwise order on screen (y down) at ``points``."""
    a, b, c = (points[triangles[:, k], :2] for k in range(3))
    turn = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    out = triangles.copy()
    out[turn < 0] = out[turn < 0][:, [0, 2, 1]]
    return np.ascontiguousarray(out, np.int32)
