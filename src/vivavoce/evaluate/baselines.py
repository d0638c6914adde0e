"""What a talking head must beat: a face that does not move, and a jaw driven by loudness alone."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Float32

from vivavoce.data.prepare import Prepared
from vivavoce.evaluate.lipsync import Track, lips, loudness
from vivavoce.face.model import FaceModel
from vivavoce.motion.space import FACE_MESH

REACH = 4  # frames of loudness before and after the frame that the jaw follows

# Fitted by :func:`fit` to the 311 talking clips (23 min) of the training split: opening in face widths without sound,
# and its change per amplitude (1 = the loud parts of the recording, 95th percentile) in the frames from 4 before to 4
# after. Amplitude did better there than decibels.
AT_SILENCE = 0.0216
PER_AMPLITUDE = (0.0064, -0.005, 0.0022, 0.0117, 0.0163, 0.0084, 0.0004, -0.0031, 0.0066)
# Mean lip opening and width of those clips beyond the face at rest, face widths.
MEAN_OPENING, MEAN_WIDTH = 0.0366, 0.0031


def loudness_jaw(
    sound: Float[np.ndarray, " samples"], reference: Float[np.ndarray, " 48"], frames: int
) -> Float32[np.ndarray, "t 48"]:
    """Rows that keep the portrait's pose while the lips open with the loudness of the sound, linearly."""
    opening = _windows(loudness(sound, frames)) @ np.array(PER_AMPLITUDE) + AT_SILENCE
    return _posed(reference, np.maximum(opening, 0)[:, None] * _movement(1.0, None))


def mean_face(reference: Float[np.ndarray, " 48"], frames: int) -> Float32[np.ndarray, "t 48"]:
    """Rows that keep the portrait's pose and the average mouth of people who talk."""
    return _posed(reference, np.repeat(_movement(MEAN_OPENING, MEAN_WIDTH)[None], frames, 0))


def fit(clips: Iterable[Prepared]) -> dict[str, object]:
    """Values for the constants of this file, from prepared training clips."""
    heard, opened, wide = [], [], []
    for clip in clips:
        mouth = lips(clip.rows.astype(np.float64))
        heard.append(_windows(loudness(clip.audio.astype(np.float64), len(clip.rows)))[clip.valid])
        opened.append(mouth.opening[clip.valid])
        wide.append(mouth.width[clip.valid])
    x, y = np.concatenate(heard), np.concatenate(opened)
    design = np.concatenate([x, np.ones((len(x), 1))], 1)
    found = np.linalg.lstsq(design, y, rcond=None)[0]
    return {
        "PER_AMPLITUDE": tuple(np.round(found[:-1], 4).tolist()),
        "AT_SILENCE": round(float(found[-1]), 4),
        "MEAN_OPENING": round(float(y.mean()), 4),
        "MEAN_WIDTH": round(float(np.concatenate(wide).mean()), 4),
    }


def _windows(level: Track) -> Float[np.ndarray, "t 9"]:
    """Amplitude around every frame over that of the loud parts of the recording, at most 2."""
    relative = np.minimum(10 ** ((level - np.percentile(level, 95)) / 20), 2)
    padded = np.pad(relative, REACH, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * REACH + 1).astype(np.float64)


def _movement(opening: float, width: float | None) -> Float[np.ndarray, " 32"]:
    """The smallest expression with this lip opening and, unless ``None``, this lip width."""
    moved = FaceModel.pretrained().expression
    reading = [(moved[:, [87, 14, 317], 1] - moved[:, [82, 13, 312], 1]).mean(1)]
    wanted = [opening]
    if width is not None:
        reading.append(moved[:, 291, 0] - moved[:, 61, 0])
        wanted.append(width)
    return np.linalg.pinv(np.stack(reading)) @ np.array(wanted)


def _posed(reference: Float[np.ndarray, " 48"], expression: Float[np.ndarray, "t 32"]) -> Float32[np.ndarray, "t 48"]:
    rows = np.repeat(reference[None].astype(np.float32), len(expression), 0)
    rows[:, FACE_MESH.slice("expression")] = expression
    return rows
