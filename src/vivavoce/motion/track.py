"""Video -> ``face-mesh/1``: what one tracked face does, frame by frame, with the person's identity taken out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.face.interior import measure_interior
from vivavoce.face.mesh import Points, eye_openings, head_angles, iris_offsets, lip_opening
from vivavoce.face.model import FaceModel
from vivavoce.face.track import Face, FaceTracker
from vivavoce.motion.space import FACE_MESH

Rgb = UInt8[np.ndarray, "h w 3"]
CLOSED_EYE = 0.2  # lid distance of a closed eye over its usual one: the mesh never closes; median of training blinks
NEUTRAL_SHARE = 0.15  # of a clip's frames, those with the least open lips, make its neutral
OPEN_AT_REST = (0.008, 0.025)  # lip opening, in face widths, from which on a resting shape is not believed
CALIBRATION = 100  # frames of a video from which identity is estimated
CHUNK = 25  # frames per piece of a tracked video
POSE_TAPS = np.array([1, 2, 3, 2, 1]) / 9  # smoothing of the head pose over neighbouring frames
REACH = len(POSE_TAPS) // 2
# Size of frame-to-frame changes that are taken for tracking noise, per part. Larger ones pass unchanged, so a fast
# closure of the lips is neither delayed nor weakened.
NOISE = {"expression": 0.12, "eyelids": 0.04, "gaze": 0.012, "interior": 0.15}


@dataclass(frozen=True, slots=True)
class Calibration:
    """What belongs to the person and the shot, not to the motion."""

    neutral: Points  # canonical shape at rest, lips closed
    eyes: Float[np.ndarray, "2"]  # usual eye openings (lid distance over eye width)
    gaze: Float[np.ndarray, "2"]  # iris offsets at rest
    origin: Float[np.ndarray, "2"]  # where the head is in the first frame, pixels
    width: float  # of the face in the first frame, pixels


def calibrate(landmarks: Float[np.ndarray, "t 478 3"], model: FaceModel) -> Calibration:
    """Estimate the person from some frames. One frame is enough; a second or more with closed lips is better."""
    neutral = model.mean
    shapes = landmarks
    for _ in range(2):  # the second time aligned to the person's own shape
        shapes = np.stack([model.canonical(frame, neutral)[0] for frame in landmarks])
        neutral = _at_rest(shapes, model)
    pose = model.canonical(landmarks[0], neutral)[1]
    eyes = np.median([eye_openings(shape) for shape in shapes], axis=0)
    gaze = np.median([iris_offsets(shape) for shape in shapes], axis=0)
    return Calibration(neutral, np.maximum(eyes, 0.05), gaze, pose.translation[:2], pose.scale)


def _at_rest(shapes: Float[np.ndarray, "t 478 3"], model: FaceModel) -> Points:
    """Mean of the frames with the least open lips; as far as those are open, their guessed expression is removed."""
    opening = np.array([lip_opening(shape) for shape in shapes])
    rest = shapes[np.argsort(opening)[: max(1, int(NEUTRAL_SHARE * len(shapes)))]].mean(0)
    low, high = OPEN_AT_REST
    doubt = 1.0 if len(shapes) == 1 else float(np.clip((lip_opening(rest) - low) / (high - low), 0, 1))
    return rest - doubt * model.displacement(model.guess(rest), np.zeros(2))


def measure(landmarks: Points, calibration: Calibration, model: FaceModel) -> dict[str, np.ndarray]:
    """Every part of one row but the interior, which needs the picture."""
    shape, pose = model.canonical(landmarks, calibration.neutral)
    ratio = eye_openings(shape) / calibration.eyes
    return {
        "rotation": head_angles(pose.rotation),
        "translation": (pose.translation[:2] - calibration.origin) / calibration.width,
        "scale": np.array([pose.scale / calibration.width]),
        "expression": model.read(shape, calibration.neutral),
        "eyelids": np.clip((ratio - CLOSED_EYE) / (1 - CLOSED_EYE), 0, 1.6),
        "gaze": iris_offsets(shape) - calibration.gaze,
    }


def rows(
    landmarks: Float[np.ndarray, "t 478 3"],
    interior: Float[np.ndarray, "t 6"],
    calibration: Calibration,
    model: FaceModel,
) -> Float32[np.ndarray, "t 48"]:
    """Unsmoothed rows of consecutive frames."""
    parts = [measure(frame, calibration, model) for frame in landmarks]
    stacked = {name: np.stack([part[name] for part in parts]) for name in parts[0]} | {"interior": interior}
    return np.concatenate([stacked[part.name] for part in FACE_MESH.parts], axis=1).astype(np.float32)


def smooth(noisy: Float32[np.ndarray, "t 48"]) -> Float32[np.ndarray, "t 48"]:
    """Remove tracking noise without lag; the first and last rows are held beyond the ends.

    The head pose is averaged over five frames. Everything else is averaged with its two neighbours only as far as
    they differ by no more than noise (a bilateral filter), so that short closures stay as short and as deep.
    """
    padded = np.concatenate([noisy[:1].repeat(REACH, 0), noisy, noisy[-1:].repeat(REACH, 0)])
    return _smooth_inner(padded)


def _smooth_inner(padded: Float32[np.ndarray, "t 48"]) -> Float32[np.ndarray, "n 48"]:
    count = len(padded) - 2 * REACH
    out = padded[REACH : REACH + count].copy()
    for name in ("rotation", "translation", "scale"):
        at = FACE_MESH.slice(name)
        out[:, at] = sum(w * padded[i : i + count, at] for i, w in enumerate(POSE_TAPS))
    for name, noise in NOISE.items():
        at = FACE_MESH.slice(name)
        middle = padded[REACH : REACH + count, at]
        total, weight = middle.copy(), np.ones_like(middle)
        for step in (-1, 1):
            other = padded[REACH + step : REACH + step + count, at]
            near = np.exp(-np.square((other - middle) / noise))
            total, weight = total + near * other, weight + near
        out[:, at] = total / weight
    return out


def track(
    frames: Iterable[Rgb], *, tracker: FaceTracker | None = None, model: FaceModel | None = None
) -> Iterator[Float[Tensor, "t 48"]]:
    """Track the largest face of a video into smoothed rows, lazily, a second at a time.

    The person is calibrated on the first 4 seconds. Where the face is lost the last row is held. Raises
    :class:`InputError` when those seconds show no face.
    """
    tracker, model = tracker or FaceTracker(), model or FaceModel.pretrained()
    seen = _seen(frames, tracker)
    first = list(islice(seen, CALIBRATION))
    found = [s[0] for s in first if s is not None]
    if not found:
        raise InputError(f"no face was found in the first {len(first)} frames of the driving video")
    calibration = calibrate(np.stack(found), model)
    held = next(s for s in first if s is not None)
    raw = _held(chain(first, seen), held, calibration, model)
    before = next(raw)
    pending = np.repeat(before[None], REACH + 1, 0)  # rows still needed as left context, then those not yet out
    for row in raw:
        pending = np.concatenate([pending, row[None]])
        if len(pending) == CHUNK + 2 * REACH:
            yield torch.from_numpy(_smooth_inner(pending))
            pending = pending[-2 * REACH :]
    yield torch.from_numpy(_smooth_inner(np.concatenate([pending, pending[-1:].repeat(REACH, 0)])))


Seen = tuple[Float[np.ndarray, "478 3"], Float[np.ndarray, "6"]] | None


def _seen(frames: Iterable[Rgb], tracker: FaceTracker) -> Iterator[Seen]:
    """Landmarks and interior of each frame; the picture itself is let go at once."""
    passed: list[Rgb] = []

    def kept() -> Iterator[Rgb]:
        for rgb in frames:
            passed[:] = [rgb]
            yield rgb

    for face in tracker.follow(kept()):
        yield None if face is None else _look(face, passed[0])


def _look(face: Face, rgb: Rgb) -> Seen:
    return face.landmarks.astype(np.float64), measure_interior(rgb, face.landmarks).astype(np.float64)


def _held(
    seen: Iterable[Seen], last: tuple[np.ndarray, np.ndarray], calibration: Calibration, model: FaceModel
) -> Iterator[Float32[np.ndarray, "48"]]:
    for now in seen:
        last = now or last
        yield rows(last[0][None], last[1][None], calibration, model)[0]


def reference(landmarks: Float[np.ndarray, "s 478 3"], model: FaceModel) -> Float32[np.ndarray, "s 48"]:
    """Rows of a portrait's own frames: where it looks, what its lips do. The interior is not measured (0)."""
    calibration = calibrate(landmarks, model)
    return rows(landmarks, np.zeros((len(landmarks), 6)), calibration, model)
