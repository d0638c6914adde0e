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

from vivavoce.errors import InputError
from vivavoce.face.mesh import INNER_LIPS, OUTER_LIPS
from vivavoce.face.model import FaceModel
from vivavoce.motion.space import FACE_MESH, Motion, MotionSpace

# How far a lid is open during a blink, frame by frame at 25 a second: closing is faster than opening.
BLINK = (0.55, 0.08, 0.0, 0.12, 0.45, 0.78, 0.94)
AWAKE = 0.8  # openness below which lids count as blinking, when blinks are replaced
BLINKS_PER_MINUTE = (0.0, 120.0)
JAW_REACH = 0.12  # face widths around the lips over which the mouth's share of a displacement falls off


@dataclass(frozen=True, slots=True)
class Edit:
    """What to change in every motion row; the defaults change nothing."""

    pose_scale: float = 1.0  # head movement about the portrait's pose, in [0, 3]; 0 freezes the head
    mouth_gain: float = 1.0  # lip and jaw movement about the closed mouth, in [0, 2]
    blink_rate: float | None = None  # blinks a minute, in [0, 120], instead of the generated ones
    gaze: tuple[float, float] = (0.0, 0.0)  # added to the gaze; eye widths in [-0.3, 0.3], x right and y down
    relative: tuple[str, ...] = ()  # parts taken as changes from the first row, added to the portrait's own

    def __post_init__(self) -> None:
        """Refuse values that make no face."""
        _within("the pose scale", self.pose_scale, 0.0, 3.0)
        _within("the mouth gain", self.mouth_gain, 0.0, 2.0)
        if self.blink_rate is not None:
            _within("the blink rate", self.blink_rate, *BLINKS_PER_MINUTE)
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
            self._face(motion, rows, seed)
            return Motion(motion.span, motion.space, rows)

        return change

    def _pose(self, space: MotionSpace, rows: Float[Tensor, "t d"], reference: Float[Tensor, "s d"]) -> None:
        if self.pose_scale == 1:
            return
        for part in space.parts:
            at = space.slice(part.name)
            if part.kind in ("rotation_deg", "rotation_rad", "translation", "scale"):
                rows[:, at] = torch.lerp(reference[:1, at].expand_as(rows[:, at]), rows[:, at], self.pose_scale)

    def _face(self, motion: Motion, rows: Float[Tensor, "t d"], seed: int) -> None:
        if self.mouth_gain != 1:
            at = _part(motion.space, "expression", "mouth gain")
            rows[:, at] += (self.mouth_gain - 1) * rows[:, at] @ mouth_share().T
        if self.blink_rate is not None:
            at = _part(motion.space, "eyelids", "blink rate")
            open_now = blinking(motion.span.start, motion.span.stop, self.blink_rate, seed)
            rows[:, at] = rows[:, at].clamp(min=AWAKE) * open_now[:, None]
        if self.gaze != (0.0, 0.0):
            rows[:, _part(motion.space, "gaze", "gaze offset")] += rows.new_tensor(self.gaze)


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


def _part(space: MotionSpace, name: str, wish: str) -> slice:
    if space != FACE_MESH:
        raise InputError(f"the {wish} can be changed in {FACE_MESH.name} only, not in {space.name}")
    return space.slice(name)


def _unchanged(motion: Motion) -> Motion:
    return motion


def _within(what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also refuses NaN
        raise InputError(f"{what} must be a number from {low:g} to {high:g}, not {value:g}")
