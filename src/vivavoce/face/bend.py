"""Bend a picture of a face until head and lips stand as told: what a painter of mouths needs to change least.

The 68 landmarks of the picture become points in space, with the average face's depth. They are moved as readings of the
lips tell and seen in another frame's pose; a thin-plate spline (Bookstein 1989) carries the picture's pixels along.
Nothing of the other frame is needed but its pose, which follows from points above the mouth.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from vivavoce.face.lower import INNER, OUTER, POINTS, SPACE, Place
from vivavoce.face.model import FaceModel
from vivavoce.motion import lips

Shape = Float[np.ndarray, "68 3"]  # canonical units
Places = Float[np.ndarray, "68 2"]  # pixels of the square counted 256 wide
Square = UInt8[np.ndarray, "s s 3"]

_LIPS = len(POINTS) - len(OUTER) - len(INNER)  # the first of the lips among the 68
_OUTER, _INNER = slice(_LIPS, _LIPS + len(OUTER)), slice(_LIPS + len(OUTER), len(POINTS))
_ABOVE, _BELOW = _LIPS + len(OUTER) + np.array([1, 2, 3]), _LIPS + len(OUTER) + np.array([7, 6, 5])
_PARTED = 0.004  # face widths between lips that are closed, so that there is something to bend
_STIFF = 1e-4  # how far points may miss, for a spline that stays smooth
_MOVED, _TURNED = 0.01, np.radians(6.0)  # face widths that lips, and angles that heads, are apart to be unlike by one
_HIDING = 0.005  # and face widths that lips are less parted: bending closes them, but does not show what they hide
_GRID = 8  # pixels between places where the spline is worked out
_LIP, _MOUTH = 96, 255  # grey levels of drawn lips and of what is between them
_FINE = 4  # bits of a pixel in drawn outlines


@lru_cache(maxsize=4)
def moves(count: int) -> Float[np.ndarray, "k 68 3"]:
    """What each of ``count`` readings of the lips moves: by the smallest coefficients that read so."""
    model = FaceModel.pretrained()
    coefficients = np.linalg.pinv(lips.readings(model, count).double().numpy())
    return np.tensordot(coefficients, model.expression[:, list(POINTS)], 1)


def camera(at: Place) -> Float[np.ndarray, "2 4"]:
    """Canonical points -> pixels of the square counted 256 wide: three columns to multiply by and one to add."""
    matrix = at.square.to_picture(SPACE)
    back = np.linalg.inv(matrix[:, :2])
    turned = back @ (at.pose.scale * at.pose.rotation[:2])
    return np.column_stack([turned, back @ (at.pose.translation[:2] - matrix[:, 2])])


def seen(shape: Shape, camera: Float[np.ndarray, "2 4"]) -> Places:
    """Where points lie in the square."""
    return shape @ camera[:, :3].T + camera[:, 3]


def solid(places: Places, camera: Float[np.ndarray, "2 4"]) -> Shape:
    """The points that lie at ``places``, as deep as the average face's."""
    depth = FaceModel.pretrained().mean[list(POINTS), 2]
    flat = places - camera[:, 3] - depth[:, None] * camera[:, 2]
    return np.column_stack([flat @ np.linalg.inv(camera[:, :2]).T, depth])


def moved(shape: Shape, change: Float[np.ndarray, " k"]) -> Shape:
    """The shape when readings change by ``change``; lips that would cross are closed."""
    made = shape + np.tensordot(change, moves(len(change)), 1)
    missing = np.maximum(_PARTED - (made[_BELOW, 1] - made[_ABOVE, 1]), 0) / 2
    made[_ABOVE, 1] -= missing
    made[_BELOW, 1] += missing
    return made


