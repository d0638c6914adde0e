"""The inside of the mouth, painted last: teeth of the skull and of the jaw, tongue and cavity, lit like the face.

Prepared once per picture as sharp layers (:func:`prepare_mouth`), placed and lit per frame (:func:`paint_mouth`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from vivavoce.face.interior import COLUMNS, ROWS, basis, skin_colour
from vivavoce.face.mesh import Points, Pose, align
from vivavoce.render.mouth_kernel import LAYER, compose_interior, draw_interior
from vivavoce.render.mouth_light import blur_of, colourfulness, grain_of, mouth_colours, relighting
from vivavoce.render.mouth_place import BEHIND, CHIN, MIDLINE, Place, arch_table, locate
from vivavoce.render.mouth_state import RESTING, State, lower_edge, state_of
from vivavoce.render.smile import REACH, Seen, own_row, row_grid
from vivavoce.render.teeth import CROWN, GUM, HALF_LENGTH, LOWER_ARCH, MARGIN, UPPER_ARCH, draw_row, soften

Picture = UInt8[np.ndarray, "h w 3"]

_APPEARS = 0.003, 0.010  # openings in face widths between which the painted interior fades in
_FINENESS = 1.4  # pixels of a layer per pixel of the picture
_CORNERS, _LIP_SHADOW = 0.3, 0.5  # share of light left in the corners; depth of the shadow under the upper lip
_OPEN = 0.03, 0.06  # openings of the picture itself between which its own interior may be used
_STRETCH = 1.25, 1.75  # openings relative to the picture's between which its own interior gives way
_SQUEEZE = 0.45, 0.75  # and between which it comes


@dataclass(frozen=True, slots=True)
class Mouth:
    """All there is to know of one person's mouth; every field is an array so that it can be saved."""

    upper: Float32[np.ndarray, "rh rw 4"]  # rows of teeth, premultiplied, see teeth.py
    lower: Float32[np.ndarray, "h2 w2 4"]
    tongue: Float32[np.ndarray, "h3 w3"]  # texture, mean 0
    colours: Float32[np.ndarray, "4 3"]  # see mouth_light.py
    skin: Float32[np.ndarray, " 3"]  # 0-255
    origin: Float32[np.ndarray, " 3"]  # where closed lips meet, canonical
    measures: Float32[np.ndarray, " 7"]  # see the properties

    @property
    def per_unit(self) -> float:
        """Pixels of the layers per face width."""
        return float(self.measures[0])

    @property
    def blur(self) -> float:
        """Of the picture, in its pixels."""
        return float(self.measures[1])

    @property
    def width(self) -> float:
        """Between the corners of the lips in the picture, in face widths."""
        return float(self.measures[2])

    @property
    def resting_chin(self) -> float:
        """Canonical y of the chin with closed lips."""
        return float(self.measures[3])

    @property
    def own_opening(self) -> float:
        """Of the lips in the picture, in face widths; 0 if what it shows between them is of no use."""
        return float(self.measures[4])

    @property
    def own_edge(self) -> float:
        """Incisal edges of the person's own upper teeth below the origin, in face widths."""
        return float(self.measures[6])

    @property
    def own_teeth(self) -> bool:
        """Whether the upper row is the person's own."""
        return bool(self.measures[5] > 0)


