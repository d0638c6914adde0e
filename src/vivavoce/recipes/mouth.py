"""From interior channels to what a mouth shows: the best state is searched for in real frames, then regressed."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32

from vivavoce import weights
from vivavoce.data.prepare import Prepared
from vivavoce.face.interior import luminance, measure_interior, mouth_opening, skin_colour, visible
from vivavoce.face.mesh import INNER_LIPS, Points, align, head_angles
from vivavoce.face.model import FaceModel
from vivavoce.recipes.interior import filmed
from vivavoce.render.mouth import Mouth, draw_layer, prepare_mouth
from vivavoce.render.mouth_kernel import OPACITY, WET
from vivavoce.render.mouth_place import Place, locate
from vivavoce.render.mouth_state import HIGHEST, LOWEST, State, features
from vivavoce.train.loop import ClosedForm

FRAMES = 12  # of a clip that take part, chosen by a seed
PARTED = 0.015  # least lip opening in face widths
TURNED = 28.0  # degrees of yaw beyond which frames are left out
RIDGE = 10.0
TYPICAL = np.array([0.018, 0.0, 1.0, 0.8, 0.4, 0.8, 1.0])  # states are drawn towards it, in units of the spread
SPREAD = np.array([0.02, 0.02, 0.3, 0.3, 0.35, 0.4, 0.5])
STARTS = (
    (0.012, 0.0, 1.0, 0.8, 0.45, 0.8, 1.0),
    (0.035, 0.01, 1.0, 0.8, 0.45, 0.8, 1.0),
    (0.0, 0.0, 0.9, 0.8, 0.6, 0.9, 0.5),
)
STEPS = np.array([0.012, 0.014, 0.2, 0.2, 0.25, 0.3, 0.35])
SWEEPS, SHRINK = 4, 0.62


@dataclass(frozen=True, slots=True)
class Shown:
    """What one frame shows inside the lips."""

    place: Place
    truth: Float32[np.ndarray, "h w 3"]  # the box around the lips, 0-255
    weight: Float32[np.ndarray, "h w"]  # 1 inside the lips
    interior: Float32[np.ndarray, " 6"]


def mouth() -> ClosedForm:
    """The recipe."""
    return ClosedForm(name="mouth", solve=_solve)


def _solve(out: Path) -> dict[str, Any]:
    states, given = [], []
    for clip, frames in filmed():
        for shown, held in _chosen(clip, frames):
            states.append(search(held, shown))
            opening = shown.place.opening
            given.append((features(shown.interior, opening), visible(opening)))
    reader = regress(np.stack([row for row, _ in given]), np.stack(states), np.array([weight for _, weight in given]))
    weights.write(out / "mouth.safetensors", {"reader": torch.from_numpy(reader).float()})
    return {"frames": len(states)}


def regress(
    given: Float[np.ndarray, "n 15"], states: Float[np.ndarray, "n 7"], weight: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "7 15"]:
    """Weighted ridge regression; the constant is not shrunk."""
    ridge = RIDGE * np.eye(given.shape[1])
    ridge[0, 0] = 0
    weighted = given * weight[:, None]
    return np.linalg.solve(weighted.T @ given + ridge, weighted.T @ states).T


def search(mouth: Mouth, shown: Shown) -> Float[np.ndarray, " 7"]:
    """State whose drawing is nearest to the frame: descent along each number in turn, from three starts."""
    best, least = np.array(STARTS[0]), np.inf
    for start in STARTS:
        state, step = np.array(start), STEPS.copy()
        error = _error(mouth, shown, state)
        for _ in range(SWEEPS):
            for k in range(len(state)):
                for sign in (1, -1):
                    tried = state.copy()
                    tried[k] = np.clip(tried[k] + sign * step[k], LOWEST[k], HIGHEST[k])
                    if (found := _error(mouth, shown, tried)) < error:
                        state, error = tried, found
                        break
            step *= SHRINK
        if error < least:
            best, least = state, error
    return best


def _error(mouth: Mouth, shown: Shown, values: Float[np.ndarray, " 7"]) -> float:
    """Squared difference of slightly blurred luminance and colour inside the lips, and distance from the typical."""
    layer, _ = draw_layer(mouth, shown.place, State.of(values))
    lip, opacity = mouth.colours[3], layer[..., OPACITY : OPACITY + 1]
    drawn = np.where(opacity > 0, layer[..., :3], 0)
    drawn = np.minimum(drawn + (lip - drawn) * np.where(opacity > 0, layer[..., WET : WET + 1], 0), 255)
    picture = lip + (drawn - lip) * opacity * np.float32(values[6])
    apart = cv2.blur((picture - shown.truth).astype(np.float32), (3, 3))
    square = np.square(luminance(apart)) + 0.5 * np.square(apart[..., 0] - apart[..., 1])
    square = square + 0.3 * np.square(apart[..., 1] - apart[..., 2])
    unusual = np.square((values - TYPICAL) / SPREAD).sum()
    return float((square * shown.weight).sum() / shown.weight.sum() + 8 * unusual)


def _chosen(clip: Prepared, frames: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[tuple[Shown, Mouth]]:
    """Frames with parted lips of one clip, drawn by its most closed frame's mouth."""
    openings = np.array([mouth_opening(points) for points in clip.landmarks[clip.valid]])
    parted = [int(k) for k in np.flatnonzero(openings > PARTED)]
    if not parted:
        return []
    closed = int(openings.argmin())
    picked = random.Random(clip.name).sample(parted, min(len(parted), FRAMES))
    kept = {k: frame for k, frame in enumerate(frames) if k == closed or k in picked}
    if closed not in kept:
        return []
    picture, landmarks = kept[closed]
    shape, pose = FaceModel.pretrained().canonical(landmarks.astype(np.float64))
    tensors = prepare_mouth(picture, landmarks.astype(np.float64), shape, pose)
    held = Mouth(**{key: value.numpy() for key, value in tensors.items()})
    found = [_shown(held, shape, *kept[k]) for k in picked if k in kept]
    return [(shown, held) for shown in found if shown is not None]


def _shown(mouth: Mouth, shape: Points, picture: np.ndarray, landmarks: np.ndarray) -> Shown | None:
    points = landmarks.astype(np.float64)
    pose = align(shape, points)
    place = locate(mouth.origin, points, pose, picture.shape[:2])
    if place is None or abs(head_angles(pose.rotation)[0]) > TURNED:
        return None
    (left, top), (right, bottom) = place.low, place.high
    exposure = float(luminance(mouth.skin)) / max(float(luminance(skin_colour(picture, landmarks))), 1.0)
    weight = np.zeros((bottom - top, right - left), np.uint8)
    ring = np.rint((points[list(INNER_LIPS), :2] - place.low) * 16).astype(np.int32)
    cv2.fillPoly(weight, [ring], 255, cv2.LINE_AA, 4)
    if weight.sum() < 20 * 255:
        return None
    truth = picture[top:bottom, left:right].astype(np.float32) * np.float32(exposure)
    return Shown(place, truth, weight.astype(np.float32) / 255, measure_interior(picture, landmarks))
