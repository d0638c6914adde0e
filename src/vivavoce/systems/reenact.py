"""Reenactment: a portrait moves like the tracked face of a driving video. Nothing is generated, nobody listens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce.media.read import read_video
from vivavoce.motion.edit import Edit
from vivavoce.motion.space import FACE_MESH, Motion, MotionSpace
from vivavoce.motion.track import track
from vivavoce.render.mesh import MeshRenderer
from vivavoce.streams import windows
from vivavoce.system import Drive, Features, Portrait, Source, System
from vivavoce.timeline import Clock, Pcm, Span

HOP = 5  # frames handed on at a time
POSE = ("rotation",)  # a track's translation and scale are changes from its first frame already
EVERYTHING = ("rotation", "expression", "eyelids", "gaze")


@dataclass(frozen=True, slots=True)
class Deaf:
    """Counts the frames the sound is long, hears nothing of it."""

    dim: int = 0
    hop: int = HOP
    lookahead: int = 0

    def features(self, clock: Clock, sound: Iterable[Pcm]) -> Iterator[Features]:
        """See :class:`vivavoce.system.AudioEncoder`; the rows are empty."""
        done = 0
        for window in windows(sound, before=0, hop=clock.sample(1), after=0):
            del window
            done += 1
            if done % self.hop == 0:
                yield Features(Span(done - self.hop, done), torch.zeros(self.hop, 0))
        if rest := done % self.hop:
            yield Features(Span(done - rest, done), torch.zeros(rest, 0))


@dataclass(frozen=True, slots=True)
class TrackedMotion:
    """Motion of the largest face of a video, from its start; the last row is held when the sound is longer."""

    driving: Path
    fps: int = 25
    space: MotionSpace = FACE_MESH
    audio_dim: int = 0
    hop: int = HOP
    lookahead: int = 0

    def drives(self, portrait: Portrait, features: Iterable[Features], *, seed: int) -> Iterator[Drive]:
        """See :class:`vivavoce.system.MotionGenerator`. A track has no chance in it, so ``seed`` changes nothing."""
        del portrait, seed
        tracked = track(picture.permute(1, 2, 0).numpy() for picture in read_video(self.driving, self.fps))
        rows = _held(tracked)
        for heard in features:
            shown = torch.stack(list(islice(rows, len(heard.span))))
            yield Drive(Motion(heard.span, self.space, shown), heard.rows)


def _held(pieces: Iterable[Float[Tensor, "t d"]]) -> Iterator[Float[Tensor, " d"]]:
    """Row by row; the last one again and again once there are no more."""
    last = None
    for piece in pieces:
        for row in piece:
            last = row
            yield row
    if last is not None:
        yield from repeat(last)


def assemble(
    *,
    driving: Path,
    relative: bool = False,
    size: int = 512,
    crop: bool = False,
    face: str | int = "largest",
    teeth: Source | None = None,
    edit: Edit | None = None,
) -> System:
    """A system whose motion is tracked from ``driving``.

    The head's turns are taken as changes from the first driving frame; with ``relative`` the whole face is, which
    keeps the portrait's own expression and suits a driver who starts at rest. Other arguments as for
    ``moda``; there is no network in it, so no device to choose.
    """
    edit = replace(edit or Edit(), relative=EVERYTHING if relative else POSE)
    shown = None if teeth is None else np.ascontiguousarray(teeth[0].permute(1, 2, 0).numpy())
    renderer = MeshRenderer(size=size, crop=crop, face=face, teeth=shown)
    return System("reenact", Clock(), Deaf(), TrackedMotion(Path(driving)), renderer, edit)
