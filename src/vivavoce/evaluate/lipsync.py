"""How lips, eyes and head move, and how that compares with the person who really said it. 25 frames a second.

Everything is read from ``face-mesh/1`` rows through the face model, in the pose-free canonical frame and in face
widths, for generated and true motion alike: true motion is rows tracked in the recording.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float

from vivavoce.face.mesh import INNER_LIPS, OUTER_LIPS, rotation_matrix
from vivavoce.face.model import FaceModel
from vivavoce.motion.space import FACE_MESH

Rows = Float[np.ndarray, "t 48"]
Track = Float[np.ndarray, " t"]
Steps = Float[np.ndarray, " _t"]  # between frames: one less than those

FPS = 25
CLOSED = 0.2  # share of the true speaker's wide opening (95th percentile) below which lips count as closed
PARTED = 0.4  # share of it that lips must reach on both sides of a closure for it to be one
LONGEST = 8  # frames; lips that stay closed for longer are a pause, not a consonant
NEAR = 6  # frames on each side of a closure in which the lips must have parted
REACH = 1  # frames by which a generated closure may be early or late
FARTHEST = 10  # frames searched for the lag
BLINK = 0.5  # opening of the lids, 1 = as usual, below which the eyes count as shut
LONGEST_BLINK = 12  # frames
HUSH = 30.0  # dB below the loud parts of a recording from which on a frame is silent
SETTLED = 6  # frames without speech on both sides before a frame counts: mouths close late and open early


@dataclass(frozen=True, slots=True)
class Lips:
    """Lip tracks of one stretch of motion, relative to the face at rest."""

    opening: Track  # gap between the inner lips in the middle, face widths; 0 = closed
    width: Track  # distance of the mouth's corners beyond that at rest, face widths
    ring: Float[np.ndarray, "t 40 2"]  # displacement of the lip points, face widths


@cache
def _readings() -> tuple[Float[np.ndarray, " 32"], Float[np.ndarray, " 32"], Float[np.ndarray, "32 40 2"]]:
    """Opening, width and lip points per expression coefficient."""
    moved = FaceModel.pretrained().expression
    opening = (moved[:, [87, 14, 317], 1] - moved[:, [82, 13, 312], 1]).mean(1)
    return opening, moved[:, 291, 0] - moved[:, 61, 0], moved[:, [*INNER_LIPS, *OUTER_LIPS], :2]


def lips(rows: Rows) -> Lips:
    """Read the lips of motion rows. The opening is not below 0: lips do not cross."""
    coefficients = rows[:, FACE_MESH.slice("expression")].astype(np.float64)
    opening, width, ring = _readings()
    return Lips(np.maximum(coefficients @ opening, 0), coefficients @ width, np.tensordot(coefficients, ring, 1))


def seen_opening(landmarks: Float[np.ndarray, "t 478 3"]) -> Track:
    """Lip opening of tracked landmarks in the canonical frame, in face widths; not relative to rest."""
    model = FaceModel.pretrained()
    shapes = np.stack([model.canonical(frame)[0] for frame in landmarks])
    return np.maximum((shapes[:, [87, 14, 317], 1] - shapes[:, [82, 13, 312], 1]).mean(1), 0)


def correlation(a: Track, b: Track) -> float:
    """Pearson correlation; 0 when one of them does not move."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float(a @ b) / scale if scale > 1e-12 else 0.0


def lag_curve(made: Track, true: Track, reach: int = FARTHEST) -> Float[np.ndarray, " n"]:
    """Correlation of ``made`` moved by ``-reach ... reach`` frames with ``true``, over the frames that overlap.

    Entry ``reach + k`` is high when ``made`` comes k frames late.
    """
    count = min(len(made), len(true))
    out = []
    for late in range(-reach, reach + 1):
        a, b = made[max(0, late) : count + min(0, late)], true[max(0, -late) : count - max(0, late)]
        out.append(correlation(a, b) if len(a) > 2 else 0.0)
    return np.array(out)


def lag(curve: Float[np.ndarray, " n"]) -> int:
    """Frames by which the generated motion is late: where ``curve`` (see :func:`lag_curve`) peaks."""
    return int(np.argmax(curve)) - len(curve) // 2


def wide(opening: Track) -> float:
    """The 95th percentile of the lip opening: what counts as wide open for this speaker."""
    return max(float(np.percentile(opening, 95)), 1e-6)


