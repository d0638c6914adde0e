"""The photo and the speech that come with the project, films of the photo, and systems made to speak noise with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from vivavoce.media.read import read_image, read_source
from vivavoce.media.write import write_video
from vivavoce.registry import load
from vivavoce.system import Clip, System
from vivavoce.timeline import Clock, Span

PHOTO = Path(__file__).parents[1] / "assets" / "demo_portrait.jpg"
SPEECH = PHOTO.with_name("demo_speech.wav")
FRAME = 640  # samples of sound that a picture lasts


def photo(side: int = 320) -> torch.Tensor:
    """[3 h w] with even sides, as films need them."""
    picture = read_image(PHOTO, long_side=side)[0]
    return picture[:, : picture.shape[1] // 2 * 2, : picture.shape[2] // 2 * 2]


def film(path: Path, frames: int, step: int = 1) -> Path:
    """The photo, moving to the right by ``step`` pixels a frame, without a sound."""
    pictures = torch.stack([photo().roll(step * n, 2) for n in range(frames)])
    write_video(path, [Clip(Span(0, frames), pictures, torch.zeros(FRAME * frames))], Clock())
    return path


def sound(frames: int) -> torch.Tensor:
    return 0.1 * torch.randn(FRAME * frames, generator=torch.Generator().manual_seed(1))


def small(name: str, weights: Path, **options: Any) -> System:
    return load(name, weights=weights, crop=True, size=128, steps=1, **options)


def speak(name: str, weights: Path, pieces: Any, seed: int = 3, **options: Any) -> torch.Tensor:
    """All pictures that a system makes of the photo and these pieces of sound."""
    clips = small(name, weights, **options).stream(read_source(PHOTO), pieces, seed=seed)
    return torch.cat([clip.rgb for clip in clips])


def waited(name: str, weights: Path) -> tuple[int, torch.Tensor]:
    """How many pictures' sound a system was given until its first pictures came, and those, of 40 of :func:`sound`."""
    given = 0

    def drip() -> Iterator[torch.Tensor]:
        nonlocal given
        for piece in sound(40).split(FRAME):
            given += 1
            yield piece

    first = next(small(name, weights).stream(read_source(PHOTO), drip(), seed=3))
    return given, first.rgb
