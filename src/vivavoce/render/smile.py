"""A person's own upper teeth, cut from a picture that shows them into the unrolled row of teeth.py."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from vivavoce.face.interior import luminance, redness, skin_colour
from vivavoce.face.mesh import Points
from vivavoce.render.mouth_light import colourfulness, mouth_colours
from vivavoce.render.teeth import CROWN, GUM, HALF_LENGTH

Picture = UInt8[np.ndarray, "h w 3"]

LEAST_HEIGHT = 0.018  # face widths of tooth that must be seen in the middle
LEAST_WIDTH = 0.13  # and across
_PARTED = 0.88  # light between clenched teeth relative to that on them
REACH = 0.08  # lower than modelled teeth that own ones are looked for
_EDGE = 0.004  # what lies this near to a lip may be lip
_MIDDLE = 0.06  # half the width of the four incisors
_HIDDEN = 0.03  # teeth are continued this far under the upper lip before gum may show


@dataclass(frozen=True, slots=True)
class Seen:
    """Where each pixel of the row lies in the picture, and what the picture's light does there."""

    x: Float32[np.ndarray, "rh rw"]  # pixels
    y: Float32[np.ndarray, "rh rw"]
    below: Float32[np.ndarray, "rh rw"]  # face widths below the upper lip
    above: Float32[np.ndarray, "rh rw"]  # face widths above the lower lip
    light: Float32[np.ndarray, "rh rw"]  # brightness that the painter will apply at this place


def own_row(
    picture: Picture,
    landmarks: Points,
    seen: Seen,
    modelled: Float32[np.ndarray, "rh rw 4"],
    white: Float32[np.ndarray, " 3"],
    per_unit: float,
) -> tuple[Float32[np.ndarray, "rh rw 4"], float] | None:
    """The upper row with the person's own teeth where they are seen, the modelled ones elsewhere.

    Args:
        picture: shows the teeth.
        landmarks: of the face in it.
        seen: see :class:`Seen`; ``light`` is divided out, so the painter gives back the picture itself.
        modelled: premultiplied row of teeth.py at ``per_unit`` pixels per face width, with :data:`REACH` empty below.
        white: colour of a white tooth in the picture, 0-255.
        per_unit: pixels per face width.

    Returns:
        A premultiplied row with its incisal edges where those of ``modelled`` were, and how far below they lie in
        the picture, in face widths; ``None`` when too little of the teeth is seen to be trusted.
    """
    colour = cv2.remap(picture, seen.x, seen.y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    open_here = (seen.below > _EDGE) & (seen.above > _EDGE)
    tooth = open_here & _toothlike(colour, skin_colour(picture, landmarks), mouth_colours(picture, landmarks)[3])
    edge = _edges(tooth, open_here, luminance(colour), per_unit)
    if edge is None:
        return None
    line, known = edge
    rows = np.arange(len(colour), dtype=np.float32)[:, None]
    top = np.where(open_here.any(0), open_here.argmax(0), 0).astype(np.float32)[None]
    source = np.clip(rows, top + 1, np.maximum(line[None] - 1, top + 1))
    columns = np.broadcast_to(np.arange(colour.shape[1], dtype=np.float32)[None], source.shape)
    filled = cv2.remap(colour, columns.copy(), source.astype(np.float32), cv2.INTER_LINEAR)
    light = cv2.remap(seen.light, columns.copy(), source.astype(np.float32), cv2.INTER_LINEAR)
    filled = filled / (np.maximum(light, 0.3)[..., None] * white)
    hidden = np.clip((top - rows) / (_HIDDEN * per_unit), 0, 1)[..., None]
    opaque = np.clip(line[None] - rows + 0.5, 0, 1)[..., None]
    own = np.dstack([filled * (1 - 0.25 * hidden) * opaque, opaque])
    weight = _ramp(known, round(0.04 * per_unit))[None, :, None] * (1 - np.square(hidden))
    middle = np.abs(columns[0] / per_unit - HALF_LENGTH) < _MIDDLE
    below = float(np.median(line[middle & known])) - (CROWN + GUM) * per_unit
    modelled = _lowered(modelled, below)
    modelled = _matched(modelled, own, weight[..., 0] * opaque[..., 0])
    return _lowered((modelled + (own - modelled) * weight).astype(np.float32), -below), below / per_unit


def _toothlike(
    colour: Float32[np.ndarray, "rh rw 3"], skin: Float32[np.ndarray, " 3"], lip: Float32[np.ndarray, " 3"]
) -> np.ndarray:
    bright = max(float(luminance(skin)), 20.0)
    light = luminance(colour)
    red = redness(colour) / np.maximum(light, 1)
    of_skin, of_lip = (float(redness(c)) / max(float(luminance(c)), 20.0) for c in (skin, lip))
    limit = max(0.2, 0.85 * of_skin, 0.5 * of_lip + 0.2 * of_skin)
    # In greys a lip differs from a tooth by brightness alone.
    least = 0.85 - 0.45 * colourfulness(skin)
    return (light > least * bright) & (red < limit)


def _edges(
    tooth: np.ndarray, open_here: np.ndarray, light: Float32[np.ndarray, "rh rw"], per_unit: float
) -> tuple[Float32[np.ndarray, " w"], np.ndarray] | None:
    """Row of the incisal edge per column, and which columns show it; ``None`` if too few do."""
    tooth = cv2.morphologyEx(
        tooth.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, max(3, round(0.012 * per_unit))), np.uint8)
    )
    width = tooth.shape[1]
    line, known, height = np.zeros(width, np.float32), np.zeros(width, bool), np.zeros(width, np.float32)
    for x in range(width):
        inside = np.flatnonzero(open_here[:, x])
        if len(inside) == 0:
            continue
        run = tooth[inside[0] : inside[-1] + 1, x]
        start = int(run.argmax())  # of the teeth
        if not run.any() or start > 0.02 * per_unit:  # gum or shadow above is fine, a dark mouth is not
            continue
        stop = start + _first_row(light[inside[0] + start :, x], int(np.argmin(np.append(run[start:], 0))))
        if stop - start >= 0.4 * LEAST_HEIGHT * per_unit:
            line[x], known[x], height[x] = inside[0] + stop, True, stop - start
    middle = slice(round((HALF_LENGTH - _MIDDLE) * per_unit), round((HALF_LENGTH + _MIDDLE) * per_unit))
    if known.sum() < LEAST_WIDTH * per_unit or known[middle].mean() < 0.8:
        return None
    if np.median(height[middle]) < LEAST_HEIGHT * per_unit:
        return None
    at = np.flatnonzero(known)
    line = np.interp(np.arange(width), at, line[at]).astype(np.float32)
    return _steadied(line, round(0.05 * per_unit)), known