def prepare_mouth(
    picture: Picture,
    landmarks: Points,
    canonical: Points,
    pose: Pose,
    teeth: tuple[UInt8[np.ndarray, "h2 w2 3"], Points] | None = None,
    *,
    look_for_teeth: bool = True,
) -> dict[str, Tensor]:
    """Paint the layers of one person's mouth.

    Args:
        picture: the picture that the renderer draws from.
        landmarks: of its face, in pixels, ``[478 3]``.
        canonical: the same without pose, in face widths.
        pose: canonical frame to pixels of ``picture``.
        teeth: another picture that shows the person's upper teeth, and the landmarks in it. Without, they are taken
            from ``picture`` if it shows them, and modelled if it does not.
        look_for_teeth: whether ``picture`` is good enough to take teeth from.

    Returns:
        Named tensors for :func:`paint_mouth`, a few hundred kilobytes.
    """
    per_unit = float(np.clip(_FINENESS * pose.scale, 160, 900))
    blur = blur_of(picture, landmarks)
    sigma = max(0.45, blur) * per_unit / pose.scale
    rng = np.random.default_rng(int(picture[::7, ::7].astype(np.int64).sum()) % (1 << 32))
    upper, lower = (soften(draw_row(per_unit, upper=row, rng=rng), sigma) for row in (True, False))
    gap = max(0.0, float(canonical[14, 1] - canonical[13, 1]))
    origin = np.array(
        [canonical[list(MIDLINE), 0].mean(), canonical[13, 1] + 0.3 * min(gap, 0.07), canonical[13, 2]], np.float32
    )
    chin = float(canonical[list(CHIN), 1].mean()) - 0.8 * gap
    width = float(canonical[308, 0] - canonical[78, 0])
    shown = teeth or ((picture, landmarks) if look_for_teeth else None)
    own, edge = (_own_teeth(shown, canonical, origin, upper, per_unit) if shown else None) or (None, 0.0)
    grain = min(grain_of(picture, landmarks), 12.0)
    mouth = Mouth(
        upper=_grained(upper if own is None else own, grain if own is None else 0.0, rng),
        lower=_grained(lower, grain, rng),
        tongue=_tongue(per_unit, sigma, grain, rng),
        colours=mouth_colours(picture, landmarks),
        skin=skin_colour(picture, landmarks),
        origin=origin,
        measures=np.array([per_unit, blur, width, chin, gap, own is not None, edge], np.float32),
    )
    return {name: torch.from_numpy(np.ascontiguousarray(getattr(mouth, name))) for name in Mouth.__slots__}


def paint_mouth(
    image: Picture,
    mouth: Mapping[str, Tensor],
    landmarks: Points,
    pose: Pose,
    interior: Float[np.ndarray, " 6"],
    emptied: bool = False,
) -> None:
    """Paint the inside of the lips into ``image``, in place. A function of this frame alone.

    Args:
        image: the warped portrait; where the picture's own mouth interior still fits, it shows through.
        mouth: what :func:`prepare_mouth` made.
        landmarks: of this frame, in pixels.
        pose: canonical frame to pixels of this frame.
        interior: channels of ``face-mesh/1``; all 0 gives an average interior.
        emptied: whether ``image`` has nothing between the lips, so that nothing of it may show through.
    """
    held = Mouth(**{name: mouth[name].numpy() for name in Mouth.__slots__})
    place = locate(held.origin, landmarks, pose, image.shape[:2])
    if place is None:
        return
    state = state_of(interior, place.opening)
    kept = 0.0 if emptied else _own_share(held, place.opening)
    opacity = _ramp(place.opening, *_APPEARS) * (1 - kept) * state.opacity
    if opacity <= 0:
        return
    layer, drawn = draw_layer(held, place, state)
    light = relighting(drawn, held.skin, basis(), interior, place.opening)
    (left, top), (right, bottom) = place.low, place.high
    colourful = np.float32(colourfulness(held.skin))
    compose_interior(image[top:bottom, left:right], layer, light, held.colours[3], np.float32(opacity), colourful)


def draw_layer(
    mouth: Mouth, place: Place, state: State
) -> tuple[Float32[np.ndarray, "h w 7"], Float32[np.ndarray, "3 rows columns"]]:
    """The interior in its own light, and its sums per cell of the grid of looks. See mouth_kernel.py."""
    x = place.lips[:, 0].astype(np.float64)
    edge = mouth.own_edge if mouth.own_teeth else state.upper
    jaw = lower_edge(place, mouth.resting_chin) + state.lower
    arches = np.stack(
        [
            arch_table(UPPER_ARCH, x, place.towards, edge, state.upper_light),
            arch_table(LOWER_ARCH, x, place.towards, jaw, state.lower_light),
        ]
    ).astype(np.float32)
    edge_sharpness = place.scale / (1.0 + 1.2 * mouth.blur)
    frame = np.array([mouth.per_unit, CROWN + GUM, MARGIN, HALF_LENGTH, edge_sharpness], np.float32)
    light = 0.85 + 0.15 * min(place.gap / 0.09, 1.0)
    tongue = state.tongue * place.gap + 0.012, 0.0, 0.44 * max(mouth.width, place.width), state.tongue_light
    levels = np.array([*tongue, light, _CORNERS, _LIP_SHADOW], np.float32)
    width, height = place.high - place.low
    layer = np.empty((height, width, LAYER), np.float32)
    drawn = np.zeros((3, ROWS, COLUMNS), np.float32)
    draw_interior(
        place.corner, place.inverse, place.lips, arches, mouth.upper, mouth.lower, mouth.tongue, mouth.colours,
        frame, levels, layer, drawn,
    )  # fmt: skip
    return layer, drawn


