"""What a face is doing, as numbers every system agrees on: a flat row per frame plus a named layout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce.timeline import Span

Kind = Literal[
    "expression",
    "rotation_deg",
    "rotation_rad",
    "translation",
    "scale",
    "openness",
    "gaze",
    "gaze_rad",
    "interior",
    "landmark_px",
    "latent",
]


@dataclass(frozen=True, slots=True)
class Part:
    """One named block of a motion row. ``kind`` fixes its unit and how it may be edited or smoothed."""

    name: str
    kind: Kind
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers the part takes in a row."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class MotionSpace:
    """A coordinate system for facial motion. Checkpoints, caches and renderers name it; names must match."""

    name: str
    parts: tuple[Part, ...]

    @property
    def dim(self) -> int:
        """Length of a row."""
        return sum(part.size for part in self.parts)

    def slice(self, name: str) -> slice:
        """Where part ``name`` lies in a row."""
        start = 0
        for part in self.parts:
            if part.name == name:
                return slice(start, start + part.size)
            start += part.size
        raise ValueError(f"{self.name} has no part {name!r}; it has {[part.name for part in self.parts]}")

    def unpack(self, rows: Float[Tensor, "*t d"]) -> dict[str, Tensor]:
        """``[*t, dim]`` -> ``{name: [*t, *part.shape]}`` (views)."""
        if rows.shape[-1] != self.dim:
            raise ValueError(f"{self.name} rows have {self.dim} numbers, got {rows.shape[-1]}")
        blocks = rows.split([part.size for part in self.parts], dim=-1)
        return {p.name: b.unflatten(-1, p.shape) for p, b in zip(self.parts, blocks, strict=True)}

    def pack(self, values: Mapping[str, Tensor]) -> Float[Tensor, "*t d"]:
        """Inverse of :meth:`unpack`; every part must be given."""
        if missing := {part.name for part in self.parts} - values.keys():
            raise ValueError(f"{self.name} needs {sorted(missing)}")
        return torch.cat([values[p.name].flatten(-len(p.shape)) for p in self.parts], dim=-1)


@dataclass(frozen=True, slots=True)
class Motion:
    """Motion of consecutive frames, in ``space`` units (not normalised)."""

    span: Span
    space: MotionSpace
    rows: Float[Tensor, "t d"]


FACE_MESH = MotionSpace(
    "face-mesh/1",
    (
        # Head pose as the camera sees it: yaw (+ = the face turns to the right of the picture), pitch (+ = it
        # looks down), roll (+ = clockwise on screen), in degrees. Absolute.
        Part("rotation", "rotation_deg", (3,)),
        # Where the head is relative to its place in the portrait (a track: in its first frame), in face widths
        # of that reference; x to the right, y down.
        Part("translation", "translation", (2,)),
        # Size relative to the reference; 1 = as there.
        Part("scale", "scale", (1,)),
        # Coefficients of the expression basis in the pose-free canonical frame, identity removed, in units of
        # their standard deviation over the training clips. 0 = neutral face, lips closed.
        Part("expression", "expression", (32,)),
        # Opening of the eye on the left and on the right of the picture; 1 = as the person normally holds it,
        # 0 = closed.
        Part("eyelids", "openness", (2,)),
        # Iris offset from its place at rest, in eye widths, mean of both eyes; x to the right, y down, in the
        # head's own frame.
        Part("gaze", "gaze", (2,)),
        # What is seen between the lips: coefficients of a low-resolution appearance basis (see face/interior.py),
        # in standard deviations over the training clips. Meaningless, and 0, when the lips are closed.
        Part("interior", "interior", (6,)),
    ),
)

KEYPOINT = MotionSpace(
    "liveportrait-kp21/1",
    (
        # Offsets of the 21 implicit keypoints from their canonical places, before scale and translation, in the
        # canonical frame's units; axes x to the right, y down, z into the picture, keypoint by keypoint.
        Part("expression", "expression", (21, 3)),
        # Size of the canonical keypoints in the picture, whose half width is 1. Always positive.
        Part("scale", "scale", (1,)),
        # Where the head is, in half widths of the picture; x to the right, y down. The z is never used.
        Part("translation", "translation", (3,)),
        # Pitch, yaw and roll of the head in degrees, in this order (see motion/keypoints.py for the convention).
        Part("rotation", "rotation_deg", (3,)),
    ),
)

IMPLICIT = MotionSpace(
    "lia-w20/1",
    (
        # Amounts of 20 learned, orthogonal directions in the appearance latent; no number means one thing. Networks of
        # IF-MDM keep them in (-1, 1) by a hyperbolic tangent; LIA as published leaves them unbounded. 0 = the canonical
        # picture from which every person of those networks moves.
        Part("code", "latent", (20,)),
    ),
)

LANDMARKS68 = MotionSpace(
    "landmarks68/1",
    (
        # The 68 landmarks of the 300-W scheme, x and y (right and down) in pixels of an upright crop that is counted
        # 256 wide whatever its real size. Which crop, and which landmarks may be seen: face/lower.py.
        Part("places", "landmark_px", (68, 2)),
    ),
)
