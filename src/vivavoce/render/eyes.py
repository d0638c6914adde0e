"""Eyes: the lids close as a curtain of painted skin, the lashes ride on its edge, the iris slides under them.

Painted in the picture's own pixels before the mesh is warped, so nothing outside the eyes moves in a blink: no brow
is dragged along and no pair of glasses bends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8
from scipy.interpolate import PchipInterpolator

from vivavoce.face.mesh import (
    LEFT_IRIS,
    LEFT_LOWER_LID,
    LEFT_UPPER_LID,
    RIGHT_IRIS,
    RIGHT_LOWER_LID,
    RIGHT_UPPER_LID,
)
from vivavoce.render.layers import fill_smoothly
from vivavoce.render.raster import kernel

_EYES = ((LEFT_UPPER_LID, LEFT_LOWER_LID, LEFT_IRIS), (RIGHT_UPPER_LID, RIGHT_LOWER_LID, RIGHT_IRIS))
_SMALLEST = 6.0  # eye width in pixels under which an eye is left alone
_RAISE, _LOWER = 0.10, 0.18  # the painted opening reaches this far beyond the lid points, in openings
_LASHES = 0.17  # height of the band of lashes above the lid, in eye widths
_FORWARD = 0.4  # how far the middle of a closed lid takes on the brightness of the skin around the eye
_FARTHEST = np.array([0.2, 0.12])  # of the iris from its place, in eye widths


@dataclass(frozen=True, slots=True)
class Eye:
    """Everything needed to paint one eye of a picture; all images cover the same box."""

    corner: tuple[int, int]  # left, top of the box, in pixels of the picture
    across: Float32[np.ndarray, "h w"]  # 0 at the left corner of the eye, 1 at the right
    down: Float32[np.ndarray, "h w"]  # pixels below the line through the corners
    upper: Float32[np.ndarray, "h w"]  # where the lids are at each ``across``, in the units of ``down``
    lower: Float32[np.ndarray, "h w"]
    seen: Float32[np.ndarray, "h w 3"]  # the picture
    skin: Float32[np.ndarray, "h w 3"]  # the picture as if lid and lashes were skin only
    lashes: Float32[np.ndarray, "h w 3"]  # picture / skin: what darkens the skin above the edge of the lid
    ball: Float32[np.ndarray, "h w 3"]  # the eyeball, completed under the lids
    axes: Float32[np.ndarray, "2 2"]  # unit vectors along and down the eye, in the picture
    iris: Float32[np.ndarray, " 3"]  # centre in the box and radius, in pixels
    width: float  # corner to corner, in pixels


def prepare_eyes(picture: UInt8[np.ndarray, "h w c"], landmarks: Float[np.ndarray, "478 3"]) -> list[Eye | None]:
    """The eyes on the left and right of the picture; ``None`` where one is too small or outside."""
    return [_prepare(picture, landmarks, *points) for points in _EYES]


def paint_eye(eye: Eye, openness: float, gaze: Float[np.ndarray, " 2"], picture: UInt8[np.ndarray, "h w c"]) -> None:
    """Paint ``eye`` into ``picture`` (RGB or RGBA), in place.

    Args:
        eye: what :func:`prepare_eyes` made of this picture.
        openness: 1 as in the picture, 0 closed. Above 1 the texture is squeezed as much as the mesh will stretch it.
        gaze: offset of the iris in eye widths, along and down the eye.
        picture: the picture, changed in the box of the eye only.
    """
    shift = np.clip(gaze, -_FARTHEST, _FARTHEST) * eye.width
    left, top = eye.corner
    height, width = eye.across.shape
    target = picture[top : top + height, left : left + width]
    if abs(openness - 1) < 1e-3 and np.abs(shift).max() < 0.02:
        target[..., :3] = (eye.seen + 0.5).astype(np.uint8)
        return
    offset = (shift[0] * eye.axes[0] + shift[1] * eye.axes[1]).astype(np.float32)
    _paint(
        eye.across, eye.down, eye.upper, eye.lower, eye.skin, eye.lashes, eye.ball, eye.seen, eye.axes[1], eye.iris,
        offset, np.float32(max(0.0, min(openness, 1.35))), np.float32(eye.width), target,
    )  # fmt: skip


@kernel
def _fetch(image, x, y, out):
    """Bilinear sample of ``image [h w 3]`` at (x, y), clamped to its border."""
    u = min(max(x, np.float32(0.0)), np.float32(image.shape[1] - 1.001))
    v = min(max(y, np.float32(0.0)), np.float32(image.shape[0] - 1.001))
    i, j = int(v), int(u)
    fx, fy = u - j, v - i
    for c in range(3):
        high = image[i, j, c] + (image[i, j + 1, c] - image[i, j, c]) * fx
        low = image[i + 1, j, c] + (image[i + 1, j + 1, c] - image[i + 1, j, c]) * fx
        out[c] = high + (low - high) * fy


@kernel
def _paint(  # noqa: PLR0913, PLR0917
    across,
    down,
    upper,
    lower,
    skin,
    lashes,
    ball,
    seen,
    axis,
    iris,
    offset,
    openness,
    size,
    out,
):
    height, width = across.shape
    lid, wider = min(openness, np.float32(1.0)), max(openness, np.float32(1.0))
    closing = 1 - lid
    squeeze = 1 - np.float32(0.6) * closing  # lashes on a lowered lid point away from the viewer
    hanging = np.float32(0.75) * closing * closing  # and hang over what is below
    cover, fallen, eye = np.zeros(3, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
    for y in range(height):
        for x in range(width):
            at, top, bottom = down[y, x], upper[y, x], lower[y, x]
            edge = bottom + (top - bottom) * lid
            above = edge - at
            if top - at > np.float32(0.25) * size or at - bottom > np.float32(0.25) * size:
                for c in range(3):
                    out[y, x, c] = int(seen[y, x, c] + np.float32(0.5))
                continue
            covered = min(max(above + np.float32(0.5), np.float32(0.0)), np.float32(1.0))
            open_here = min(max(bottom - top, np.float32(0.0)), np.float32(1.0))
            inside = min(max(bottom - at + np.float32(0.5), np.float32(0.0)), np.float32(1.0)) * open_here
            if covered > 0:
                resting = top - max(above, np.float32(0.0)) / squeeze - at  # where the lash over this pixel grew
                _fetch(lashes, x + axis[0] * resting, y + axis[1] * resting, cover)
            if covered < 1 and hanging > 0:
                resting = top + min(above, np.float32(0.0)) - at
                _fetch(lashes, x + axis[0] * resting, y + axis[1] * resting, fallen)
            shade = np.float32(1.0)
            if covered < 1 and inside > 0:
                ex, ey = x - iris[0] - offset[0], y - iris[1] - offset[1]
                far = (math.sqrt(ex * ex + ey * ey) - iris[2] * np.float32(1.15)) / (np.float32(0.3) * size)
                near = 1 - min(max(far, np.float32(0.0)), np.float32(1.0))
                near = near * near * (3 - 2 * near)
                lift = (at - bottom) * (wider - 1)
                _fetch(ball, x - offset[0] * near + axis[0] * lift, y - offset[1] * near + axis[1] * lift, eye)
                shade -= np.float32(0.4) * closing * max(np.float32(0.0), 1 + above / (np.float32(0.16) * size))
            for c in range(3):
                value = seen[y, x, c]
                value += (eye[c] * shade - value) * inside
                value *= 1 + (min(fallen[c], np.float32(1.0)) - 1) * hanging
                value += (skin[y, x, c] * cover[c] - value) * covered
                out[y, x, c] = int(min(max(value, np.float32(0.0)), np.float32(255.0)) + np.float32(0.5))


def _prepare(
    picture: UInt8[np.ndarray, "h w c"],
    landmarks: Float[np.ndarray, "478 3"],
    above: tuple[int, ...],
    below: tuple[int, ...],
    iris: tuple[int, ...],
) -> Eye | None:
    points = landmarks[:, :2]
    start, end = points[above[0]], points[above[-1]]
    width = float(np.linalg.norm(end - start))
    along = (end - start) / max(width, 1e-6)
    axes = np.array([along, [-along[1], along[0]]])
    box = _box(points[[*above, *below]], width, picture.shape)
    if width < _SMALLEST or box is None:
        return None
    left, top, right, bottom = box
    seen = picture[top:bottom, left:right, :3].astype(np.float32)
    rows, columns = np.mgrid[top:bottom, left:right]
    offset = np.stack([columns, rows], -1) - start
    across, down = offset @ axes[0] / width, offset @ axes[1]
    upper = _curve((points[list(above)] - start) @ axes.T / [width, 1], across)
    lower = _curve((points[list(below)] - start) @ axes.T / [width, 1], across)
    gap = np.maximum(lower - upper, 0)
    upper, lower = upper - _RAISE * gap, np.maximum(lower, upper) + _LOWER * gap
    skin = _skin(seen, across, down, upper, lower, width)
    centre = np.append(
        points[iris[0]] - [left, top], np.linalg.norm(points[list(iris[1:])] - points[iris[0]], axis=1).mean()
    )
    hole = ((down > upper + 0.1 * gap) & (down < lower - 0.06 * gap) & (gap > 0)).astype(np.float32)
    return Eye(
        corner=(left, top),
        across=across.astype(np.float32),
        down=down.astype(np.float32),
        upper=upper.astype(np.float32),
        lower=lower.astype(np.float32),
        seen=seen,
        skin=skin,
        lashes=np.clip((seen + 2) / (skin + 2), 0.05, 1.1).astype(np.float32),
        ball=_ball(seen, hole, centre, axes[1]),
        axes=axes.astype(np.float32),
        iris=centre.astype(np.float32),
        width=width,
    )


def _box(ring: np.ndarray, width: float, shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom around an eye, inside the picture; ``None`` if the eye itself leaves it."""
    low, high = ring.min(0), ring.max(0)
    if (low < 1).any() or high[0] > shape[1] - 2 or high[1] > shape[0] - 2:
        return None
    left, top = np.maximum(0, np.floor(low - np.array([0.3, 0.45]) * width)).astype(int)
    right, bottom = np.minimum([shape[1], shape[0]], np.ceil(high + np.array([0.3, 0.6]) * width)).astype(int)
    return int(left), int(top), int(right), int(bottom)


