"""The face model in closed form: mean shape, expression basis, lids, readers. Linear algebra, no gradient steps.

``vivavoce train face --out DIR`` reads clips prepared by :mod:`vivavoce.data.prepare` from the folder named by the
environment variable ``VIVAVOCE_MOTION`` (default ``runs/motion``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from vivavoce import weights
from vivavoce.face.mesh import (
    INNER_LIPS,
    LEFT_EYE,
    LEFT_IRIS,
    MIRRORED_PAIRS,
    OUTER_LIPS,
    RIGHT_EYE,
    RIGHT_IRIS,
    RIGID,
    Points,
    align,
    eye_openings,
    lip_opening,
)
from vivavoce.face.model import COEFFICIENTS, WEIGHTS, FaceModel
from vivavoce.motion.space import FACE_MESH
from vivavoce.recipes.moda import clips
from vivavoce.train.loop import ClosedForm

ITERATIONS = 6  # of generalised Procrustes analysis
NEUTRAL_SHARE = 0.15  # of a clip's frames, those with the least open lips, make its neutral
LIP_WEIGHT = 2.0  # lips count more than cheeks
RIDGE_GUESS = 3.0  # relative to the mean variance of the points; chosen by leaving speakers out
RIDGE_DISPLACE = 1.0
LEAST_FRAMES = 10  # of a clip that takes part
MAX_FRAMES = 600  # per speaker, so that who was filmed long does not own the basis
FLIP = np.array([-1.0, 1.0, 1.0])
# The eyes' rings have their own channels and must not take part in the basis.
EYE_POINTS = np.array([*LEFT_EYE, *RIGHT_EYE, *LEFT_IRIS, *RIGHT_IRIS])


def face() -> ClosedForm:
    """The recipe."""
    return ClosedForm(name="face", solve=_solve)


def _solve(out: Path) -> dict[str, Any]:
    tracks = [Track(clip.speaker, clip.landmarks[clip.valid].astype(np.float64)) for clip in clips()]
    # The surface is the tracker's own; the model that ships has it.
    model = fit(tracks, FaceModel.pretrained().triangles)
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in model.tensors().items()}
    weights.write(out / f"{WEIGHTS}.safetensors", tensors, config={"space": FACE_MESH.name})
    return {"clips": len(tracks), "speakers": len({track.speaker for track in tracks})}


@dataclass(frozen=True, slots=True)
class Track:
    """Landmarks of one training clip, in pixels; frames without a face removed."""

    speaker: str
    landmarks: Float[np.ndarray, "t 478 3"]


def fit(tracks: Sequence[Track], triangles: Int[np.ndarray, "f 3"]) -> FaceModel:
    """Learn the model from tracks of many speakers; deterministic."""
    tracks = [track for track in tracks if len(track.landmarks) >= LEAST_FRAMES]
    frames = Counter[str]()
    for track in tracks:
        frames[track.speaker] += len(track.landmarks)
    mean = _canonical_mean(tracks)
    people = [_Person.of(track, mean, every=-(-frames[track.speaker] // MAX_FRAMES)) for track in tracks]
    mean = np.mean([p.neutral for p in people], axis=0)
    swap = _mirrored_points(mean)
    mean = (mean + mean[swap] * FLIP) / 2
    offsets = np.concatenate([p.offsets for p in people])
    closings = np.concatenate([p.closings for p in people])
    # Every frame takes part twice, the second time in the mirror: the axes then are symmetric or antisymmetric.
    offsets = np.concatenate([offsets, offsets[:, swap] * FLIP]).reshape(-1, mean.size)
    closings = np.concatenate([closings, closings[:, ::-1]])
    basis, reader = _principal(offsets, _point_weights())
    displaced = _displacements(offsets @ reader.T, closings, offsets)
    expression, lids = displaced[:COEFFICIENTS], displaced[COEFFICIENTS:]
    expression = np.where(_is_eye(mean), expression, basis.reshape(expression.shape))
    return FaceModel(
        mean=mean,
        triangles=triangles,
        expression=expression,
        lids=lids * _lid_area(mean),
        reader=reader,
        guesser=_guesser(people, mean, reader),
        mirror=reader @ (expression[:, swap] * FLIP).reshape(COEFFICIENTS, -1).T,
        mirrored_points=swap,
    )


@dataclass(frozen=True, slots=True)
class _Person:
    """One clip in the canonical frame."""

    speaker: str
    neutral: Points
    shapes: Float[np.ndarray, "t 478 3"]
    closings: Float[np.ndarray, "t 2"]

    @property
    def offsets(self) -> Float[np.ndarray, "t 478 3"]:
        return self.shapes - self.neutral

    @staticmethod
    def of(track: Track, mean: Points, every: int) -> _Person:
        landmarks = track.landmarks.astype(np.float64)
        shapes = np.stack([align(mean, frame).undo(frame) for frame in landmarks])
        resting = neutral(shapes)
        shapes = np.stack([align(resting, frame).undo(frame) for frame in landmarks])
        resting = neutral(shapes)
        openings = np.stack([eye_openings(shape) for shape in shapes])
        closings = 1 - openings / np.maximum(np.median(openings, axis=0), 1e-3)
        return _Person(track.speaker, resting, shapes[::every], closings[::every])


def neutral(shapes: Float[np.ndarray, "t 478 3"]) -> Points:
    """Resting shape of a clip: mean of the frames with the least open lips, its eyes as open as usual."""
    opening = np.array([lip_opening(shape) for shape in shapes])
    rest = shapes[np.argsort(opening)[: max(5, int(NEUTRAL_SHARE * len(shapes)))]].mean(0)
    rest[EYE_POINTS] = np.median(shapes[:, EYE_POINTS], axis=0)
    return rest


def _canonical_mean(tracks: Sequence[Track]) -> Points:
    """Generalised Procrustes mean of frames of all clips, turned to face the camera, one face width wide."""
    frames = [f.astype(np.float64) for t in tracks for f in t.landmarks[:: max(1, len(t.landmarks) // 6)]]
    mean = frames[0] - frames[0].mean(0)
    for _ in range(ITERATIONS):
        mean = np.mean([align(frame, mean).apply(frame) for frame in frames], axis=0)
        mean -= mean[list(RIGID)].mean(0)
        mean /= np.linalg.norm(mean[234] - mean[454])
    across = np.mean([mean[b] - mean[a] for a, b in MIRRORED_PAIRS], axis=0)
    across /= np.linalg.norm(across)
    down = mean[152] - mean[10]
    down -= across * (down @ across)
    down /= np.linalg.norm(down)
    return mean @ np.stack([across, down, np.cross(across, down)]).T


def _point_weights() -> Float[np.ndarray, " 1434"]:
    weight = np.ones(478)
    weight[[*INNER_LIPS, *OUTER_LIPS]] = LIP_WEIGHT
    weight[EYE_POINTS] = 0
    return np.repeat(weight, 3)


def _is_eye(mean: Points) -> np.ndarray:
    mask = np.zeros((1, len(mean), 1), bool)
    mask[:, EYE_POINTS] = True
    return mask


def _principal(offsets: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted principal axes about zero (zero is the neutral face): displacement per std, and its reader."""
    scaled = offsets * weight
    values, axes = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    top = np.argsort(values)[::-1][:COEFFICIENTS]
    axes, std = axes[:, top].T, np.sqrt(values[top])[:, None]
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]  # a fixed sign
    used = weight > 0
    basis = np.zeros_like(axes)
    basis[:, used] = axes[:, used] * std / weight[used]
    return basis, axes * weight / std


