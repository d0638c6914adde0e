"""Photos as training clips: the mesh renderer poses each like people in recordings moved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from vivavoce.data.clips import recordings
from vivavoce.data.prepare import Prepared
from vivavoce.errors import InputError
from vivavoce.face.model import FaceModel
from vivavoce.face.track import Face, FaceTracker
from vivavoce.media.read import read_image
from vivavoce.motion.space import FACE_MESH, Motion
from vivavoce.motion.track import calibrate, rows
from vivavoce.render.mesh import MeshRenderer
from vivavoce.streams import inferring
from vivavoce.system import Drive, Portrait
from vivavoce.timeline import Span

POSES = 40  # of a portrait
_INTERIOR = 6  # numbers that say what is seen between the lips; nothing is measured there


def posed(
    data: Path, prefix: str, motion: Float32[np.ndarray, "n 48"]
) -> Iterator[tuple[Prepared, Iterator[tuple[np.ndarray, np.ndarray]]]]:
    """Portraits of ``data``, each as a clip of :data:`POSES` frames, each with some row of ``motion`` (face-mesh/1).

    Names and speakers begin with ``prefix``. Portraits in which no face is found are left out. The same portraits get
    the same motion every time.
    """
    renderer, tracker, model = MeshRenderer(crop=True, size=512), FaceTracker(), FaceModel.pretrained()
    for index, recording in enumerate(recordings(data, kinds=("portrait",))):
        chosen = np.random.default_rng(index).choice(len(motion), POSES)
        try:
            portrait = renderer.portrait(read_image(recording.path))
        except InputError:
            continue
        pictures = list(_pictures(renderer, portrait, torch.from_numpy(motion[chosen])))
        landmarks = [face.landmarks if (face := _only(tracker, picture)) else None for picture in pictures]
        valid = np.array([points is not None for points in landmarks])
        if not valid.any():
            continue
        fallback = next(points for points in landmarks if points is not None)
        held = np.stack([fallback if points is None else points for points in landmarks])
        person = calibrate(held[valid].astype(np.float64), model)
        measured = rows(held.astype(np.float64), np.zeros((POSES, _INTERIOR)), person, model).astype(np.float32)
        name = f"{prefix}{recording.name}"
        clip = Prepared(name, name, "train", "portrait", "none", held, measured, valid, np.zeros(0, np.float32))
        yield clip, ((p, points) for p, points in zip(pictures, landmarks, strict=True) if points is not None)


def _only(tracker: FaceTracker, picture: UInt8[np.ndarray, "h w 3"]) -> Face | None:
    return next(iter(tracker.faces(picture)), None)


def _pictures(
    renderer: MeshRenderer, portrait: Portrait, motion: Float32[Tensor, "t 48"]
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    drive = Drive(Motion(Span(0, len(motion)), FACE_MESH, motion), torch.zeros(len(motion), 1))
    for frames in inferring(renderer.frames(portrait, [drive])):
        yield from (np.ascontiguousarray(frame.permute(1, 2, 0).numpy()) for frame in frames.rgb)
