"""Recordings -> what renderers learn from: frames of one person through a square that stands still."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from vivavoce.data.prepare import Prepared
from vivavoce.errors import InputError
from vivavoce.face import upright
from vivavoce.face.mesh import rotation_matrix
from vivavoce.face.track import FaceTracker
from vivavoce.face.upright import Square
from vivavoce.motion import keypoints
from vivavoce.motion.space import FACE_MESH

QUALITY = 95  # of the pictures, which are kept as JPEG
# Which landmarks lie where a keypoint should: eyes and lips, so that the regions of motion/keypoints.py mean in trained
# networks what they mean in the published ones. Which of a region is which is ours.
GUIDES = {
    11: 468, 15: 473,  # irises, left and right in the picture
    13: 159, 16: 386,  # upper lids
    18: 168,  # between the eyes
    6: 61, 12: 291,  # corners of the mouth
    14: 0, 17: 17,  # outer lips, above and below
    19: 13, 20: 14,  # inner lips
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Crops:
    """Some frames of one clip."""

    name: str
    speaker: str
    jpeg: UInt8[np.ndarray, " bytes"]  # all pictures, one after the other
    ends: np.ndarray  # where each picture ends in ``jpeg``
    pose: Float32[np.ndarray, "n 3"]  # pitch, yaw, roll in degrees, as measured
    landmarks: Float32[np.ndarray, "n 478 2"]  # in half widths of the picture
    person: UInt8[np.ndarray, "n 32 32"]  # 255 where a person is; all of it when the tracker cannot tell

    @property
    def guides(self) -> Float32[np.ndarray, "n g 2"]:
        """The landmarks of GUIDES."""
        return self.landmarks[:, list(GUIDES.values())]

    def picture(self, index: int) -> UInt8[np.ndarray, "3 s s"]:
        """RGB."""
        begin = int(self.ends[index - 1]) if index else 0
        bgr = cv2.imdecode(self.jpeg[begin : int(self.ends[index])], cv2.IMREAD_COLOR)
        if bgr is None:
            raise InputError(f"picture {index} of {self.name!r} is damaged")
        return np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1))


PERSON = 32  # pixels; side of the mattes
SQUARE = upright.SOURCE[:2]  # side over the face's extent and shift down the face, of a keypoint renderer's pictures
Filmed = Iterable[tuple[Prepared, Iterable[tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "478 3"]]]]]


def cut_all(
    filmed: Filmed, out: Path, *, side: int, frames: int, square: tuple[float, float] = SQUARE, inside: bool = False
) -> None:
    """Cut up to ``frames`` frames, evenly apart, of every clip into ``out``; resumable, clip by clip.

    Args:
        filmed: prepared clips, each with picture and landmarks (pixels) of the frames where its face is seen.
        out: folder to write ``<clip>.npz`` to; made if need be.
        side: of the pictures, in pixels.
        frames: of a clip, at most.
        square: side over the face's extent, and shift down the face, of what is cut out.
        inside: shrink and move squares that leave the picture, instead of showing black there.
    """
    out.mkdir(parents=True, exist_ok=True)
    tracker = FaceTracker()
    for clip, pairs in filmed:
        target = out / f"{clip.name}.npz"
        if target.exists():
            continue
        crops = cut(clip, pairs, tracker, side=side, frames=frames, square=square, inside=inside)
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, **{field.name: getattr(crops, field.name) for field in fields(crops)})
        part.replace(target)


def cut(
    clip: Prepared,
    pairs: Iterable[tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "478 3"]]],
    tracker: FaceTracker,
    *,
    side: int,
    frames: int,
    square: tuple[float, float],
    inside: bool,
) -> Crops:
    """Frames of one clip; see :func:`cut_all`."""
    seen, still = np.flatnonzero(clip.valid), standing(clip, square)
    wanted = set(np.linspace(0, len(seen) - 1, min(frames, len(seen))).round().astype(int).tolist())
    jpeg, chosen, places, person = [], [], [], []
    for index, (picture, landmarks) in enumerate(pairs):
        if index not in wanted:
            continue
        if inside:
            still = upright.within(still, picture.shape[1], picture.shape[0])
        rgb = upright.cut(picture, still, side)
        bgr = np.ascontiguousarray(rgb[..., ::-1])
        jpeg.append(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].ravel())
        chosen.append(seen[index])
        places.append((landmarks[:, :2] - [still.x, still.y]) / (still.side / 2))
        person.append(_matte(rgb, tracker))
    turned = torch.from_numpy(clip.rows[chosen][:, FACE_MESH.slice("rotation")])
    return Crops(
        name=clip.name,
        speaker=clip.speaker,
        jpeg=np.concatenate(jpeg),
        ends=np.cumsum([len(one) for one in jpeg]),
        pose=posed(turned).numpy(),
        landmarks=np.stack(places).astype(np.float32),
        person=np.stack(person),
    )


def standing(clip: Prepared, square: tuple[float, float]) -> Square:
    """The mean of the squares around the face, of the frames where it is seen; see :func:`cut_all`."""
    squares = [upright.around(points, *square, False) for points in clip.landmarks[clip.valid]]
    x, y, wide = np.mean([(one.x, one.y, one.side) for one in squares], axis=0)
    return Square(float(x), float(y), float(wide), 0.0)


def _matte(rgb: UInt8[np.ndarray, "s s 3"], tracker: FaceTracker) -> UInt8[np.ndarray, "32 32"]:
    person = tracker.person(rgb)
    if person is None:
        return np.full((PERSON, PERSON), 255, np.uint8)
    return (255 * cv2.resize(person, (PERSON, PERSON), interpolation=cv2.INTER_AREA)).round().astype(np.uint8)


def posed(angles: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """The same head poses in the angles of the keypoint space: (yaw, pitch, roll) of face-mesh/1 -> pitch, yaw, roll.

    Both spaces have x to the right, y down and z into the picture; they turn in another order, and yaw is reversed.
    """
    matrices = np.stack([rotation_matrix(one).T for one in angles.double().numpy()])
    return keypoints.angles(torch.from_numpy(matrices)).float()


def load(file: Path) -> Crops:
    """Read what :func:`cut_all` wrote. Raises :class:`InputError` for any other file."""
    try:
        with np.load(file, allow_pickle=False) as found:
            values: dict[str, Any] = {field.name: found[field.name] for field in fields(Crops)}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{file} holds no frames to learn drawing from: {error}") from error
    values |= {name: str(value) for name, value in values.items() if not value.ndim}
    return Crops(**values)
