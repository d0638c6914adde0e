"""A talking head with the real protocols and none of the weight: the louder the sound, the brighter the picture."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.motion.edit import Edit
from vivavoce.motion.space import FACE_MESH, Motion, MotionSpace
from vivavoce.streams import windows
from vivavoce.system import Drive, Features, Frames, Portrait, Source, System
from vivavoce.timeline import Clock, Pcm, Span

EMOTIONS = ("neutral", "happy", "sad")
PAUSE = "FAKE_SYSTEM_SECONDS_PER_CLIP"  # environment variable: how slow to be


@dataclass(frozen=True, slots=True)
class Loudness:
    dim: int = 1
    hop: int = 5
    lookahead: int = 2

    def features(self, clock: Clock, sound: Iterable[Pcm]) -> Iterator[Features]:
        size = clock.sample(1)
        for cut in windows(sound, before=0, hop=self.hop * size, after=self.lookahead * size):
            frames = -(-cut.valid // size)
            rows = cut.rows[: self.hop * size].reshape(self.hop, size).square().mean(1, keepdim=True).sqrt()
            yield Features(Span(cut.start // size, cut.start // size + frames), rows[:frames])


@dataclass(frozen=True, slots=True)
class Puppet:
    space: MotionSpace = FACE_MESH
    audio_dim: int = 1
    hop: int = 5
    lookahead: int = 0

    def drives(self, portrait: Portrait, features: Iterable[Features], *, seed: int) -> Iterator[Drive]:
        start = torch.randn(self.space.dim, generator=torch.Generator().manual_seed(seed)) * 0.01
        for heard in features:
            time.sleep(float(os.environ.get(PAUSE, "0")))
            yield Drive(Motion(heard.span, self.space, start + heard.rows.expand(-1, self.space.dim)), heard.rows)


@dataclass(frozen=True, slots=True)
class Lamp:
    size: int
    crop: bool
    space: MotionSpace = FACE_MESH

    def portrait(self, source: Source) -> Portrait:
        if source.float().flatten(2).std(-1).max() < 1:
            raise InputError("no face was found in the portrait")
        shape = (self.size, self.size) if self.crop else tuple(side - side % 2 for side in source.shape[-2:])
        picture = torch.nn.functional.interpolate(source.float(), shape)
        still = torch.zeros(len(source), self.space.dim)
        warnings = ("the fake face is small",) if min(shape) < 40 else ()
        return Portrait(source, still, {"picture": picture}, warnings)

    def frames(self, portrait: Portrait, drives: Iterable[Drive]) -> Iterator[Frames]:
        for drive in drives:
            light = (0.5 + drive.motion.rows.mean(1)).clamp(0, 1)[:, None, None, None]
            yield Frames(drive.motion.span, (portrait.cache["picture"][:1] * light).to(torch.uint8))


def assemble(
    *,
    size: int = 64,
    crop: bool = False,
    face: str = "largest",
    teeth: Tensor | None = None,
    emotion: str | None = None,
    device: str = "auto",
    backend: str = "auto",
    edit: Edit | None = None,
) -> System:
    if emotion is not None and emotion not in EMOTIONS:
        raise InputError(f"there is no emotion {emotion!r} (there are: {', '.join(EMOTIONS)})")
    if backend not in {"auto", "torch"}:
        raise InputError(f"there is no backend {backend!r} (there are: auto, torch)")
    if face not in {"largest", "left", "right", "0"}:
        raise InputError(f"there is no face {face}: one face was found")
    return System("fake", Clock(), Loudness(), Puppet(), Lamp(size, crop), edit or Edit())


def assemble_reenactment(*, driving: Path, **options) -> System:
    if not Path(driving).is_file():
        raise AssertionError("the command line looks at the driving video first")
    return assemble(**options)
