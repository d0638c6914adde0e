"""Where a face's points lie in its texture: our own unwrapping of the 478-point mesh.

The skin is unwrapped on a cylinder behind the face. Eyes and mouth are holes of the mesh; here they are closed with
strips over copies of their rims' points, whose texture lies in tiles below the skin. An eye's tile is centred on the
iris and moves with it, so that gaze is where the tile lies and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from vivavoce.face.mesh import INNER_LIPS, LEFT_EYE, RIGHT_EYE, UPPER_INNER, Points
from vivavoce.face.model import FaceModel
from vivavoce.render.surface import face_triangles

RIMS = (*LEFT_EYE, *RIGHT_EYE, *INNER_LIPS)  # points that exist twice: on the skin, and on what closes the hole
POINTS = 478
CORNERS = ((33, 133), (362, 263))  # of the eyes
_EYE_RIMS = (slice(478, 494), slice(494, 510))
_AXIS = 0.45  # of the cylinder behind the face, face widths
_SKIN = (0.01, 0.01, 0.99, 0.82)  # left, top, right, bottom of the skin in the texture
_EYES = ((0.17, 0.92), (0.50, 0.92))  # middles of the tiles
_HALF = np.array([0.15, 0.07])  # half width and height of an eye's tile, or of the mouth's
_REACH = 0.8  # eye widths from the iris to the left and right border of its tile
_MOUTH = (0.83, 0.92)


@dataclass(frozen=True)
class Atlas:
    """The closed mesh."""

    triangles: Int[np.ndarray, "f 3"]  # rows of the points of :func:`doubled`, clockwise on screen from the front
    at: Float[np.ndarray, "530 2"]  # x and y in the texture, in [0, 1]; those of the eyes' strips for gaze ahead

    def placed(self, shape: Points, gaze: Float[np.ndarray, "2 2"]) -> Float[np.ndarray, "530 2"]:
        """Where every point of :func:`doubled` lies in the texture.

        Args:
            shape: the face without pose.
            gaze: iris centres of the left and right eye from the middles of the eyes, in eye widths.
        """
        out = self.at.copy()
        for (a, b), middle, look, rim in zip(CORNERS, _EYES, gaze, _EYE_RIMS, strict=True):
            width = max(1e-6, float(np.linalg.norm(shape[a, :2] - shape[b, :2])))
            away = (shape[list(RIMS[rim.start - POINTS : rim.stop - POINTS]), :2] - shape[[a, b], :2].mean(0)) / width
            offset = (away - look) * _HALF[0] / _REACH
            out[rim] = np.clip(offset, -_HALF, _HALF) + middle
        return out


def doubled(points: Float[np.ndarray, "478 d"]) -> Float[np.ndarray, "530 d"]:
    """The points, and those of the rims a second time."""
    return np.concatenate([points, points[list(RIMS)]])


@lru_cache(maxsize=1)
def atlas() -> Atlas:
    """The unwrapping of the face model's mean shape."""
    model = FaceModel.pretrained()
    whole = face_triangles(model.triangles, model.mean)
    count = len(model.triangles)
    copies = {point: POINTS + index for index, point in enumerate(RIMS)}
    holes = np.array([[copies[int(point)] for point in triangle] for triangle in whole[count:]])
    x, y, z = model.mean.T
    angle = np.arctan2(x, _AXIS - z)
    left, top, right, bottom = _SKIN
    skin = np.stack(
        [
            left + (right - left) * (angle - angle.min()) / np.ptp(angle),
            top + (bottom - top) * (y - y.min()) / np.ptp(y),
        ],
        axis=1,
    )
    at = doubled(skin)
    at[510:] = _mouth_tile()
    found = Atlas(np.concatenate([whole[:count], holes]), at)
    return Atlas(found.triangles, found.placed(model.mean, np.zeros((2, 2))))


def eye_tiles(size: int) -> tuple[tuple[slice, slice, Float[np.ndarray, "h w 2"]], ...]:
    """Rows and columns of the eyes' tiles in a texture of ``size``, and how far each texel is from the iris.

    Distances are in eye widths, x right and y down.
    """
    tiles = []
    for middle in _EYES:
        low, high = (np.array(middle) - _HALF) * size, (np.array(middle) + _HALF) * size
        (x0, y0), (x1, y1) = np.ceil(low).astype(int), np.floor(high).astype(int)
        grid = np.stack(np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5), axis=2) / size
        tiles.append((slice(y0, y1), slice(x0, x1), (grid - middle) * _REACH / _HALF[0]))
    return tuple(tiles)


def _mouth_tile() -> Float[np.ndarray, "20 2"]:
    """The inner lips: the upper along the tile's upper border, the lower along its lower."""
    columns = {point: index for index, point in enumerate(UPPER_INNER)}
    out = []
    for index, point in enumerate(INNER_LIPS):
        upper = point in columns
        column = columns[point] if upper else 20 - index
        down = 0.0 if point in (78, 308) else (-1.0 if upper else 1.0)
        out.append([column / 5 - 1, down])
    return np.array(out) * _HALF + _MOUTH
