"""What a face painter starts from: the target's geometry as a drawn 3D face, and the source's pixels carried to it.

Two tasks share one form (Xu et al. 2023; UniFace++ calls it the target pivot). To reenact, the source's whole picture
is carried along by the mesh. To swap, the carried face lies in the target's picture under the target's light, and what
is around it stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from vivavoce.face.mesh import OVAL, Points
from vivavoce.face.model import FaceModel
from vivavoce.face.morphable import Coefficients, Morphable
from vivavoce.render.raster import ALL, BACK, FRONT, draw_triangles
from vivavoce.render.surface import FACE, clockwise, face_triangles, smoothstep
from vivavoce.render.textured import Rendered, render

Rings = tuple[tuple[float, float], ...]
Rgb = UInt8[np.ndarray, "s s 3"]

# Rings around the oval, as multiples of its radius, and how far each is carried along with it: hair and ears go with
# the head, what is far away stays.
RINGS = ((1.0, 1.0), (1.12, 1.0), (1.3, 0.95), (1.55, 0.7), (1.85, 0.3), (2.2, 0.0))
# The same around a face that another is put into, whose outline it takes: what is near bends along, hair and background
# further away stay bit for bit.
BENT = ((1.0, 1.0), (1.12, 0.9), (1.25, 0.55), (1.4, 0.2), (1.55, 0.0))
BORDER = 0.12  # share of the picture's side over which nothing is carried at its border, so that it can be put back
_LIT = (0.4, 2.5)  # how much darker or brighter a swapped face may become by the target's light
_EDGE, _SOFT = 0.03, 0.012  # of a swapped face's mask: how far inside it ends, and its softness, face widths
_HAIR = (
    0.20,
    0.26,
)  # how far down the texture it reaches that a face is looked over for hair: to between brows and eyes
_TEMPLES = (0.38, 0.46)  # the same beside the eyes, which are dark themselves: their middles and radii in the texture
_EYES, _ROUND = ((0.352, 0.264), (0.648, 0.264)), (0.08, 0.035)
_DARK = (0.45, 0.65)  # brightness of hair over that of skin: from here to there it fades out
_THIN = 0.03  # face widths; what is narrower is no hair but a brow
_MOVED = 0.01  # pixels of a bent picture from which it is no longer the target's own
_FINEST = 1 / 16  # area in the source that a pixel is taken from below which it is called stretched and no more
_BROWS = (0.03, 0.11)  # how far down the texture a swapped face fades in: above the brows hair is the target's matter
_EYELIDS = (0.2, 0.24)  # the same where a fringe hides the source's brows: the target's are seen then
_ABOVE, _ACROSS, _COLUMNS = (0.07, 0.135), (0.3, 0.7), 8  # the strip of the texture above the brows, and parts of it
_STRAND, _LOCK, _ALONG = 0.008, 0.035, 0.02  # face widths: finest and broadest strands, and how far they are followed
# Contrast of strands against brightness from which skin is called hair, in all but two parts of the strip. Of 122
# training people the five or six with hair or a cap down to the brows lie above the middle, nearly all others below.
_HAIRY = (0.02, 0.028)
_SEEN = 40  # pixels of the strip below which nothing is told of it


@dataclass(frozen=True, slots=True)
class Pivot:
    """One picture to paint; all of side ``s``."""

    known: Rgb  # what the result begins as
    drawn: Rendered  # the 3D face that is wanted
    kept: Float32[np.ndarray, "s s"]  # 1 where the picture is the target's own and must stay, 0 where it is painted
    stretch: Float32[np.ndarray, "s s"]  # see :func:`stretched`; 0 where the picture is the target's own


def reenacted(picture: Rgb, source: Coefficients, wanted: Coefficients, bases: Morphable) -> Pivot:
    """The person in ``picture``, whose face is ``source``, with the face ``wanted``; coefficients in its pixels."""
    side = picture.shape[0]
    where = field(bases.landmarks(source), bases.landmarks(wanted), side)
    drawn = render(wanted, bases, side)
    return Pivot(taken(picture, where), drawn, np.zeros((side, side), np.float32), stretched(where))


def exchanged(
    picture: UInt8[np.ndarray, "h h 3"],
    source: Coefficients,
    target: Rgb,
    wanted: Coefficients,
    bases: Morphable,
    *,
    theirs: Coefficients | None = None,
    relit: bool = True,
    fringe: float = 0.0,
) -> Pivot:
    """The ``target``'s picture with the face of ``picture``.

    Args:
        picture: shows the face that is put in; of any size.
        source: coefficients of that face, in its pixels.
        target: a picture.
        wanted: the source's face as it is to look there, in its pixels: :func:`vivavoce.face.morphable.swapped`.
        bases: of the 3D face.
        theirs: the target's own face, whose outline is bent to that of ``wanted``; without, nothing is bent.
        relit: carry over the target's light; otherwise the source's colours stay.
        fringe: 1 if hair hides the source's brows, which the target's own replace then: :func:`fringed`.
    """
    side = target.shape[0]
    drawn = render(wanted, bases, side)
    where = field(bases.landmarks(source), bases.landmarks(wanted), side)
    carried = taken(picture, where)
    before = render(replace(wanted, light=source.light), bases, side)
    share = inside(drawn, wanted.scale, fringe) * uncovered(carried, _bare(wanted, source, bases, side), wanted.scale)
    if relit:
        ratio = np.clip((drawn.picture + 0.02) / (before.picture + 0.02), *_LIT)
        carried = np.clip(carried * cv2.GaussianBlur(ratio, (0, 0), side / 64), 0, 255)
    under = target
    if theirs is not None:
        under = outlined(target, theirs, wanted, bases)
        carried = coloured(carried, under, share * (drawn.at[..., 1] > _HAIR[1])) if relit else carried
    known = np.rint(under + (carried - under.astype(np.float32)) * share[..., None]).astype(np.uint8)
    finer = wanted.scale / source.scale  # a small source is not stretched for being small
    return Pivot(known, drawn, 1 - share, stretched(where * np.float32(finer)) * share)


def outlined(target: Rgb, theirs: Coefficients, wanted: Coefficients, bases: Morphable) -> Rgb:
    """The ``target``'s picture whose face, ``theirs``, has the outline of ``wanted``; far from it every pixel stays."""
    side = target.shape[0]
    where = field(bases.landmarks(theirs), bases.landmarks(wanted), side, BENT)
    moved = np.abs(where - _still(side)[..., :2]).max(2) > _MOVED
    return np.where(moved[..., None], taken(target, where), target)


