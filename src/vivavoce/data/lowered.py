"""Recordings -> what mouth painters learn from: every face cut out where it stands, in order, with what was said.

Each picture has a square of its own, by points that stand still when the mouth moves (:mod:`vivavoce.face.lower`), so
faces of one person lie on each other but for what they do and how the head is turned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Float16, Float32, Int, UInt8

from vivavoce.data.prepare import Prepared
from vivavoce.errors import InputError
from vivavoce.face import lower, upright
from vivavoce.face.lower import Place
from vivavoce.face.mesh import Pose
from vivavoce.face.model import FaceModel
from vivavoce.face.upright import Square

QUALITY = 93  # of the pictures, which are kept as JPEG

Filmed = Iterable[tuple[Prepared, Iterable[tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "478 3"]]]]]
Hear = Callable[[Prepared], Float[np.ndarray, "t a"]]


@dataclass(frozen=True, slots=True)
class Lowered:
    """The first frames of one clip in which its face is seen, in order."""

    name: str
    speaker: str
    jpeg: UInt8[np.ndarray, " bytes"]  # all pictures, one after the other
    ends: Int[np.ndarray, " n"]  # where each picture ends in ``jpeg``
    frames: Int[np.ndarray, " n"]  # which frame of the clip each one is
    places: Float32[np.ndarray, "n 17"]  # where it was cut, see :meth:`place`
    landmarks: Float32[np.ndarray, "n 68 2"]  # landmarks68/1
    rows: Float32[np.ndarray, "t 48"]  # face-mesh/1, of every frame of the clip
    speech: Float16[np.ndarray, "t a"]  # features of every frame of the clip

    def picture(self, index: int) -> UInt8[np.ndarray, "s s 3"]:
        """RGB.

        Raises:
            InputError: the file is damaged.
        """
        begin = int(self.ends[index - 1]) if index else 0
        bgr = cv2.imdecode(self.jpeg[begin : int(self.ends[index])], cv2.IMREAD_COLOR)
        if bgr is None:
            raise InputError(f"picture {index} of {self.name!r} is damaged")
        return np.ascontiguousarray(bgr[..., ::-1])

    def place(self, index: int) -> Place:
        """Where the picture was cut out of its frame."""
        scale, *rest = (float(one) for one in self.places[index])
        pose = Pose(scale, np.array(rest[:9]).reshape(3, 3), np.array(rest[9:12]))
        return Place(pose, Square(*rest[12:]))

    def around(self, index: int, before: int, after: int) -> Float32[np.ndarray, "k a"]:
        """Speech from ``before`` frames before the picture's to ``after`` after it; silence outside the clip."""
        at = int(self.frames[index]) + np.arange(-before, after + 1)
        there = (at >= 0) & (at < len(self.speech))
        return self.speech[np.where(there, at, 0)].astype(np.float32) * there[:, None]


def cut_all(filmed: Filmed, hear: Hear, out: Path, *, side: int, frames: int) -> None:
    """Cut the first ``frames`` frames of every clip into ``out``; resumable, clip by clip.

    Args:
        filmed: prepared clips, each with picture and landmarks (pixels) of the frames where its face is seen.
        hear: speech features of a clip, a row per frame.
        out: folder to write ``<clip>.npz`` to; made if need be.
        side: of the pictures, in pixels.
        frames: of a clip, at most.
    """
    out.mkdir(parents=True, exist_ok=True)
    for clip, pairs in filmed:
        target = out / f"{clip.name}.npz"
        if target.exists():
            continue
        found = cut(clip, pairs, hear(clip), side=side, frames=frames)
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, **{field.name: getattr(found, field.name) for field in fields(found)})
        part.replace(target)


def cut(
    clip: Prepared,
    pairs: Iterable[tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "478 3"]]],
    speech: Float[np.ndarray, "t a"],
    *,
    side: int,
    frames: int,
) -> Lowered:
    """Frames of one clip; see :func:`cut_all`."""
    model, seen = FaceModel.pretrained(), np.flatnonzero(clip.valid)[:frames]
    jpeg, places, landmarks = [], [], []
    for _, (picture, points) in zip(seen, pairs, strict=False):
        at = lower.place(points.astype(np.float64), model)
        bgr = np.ascontiguousarray(upright.cut(picture, at.square, side)[..., ::-1])
        jpeg.append(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].ravel())
        places.append(_packed(at))
        landmarks.append(lower.places68(points.astype(np.float64), at))
    seen = seen[: len(jpeg)]
    return Lowered(
        name=clip.name,
        speaker=clip.speaker,
        jpeg=np.concatenate(jpeg),
        ends=np.cumsum([len(one) for one in jpeg]),
        frames=seen,
        places=np.stack(places).astype(np.float32),
        landmarks=np.stack(landmarks).astype(np.float32),
        rows=clip.rows,
        speech=speech.astype(np.float16),
    )


def _packed(at: Place) -> Float[np.ndarray, " 17"]:
    square = (at.square.x, at.square.y, at.square.side, at.square.turn)
    return np.array([at.pose.scale, *at.pose.rotation.ravel(), *at.pose.translation, *square])


def load(file: Path) -> Lowered:
    """Read what :func:`cut_all` wrote. Raises :class:`InputError` for any other file."""
    try:
        with np.load(file, allow_pickle=False) as found:
            values: dict[str, Any] = {field.name: found[field.name] for field in fields(Lowered)}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{file} holds no faces to learn painting mouths from: {error}") from error
    values |= {name: str(value) for name, value in values.items() if not value.ndim}
    return Lowered(**values)
