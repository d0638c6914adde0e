"""What renderers that draw an upright square around the face have in common: finding it, cutting it, laying it back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import tee

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.face import upright
from vivavoce.face.crop import choose_face
from vivavoce.face.track import Face, FaceTracker
from vivavoce.face.upright import Square
from vivavoce.system import Source

SEARCHED = 50  # first frames of a video in which a face must be seen
_SMALL = 128  # pixels; side of a square whose face is too small to read well


def found_faces(source: Source, which: str | int) -> list[Face]:
    """The chosen face in every frame; where it is lost, where it was before."""
    tracker = FaceTracker()
    found: list[Face] = []
    for start in range(min(len(source), SEARCHED)):
        found = tracker.faces(image(source[start]))
        if found:
            break
    first = found[choose_face(found, which)]
    if len(source) == 1:
        return [first]
    faces, last = [], first
    for face in tracker.follow((image(frame) for frame in source), first):
        last = face or last
        faces.append(last)
    return faces


def through_standing(
    pictures: Iterable[UInt8[Tensor, "3 h w"]], spec: tuple[float, float, bool], *, inside: bool = False
) -> Iterator[tuple[UInt8[np.ndarray, "h w 3"] | None, Square, int]]:
    """A film and the square that stands still where its largest face is first seen; ``spec`` as ``upright.around``.

    With ``inside`` the square is shrunk and moved if it would leave the picture.

    Every item is for as many frames as its last part says: one, or more for the first. The picture is ``None`` where
    the face is not seen.

    Raises:
        InputError: no face is seen in the first 50 pictures.
    """
    square: Square | None = None
    unseen = 0
    shown, tracked = tee(image(picture) for picture in pictures)
    for face, picture in zip(FaceTracker().follow(tracked), shown, strict=True):
        if face is not None:
            found = square or upright.around(face.landmarks, *spec)
            square = upright.within(found, picture.shape[1], picture.shape[0]) if inside else found
        if square is None:
            unseen += 1
            if unseen == SEARCHED:
                break
            continue
        yield picture if face is not None else None, square, unseen + 1
        unseen = 0
    if square is None:
        raise InputError(f"no face was found in what leads, or not in its first {SEARCHED} frames")


def crop(picture: UInt8[np.ndarray, "h w 3"], square: Square, side: int, through: int) -> UInt8[Tensor, "3 s s"]:
    """What networks see: the square at ``through`` pixels, then smoothly made smaller to ``side``."""
    return tensor(cv2.resize(upright.cut(picture, square, through), (side, side), interpolation=cv2.INTER_AREA))


def scaled(frame: UInt8[Tensor, "3 h w"], scale: float) -> UInt8[Tensor, "3 h2 w2"]:
    """A picture of even sides, smaller if need be; at scale 1 every pixel is kept."""
    height, width = frame.shape[1:]
    if scale == 1:  # an odd last row or column is dropped rather than the whole picture resampled
        return frame[:, : height // 2 * 2, : width // 2 * 2].contiguous()
    size = max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
    return tensor(cv2.resize(image(frame), size, interpolation=cv2.INTER_AREA))


def framed(
    drawn: UInt8[Tensor, "3 s s"], square: Square, under: UInt8[Tensor, "3 h w"] | None, size: int
) -> UInt8[Tensor, "3 _h _w"]:
    """A drawn square laid over the picture ``under`` it; without one, the square itself, ``size`` pixels wide."""
    shown = image(drawn)
    if under is not None:
        picture = image(under).copy()
        upright.put_back(shown, square, picture)
        return tensor(picture)
    if size != shown.shape[0]:
        how = cv2.INTER_AREA if size < shown.shape[0] else cv2.INTER_CUBIC
        shown = cv2.resize(shown, (size, size), interpolation=how)
    return tensor(shown)


def image(frame: UInt8[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A frame as OpenCV and the tracker want it."""
    return np.ascontiguousarray(frame.permute(1, 2, 0).numpy())


def tensor(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[Tensor, "3 h w"]:
    """A picture as a frame."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def warnings(squares: list[Square]) -> tuple[str, ...]:
    """What the user should know of a picture whose face has these squares."""
    side = max(square.side for square in squares)
    if side < _SMALL:
        return (f"the face is small (its square is {side:.0f} pixels wide), so what is drawn will be coarse",)
    return ()