def _own_share(mouth: Mouth, opening: float) -> float:
    """How much the picture's own interior, warped with its lips, is used: all near the opening of the picture."""
    usable = _ramp(mouth.own_opening, *_OPEN)
    if usable == 0:
        return 0.0
    ratio = opening / mouth.own_opening
    kept = usable * (1 - _ramp(ratio, *_STRETCH))
    # Teeth cut out and fixed to the skull close better than a picture of them that is squeezed.
    return kept * _ramp(ratio, *_SQUEEZE) if mouth.own_teeth else kept


def _own_teeth(
    shown: tuple[Picture, Points],
    canonical: Points,
    origin: Float32[np.ndarray, " 3"],
    modelled: Float32[np.ndarray, "rh rw 4"],
    per_unit: float,
) -> tuple[Float32[np.ndarray, "rh rw 4"], float] | None:
    """The upper row as ``shown`` and the height of its edges, or ``None`` if it is not seen well enough."""
    picture, landmarks = shown
    pose = align(canonical, landmarks)
    place = locate(origin, landmarks, pose, picture.shape[:2])
    if place is None:
        return None
    height = len(modelled)
    modelled = np.pad(modelled, ((0, round(REACH * per_unit)), (0, 0), (0, 0)))
    along, down = row_grid(per_unit, modelled.shape[:2])
    points = UPPER_ARCH.points()
    x, z = (np.interp(along, points[:, 2], points[:, k]) for k in (0, 1))
    depth = z + BEHIND
    spots = origin + np.stack([x, down + RESTING, depth], -1).reshape(-1, 3)
    pixels = pose.apply(spots).reshape(*x.shape, 3).astype(np.float32)
    column = x + depth * place.towards[0]
    lips = [np.interp(column, place.lips[:, 0], place.lips[:, k], left=0, right=0) for k in (1, 2, 3)]
    y = down + RESTING + depth * place.towards[1]
    colours = mouth_colours(picture, landmarks)
    seen = Seen(
        x=np.ascontiguousarray(pixels[..., 0]),
        y=np.ascontiguousarray(pixels[..., 1]),
        below=(y - lips[0]).astype(np.float32),
        above=(lips[1] - y).astype(np.float32),
        light=_light(y - lips[0], lips[1] - y, lips[2], z, place.gap).astype(np.float32),
    )
    found = own_row(picture, landmarks, seen, modelled, colours[0], per_unit)
    return None if found is None else (found[0][:height], RESTING + found[1])


def _light(below: np.ndarray, above: np.ndarray, across: np.ndarray, z: np.ndarray, gap: float) -> np.ndarray:
    """Brightness that :func:`draw_interior` gives the upper teeth at a place between the lips."""
    shadow = 1 - _LIP_SHADOW * np.exp(-np.maximum(below, 0) / 0.011)
    shadow = shadow * (1 - 0.22 * np.exp(-np.maximum(above, 0) / 0.006))
    corner = 1 - (1 - _CORNERS) * np.abs(2 * across - 1) ** 3
    return shadow * corner * (0.85 + 0.15 * min(gap / 0.09, 1.0)) * np.exp(-z / 0.16)


def _grained(
    row: Float32[np.ndarray, "rh rw 4"], grain: float, rng: np.random.Generator
) -> Float32[np.ndarray, "rh rw 4"]:
    noise = rng.standard_normal(row.shape[:2]).astype(np.float32) * np.float32(grain / 200)
    out = row.copy()
    out[..., :3] *= 1 + noise[..., None]
    return out


def _tongue(per_unit: float, sigma: float, grain: float, rng: np.random.Generator) -> Float32[np.ndarray, "rh rw"]:
    """Papillae, broad unevenness and the picture's grain over half a face width."""
    shape = round(0.5 * per_unit), round(0.72 * per_unit)
    noise = rng.standard_normal((3, *shape)).astype(np.float32)
    fine = cv2.GaussianBlur(noise[0], (0, 0), max(sigma, 0.004 * per_unit))
    broad = cv2.GaussianBlur(noise[1], (0, 0), 0.02 * per_unit)
    return 0.022 * fine / fine.std() + 0.04 * broad / broad.std() + noise[2] * np.float32(grain / 150)


def _ramp(x: float, low: float, high: float) -> float:
    """Smooth step from 0 at ``low`` to 1 at ``high``."""
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)