def _bare(wanted: Coefficients, source: Coefficients, bases: Morphable, side: int) -> Rendered:
    """The face with nobody's skin in particular: one's own texture may hold the hair that lies on it."""
    return render(replace(wanted, light=source.light, texture=np.zeros_like(wanted.texture)), bases, side)


def coloured(
    carried: Float32[np.ndarray, "s s 3"], under: Rgb, share: Float32[np.ndarray, "s s"]
) -> Float32[np.ndarray, "s s 3"]:
    """``carried`` with the colours, on the whole, that ``under`` has where it is to lie: neck, ears and forehead stay.

    The fits of light and skin are each a little wrong, and so is the light that follows from them.
    """
    there = share > 0.5
    if not there.any():
        return carried
    gain = (np.median(under[there], 0) + 1) / (np.median(carried[there], 0) + 1)
    return np.clip(carried * np.clip(gain, *_LIT), 0, 255).astype(np.float32)


def inside(drawn: Rendered, scale: float, fringe: float = 0.0) -> Float32[np.ndarray, "s s"]:
    """Weight of a swapped face over the picture: 1 well within it, 0 at its edge, high on its forehead and beyond.

    Where a ``fringe`` hides its brows, 0 down to the eyelids.
    """
    reach = max(1, round(_EDGE * scale))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    whole = _filled(drawn.mask)
    core = cv2.erode(whole, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    soft = cv2.GaussianBlur(core, (2 * reach + 1, 2 * reach + 1), max(0.5, _SOFT * scale))
    low, high = (fringe * under + (1 - fringe) * above for above, under in zip(_BROWS, _EYELIDS, strict=True))
    below = np.where(drawn.mask, smoothstep((drawn.at[..., 1] - low) / (high - low)), 1.0)
    return (np.minimum(soft, 1) * whole * below).astype(np.float32)


def fringed(picture: Rgb, face: Coefficients, bases: Morphable) -> float:
    """How sure it is that hair hangs over the brows of the ``face`` in this ``picture``, fair hair, too: 0 to 1.

    Skin changes little across a forehead, strands do; wrinkles lie across and are not looked at.
    """
    drawn, grey = render(face, bases, picture.shape[0]), picture.mean(2, dtype=np.float32)
    along = max(0.5, _ALONG * face.scale)
    fine, broad = (
        cv2.GaussianBlur(grey, (0, 0), max(0.5, wide * face.scale), None, along) for wide in (_STRAND, _LOCK)
    )
    contrast = (fine - broad) / (cv2.GaussianBlur(grey, (0, 0), max(0.5, _LOCK * face.scale)) + 10)
    (x, y), (low, high), (left, right) = (drawn.at[..., k] for k in (0, 1)), _ABOVE, _ACROSS
    strip = drawn.mask & (y > low) & (y < high) & (x > left) & (x < right)
    if strip.sum() < _SEEN:
        return 0.0
    part = ((x[strip] - left) / (right - left) * _COLUMNS).astype(int)
    energy, count = (np.bincount(part, one, _COLUMNS) for one in (np.square(contrast[strip]), None))
    nearly_least = float(np.sort(np.sqrt(energy / np.maximum(count, 1)))[2])
    low, high = _HAIRY
    return float(smoothstep(np.array((nearly_least - low) / (high - low))))


def uncovered(carried: UInt8[np.ndarray, "s s 3"], drawn: Rendered, scale: float) -> Float32[np.ndarray, "s s"]:
    """0 where hair lies on brows, forehead or temples, which is far darker than a face drawn in its light; else 1."""
    blur = max(0.5, _THIN * scale)
    mask = drawn.mask.astype(np.float32)
    seen, due = (
        cv2.GaussianBlur(one.mean(2, dtype=np.float32) * mask, (0, 0), blur) for one in (carried, 255 * drawn.picture)
    )
    ratio = (seen + 1) / (due + 1)
    ratio /= np.median(ratio[drawn.mask]) if drawn.mask.any() else 1
    (x, y), (wide, tall) = (drawn.at[..., k] for k in (0, 1)), _ROUND
    above, beside = (1 - smoothstep((y - low) / (high - low)) for low, high in (_HAIR, _TEMPLES))
    for eye in _EYES:
        beside = beside * smoothstep(np.hypot((x - eye[0]) / wide, (y - eye[1]) / tall) - 0.5)
    above = mask * np.maximum(above, beside)
    dark, bright = _DARK
    return (1 - above * (1 - smoothstep((ratio - dark) / (bright - dark)))).astype(np.float32)


def _filled(mask: np.ndarray) -> Float32[np.ndarray, "s s"]:
    """A mask without holes: beside a nose the drawn mesh may be open."""
    rims, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    out = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(out, rims, -1, 1, cv2.FILLED)
    return out.astype(np.float32)


def taken(picture: UInt8[np.ndarray, "h h 3"], where: Float32[np.ndarray, "s s 2"]) -> UInt8[np.ndarray, "s s 3"]:
    """The colours that lie at ``where`` (pixels) in ``picture``."""
    x, y = cv2.split(where)
    return cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def stretched(where: Float32[np.ndarray, "s s 2"]) -> Float32[np.ndarray, "s s"]:
    """How the picture is stretched where its pixels come from ``where``: there it is wrong, whoever it shows.

    -1 where many pixels show one of the source's (lips that were shut and open, a cheek that was hidden), 0 where it
    is moved only, up to 1 where it is crowded: a quarter of the binary logarithm of areas.
    """
    across, down = (
        np.diff(where, axis=1, append=2 * where[:, -1:] - where[:, -2:-1]),
        np.diff(where, axis=0, append=2 * where[-1:] - where[-2:-1]),
    )
    area = np.abs(across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0])
    return np.clip(np.log2(np.maximum(area, _FINEST)) / 4, -1, 1).astype(np.float32)


