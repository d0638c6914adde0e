"""Put one person's face into another's picture or video: the target keeps everything but who it is.

Pose, expression, gaze and light are the target's; hair, neck and background are its own pixels, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, tee

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.face import upright
from vivavoce.face.crop import choose_face
from vivavoce.face.fitting import CALIBRATION, Person, fit, recognised, smoothed
from vivavoce.face.mesh import Points
from vivavoce.face.morphable import Coefficients, Morphable, swapped, thorough
from vivavoce.face.track import FaceTracker
from vivavoce.nets.tgdm import Tgdm
from vivavoce.render.pivot import exchanged, fringed
from vivavoce.render.shots import FADE, Rgb, Shot, first_face, shots
from vivavoce.render.texture import FINEST, SQUARE, Brush

Films = Iterable[UInt8[Tensor, "3 h w"]]


@dataclass(frozen=True, slots=True)
class Box:
    """A square of whole pixels of a picture, which it may leave."""

    left: int
    top: int
    side: int

    @staticmethod
    def around(landmarks: Points) -> Box:
        """The square around a face."""
        square = upright.around(landmarks, *SQUARE)
        side = max(16, round(square.side))
        return Box(round(square.x - side / 2), round(square.y - side / 2), side)

    def cut(self, picture: Rgb) -> UInt8[np.ndarray, "s s 3"]:
        """The square; beyond the picture as at its border."""
        rows, columns = (
            np.clip(np.arange(start, start + self.side), 0, count - 1)
            for start, count in zip((self.top, self.left), picture.shape[:2], strict=True)
        )
        return np.ascontiguousarray(picture[rows[:, None], columns[None, :]])

    def laid(self, made: UInt8[np.ndarray, "s s 3"], picture: Rgb) -> Rgb:
        """``picture`` with the square ``made`` in its place."""
        out, (height, width) = picture.copy(), picture.shape[:2]
        top, left = max(0, self.top), max(0, self.left)
        bottom, right = min(height, self.top + self.side), min(width, self.left + self.side)
        if bottom > top and right > left:
            own = made[top - self.top : bottom - self.top, left - self.left : right - self.left]
            out[top:bottom, left:right] = own
        return out


class Swapper:
    """Puts the face of one picture into others."""

    def __init__(self, networks: Tgdm, source: Rgb, *, steps: int = 1, guidance: float = 1.0) -> None:
        """``source`` is a picture of whose face it is; the largest one, if there are several.

        Raises:
            InputError: it shows no face.
        """
        self.bases, self.tracker = thorough(Morphable.pretrained()), FaceTracker()
        faces = self.tracker.faces(source)
        if not faces:
            raise InputError("no face was found in the picture whose face is to be put in")
        landmarks = faces[0].landmarks.astype(np.float64)
        square = replace(upright.around(landmarks, *SQUARE), turn=0.0)
        side = int(np.clip(round(square.side), networks.config.side, FINEST))
        cut = upright.cut(source, square, side)
        places = (landmarks - [square.x, square.y, 0]) * (side / square.side) + [side / 2, side / 2, 0]
        self.brush = Brush(networks, cut, fit(cut, places, self.bases), steps=steps, guidance=guidance)
        self.fringe = fringed(cut, self.brush.face, self.bases)

    def picture(self, target: Rgb, which: str | int = "largest") -> Rgb:
        """``target`` whose face, the one meant by ``which``, is the source's.

        Raises:
            InputError: it shows no face, or not the one meant.
        """
        faces = self.tracker.faces(target)
        landmarks = faces[choose_face(faces, which)].landmarks.astype(np.float64)
        box = Box.around(landmarks)
        return self._put_in(target, box, self._fitted(target, landmarks, box, None), 1.0)

    def film(self, pictures: Films, again: Films, which: str | int = "largest") -> Iterator[Rgb]:
        """Every picture of a film whose face, the one meant by ``which`` where it is first seen, is the source's.

        Where it is not seen, pictures stay as they are. Holds a few pictures, and the faces of the first two seconds.

        Args:
            pictures: the film.
            again: the same pictures once more, of which the first are looked at to learn who is in them.
            which: of several faces.

        Raises:
            InputError: the face is not seen in the first two seconds.
        """
        held, looked = tee(islice(again, CALIBRATION))
        first = first_face(held, which, self.tracker)
        person = self._known(shots(_Ending(looked), first, self.tracker))
        shown, tracked = tee(shots(_Ending(pictures), first, FaceTracker()))
        for shot, wanted in zip(shown, smoothed(self._followed(tracked, person)), strict=True):
            if shot.seen <= 0:
                yield shot.picture
                continue
            yield self._put_in(shot.picture, Box.around(shot.landmarks), wanted, shot.seen)

    def _known(self, seen: Iterable[Shot]) -> Person:
        cuts, points = list[Rgb](), list[Points]()
        for shot in seen:
            box = Box.around(shot.landmarks)
            cuts.append(box.cut(shot.picture))
            points.append(shot.landmarks - [box.left, box.top, 0])
        return recognised(cuts, np.stack(points), self.bases)

    def _followed(self, seen: Iterable[Shot], person: Person) -> Iterator[Coefficients]:
        for shot in seen:
            yield self._fitted(shot.picture, shot.landmarks, Box.around(shot.landmarks), person)

    def _fitted(self, picture: Rgb, landmarks: Points, box: Box, person: Person | None) -> Coefficients:
        found = fit(box.cut(picture), landmarks - [box.left, box.top, 0], self.bases, person)
        return found.framed(1.0, float(-box.left), float(-box.top))

    def _put_in(self, target: Rgb, box: Box, theirs: Coefficients, share: float) -> Rgb:
        """``target`` with the source's face doing in the ``box`` what the face ``theirs`` does."""
        brush, cut = self.brush, box.cut(target)
        own = theirs.framed(1.0, float(box.left), float(box.top))
        wanted = swapped(brush.face, own)
        pivot = exchanged(brush.picture, brush.face, cut, wanted, self.bases, theirs=own, fringe=self.fringe)
        made = brush.painted(pivot, wanted)
        if share < 1:
            made = np.rint(cut + (made.astype(np.float32) - cut) * share).astype(np.uint8)
        return box.laid(made, target)


@dataclass(frozen=True, slots=True)
class _Ending:
    """A film that ends: its last picture is shown as often again as :func:`shots` looks ahead."""

    once: Films

    def pictures(self) -> Iterator[UInt8[Tensor, "3 h w"]]:
        last: Tensor | None = None
        for last in self.once:
            yield last
        for _ in range(FADE if last is not None else 0):
            assert last is not None  # noqa: S101  (there are none to repeat otherwise)
            yield last
