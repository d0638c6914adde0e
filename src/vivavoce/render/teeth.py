"""Modelled teeth: two rows drawn tooth by tooth along their arches, as sharp pictures with opacity.

Lengths are in face widths (about 142 mm). A row is unrolled: across is arc length along the arch, 0 between the front
teeth, positive to the right of the picture; down is the long axis of the teeth, 0 at the incisal edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float32

_MILLIMETRE = 1 / 142.0
# Mean crown widths and heights in millimetres, from the middle outward: incisors, canine, premolars, molar
# (Wheeler's Dental Anatomy, tables of averages, rounded).
_UPPER_WIDTHS = (8.6, 6.6, 7.6, 7.1, 6.8, 10.0)
_UPPER_HEIGHTS = (10.3, 8.9, 10.0, 8.4, 7.6, 7.2)
_LOWER_WIDTHS = (5.3, 5.8, 6.9, 7.0, 7.1, 11.0)
_LOWER_HEIGHTS = (8.8, 9.2, 10.4, 8.6, 8.0, 7.5)
_CANINE = 2
HALF_LENGTH = 0.36  # of a row, along its arch
CROWN, GUM = 0.085, 0.05  # how far a picture reaches from the incisal edges: over the crowns, then over the gum
MARGIN = 0.012  # and beyond the edges, where it is empty


@dataclass(frozen=True, slots=True)
class Arch:
    """Half an ellipse seen from below: ``x = wide * sin(t)``, ``z = deep * (1 - cos(t))``; z away from the viewer."""

    wide: float
    deep: float

    def points(self, count: int = 129) -> Float[np.ndarray, "n 3"]:
        """Columns x, z and arc length of points from one end to the other; the middle one is the front."""
        t = np.linspace(-1.45, 1.45, count)
        x, z = self.wide * np.sin(t), self.deep * (1 - np.cos(t))
        length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(z)))])
        return np.stack([x, z, length - length[count // 2]], 1)


UPPER_ARCH, LOWER_ARCH = Arch(0.205, 0.31), Arch(0.182, 0.29)


def draw_row(
    pixels: float, *, upper: bool, rng: np.random.Generator, regular: float = 0.6
) -> Float32[np.ndarray, "h w 4"]:
    """One row of teeth in neutral light, incisal edges down for the upper row and up for the lower.

    Args:
        pixels: pixels per face width.
        upper: which row.
        rng: small differences between the teeth come from it.
        regular: 1 = as if by a dentist's catalogue, 0 = markedly irregular.

    Returns:
        RGB reflectance relative to a white tooth, and opacity in [0, 1]; colours are not premultiplied.
    """
    down, across = _grid(pixels)
    widths, heights = (_UPPER_WIDTHS, _UPPER_HEIGHTS) if upper else (_LOWER_WIDTHS, _LOWER_HEIGHTS)
    colour = np.ones((*down.shape, 3), np.float32)
    opacity, nearest = np.zeros_like(down), np.full_like(down, -np.inf)
    gum_line = np.full_like(down, 0.02)
    for side in (-1, 1):
        start = 0.0
        for kind, (width, height) in enumerate(zip(widths, heights, strict=True)):
            wide = width * _MILLIMETRE * (1 + 0.05 * (1 - regular) * rng.standard_normal())
            tooth = _Tooth(side, kind, start + wide / 2, wide, height * _MILLIMETRE, _Flaws.draw(rng, regular))
            start += wide * 0.985  # neighbours touch
            inside, look, gum = tooth.draw(across, down, upper=upper)
            front = inside > nearest
            nearest = np.where(front, inside, nearest)
            colour = np.where(front[..., None], look, colour)
            opacity = np.maximum(opacity, np.clip(inside * pixels + 0.5, 0, 1))
            near = np.abs(across - side * tooth.centre) < wide / 2
            gum_line = np.where(near, gum, gum_line)
    colour = _with_gaps(colour.astype(np.float32), nearest.astype(np.float32), pixels)
    gum_line = cv2.blur(gum_line, (max(1, round(0.008 * pixels)), 1))
    return _with_gum(colour, opacity.astype(np.float32), down - gum_line, across, pixels, upper=upper)


@dataclass(frozen=True, slots=True)
class _Flaws:
    """What makes a tooth this person's: shift along its axis, tilt, shade, and where its highlight lies."""

    shift: float
    tilt: float
    shade: float
    light: float

    @staticmethod
    def draw(rng: np.random.Generator, regular: float) -> _Flaws:
        a, b, c, d = rng.standard_normal(4) * (1.2 - regular)
        return _Flaws(0.0025 * a, 0.045 * b, 0.022 * c, 0.12 * d)


