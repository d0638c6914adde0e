"""Recordings -> what training reads: one ``.npz`` per clip with landmarks, motion rows and the sound in step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8

from vivavoce.data.clips import Recording
from vivavoce.errors import InputError
from vivavoce.face.interior import measure_interior
from vivavoce.face.model import FaceModel
from vivavoce.face.track import FaceTracker
from vivavoce.media.read import read_audio, read_video
from vivavoce.motion.track import calibrate, rows, smooth
from vivavoce.timeline import Clock

SHORTEST = 15  # frames with a face; less teaches nothing
FOUND = 0.9  # share of the frames that must show the face


@dataclass(frozen=True, slots=True)
class Prepared:
    """One clip, ready to train on or to measure against. Frame n of everything is frame n of the video."""

    name: str
    speaker: str
    split: str
    kind: str
    emotion: str
    landmarks: Float32[np.ndarray, "t 478 3"]  # pixels of the video; the last seen face where it was lost
    rows: Float32[np.ndarray, "t 48"]  # face-mesh/1, smoothed, calibrated on the whole clip
    valid: Bool[np.ndarray, " t"]  # the face was seen
    audio: Float32[np.ndarray, " samples"]  # mono 16 kHz, moved so that its lag is 0; empty for silent clips


def prepare(recordings: Iterable[Recording], out: Path, report: Callable[[str], None]) -> None:
    """Prepare every recording into ``out`` unless that is already done; resumable, clip by clip."""
    out.mkdir(parents=True, exist_ok=True)
    tracker, model = FaceTracker(), FaceModel.pretrained()
    for recording in recordings:
        target = out / f"{recording.name}.npz"
        if target.exists():
            continue
        clip = prepare_clip(recording, tracker, model)
        if clip is None:
            report(f"{recording.name}: left out, its face cannot be followed")
            continue
        save(clip, target)
        report(f"{recording.name}: {len(clip.rows)} frames")


def prepare_clip(recording: Recording, tracker: FaceTracker, model: FaceModel) -> Prepared | None:
    """Track and measure one recording; ``None`` when its face cannot be followed."""
    landmarks, interior, valid = _tracked(recording.path, tracker)
    if valid.sum() < SHORTEST or valid.mean() < FOUND:
        return None
    person = calibrate(landmarks[valid].astype(np.float64), model)
    return Prepared(
        name=recording.name,
        speaker=recording.speaker,
        split=recording.split,
        kind=recording.kind,
        emotion=recording.emotion,
        landmarks=landmarks,
        rows=smooth(rows(landmarks.astype(np.float64), interior, person, model)),
        valid=valid,
        audio=sound(recording, len(valid)),
    )


def _tracked(path: Path, tracker: FaceTracker) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Landmarks ``[t 478 3]``, interior ``[t 6]`` (both held where the face is lost) and where it was seen ``[t]``."""
    pictures: list[UInt8[np.ndarray, "h w 3"]] = []

    def frames() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        for picture in read_video(path, Clock().fps):
            pictures[:] = [picture.permute(1, 2, 0).numpy()]
            yield pictures[0]

    points, inside, seen = [], [], []
    for face in tracker.follow(frames()):
        seen.append(face is not None)
        points.append(face.landmarks if face else points[-1] if points else np.full((478, 3), np.nan, np.float32))
        inside.append(measure_interior(pictures[0], face.landmarks) if face else inside[-1] if inside else np.zeros(6))
    landmarks, valid = np.stack(points), np.array(seen, bool)
    if valid.any():
        landmarks[: valid.argmax()] = landmarks[valid.argmax()]
    return landmarks, np.stack(inside), valid


def sound(recording: Recording, frames: int) -> Float32[np.ndarray, " samples"]:
    """Mono sound at 16 kHz in step with ``frames`` frames of picture; none for clips without speech of their own."""
    if recording.kind != "talking":
        return np.zeros(0, np.float32)
    clock = Clock()
    heard = torch.cat(list(read_audio(recording.path, clock.sample_rate))).numpy()
    late = round(recording.lag * clock.sample_rate / 1000)  # the picture is late: delay the sound
    heard = np.concatenate([np.zeros(max(0, late), np.float32), heard[max(0, -late) :]])
    wanted = clock.sample(frames)
    return np.concatenate([heard, np.zeros(max(0, wanted - len(heard)), np.float32)])[:wanted]


def save(clip: Prepared, target: Path) -> None:
    """Write ``clip``; the file appears whole or not at all."""
    part = target.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, **{name: getattr(clip, name) for name in Prepared.__slots__})
    part.replace(target)


def load(file: Path) -> Prepared:
    """Read what :func:`save` wrote. Raises :class:`InputError` for any other file."""
    try:
        with np.load(file, allow_pickle=False) as found:
            values: dict[str, Any] = {name: found[name] for name in Prepared.__slots__}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{file} is not a prepared clip: {error}") from error
    values |= {name: str(value) for name, value in values.items() if not value.ndim}
    return Prepared(**values)
