"""A film that is given new lips: its pictures with the face in them, and the part of each that may change.

Nothing here knows how lips are drawn, so that every renderer keeps films in the same way: a renderer gives
:func:`redrawn` a function that draws one box, and all outside the mask stays bit for bit what it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from vivavoce.face.crop import choose_face
from vivavoce.face.mesh import OVAL, Points
from vivavoce.face.track import Face, FaceTracker
from vivavoce.streams import Background
from vivavoce.system import Drive, Film, Frames
from vivavoce.timeline import Span

Rgb = UInt8[np.ndarray, "h w 3"]

SEARCHED = 50  # first frames of a film in which a face must be seen
FADE = 4  # frames over which new lips come and go where the face is lost
AHEAD = 6  # pictures tracked before they are drawn
_GROWN = 1.2  # of the jaw line, as a multiple of its distance from the mouth: what moves with the chin lies inside
_FEATHER = 0.045  # standard deviation of the mask's edge in face widths
_CHEEKS = (234, 227, 50, 36, 98, 2, 327, 266, 280, 447, 454)  # the upper border: ear, cheek, under the nose, ear
_JAW = list(OVAL[OVAL.index(454) + 1 : OVAL.index(234)])  # from ear to ear, below
CLIP_BYTES = 48 << 20  # of pictures handed out at once


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of a film."""

    picture: Rgb
    landmarks: Float[np.ndarray, "478 3"]  # in its pixels; those of the last face while none is seen
    seen: float  # 1 where the face is seen, 0 where it is lost, between within FADE frames


@dataclass(frozen=True, slots=True)
class Patch:
    """The part of a picture that may change."""

    box: tuple[slice, slice]  # rows and columns
    weight: Float32[np.ndarray, "bh bw"]  # of what is drawn over what was there, in [0, 1]; 0 all along the border


Own = TypeVar("Own")  # what a renderer wants to know of a shot beside the face: the motion in it, a crop
Redraw = Callable[[Shot, Own, Float[Tensor, " d"]], Rgb]  # a shot and one row of motion -> the picture with new lips


def first_face(pictures: Iterable[UInt8[Tensor, "3 h w"]], which: str | int, tracker: FaceTracker) -> Face:
    """The face meant, where it is first seen. Raises :class:`vivavoce.errors.InputError` when there is none."""
    found: list[Face] = []
    for picture in islice(pictures, SEARCHED):
        found = tracker.faces(as_image(picture))
        if found:
            break
    return found[choose_face(found, which)]


def shots(film: Film, first: Face, tracker: FaceTracker) -> Iterator[Shot]:
    """The pictures of ``film`` with the face that is ``first`` to be seen, without end, FADE pictures ahead."""
    held: deque[tuple[Rgb, Face | None]] = deque()
    last, lost, passing = first, FADE + 1, list[Rgb]()

    def images() -> Iterator[Rgb]:
        for picture in film.pictures():
            passing[:] = [as_image(picture)]
            yield passing[0]

    for face in tracker.follow(images(), first):
        held.append((passing[0], face))
        if len(held) <= FADE:
            continue
        picture, now = held.popleft()
        last, lost = (now, lost + 1) if now is not None else (last, 0)
        until = next((n for n, (_, later) in enumerate(held, 1) if later is None), FADE + 1)
        yield Shot(picture, last.landmarks.astype(np.float64), min(1.0, min(lost, until) / (FADE + 1)))


def redrawn(seen: Iterator[tuple[Shot, Own]], drives: Iterable[Drive], draw: Redraw[Own]) -> Iterator[Frames]:
    """Frames of ``drives``: the next picture each, whose lower face is what ``draw`` makes of it.

    ``draw`` gives the whole picture; what it changes outside :func:`patch` is not looked at. Pictures are read and
    tracked in a thread of their own.
    """
    with closing(Background(seen, AHEAD)) as ahead:
        coming = iter(ahead)
        for drive in drives:
            at, rows = drive.motion.span.start, list(drive.motion.rows)
            while rows:
                shown = [_with_new_lips(*next(coming), rows.pop(0), draw)]
                at_once = max(1, CLIP_BYTES // shown[0].nbytes)
                while rows and len(shown) < at_once:
                    shown.append(_with_new_lips(*next(coming), rows.pop(0), draw))
                yield Frames(Span(at, at + len(shown)), torch.from_numpy(np.stack(shown)))
                at += len(shown)


def patch(landmarks: Points, size: tuple[int, int]) -> Patch | None:
    """The lower face of a picture of ``size`` (height, width): mouth, chin and jaw; ``None`` when outside of it."""
    contour = _contour(landmarks)
    sigma = max(1.0, _FEATHER * _width(landmarks))
    margin = int(3 * sigma) + 2
    low = np.maximum(np.floor(contour.min(0)).astype(int) - margin, 0)
    high = np.minimum(np.ceil(contour.max(0)).astype(int) + margin + 1, size[::-1])
    if np.any(high - low < 2):
        return None
    inside = np.zeros((high[1] - low[1], high[0] - low[0]), np.float32)
    cv2.fillPoly(inside, [np.round(contour - low).astype(np.int32)], 1.0)
    reach = 2 * int(3 * sigma) + 1
    weight = cv2.GaussianBlur(inside, (reach, reach), sigma)
    weight = np.minimum(weight, 1).astype(np.float32)  # the blur's sums are not exact
    return Patch((slice(low[1], high[1]), slice(low[0], high[0])), weight)


def as_image(picture: UInt8[Tensor, "3 h w"]) -> Rgb:
    """Channels last, as the drawing works."""
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())


def _with_new_lips(shot: Shot, own: Own, row: Float[Tensor, " d"], draw: Redraw[Own]) -> UInt8[np.ndarray, "3 h w"]:
    picture = shot.picture
    part = patch(shot.landmarks, (picture.shape[0], picture.shape[1])) if shot.seen > 0 else None
    if part is not None:
        was, drawn = picture[part.box], draw(shot, own, row)[part.box]
        weight = (part.weight * np.float32(shot.seen))[..., None]
        mixed = was + (drawn.astype(np.float32) - was) * weight
        picture = picture.copy()
        picture[part.box] = np.rint(mixed).astype(np.uint8)
    return np.ascontiguousarray(picture.transpose(2, 0, 1))


def _contour(landmarks: Points) -> Float[np.ndarray, "k 2"]:
    """Around mouth and jaw: under the nose from ear to ear, back a little outside the jaw."""
    upper = landmarks[list(_CHEEKS), :2]
    middle = landmarks[[13, 14], :2].mean(0)
    jaw = middle + (landmarks[_JAW, :2] - middle) * _GROWN
    return np.concatenate([upper, jaw])


def _width(landmarks: Points) -> float:
    return float(np.linalg.norm(landmarks[234] - landmarks[454]))