def field(source: Points, wanted: Points, side: int, around: Rings = RINGS) -> Float32[np.ndarray, "s s 2"]:
    """Where each pixel of the wanted picture lies in the source's, in pixels.

    Args:
        source: the 478 points of the face in the source's picture.
        wanted: the same points in the wanted one; depth decides which hides which.
        side: of both pictures.
        around: rings around the oval, as multiples of its radius, and the share of its movement that they make.
    """
    own, moved = _rings(source, wanted, around)
    told = np.zeros((FACE + len(own), 3), np.float32)
    told[:, :2] = np.vstack([source[:, :2], own])
    places = np.vstack([wanted[:, :2], moved]).astype(np.float32)
    depth = np.concatenate([wanted[:, 2], np.full(len(own), wanted[:, 2].max())]).astype(np.float32)
    still = _still(side)
    found, nearest = still.copy(), np.full((side, side), np.inf, np.float32)
    face, rings = _triangles(around)
    draw_triangles(rings, places, depth, told, ALL, nearest, found)
    draw_triangles(face, places, depth, told, BACK, nearest, found)
    draw_triangles(face, places, depth, told, FRONT, nearest, found)
    return still[..., :2] + (found[..., :2] - still[..., :2]) * _fade(side)


def _rings(source: Points, wanted: Points, rings: Rings) -> tuple[Float[np.ndarray, "r 2"], Float[np.ndarray, "r 2"]]:
    """Points around both ovals: those in the source's picture, and where they are wanted."""
    here, there = source[list(OVAL), :2], wanted[list(OVAL), :2]
    own, out = here.mean(0), there.mean(0)
    around, moved = [], []
    for radius, share in rings:
        place = out + (there - out) * radius
        along = own + (here - own) * radius
        moved.append(place)
        around.append(place + (along - place) * share)
    return np.concatenate(around), np.concatenate(moved)


