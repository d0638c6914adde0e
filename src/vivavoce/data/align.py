"""How far sound and picture of a clip are apart, judged by how well the sound foretells the lips of strangers.

A clip a few frames out of step teaches the wrong thing, and many collections have such clips. A ridge regression from
audio features around a frame to the lip opening is fitted on the other speakers; the shift at which it agrees best
with the clip is the clip's lag.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

REACH = 6  # frames: the largest lag looked for
AROUND = (-6, -4, -2, -1, 0, 1, 2, 4, 6)  # frames whose features foretell the lips
FOLDS = 5
RIDGE = 1.0  # per frame of data, on features of unit variance
ROUNDS = 2  # the second time with the lags of the first
GAIN = 0.08  # by how much a shift must agree better than none before it is believed
TRUST = 0.35  # correlation from which the best shift is believed
LOST = 0.12  # correlation below which a clip of sufficient length teaches nothing
LONGEST = 4  # frames: larger lags are rather chance than lag

Gram = tuple[np.ndarray, np.ndarray, float]  # X'X, X'y and how many frames they count for
Signal = Float32[np.ndarray, " t"]


@dataclass(frozen=True, slots=True)
class Voice:
    """Features and lip opening of one clip, frame by frame."""

    name: str
    speaker: str
    audio: Float32[np.ndarray, "t a"]
    opening: Signal


def lags(voices: Sequence[Voice]) -> dict[str, int | None]:
    """Frames by which the picture of each clip is later than its sound; ``None`` where the lips do not follow it."""
    known: dict[str, int] = {voice.name: 0 for voice in voices}
    agreement: dict[str, np.ndarray] = {}
    heard = np.concatenate([voice.audio for voice in voices])
    mean, std = heard.mean(0), heard.std(0) + 1e-3
    given = {voice.name: _around((voice.audio - mean) / std) for voice in voices}
    for _ in range(ROUNDS):
        agreement = _agreement(voices, given, known)
        known = {name: _best(values) or 0 for name, values in agreement.items()}
    return {name: _best(values) for name, values in agreement.items()}


def _best(agreement: np.ndarray) -> int | None:
    lag, here = int(agreement.argmax()) - REACH, float(agreement[REACH])
    best = float(agreement.max())
    if abs(lag) <= LONGEST and best > TRUST and best > here + GAIN:
        return lag
    return 0 if here > LOST else None


def _agreement(
    voices: Sequence[Voice], given: Mapping[str, np.ndarray], known: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Correlation of each clip's lips with what strangers' lips foretell, at every lag."""
    fold = {speaker: n % FOLDS for n, speaker in enumerate(sorted({voice.speaker for voice in voices}))}
    grams = [_gram([v for v in voices if fold[v.speaker] == n], given, known) for n in range(FOLDS)]
    out = {}
    for n in range(FOLDS):
        left, right, frames = _total([gram for m, gram in enumerate(grams) if m != n])
        weights = np.linalg.solve(left + RIDGE * frames / len(AROUND) * np.eye(len(left)), right)
        for voice in voices:
            if fold[voice.speaker] == n:
                foretold = given[voice.name] @ weights
                out[voice.name] = np.array([_match(foretold, voice.opening, lag) for lag in range(-REACH, REACH + 1)])
    return out


def _gram(voices: Sequence[Voice], given: Mapping[str, np.ndarray], known: Mapping[str, int]) -> Gram:
    """Normal equations of some clips; every speaker counts as the square root of their frames."""
    size = next(iter(given.values())).shape[1]
    left, right, total = np.zeros((size, size)), np.zeros(size), 0.0
    frames = {v.speaker: sum(len(w.opening) for w in voices if w.speaker == v.speaker) for v in voices}
    for voice in voices:
        x, y = _paired(given[voice.name], _standard(voice.opening), known[voice.name])
        share = 1 / np.sqrt(frames[voice.speaker])
        left += share * x.T @ x
        right += share * x.T @ y
        total += share * len(y)
    return left, right, total


def _total(grams: Sequence[Gram]) -> Gram:
    left, right, frames = zip(*grams, strict=True)
    return np.sum(left, axis=0), np.sum(right, axis=0), float(sum(frames))


def _around(rows: np.ndarray) -> Float32[np.ndarray, "t b"]:
    padded = np.pad(rows, ((REACH, REACH), (0, 0)))
    return np.concatenate([padded[REACH + n : REACH + n + len(rows)] for n in AROUND], axis=1).astype(np.float32)


def _paired(sound: np.ndarray, picture: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """What is heard at t with what is seen at t + lag."""
    return (sound[: len(sound) - lag], picture[lag:]) if lag >= 0 else (sound[-lag:], picture[:lag])


def _match(foretold: Signal | np.ndarray, opening: Signal, lag: int) -> float:
    a, b = _paired(foretold, opening, lag)
    return float(np.mean(_standard(a) * _standard(b)))


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / (values.std() + 1e-6)