def _steadied(line: Float32[np.ndarray, " w"], reach: int) -> Float32[np.ndarray, " w"]:
    """The line without columns that differ much from the median of their neighbours within ``reach``."""
    padded = np.pad(line, reach, mode="edge")
    median = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)
    steady = np.clip(line, median - 0.12 * reach, median + 0.12 * reach).astype(np.float32)
    return cv2.medianBlur(steady[None], 5)[0]


def _first_row(light: Float32[np.ndarray, " n"], height: int) -> int:
    """Where clenched teeth part: the darkest pixel in the middle of a run, if it is darker than what is around."""
    low, high = round(0.4 * height), round(0.8 * height)
    if high - low < 2:
        return height
    darkest = low + int(light[low:high].argmin())
    around = min(light[: darkest + 1].max(), light[darkest:height].max())
    return darkest if light[darkest] < _PARTED * around else height


def _ramp(known: np.ndarray, reach: int) -> Float32[np.ndarray, " w"]:
    """1 well inside the widest run of known columns, falling to 0 at its ends."""
    at = np.flatnonzero(known)
    inside = np.zeros(len(known), np.uint8)
    inside[at[0] : at[-1] + 1] = 1
    distance = cv2.distanceTransform(np.tile(np.pad(inside, 1), (3, 1)), cv2.DIST_L1, 3)[1, 1:-1]
    return np.clip(distance / max(reach, 1), 0, 1).astype(np.float32)


def _lowered(row: Float32[np.ndarray, "rh rw 4"], pixels: float) -> Float32[np.ndarray, "rh rw 4"]:
    """The row moved down (up if negative), so that modelled and own teeth end at one height."""
    move = np.array([[1, 0, 0], [0, 1, pixels]], np.float64)
    above = row[0].mean(0)
    return cv2.warpAffine(
        row, move, row.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT,
        borderValue=above.tolist() if pixels > 0 else 0,
    )  # fmt: skip


def _matched(
    modelled: Float32[np.ndarray, "rh rw 4"], own: Float32[np.ndarray, "rh rw 4"], weight: Float32[np.ndarray, "rh rw"]
) -> Float32[np.ndarray, "rh rw 4"]:
    """The modelled teeth in the mean colour of the person's own, so that the seam is not seen."""
    both = weight * modelled[..., 3]
    if both.sum() < 10:
        return modelled
    gain = (own[..., :3] * both[..., None]).sum((0, 1)) / np.maximum(
        (modelled[..., :3] * both[..., None]).sum((0, 1)), 1e-3
    )
    out = modelled.copy()
    out[..., :3] *= np.clip(gain, 0.4, 1.8)
    return out


def row_grid(
    per_unit: float, shape: tuple[int, int]
) -> tuple[Float32[np.ndarray, "rh rw"], Float32[np.ndarray, "rh rw"]]:
    """Arc length and height (down, 0 at the incisal edges) of every pixel of an upper row of ``shape``."""
    down = (np.arange(shape[0], dtype=np.float32) + 0.5) / per_unit - (CROWN + GUM)
    along = (np.arange(shape[1], dtype=np.float32) + 0.5) / per_unit - HALF_LENGTH
    grid = np.meshgrid(down, along, indexing="ij")
    return grid[1].astype(np.float32), grid[0].astype(np.float32)