@lru_cache(maxsize=2)
def _triangles(rings: Rings) -> tuple[Int[np.ndarray, "f 3"], Int[np.ndarray, "g 3"]]:
    """Of the face, and of the rings around it."""
    model, count = FaceModel.pretrained(), len(OVAL)
    here = np.arange(count)
    following = (here + 1) % count
    made = []
    for ring in range(len(rings) - 1):
        a, b = FACE + ring * count + here, FACE + ring * count + following
        made += [np.stack([a, b, a + count], 1), np.stack([b, b + count, a + count], 1)]
    angle = 2 * np.pi * here / count
    circle = np.zeros((FACE + len(rings) * count, 2))
    for ring, (radius, _) in enumerate(rings):
        at = FACE + ring * count
        circle[at : at + count] = radius * np.stack([np.sin(angle), -np.cos(angle)], 1)
    return face_triangles(model.triangles, model.mean), clockwise(np.concatenate(made), circle)


@lru_cache(maxsize=4)
def _still(side: int) -> Float32[np.ndarray, "s s 3"]:
    out = np.zeros((side, side, 3), np.float32)
    out[..., 0] = np.arange(side)
    out[..., 1] = np.arange(side)[:, None]
    return out


@lru_cache(maxsize=4)
def _fade(side: int) -> Float32[np.ndarray, "s s 1"]:
    """1 well inside a picture, 0 at its border."""
    away = np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5) / side
    line = smoothstep(away / BORDER)
    return (line[:, None] * line[None, :])[..., None].astype(np.float32)
