"""Whether the picture shows what the motion says: speech-driven frames are drawn, tracked again and compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32

from vivavoce.evaluate import lipsync
from vivavoce.evaluate.lipsync import Track
from vivavoce.evaluate.metrics import Rgb
from vivavoce.evaluate.talking import Watched
from vivavoce.face.track import Face
from vivavoce.system import Portrait, System


@runtime_checkable
class Follower(Protocol):
    """What is needed of a :class:`vivavoce.face.track.FaceTracker`."""

    def follow(self, frames: Iterable[Rgb]) -> Iterator[Face | None]: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """Lip opening of the same frames as it was meant and as it is seen, face widths."""

    meant: Track
    seen: Track  # canonical frame, not relative to rest; frames without a face repeat the one before
    found: Bool[np.ndarray, " t"]  # the tracker finds a face


def watch(
    system: System, portrait: Portrait, sound: Float32[np.ndarray, " samples"], *, seed: int, tracker: Follower
) -> Seen:
    """Draw ``sound`` with the whole system and track the frames like any video's."""
    watched = Watched(system.renderer.space, drawing=system.renderer)
    stream = replace(system, renderer=watched).stream(portrait, [torch.from_numpy(sound)], seed=seed)

    def frames() -> Iterator[Rgb]:
        for clip in stream:
            for picture in clip.rgb:
                yield np.ascontiguousarray(picture.permute(1, 2, 0).numpy())

    faces = list(tracker.follow(frames()))
    found = np.array([face is not None for face in faces])
    if not found.any():
        raise ValueError("no face is found in any of the frames drawn")
    held = next(face for face in faces if face is not None)
    points = []
    for face in faces:
        held = face or held
        points.append(held.landmarks.astype(np.float64))
    rows = torch.cat(watched.rows).double().numpy()
    return Seen(lipsync.lips(rows).opening[: len(points)], lipsync.seen_opening(np.stack(points)), found)


def compared(pieces: list[Seen]) -> dict[str, float]:
    """Means over all frames: correlation and lag of what is seen with what was meant, its gain, faces found."""
    frames = [len(piece.meant) for piece in pieces]
    curve = np.average([lipsync.lag_curve(p.seen, p.meant) for p in pieces], axis=0, weights=frames)
    gains = [float(np.polyfit(p.meant, p.seen, 1)[0]) for p in pieces]
    return {
        "correlation": float(curve[lipsync.FARTHEST]),
        "lag": float(lipsync.lag(curve)),
        "gain": float(np.average(gains, weights=frames)),
        "face_found": float(np.concatenate([p.found for p in pieces]).mean()),
        "frames": float(sum(frames)),
    }


def truth_correlation(pieces: list[Seen], truths: list[Float[np.ndarray, " _t"]]) -> float:
    """Correlation of the seen with the true lip opening, mean over frames."""
    pairs = [(p.seen[: len(t)], t[: len(p.seen)]) for p, t in zip(pieces, truths, strict=True)]
    return float(np.average([lipsync.correlation(a, b) for a, b in pairs], weights=[len(a) for a, _ in pairs]))
