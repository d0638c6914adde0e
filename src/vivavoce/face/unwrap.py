"""A picture of a face -> what its skin, eyes and mouth look like in the texture, where they are seen."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from vivavoce.face.atlas import CORNERS, POINTS, atlas, doubled, eye_tiles
from vivavoce.face.illumination import shading
from vivavoce.face.mesh import LEFT_EYE, RIGHT_EYE, Points
from vivavoce.face.morphable import Coefficients, Morphable
from vivavoce.render.raster import ALL, draw_triangles
from vivavoce.render.surface import normals

_DARKEST = 0.25  # shading below which a texel is not told by the picture
_OPEN = 0.02  # face widths of lip opening from which what is between the lips is seen


def sampled(picture: UInt8[np.ndarray, "h w 3"] | Float[np.ndarray, "h w 3"], at: Float[np.ndarray, "n 2"]) -> Points:
    """Colours in [0, 1] of a picture at places in pixels (bilinear; beyond the border as at the border)."""
    x, y = np.ascontiguousarray(at.astype(np.float32).T)[:, None]
    found = cv2.remap(picture.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found[0].astype(np.float64) / (255.0 if picture.dtype == np.uint8 else 1.0)


def unwrap(
    picture: UInt8[np.ndarray, "h w 3"], face: Morphable, found: Coefficients, light: Float[np.ndarray, "9 3"]
) -> tuple[Float[np.ndarray, "s s 3"], Float[np.ndarray, "s s"]]:
    """The texture without ``light``, and how well each texel is seen, in [0, 1] (0: not at all)."""
    shape, side = face.shape(found), len(face.texture_mean)
    points, triangles = found.pose.apply(shape), atlas().triangles
    outward = normals(triangles[(triangles < POINTS).all(1)], points)
    shade = shading(light, outward)
    corners, shares = texels(side)
    known = doubled(np.concatenate([points[:, :2], outward[:, 2:], shade], axis=1))
    each = (known[corners] * shares[..., None]).sum(2)
    height, width = picture.shape[:2]
    weight = np.clip(-each[..., 2], 0, 1) * (shares.sum(2) > 0)
    _open_mouth(weight, shape, corners)
    for (rows, columns, offset), (a, b), look, ring in zip(
        eye_tiles(side), CORNERS, found.gaze, (LEFT_EYE, RIGHT_EYE), strict=True
    ):
        wide = np.linalg.norm(shape[a, :2] - shape[b, :2])
        flat = shape[[a, b], :2].mean(0) + wide * (offset + look)
        deep = np.full((*flat.shape[:2], 1), shape[[a, b], 2].mean())
        each[rows, columns, :2] = found.pose.apply(np.concatenate([flat, deep], 2).reshape(-1, 3))[:, :2].reshape(
            flat.shape
        )
        each[rows, columns, 3:] = shade[[a, b]].mean(0)
        weight[rows, columns] = _within(flat, shape[list(ring), :2])
    there = (each[..., 0] >= 0) & (each[..., 1] >= 0) & (each[..., 0] <= width - 1) & (each[..., 1] <= height - 1)
    weight = weight * there * (each[..., 3:].min(2) > _DARKEST)
    colours = sampled(picture, each[..., :2].reshape(-1, 2)).reshape(side, side, 3)
    return np.clip(colours / np.maximum(each[..., 3:], _DARKEST), 0, 1), weight


@lru_cache(maxsize=4)
def texels(side: int) -> tuple[Int[np.ndarray, "s s 3"], Float[np.ndarray, "s s 3"]]:
    """The corners of the triangle that covers each texel, and the share of each; shares are 0 where there is none."""
    made = atlas()
    index, shares = covered(made.triangles, made.at * side - 0.5, np.zeros(len(made.at)), side)
    return made.triangles[np.maximum(index, 0)], shares


def covered(
    triangles: Int[np.ndarray, "f 3"], at: Float[np.ndarray, "n 2"], depth: Float[np.ndarray, " n"], side: int
) -> tuple[Int[np.ndarray, "s s"], Float[np.ndarray, "s s 3"]]:
    """Which triangle covers each pixel (the last; -1 where none does) and the shares of its corners."""
    apart = np.arange(3 * len(triangles), dtype=np.int32).reshape(-1, 3)
    told = np.tile([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], (len(triangles), 1))
    told = np.concatenate([told, np.repeat(np.arange(len(triangles)), 3)[:, None]], 1).astype(np.float32)
    where = np.full((side, side, 3), -1.0, np.float32)
    flat = triangles.reshape(-1)
    draw_triangles(
        apart, at[flat].astype(np.float32), depth[flat].astype(np.float32), told, ALL,
        np.full((side, side), np.inf, np.float32), where,
    )  # fmt: skip
    index = np.rint(where[..., 2]).astype(np.int64)
    second, third = (np.clip(where[..., k].astype(np.float64), 0, 1) for k in (0, 1))
    shares = np.stack([np.clip(1 - second - third, 0, 1), second, third], axis=2)
    return index, shares * (index >= 0)[..., None]


def _open_mouth(weight: Float[np.ndarray, "s s"], shape: Points, corners: Int[np.ndarray, "s s 3"]) -> None:
    """What is between the lips is seen only when they are open; changes ``weight``."""
    if np.linalg.norm(shape[13] - shape[14]) < _OPEN:
        weight[(corners >= POINTS + 2 * len(LEFT_EYE)).all(2)] = 0


def _within(at: Float[np.ndarray, "h w 2"], ring: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "h w"]:
    """1 where places lie in a polygon, by counting crossings."""
    inside = np.zeros(at.shape[:2], bool)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, 0), strict=True):
        if y0 == y1:
            continue
        crossing = (at[..., 1] < y0) != (at[..., 1] < y1)
        inside ^= crossing & (at[..., 0] < x0 + (at[..., 1] - y0) / (y1 - y0) * (x1 - x0))
    return inside.astype(np.float64)
