"""Frames of clips with the 3D face fitted to each, as seen and as in a mirror: what face painters learn from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from vivavoce.data import crops
from vivavoce.data.crops import Crops
from vivavoce.errors import InputError
from vivavoce.face.fitting import fit, recognised
from vivavoce.face.model import FaceModel
from vivavoce.face.morphable import Coefficients, Morphable
from vivavoce.face.track import FaceTracker

LEAST = 4  # frames of a clip in which the face must be found
_BATCH = 50  # frames from which identity and texture are told


@dataclass(frozen=True, slots=True)
class Fitted:
    """One clip."""

    frames: Crops  # the pictures
    index: Int[np.ndarray, " n"]  # which of them are fitted
    rows: Float32[np.ndarray, "2 n d"]  # coefficients, see :func:`packed`: as seen, and in a mirror
    parts: Mapping[str, tuple[int, ...]]  # names and shapes of what is in a row, in order

    def __len__(self) -> int:
        """Number of frames fitted."""
        return len(self.index)

    def picture(self, n: int, *, mirrored: bool) -> UInt8[np.ndarray, "s s 3"]:
        """RGB."""
        rgb = self.frames.picture(int(self.index[n])).transpose(1, 2, 0)
        return np.ascontiguousarray(rgb[:, ::-1] if mirrored else rgb)

    def face(self, n: int, *, mirrored: bool) -> Coefficients:
        """The face in :meth:`picture`."""
        return unpacked(self.rows[int(mirrored), n], self.parts)


def packed(face: Coefficients) -> Float32[np.ndarray, " d"]:
    """All coefficients in a row as they are, unlike ``Coefficients.vector``."""
    return np.concatenate([np.ravel(getattr(face, part.name)) for part in fields(Coefficients)]).astype(np.float32)


def shapes(face: Coefficients) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what :func:`packed` lays in a row."""
    return {part.name: np.shape(getattr(face, part.name)) for part in fields(Coefficients)}


def unpacked(row: Float[np.ndarray, " d"], parts: Mapping[str, tuple[int, ...]]) -> Coefficients:
    """Inverse of :func:`packed`."""
    values, at = dict[str, Any](), 0
    for name, shape in parts.items():
        count = int(np.prod(shape))
        found = row[at : at + count].astype(np.float64)
        values[name] = found.reshape(shape) if shape else float(found[0])
        at += count
    return Coefficients(**values)


def fit_all(files: Iterable[Path], out: Path, bases: Morphable, *, frames: int) -> None:
    """Fit up to ``frames`` frames, evenly apart, of every file of crops into ``out``; resumable, clip by clip.

    Clips in which the face is hardly found leave an empty file, so that they are not looked through again.
    """
    out.mkdir(parents=True, exist_ok=True)
    tracker = FaceTracker()
    for file in files:
        target = out / file.name
        if target.exists():
            continue
        index, rows = _fitted(crops.load(file), tracker, bases, frames)
        part = target.with_suffix(".part")
        with part.open("wb") as handle:
            np.savez(handle, index=index, rows=rows)
        part.replace(target)


def _fitted(clip: Crops, tracker: FaceTracker, bases: Morphable, frames: int) -> tuple[np.ndarray, np.ndarray]:
    count = len(clip.ends)
    wanted = np.unique(np.linspace(0, count - 1, min(frames, count)).round().astype(int))
    pictures = [np.ascontiguousarray(clip.picture(int(n)).transpose(1, 2, 0)) for n in wanted]
    found = list(tracker.follow(pictures))
    there = [n for n, face in enumerate(found) if face is not None]
    if len(there) < LEAST:
        return np.zeros(0, np.int64), np.zeros((2, 0, 0), np.float32)
    seen = [pictures[n] for n in there]
    points = np.stack([face.landmarks for face in found if face is not None]).astype(np.float64)
    swap, side = FaceModel.pretrained().mirrored_points, seen[0].shape[1]
    turned = points[:, swap] * [-1, 1, 1] + [side - 1, 0, 0]
    both = [_rows(seen, points, bases), _rows([one[:, ::-1].copy() for one in seen], turned, bases)]
    return wanted[there], np.stack(both)


def _rows(pictures: list[np.ndarray], points: Float[np.ndarray, "t 478 3"], bases: Morphable) -> np.ndarray:
    person = recognised(pictures[:_BATCH], points[:_BATCH], bases)
    pairs = zip(pictures, points, strict=True)
    return np.stack([packed(fit(picture, there, bases, person)) for picture, there in pairs])


def load(file: Path, frames: Crops, parts: Mapping[str, tuple[int, ...]]) -> Fitted:
    """Read what :func:`fit_all` wrote beside the ``frames`` it was fitted to.

    Raises:
        InputError: any other file, or one of other bases.
    """
    try:
        with np.load(file, allow_pickle=False) as found:
            index, rows = found["index"], found["rows"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{file} holds no fitted faces: {error}") from error
    if len(index) and rows.shape[2] != sum(int(np.prod(shape)) for shape in parts.values()):
        raise InputError(f"{file} was fitted with other bases of the face; remove it to fit it again")
    return Fitted(frames, index, rows, parts)
