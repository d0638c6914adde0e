"""Changes a user asks for between generator and renderer: head pose, blinks, gaze, mouth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce.emotion.looks import felt
from vivavoce.emotion.text import Feeling, feeling
from vivavoce.errors import InputError
from vivavoce.face.mesh import INNER_LIPS, OUTER_LIPS
from vivavoce.face.model import FaceModel
from vivavoce.motion.keypoints import looking
from vivavoce.motion.parts import POSE_KINDS, share
from vivavoce.motion.space import FACE_MESH, KEYPOINT, Motion, MotionSpace

# How far a lid is open during a blink, frame by frame at 25 a second: closing is faster than opening.
BLINK = (0.55, 0.08, 0.0, 0.12, 0.45, 0.78, 0.94)
AWAKE = 0.8  # openness below which lids count as blinking, when blinks are replaced
BLINKS_PER_MINUTE = (0.0, 120.0)
EYE_WIDTH = 50.0  # in the units in which the keypoint space counts gaze
MOST_LOOK = 3.0  # strength of the look of an emotion, whatever was said and asked for
JAW_REACH = 0.12  # face widths around the lips over which the mouth's share of a displacement falls off


@dataclass(frozen=True, slots=True)
class Edit:
    """What to change in every motion row; the defaults change nothing."""

    pose_scale: float = 1.0  # head movement about the portrait's pose, in [0, 3]; 0 freezes the head
    # Yaw (+ = to the right of the picture), pitch (+ = down), roll (+ = clockwise) about which the head moves instead
    # of the portrait's, in degrees in [-45, 45]. A renderer shows as much of it as the picture lets it.
    pose: tuple[float, float, float] | None = None
    mouth_gain: float = 1.0  # lip and jaw movement about the closed mouth, in [0, 2]
    blink_rate: float | None = None  # blinks a minute, in [0, 120], instead of the generated ones
    gaze: tuple[float, float] = (0.0, 0.0)  # added to the gaze; eye widths in [-0.3, 0.3], x right and y down
    emotion: str | Feeling | None = None  # look added to the speech: a label, or words of feeling (emotion/text.py)
    emotion_strength: float = 1.0  # of that look, in [0, 3]
    relative: tuple[str, ...] = ()  # parts taken as changes from the first row, added to the portrait's own

    def __post_init__(self) -> None:
        """Refuse values that make no face."""
        _within("the pose scale", self.pose_scale, 0.0, 3.0)
        for angle in self.pose or ():
            _within("an angle of the head pose", angle, -45.0, 45.0)
        _within("the mouth gain", self.mouth_gain, 0.0, 2.0)
        if self.blink_rate is not None:
            _within("the blink rate", self.blink_rate, *BLINKS_PER_MINUTE)
        feeling(self.emotion)  # refuses what is none
        _within("the emotion strength", self.emotion_strength, 0.0, 3.0)
        for value in self.gaze:
            _within("the gaze offset", value, -0.3, 0.3)

    def starting(self, reference: Float[Tensor, "s d"], seed: int) -> Callable[[Motion], Motion]:
        """The change for one stream, as a function to apply to its motion in order.

        ``reference`` is the portrait's own motion; ``seed`` places the blinks.
        """
        if self == Edit():
            return _unchanged
        first: list[Tensor] = []

        def change(motion: Motion) -> Motion:
            if not first:
                first.append(motion.rows[:1].clone())
            rows = motion.rows.clone()
            for name in self.relative:
                at = motion.space.slice(name)
                rows[:, at] += reference[:1, at] - first[0][:, at]
            self._pose(motion.space, rows, reference)
            self._face(motion, rows, reference, seed)
            return Motion(motion.span, motion.space, rows)

        return change

    def _pose(self, space: MotionSpace, rows: Float[Tensor, "t d"], reference: Float[Tensor, "s d"]) -> None:
        if self.pose_scale != 1:
            poses = [space.slice(part.name) for part in space.parts if part.kind in POSE_KINDS]
            if not poses:
                raise InputError(f"how far the head moves cannot be scaled in {space.name}: its numbers tell no pose")
            for at in poses:
                rows[:, at] = torch.lerp(reference[:1, at].expand_as(rows[:, at]), rows[:, at], self.pose_scale)
        if self.pose is not None:
            at = _part(space, "rotation", "head pose")
            rows[:, at] += rows.new_tensor(_angles(space, *self.pose)) - reference[:1, at]

    def _face(self, motion: Motion, rows: Float[Tensor, "t d"], reference: Float[Tensor, "s d"], seed: int) -> None:
        space = motion.space
        if self.mouth_gain != 1:
            at = _part(space, "expression", "mouth gain")
            if space == FACE_MESH:
                rows[:, at] += (self.mouth_gain - 1) * rows[:, at] @ mouth_share().T
            else:
                rows += (self.mouth_gain - 1) * (rows - reference[:1]) @ share(space, "lips")
        if (asked := feeling(self.emotion)) is not None:
            _show(rows, space, asked, self.emotion_strength)
        if self.blink_rate is not None:
            at = _part(space, "eyelids", "blink rate")
            open_now = blinking(motion.span.start, motion.span.stop, self.blink_rate, seed)
            rows[:, at] = rows[:, at].clamp(min=AWAKE) * open_now[:, None]
        if self.gaze != (0.0, 0.0):
            if space == KEYPOINT:
                right, down = (EYE_WIDTH * value for value in self.gaze)
                rows[:] = looking(rows, right, -down)
            else:
                rows[:, _part(space, "gaze", "gaze offset")] += rows.new_tensor(self.gaze)


def blinking(start: int, stop: int, per_minute: float, seed: int, fps: int = 25) -> Float[Tensor, " t"]:
    """Openness of the lids in frames ``[start, stop)``: one blink in every stretch of 60 / ``per_minute`` seconds.

    Its place in the stretch is random but a function of (seed, stretch), so any cut of the stream sees the same.
    """
    lids = torch.ones(stop - start)
    if per_minute == 0:
        return lids
    stretch = max(len(BLINK) + 1.0, 60 * fps / per_minute)
    for index in range(max(0, math.floor(start / stretch) - 1), math.floor(stop / stretch) + 1):
        free = stretch - len(BLINK)
        at = math.floor(index * stretch + free * np.random.default_rng((seed, index)).random())
        for n, openness in enumerate(BLINK, start=at - start):
            if 0 <= n < len(lids):
                lids[n] = min(float(lids[n]), openness)
    return lids


@cache
def mouth_share() -> Float[Tensor, "32 32"]:
    """Expression coefficients -> those of the same expression with everything but mouth and jaw at rest."""
    model = FaceModel.pretrained()
    lips = model.mean[[*INNER_LIPS, *OUTER_LIPS]]
    far = np.linalg.norm(model.mean[:, None, :2] - lips[None, :, :2], axis=2).min(1)
    below = model.mean[:, 1] > lips[:, 1].mean()  # the whole chin follows the jaw
    share = np.where(below, 1.0, np.exp(-np.square(far / JAW_REACH)))[:, None]
    moved = (model.expression * share).reshape(len(model.expression), -1)
    return torch.from_numpy((model.reader @ moved.T).astype(np.float32))


def _show(rows: Float[Tensor, "t d"], space: MotionSpace, asked: Feeling, strength: float) -> None:
    """Add the look of a feeling to ``rows``."""
    expression, lids = _part(space, "expression", "look of an emotion"), _part(space, "eyelids", "look of an emotion")
    added = min(strength * asked.strength, MOST_LOOK) * felt(asked.mix)
    rows[:, expression] += added[expression]
    rows[:, lids] *= (1 + added[lids]).clamp(min=0.3)


def _part(space: MotionSpace, name: str, wish: str) -> slice:
    """Where ``name`` is in rows of a space whose parts and signs are known here."""
    if space not in (FACE_MESH, KEYPOINT) or name not in {part.name for part in space.parts}:
        raise InputError(f"the {wish} can be changed in {FACE_MESH.name} only, not in {space.name}")
    return space.slice(name)


def _angles(space: MotionSpace, yaw: float, pitch: float, roll: float) -> tuple[float, float, float]:
    """In the order and with the signs of ``space``."""
    return (pitch, -yaw, roll) if space == KEYPOINT else (yaw, pitch, roll)


def _unchanged(motion: Motion) -> Motion:
    return motion


def _within(what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also refuses NaN
        raise InputError(f"{what} must be a number from {low:g} to {high:g}, not {value:g}")
