"""Recordings -> what a keypoint renderer learns from: frames of one person through a square that stands still."""

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
    guides: Float32[np.ndarray, "n g 2"]  # landmarks of GUIDES, in half widths of the picture

    def picture(self, index: int) -> UInt8[np.ndarray, "3 s s"]:
        """RGB."""
        begin = int(self.ends[index - 1]) if index else 0
        bgr = cv2.imdecode(self.jpeg[begin : int(self.ends[index])], cv2.IMREAD_COLOR)
        if bgr is None:
            raise InputError(f"picture {index} of {self.name!r} is damaged")
        return np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1))


Filmed = Iterable[tuple[Prepared, Iterable[tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "478 3"]]]]]


def cut_all(filmed: Filmed, out: Path, *, side: int, frames: int) -> None:
    """Cut up to ``frames`` frames, evenly apart, of every clip into ``out``; resumable, clip by clip.

    Args:
        filmed: prepared clips, each with picture and landmarks (pixels) of the frames where its face is seen.
        out: folder to write ``<clip>.npz`` to; made if need be.
        side: of the pictures, in pixels.
        frames: of a clip, at most.
    """
    out.mkdir(parents=True, exist_ok=True)
    for clip, pairs in filmed:
        target = out / f"{clip.name}.npz"
        if target.exists():
            continue
        crops = cut(clip, pairs, side=side, frames=frames)
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, **{field.name: getattr(crops, field.name) for field in fields(crops)})
        part.replace(target)


def cut(
    clip: Prepared,
    pairs: Iterable[tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "478 3"]]],
    *,
    side: int,
    frames: int,
) -> Crops:
    """Frames of one clip; see :func:`cut_all`."""
    seen = np.flatnonzero(clip.valid)
    squares = [upright.around(clip.landmarks[n], *upright.SOURCE[:2], False) for n in seen]
    x, y, wide = np.mean([(square.x, square.y, square.side) for square in squares], axis=0)
    square = Square(float(x), float(y), float(wide), 0.0)
    wanted = set(np.linspace(0, len(seen) - 1, min(frames, len(seen))).round().astype(int).tolist())
    jpeg, chosen, guides = [], [], []
    for index, (picture, landmarks) in enumerate(pairs):
        if index not in wanted:
            continue
        bgr = np.ascontiguousarray(upright.cut(picture, square, side)[..., ::-1])
        jpeg.append(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].ravel())
        chosen.append(seen[index])
        guides.append((landmarks[list(GUIDES.values()), :2] - [square.x, square.y]) / (square.side / 2))
    turned = torch.from_numpy(clip.rows[chosen][:, FACE_MESH.slice("rotation")])
    return Crops(
        name=clip.name,
        speaker=clip.speaker,
        jpeg=np.concatenate(jpeg),
        ends=np.cumsum([len(one) for one in jpeg]),
        pose=posed(turned).numpy(),
        guides=np.stack(guides).astype(np.float32),
    )


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