def unlike(
    change: Float[np.ndarray, "n k"], one: Float[np.ndarray, "n 2 4"], other: Float[np.ndarray, "2 4"]
) -> Float[np.ndarray, " n"]:
    """How little faces, seen by ``one``, serve to be bent to how a face looks that is seen by ``other``.

    The mean square of how far the lips move, in 0.01 face widths, the square of how much less they are parted than the
    other's, in 0.005, and that of the turn, in 6 degrees, together. ``change`` is their readings less the other's.
    """
    turns = [camera[..., :3] / np.linalg.norm(camera[..., :3], axis=-1, keepdims=True) for camera in (one, other)]
    turned = np.square(turns[0] - turns[1]).sum((-2, -1)) / _TURNED**2
    form, parting = _lips_moved(change.shape[-1])
    missing = np.minimum(change @ parting, 0)
    return ((change @ form) * change).sum(-1) / _MOVED**2 + np.square(missing / _HIDING) + turned


@lru_cache(maxsize=4)
def _lips_moved(count: int) -> tuple[Float[np.ndarray, "k k"], Float[np.ndarray, " k"]]:
    """Readings -> mean square of how far the landmarks of the lips move across the face, and how far lips part."""
    moved = moves(count)
    across = moved[:, _LIPS:, :2].reshape(count, 2 * (len(POINTS) - _LIPS))
    return across @ across.T / (len(POINTS) - _LIPS), (moved[:, _BELOW, 1] - moved[:, _ABOVE, 1]).mean(1)


def mirrored(camera: Float[np.ndarray, "2 4"]) -> Float[np.ndarray, "2 4"]:
    """Where a mirror shows what a mirrored shape's points are."""
    flipped = camera * np.array([[1.0, -1, -1, -1], [-1, 1, 1, 1]])
    flipped[0, 3] += SPACE
    return flipped


def bent(square: Square, was: Places, now: Places, window: tuple[slice, slice]) -> UInt8[np.ndarray, "h w 3"]:
    """Rows and columns ``window`` of the square, after what is at ``was`` has gone to ``now``; its border stays."""
    side = square.shape[0]
    scale, (rows, columns) = side / SPACE, window
    edge = np.array([(x, y) for x in (0.0, 128, 256) for y in (0.0, 128, 256) if (x, y) != (128, 128)])
    at, to = np.concatenate([now, edge]) / SPACE, np.concatenate([was - now, 0 * edge])
    count = len(at)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(at, at) + _STIFF * np.eye(count)
    system[:count, count:] = np.column_stack([np.ones(count), at])
    system[count:, :count] = system[:count, count:].T
    weights = np.linalg.solve(system, np.concatenate([to, np.zeros((3, 2))]))
    height, width = rows.stop - rows.start, columns.stop - columns.start
    # places of the coarse grid are those that cv2.resize takes for the middles of its pixels
    y = (rows.start + (np.arange(height // _GRID) + 0.5) * _GRID) / side
    x = (columns.start + (np.arange(width // _GRID) + 0.5) * _GRID) / side
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    shift = _kernel(grid, at) @ weights[:count] + np.column_stack([np.ones(len(grid)), grid]) @ weights[count:]
    wide = cv2.resize((shift * scale).reshape(len(y), len(x), 2).astype(np.float32), (width, height))
    own = np.stack(np.meshgrid(np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop)), -1)
    source = own.astype(np.float32) + wide
    return cv2.remap(square, source[..., 0], source[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _kernel(a: Float[np.ndarray, "n 2"], b: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, "n m"]:
    squared = np.maximum(np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T, 0)
    return squared * np.log(squared + 1e-12)


def sketched(picture: UInt8[np.ndarray, "h w 3"], now: Places, side: int, corner: tuple[int, int]) -> None:
    """Draw the lips at ``now``, and the mouth between them, into a part of a square ``side`` wide; changes it.

    ``corner`` is the column and the row of the square where the part begins.
    """
    points = (now * side / SPACE - np.array(corner) - 0.5) * (1 << _FINE)
    for part, grey in ((points[_OUTER], _LIP), (points[_INNER], _MOUTH)):
        cv2.fillPoly(picture, [np.round(part).astype(np.int32)], (grey,) * 3, cv2.LINE_AA, _FINE)