def runs(mask: Bool[np.ndarray, " t"]) -> list[tuple[int, int]]:
    """Half-open stretches in which ``mask`` holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def closures(
    opening: Track, speaking: Bool[np.ndarray, " t"], heard: Track | None = None, least: float = 0.25
) -> list[tuple[int, int]]:
    """Frames in which the speaker's lips really close around an m, b or p.

    There are no phone labels, so: short stretches (at most ``LONGEST`` frames) of closed lips inside speech, between
    lips parted by ``PARTED`` within ``NEAR`` frames on both sides; and, when ``heard`` gives the probability of
    m, b or p in the sound of each frame, only where that exceeds ``least`` within a frame of the stretch.
    """
    unit = wide(opening)
    found = []
    for start, stop in runs(opening < CLOSED * unit):
        before, after = opening[max(0, start - NEAR) : start], opening[stop : stop + NEAR]
        if stop - start > LONGEST or not len(before) or not len(after):
            continue
        parted = min(before.max(), after.max()) >= PARTED * unit
        said = heard is None or heard[max(0, start - 1) : stop + 1].max() >= least
        if parted and said and speaking[start:stop].any():
            found.append((start, stop))
    return found


def closed_in(made: Track, stretches: list[tuple[int, int]], unit: float) -> int:
    """In how many of ``stretches`` (a frame early or late counts) the opening falls below ``CLOSED * unit``.

    ``unit`` is the true speaker's wide opening, so exaggerated movement does not widen what counts as closed.
    """
    return sum(bool(made[max(0, a - REACH) : b + REACH].min() < CLOSED * unit) for a, b in stretches)


def wrongly_closed(made: Track, true: Track) -> tuple[int, int]:
    """(frames, of them closed) where the true lips are wide open (over half): what always closing would cost."""
    unit = wide(true)
    wide_open = true > 0.5 * unit
    return int(wide_open.sum()), int((made[wide_open] < CLOSED * unit).sum())


def loudness(sound: Float[np.ndarray, " samples"], frames: int) -> Track:
    """Power of each frame's samples, dBFS."""
    size = 16_000 // FPS
    padded = np.zeros(frames * size)
    padded[: len(sound)] = sound[: len(padded)]
    return 10 * np.log10(np.square(padded.reshape(frames, size)).mean(1) + 1e-10)


def speaking(level: Track) -> Bool[np.ndarray, " t"]:
    """Frames less than ``HUSH`` dB below the recording's loud parts (95th percentile), closed over short gaps."""
    loud = level > max(float(np.percentile(level, 95)) - HUSH, -60.0)
    for start, stop in runs(~loud):
        if start > 0 and stop < len(loud) and stop - start < 5:
            loud[start:stop] = True
    return loud


def quiet(speech: Bool[np.ndarray, " t"]) -> Bool[np.ndarray, " t"]:
    """Frames with no speech within ``SETTLED`` frames on either side."""
    near = np.convolve(speech.astype(np.int64), np.ones(2 * SETTLED + 1, np.int64), "same")
    return near == 0


def blinks(rows: Rows) -> int:
    """How often both lids shut for at most ``LONGEST_BLINK`` frames."""
    lids = rows[:, FACE_MESH.slice("eyelids")].mean(1)
    return sum(stop - start <= LONGEST_BLINK for start, stop in runs(lids < BLINK))


def turning(rows: Rows) -> Steps:
    """Speed of the head's rotation from frame to frame, degrees per second ``[t - 1]``: the angle of the rotation."""
    turns = np.stack([rotation_matrix(row) for row in rows[:, FACE_MESH.slice("rotation")].astype(np.float64)])
    between = np.einsum("tij,tik->tjk", turns[:-1], turns[1:])
    axis = between - between.transpose(0, 2, 1)
    sine = np.sqrt(axis[:, 0, 1] ** 2 + axis[:, 0, 2] ** 2 + axis[:, 1, 2] ** 2) / 2
    cosine = (np.trace(between, axis1=1, axis2=2) - 1) / 2
    return np.degrees(np.arctan2(sine, cosine)) * FPS


def moving(rows: Rows) -> Steps:
    """Speed of the head's translation from frame to frame, face widths per second ``[t - 1]``."""
    places = rows[:, FACE_MESH.slice("translation")].astype(np.float64)
    return np.hypot(*np.diff(places, axis=0).T) * FPS


def lip_speed(ring: Float[np.ndarray, "t 40 2"]) -> Steps:
    """Mean speed of the lip points in the head's own frame, face widths per second ``[t - 1]``."""
    return np.hypot(*np.moveaxis(np.diff(ring, axis=0), -1, 0)).mean(1) * FPS


def lip_error(made: Lips, true: Lips) -> float:
    """Mean distance of generated from true lip points in the head's own frame, face widths."""
    return float(np.hypot(*np.moveaxis(made.ring - true.ring, -1, 0)).mean())