def _displacements(coefficients: np.ndarray, closings: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """What each coefficient and each closing lid does to every point, by ridge regression: ``[34, 478, 3]``."""
    given = np.concatenate([coefficients, closings], axis=1)
    gram = given.T @ given + RIDGE_DISPLACE * np.eye(given.shape[1])
    return np.linalg.solve(gram, given.T @ offsets).reshape(given.shape[1], -1, 3)


def _lid_area(mean: Points) -> np.ndarray:
    """Confine each lid's displacement to the surroundings of its eye, falling off smoothly: ``[2, 478, 1]``."""
    areas = []
    for ring in (LEFT_EYE, RIGHT_EYE):
        far = np.linalg.norm(mean[:, None, :2] - mean[None, list(ring), :2], axis=2).min(1)
        areas.append(np.exp(-np.square(far / 0.05)))
    return np.stack(areas)[:, :, None]


def _guesser(people: Sequence[_Person], mean: Points, reader: np.ndarray) -> np.ndarray:
    """Ridge regression from offsets to the mean face (identity and expression) to expression coefficients."""
    given = np.concatenate([p.shapes - mean for p in people]).reshape(-1, mean.size)
    wanted = np.concatenate([p.offsets for p in people]).reshape(-1, mean.size) @ reader.T
    given = given * (_point_weights() > 0)
    gram = given.T @ given
    ridge = RIDGE_GUESS * np.trace(gram) / len(gram)
    return np.linalg.solve(gram + ridge * np.eye(len(gram)), given.T @ wanted).T


def _mirrored_points(mean: Points) -> Int[np.ndarray, " 478"]:
    """Index of the point on the other side of the face, for every point; its own inverse."""
    middle = np.mean([mean[[a, b], 0].mean() for a, b in MIRRORED_PAIRS])
    flipped = mean * FLIP + np.array([2 * middle, 0, 0])
    cost = np.square(flipped[:, None] - mean[None]).sum(2)
    for left, right in zip(LEFT_IRIS, (473, 476, 475, 474, 477), strict=True):  # the irises move: pair them by name
        cost[[left, right]] = cost[:, [left, right]] = np.inf
        cost[left, right] = cost[right, left] = 0
    return linear_sum_assignment(np.minimum(cost + cost.T, 1e6))[1]
