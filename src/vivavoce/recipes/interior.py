"""The basis of looks inside the lips, in closed form: the mean look at five openings and six principal components."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8

from vivavoce import weights
from vivavoce.data.clips import recordings
from vivavoce.data.prepare import Prepared
from vivavoce.face.interior import CLOSED, COMPONENTS, Basis, look_inside, mouth_opening, visible
from vivavoce.media.read import read_video
from vivavoce.recipes.moda import clips
from vivavoce.timeline import Clock
from vivavoce.train.loop import ClosedForm

DATA = "VIVAVOCE_DATA"  # names the data folder, whose pictures are measured; the prepared clips have none

OPENINGS = (0.01, 0.03, 0.06, 0.1, 0.16)  # face widths; about the 3rd, 20th, 50th, 90th and 99th percentile
SPREAD = 0.5  # a speaker with n frames weighs n ** SPREAD, so that who was filmed long does not own the basis


def interior() -> ClosedForm:
    """The recipe."""
    return ClosedForm(name="interior", solve=_solve)


def _solve(out: Path) -> dict[str, Any]:
    found = [looks for clip, frames in filmed() if (looks := collect(clip.speaker, frames)) is not None]
    learned = fit(found)
    save(learned, out / "interior.safetensors")
    speakers, frames = len({looks.speaker for looks in found}), sum(len(looks.looks) for looks in found)
    return {"clips": len(found), "speakers": speakers, "frames": frames, "explained": explained(learned, found)}


def filmed() -> Iterator[tuple[Prepared, Iterator[tuple[np.ndarray, np.ndarray]]]]:
    """Prepared training clips, each with its frames: picture and landmarks in pixels.

    Raises :class:`vivavoce.errors.InputError` when the data folder or the prepared clips are not where they are said
    to be.
    """
    files = {found.name: found.path for found in recordings(Path(os.environ.get(DATA, "data")), split="train")}
    for clip in clips():
        if clip.name in files:
            yield clip, _frames(files[clip.name], clip)


def _frames(path: Path, clip: Prepared) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for picture, landmarks, seen in zip(read_video(path, Clock().fps), clip.landmarks, clip.valid, strict=False):
        if seen:
            yield picture.permute(1, 2, 0).contiguous().numpy(), landmarks


@dataclass(frozen=True, slots=True)
class Looks:
    """What one training clip shows between the lips, closed frames removed."""

    speaker: str
    looks: Float32[np.ndarray, "t 2 rows columns"]
    openings: Float32[np.ndarray, " t"]


def collect(
    speaker: str, frames: Iterable[tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "478 3"]]]
) -> Looks | None:
    """Looks of one clip from its (picture, landmarks in pixels) pairs; ``None`` if the lips never part."""
    parted = [(look_inside(rgb, points), mouth_opening(points)) for rgb, points in frames if _parted(points)]
    if not parted:
        return None
    looks, openings = zip(*parted, strict=True)
    return Looks(speaker, np.stack(looks), np.array(openings, np.float32))


def fit(clips: Sequence[Looks]) -> Basis:
    """Learn the basis; deterministic.

    Looks and their mirror images both count, so every component is either symmetric or antisymmetric and mirroring
    a face flips signs only.
    """
    frames = Counter[str]()
    for clip in clips:
        frames[clip.speaker] += len(clip.looks)
    weight = np.concatenate([frames[clip.speaker] ** (SPREAD - 1) * _certainty(clip.openings) for clip in clips])
    weight = np.tile(weight / weight.sum() / 2, 2)
    looks = np.concatenate([c.looks for c in clips])
    shape = looks.shape[1:]
    looks = np.concatenate([looks, looks[..., ::-1]]).reshape(2 * len(looks), -1).astype(np.float64)
    nearness = np.tile(_nearness(np.concatenate([c.openings for c in clips])), (2, 1))
    gram = nearness.T @ (nearness * weight[:, None])
    means = np.linalg.solve(gram, nearness.T @ (looks * weight[:, None]))
    residual = looks - nearness @ means
    values, axes = np.linalg.eigh(residual.T @ (residual * weight[:, None]))
    top = np.argsort(values)[::-1][:COMPONENTS]
    axes, deviation = axes[:, top].T, np.sqrt(values[top])[:, None]
    axes *= np.sign(axes[np.arange(COMPONENTS), np.abs(axes).argmax(1)])[:, None]  # a fixed sign
    return Basis(
        np.array(OPENINGS, np.float32),
        means.reshape(-1, *shape).astype(np.float32),
        (axes * deviation).reshape(-1, *shape).astype(np.float32),
        (axes / deviation).reshape(-1, *shape).astype(np.float32),
    )


def explained(basis: Basis, clips: Sequence[Looks]) -> float:
    """Share of the variance about the mean look at each opening that the components keep, over ``clips``."""
    total = left = 0.0
    for clip in clips:
        for look, opening in zip(clip.looks, clip.openings, strict=True):
            mean = basis.mean(float(opening))
            total += float(np.square(look - mean).sum())
            left += float(np.square(look - basis.look(basis.project(look, float(opening)), float(opening))).sum())
    return 1 - left / total


def save(basis: Basis, file: Path, **header: object) -> None:
    """Write ``basis`` where :func:`vivavoce.face.interior.basis` reads it."""
    fields = {name: getattr(basis, name) for name in ("openings", "means", "components", "rows")}
    weights.write(file, {name: torch.from_numpy(value) for name, value in fields.items()}, **header)


def _certainty(openings: Float32[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    return np.array([max(visible(float(opening)), 0.05) for opening in openings])


def _parted(landmarks: Float[np.ndarray, "478 3"]) -> bool:
    return bool(np.isfinite(landmarks).all()) and mouth_opening(landmarks) >= CLOSED


def _nearness(openings: Float32[np.ndarray, " t"]) -> Float[np.ndarray, "t k"]:
    """Hat functions on :data:`OPENINGS`: rows sum to 1."""
    return np.stack([np.interp(openings, OPENINGS, row) for row in np.eye(len(OPENINGS))], axis=1)