@dataclass(frozen=True, slots=True)
class _Tooth:
    side: int
    kind: int
    centre: float  # arc length from the middle, > 0
    wide: float
    high: float
    flaws: _Flaws

    def draw(
        self, across: Float32[np.ndarray, "h w"], down: Float32[np.ndarray, "h w"], *, upper: bool
    ) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]]:
        """Depth inside the outline (< 0 outside), colours, and where the gum line is; ``down`` > 0 over the crown."""
        outward = (self.side * across - self.centre) / (self.wide / 2)  # -1 towards the middle, 1 away from it
        down = down - self.flaws.shift - self.flaws.tilt * self.wide / 2 * outward
        b = down / self.high  # 0 at the incisal edge, 1 at the gum
        reach = np.abs(outward)
        if self.kind == _CANINE:
            edge = 0.13 * np.power(reach, 1.4)
        elif self.kind > _CANINE:
            edge = 0.08 * np.power(reach, 2) + 0.04
        else:  # the corner away from the middle is rounder
            edge = np.where(outward > 0, 0.075 * np.power(reach, 3.2), 0.045 * np.power(reach, 5.0))
        edge = edge + (0.08 if self.kind == 1 and upper else 0.0)  # lateral incisors end higher
        half = 1.0 - 0.16 * np.square(np.clip(b - 0.25, 0, 1)) - 0.05 * np.square(np.clip(0.25 - b, 0, 1) * 4)
        inside = np.minimum((half - reach) * self.wide / 2, (b - edge) * self.high)
        gum = self.high * (1.0 - 0.17 * np.square(np.clip(reach, 0, 1)))
        return inside.astype(np.float32), self._colours(outward, b, edge), gum.astype(np.float32)

    def _colours(self, outward: np.ndarray, b: np.ndarray, edge: np.ndarray) -> Float32[np.ndarray, "h w 3"]:
        rise = np.clip(b - edge, 0, 1.3)[..., None]
        body = np.array([1.0, 0.98, 0.95], np.float32)
        neck = np.array([0.95, 0.87, 0.79], np.float32)
        tip = np.array([0.88, 0.88, 0.88], np.float32)  # enamel without dentine behind it lets light through
        colour = body + (neck - body) * np.square(np.clip((rise - 0.35) / 0.75, 0, 1))
        colour = colour + (tip - colour) * np.exp(-np.square(rise / 0.16)) * (0.75 if self.kind < _CANINE else 0.4)
        reach = np.abs(outward)
        bulge = 1 - 0.20 * np.power(np.clip(reach, 0, 1), 3.5) + 0.03 * np.cos(2 * outward)
        mark = np.square((outward - self.flaws.light + 0.15) / 0.35) + np.square((b - 0.48) / 0.30)
        shade = (1.0, 0.97, 0.92, 0.89, 0.84, 0.78)[self.kind] * (1 + self.flaws.shade)
        warm = np.array([1.0, 0.985, 0.97], np.float32) if self.kind == _CANINE else np.float32(1)
        lit = bulge * shade + 0.09 * np.exp(-mark)
        return (colour * warm * lit[..., None]).astype(np.float32)


def _grid(pixels: float) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    height, width = round((CROWN + GUM + MARGIN) * pixels), round(2 * HALF_LENGTH * pixels)
    rows = (np.arange(height, dtype=np.float32) + 0.5) / pixels - MARGIN
    columns = (np.arange(width, dtype=np.float32) + 0.5) / pixels - HALF_LENGTH
    down, across = np.meshgrid(rows, columns, indexing="ij")
    return down, across


def _with_gaps(
    colour: Float32[np.ndarray, "h w 3"], inside: Float32[np.ndarray, "h w"], pixels: float
) -> Float32[np.ndarray, "h w 3"]:
    """Darken towards the neighbours: light is lost in the narrow space between two teeth."""
    near = np.exp(-np.maximum(inside, 0) / 0.0042)[..., None]
    line = np.exp(-np.square(np.maximum(inside, 0) / max(0.0016, 0.7 / pixels)))[..., None]
    tint = np.array([0.66, 0.55, 0.47], np.float32)
    shade = (1 - 0.30 * near * (1 - tint)) * (1 - 0.55 * line * (1 - tint * 0.8))
    return (colour * shade).astype(np.float32)


def _with_gum(
    colour: Float32[np.ndarray, "h w 3"],
    opacity: Float32[np.ndarray, "h w"],
    above: Float32[np.ndarray, "h w"],
    across: Float32[np.ndarray, "h w"],
    pixels: float,
    *,
    upper: bool,
) -> Float32[np.ndarray, "h w 4"]:
    """Cover the necks with gum, and turn the picture so that down is down."""
    flesh = np.array([0.66, 0.37, 0.36], np.float32) * (0.9 + 0.1 * np.cos(across * 95))[..., None]
    flesh = flesh * (0.85 + 0.3 * np.exp(-np.square((above - 0.008) / 0.006)))[..., None]
    cover = np.clip(above * pixels / 1.2 + 0.5, 0, 1)[..., None]
    rim = np.exp(-np.square(above / 0.003))[..., None]
    colour = colour * (1 - 0.25 * rim)
    colour = colour + (flesh - colour) * cover
    full = np.where(above > -0.004, 1.0, opacity) if upper else np.maximum(opacity, cover[..., 0])
    out = np.dstack([colour, np.maximum(full, opacity)]).astype(np.float32)
    return np.ascontiguousarray(out[::-1] if upper else out)


def soften(row: Float32[np.ndarray, "h w 4"], sigma: float) -> Float32[np.ndarray, "h w 4"]:
    """Premultiply a row and blur it by ``sigma`` pixels of its own, as sharp as the portrait and no sharper."""
    row = np.dstack([row[..., :3] * row[..., 3:], row[..., 3:]])
    return cv2.GaussianBlur(row, (0, 0), sigma) if sigma > 0.3 else row
