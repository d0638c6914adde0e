"""Coefficients of the 3D face -> a picture: textured and lit, with its mask and depth.

Two ways that agree: a fast one with the compiled rasteriser, and one in torch through which gradients flow to texture,
light and, within the triangles that are seen, to where the points are. The outline itself has no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from vivavoce.face.atlas import POINTS, Atlas, atlas, doubled
from vivavoce.face.illumination import shading
from vivavoce.face.morphable import Coefficients, Morphable
from vivavoce.render.raster import FRONT, draw_triangles
from vivavoce.render.surface import normals

SIDE = 256


@dataclass(frozen=True, slots=True)
class Rendered:
    """A face on black."""

    picture: Float32[np.ndarray, "h w 3"]  # in [0, 1]
    mask: Bool[np.ndarray, "h w"]  # where the face is
    depth: Float32[np.ndarray, "h w"]  # face widths away from the middle of the head; infinite beside the face
    at: Float32[np.ndarray, "h w 2"]  # place in the texture, in [0, 1]; beside the face 0


@dataclass(frozen=True, slots=True)
class Placed:
    """The closed mesh of one face, ready to draw."""

    points: Float[np.ndarray, "530 3"]  # pixels; z in pixels, away from the camera
    at: Float[np.ndarray, "530 2"]  # in the texture, [0, 1]
    normals: Float[np.ndarray, "530 3"]  # unit, outward


def placed(face: Coefficients, bases: Morphable) -> Placed:
    """Geometry of a face."""
    made, shape = atlas(), bases.shape(face)
    points = face.pose.apply(shape)
    outward = normals(_skin(made), points)
    return Placed(doubled(points), made.placed(shape, face.gaze), doubled(outward))


def render(face: Coefficients, bases: Morphable, side: int = SIDE) -> Rendered:
    """Draw a face in a picture of ``side`` pixels. Coefficients count in its pixels: see ``Coefficients.framed``."""
    mesh, texture = placed(face, bases), bases.colours(face.texture).astype(np.float32)
    size = len(texture)
    flat = np.concatenate([mesh.at * size - 0.5, np.zeros((len(mesh.at), 1))], axis=1)
    where, depth = _drawn(mesh, flat, side)
    light, _ = _drawn(mesh, shading(face.light, mesh.normals), side)
    mask = np.isfinite(depth)
    x, y = (np.ascontiguousarray(where[..., k]) for k in (0, 1))
    colours = cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    picture = np.where(mask[..., None], np.clip(colours * light, 0, 1), 0).astype(np.float32)
    at = np.where(mask[..., None], (where[..., :2] + np.float32(0.5)) / np.float32(size), 0).astype(np.float32)
    return Rendered(picture, mask, depth / np.float32(face.scale), at)


def _drawn(
    mesh: Placed, told: Float[np.ndarray, "530 3"], side: int
) -> tuple[Float32[np.ndarray, "s s 3"], Float32[np.ndarray, "s s"]]:
    """``told`` of the nearest point at each pixel, and its depth in pixels."""
    nearest, out = np.full((side, side), np.inf, np.float32), np.zeros((side, side, 3), np.float32)
    xy, z = mesh.points[:, :2].astype(np.float32), mesh.points[:, 2].astype(np.float32)
    draw_triangles(atlas().triangles.astype(np.int32), xy, z, told.astype(np.float32), FRONT, nearest, out)
    return out, nearest


def _skin(made: Atlas) -> Int[np.ndarray, "f 3"]:
    """The triangles that are not strips over holes."""
    return made.triangles[(made.triangles < POINTS).all(1)]


def seen(mesh: Placed, side: int = SIDE) -> Int[np.ndarray, "s s"]:
    """Index of the triangle seen at each pixel, -1 where there is none."""
    triangles = atlas().triangles
    apart = np.arange(3 * len(triangles), dtype=np.int32).reshape(-1, 3)
    told = np.repeat(np.arange(len(triangles), dtype=np.float32), 3)[:, None].repeat(3, 1)
    flat = triangles.reshape(-1)
    nearest, out = np.full((side, side), np.inf, np.float32), np.full((side, side, 3), -1, np.float32)
    xy, z = mesh.points[flat, :2].astype(np.float32), mesh.points[flat, 2].astype(np.float32)
    draw_triangles(apart, xy, z, told, FRONT, nearest, out)
    return np.rint(out[..., 0]).astype(np.int64)


def paint(
    points: Float[Tensor, "530 3"],
    at: Float[Tensor, "530 2"],
    shade: Float[Tensor, "530 3"],
    texture: Float[Tensor, "s s 3"],
    index: Int[Tensor, "h w"],
) -> Float[Tensor, "h w 3"]:
    """What :func:`render` draws, in torch.

    Args:
        points: of the closed mesh, pixels.
        at: their places in the texture, [0, 1].
        shade: light that reaches them, see :func:`vivavoce.face.illumination.shading`.
        texture: colours in [0, 1].
        index: triangle seen at each pixel (:func:`seen`).
    """
    corners = torch.from_numpy(atlas().triangles.astype(np.int64)).to(points.device)[index.clamp(min=0)]
    height, width = index.shape
    y, x = torch.meshgrid(
        torch.arange(height, dtype=points.dtype, device=points.device),
        torch.arange(width, dtype=points.dtype, device=points.device),
        indexing="ij",
    )
    a, b, c = (points[corners[..., k], :2] for k in range(3))
    p = torch.stack([x, y], dim=-1) - a
    e1, e2 = b - a, c - a
    area = _cross(e1, e2)
    area = torch.where(area.abs() < 1e-6, torch.ones_like(area), area)
    second, third = _cross(p, e2) / area, _cross(e1, p) / area
    shares = torch.stack([1 - second - third, second, third], dim=-1)
    told = torch.cat([at * 2 - 1, shade], dim=1)[corners]  # h w 3 5
    mixed = (told * shares[..., None]).sum(-2)
    colours = torch.nn.functional.grid_sample(
        texture.permute(2, 0, 1)[None], mixed[None, ..., :2], padding_mode="border", align_corners=False
    )[0].permute(1, 2, 0)
    there = (index >= 0)[..., None]
    return torch.where(there, (colours * mixed[..., 2:]).clamp(0, 1), torch.zeros_like(colours))


def _cross(a: Float[Tensor, "h w 2"], b: Float[Tensor, "h w 2"]) -> Float[Tensor, "h w"]:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
