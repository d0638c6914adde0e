"""Recordings -> keypoint motion to train on: what LivePortrait's motion extractor sees in every frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from vivavoce.data.clips import Recording
from vivavoce.data.prepare import FOUND, SHORTEST, sound
from vivavoce.errors import InputError
from vivavoce.face import upright
from vivavoce.face.track import FaceTracker
from vivavoce.face.upright import Square
from vivavoce.media.read import read_video
from vivavoce.nets.liveportrait import PICTURE
from vivavoce.render.keypoint import KeypointRenderer
from vivavoce.timeline import Clock

AT_ONCE = 16  # frames the extractor sees at a time


@dataclass(frozen=True, slots=True)
class KeypointClip:
    """One clip. Frame n of everything is frame n of the video."""

    name: str
    speaker: str
    split: str
    emotion: str
    rows: Float32[np.ndarray, "t 70"]  # liveportrait-kp21/1
    canonical: Float32[np.ndarray, "21 3"]  # the person's keypoints at rest, mean over the clip
    audio: Float32[np.ndarray, " samples"]  # mono 16 kHz, moved so that its lag is 0


def prepare(
    recordings: Iterable[Recording], renderer: KeypointRenderer, out: Path, report: Callable[[str], None]
) -> None:
    """Prepare every talking recording into ``out`` unless that is already done; resumable, clip by clip."""
    out.mkdir(parents=True, exist_ok=True)
    for recording in recordings:
        target = out / f"{recording.name}.npz"
        if target.exists():
            continue
        clip = prepare_clip(recording, renderer)
        if clip is None:
            report(f"{recording.name}: left out, its face cannot be followed")
            continue
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, **{field.name: getattr(clip, field.name) for field in fields(clip)})
        part.replace(target)
        report(f"{recording.name}: {len(clip.rows)} frames")


def prepare_clip(recording: Recording, renderer: KeypointRenderer) -> KeypointClip | None:
    """Look at one recording through a square that stands still; ``None`` when its face cannot be followed."""
    fps = Clock().fps

    def pictures() -> Iterable[np.ndarray]:
        return (np.ascontiguousarray(frame.permute(1, 2, 0).numpy()) for frame in read_video(recording.path, fps))

    found = list(FaceTracker().follow(pictures()))
    seen = [face.landmarks for face in found if face is not None]
    if len(seen) < SHORTEST or len(seen) < FOUND * len(found):
        return None
    squares = [upright.around(landmarks, *upright.DRIVING) for landmarks in seen]
    x, y, side = np.mean([(square.x, square.y, square.side) for square in squares], axis=0)
    square = Square(float(x), float(y), float(side), 0.0)
    crops = (np.ascontiguousarray(upright.cut(p, square, PICTURE).transpose(2, 0, 1)) for p in pictures())
    rows, canonical = [], []
    with torch.inference_mode():
        while some := list(islice(crops, AT_ONCE)):
            watched = renderer.watched(torch.from_numpy(np.stack(some)))
            rows.append(watched[0])
            canonical.append(watched[1])
    return KeypointClip(
        name=recording.name,
        speaker=recording.speaker,
        split=recording.split,
        emotion=recording.emotion,
        rows=torch.cat(rows).numpy(),
        canonical=torch.cat(canonical).mean(0).numpy(),
        audio=sound(recording, len(found)),
    )


def load(file: Path) -> KeypointClip:
    """Read what :func:`prepare` wrote. Raises :class:`InputError` for any other file."""
    try:
        with np.load(file, allow_pickle=False) as found:
            values: dict[str, Any] = {field.name: found[field.name] for field in fields(KeypointClip)}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{file} is not a prepared clip of keypoint motion: {error}") from error
    values |= {name: str(value) for name, value in values.items() if not value.ndim}
    return KeypointClip(**values)