def _curve(points: Float[np.ndarray, "n 2"], across: np.ndarray) -> np.ndarray:
    """A lid as a smooth function of the position along the eye; straight on beyond the corners."""
    order = np.argsort(points[:, 0])
    x, y = points[order, 0], points[order, 1]
    keep = np.concatenate([[True], np.diff(x) > 1e-3])
    return PchipInterpolator(x[keep], y[keep])(np.clip(across, x[0], x[-1]))


def _skin(seen: np.ndarray, across: np.ndarray, down: np.ndarray, upper: np.ndarray, lower: np.ndarray, width: float):
    """The lid as bare skin: colours from above the lashes drawn down, with the grain of the skin below the eye."""
    bump = np.clip(4 * (across + 0.1) * (1.1 - across) / 1.44, 0, 1) ** 0.5
    height = _LASHES * width * bump
    unknown = (down > upper - height) & (down < lower) & (bump > 0)
    hard = cv2.dilate(unknown.astype(np.float32), np.ones((3, 3)))
    unknown = np.maximum(hard * (down > upper), cv2.GaussianBlur(hard, (0, 0), max(0.7, 0.03 * width)))
    sources = [(1 - unknown) * side for side in (down < upper, down > lower)]
    from_above, from_below = (fill_smoothly(seen, source.astype(np.float32) + 1e-4) for source in sources)
    # The closed lid comes forward, out of the shadow of the brow and of the lashes: lighter towards its middle.
    ramp = np.clip((down - upper) / np.maximum(lower - upper, 1), 0, 1)
    smooth = from_above + (from_below - from_above) * (0.2 + 0.4 * ramp)[..., None]
    around = seen[(np.abs(across - 0.5) < 0.7) & ((down > lower + 0.25 * width) | (down < upper - height - 2))]
    if len(around):
        bright = around[around.sum(1) >= np.median(around.sum(1))].mean(0)
        smooth += (bright - smooth) * (_FORWARD * np.sin(np.pi * ramp) * bump)[..., None]
    smooth = cv2.GaussianBlur(smooth, (0, 0), 0.03 * width)
    rough = seen - cv2.GaussianBlur(seen, (0, 0), max(1.0, 0.03 * width))
    limit = 1.5 * float(np.median(np.abs(rough))) + 1e-3
    shift = round(0.5 * width)
    grain = 0.7 * np.clip(np.roll(rough, -shift, axis=0), -limit, limit)
    painted = np.clip(smooth + grain, 0, 255)
    return (seen + (painted - seen) * unknown[..., None]).astype(np.float32)


def _ball(seen: np.ndarray, hole: np.ndarray, iris: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """The eyeball without lids: what is hidden of the iris mirrored from what is seen, the white continued."""
    height, width = hole.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    reach = (columns - iris[0]) * axis[0] + (rows - iris[1]) * axis[1]
    disc = (np.hypot(columns - iris[0], rows - iris[1]) < 1.12 * iris[2]).astype(np.float32)
    mirror = ((columns - 2 * reach * axis[0]).astype(np.float32), (rows - 2 * reach * axis[1]).astype(np.float32))
    image = cv2.remap(seen, *mirror, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    there = cv2.remap(hole, *mirror, cv2.INTER_LINEAR, borderValue=0)
    known = np.maximum(hole, there * disc)
    colour = np.where(hole[..., None] > 0.5, seen, image)
    white = fill_smoothly(seen, hole * (1 - disc))
    inner = fill_smoothly(colour, known * disc)
    soft = cv2.GaussianBlur(disc, (0, 0), 0.8)[..., None]
    completed = white + (inner - white) * soft
    keep = cv2.GaussianBlur(hole, (0, 0), 0.6)[..., None] * hole[..., None]
    return (completed + (seen - completed) * keep).astype(np.float32)
