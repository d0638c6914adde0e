"""Real media files for the tests, made on the spot."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from vivavoce.media.read import read_audio
from vivavoce.system import Clip
from vivavoce.timeline import Clock, Span

CLOCK = Clock()


def picture(path: Path, width: int, height: int) -> Path:
    """A smooth colourful picture; the format follows the name."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    pixels = np.stack([x, y, 1 - x], -1) * 200 + 20
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def sine(hertz: float, seconds: float, rate: int) -> np.ndarray:
    """float32 [samples], half of full scale."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def wav(path: Path, samples: np.ndarray, rate: int, codec: str = "pcm_s16le") -> Path:
    """Sound [channels, samples] as the container that the name says."""
    layout = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}[len(samples)]
    with av.open(str(path), "w") as box:
        track = box.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        box.mux(track.encode(frame))
        box.mux(track.encode())
    return path


def film(
    path: Path,
    *,
    frames: int,
    rate: Fraction = Fraction(25),
    size: tuple[int, int] = (64, 64),
    stamps: list[int] | None = None,
    half: bool = False,
    sound_at: list[tuple[float, float]] | None = None,
) -> Path:
    """H.264 whose frame n is grey with value 2 n (``half``: upper half white), with optional pieces of sound.

    ``stamps`` are time stamps in units of 1 / ``rate``; ``sound_at`` lists (start, length) in seconds.
    """
    with av.open(str(path), "w") as box:
        stream = box.add_stream("libx264", rate=rate, options={"crf": "1", "preset": "ultrafast", "bf": "0"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        track = box.add_stream("pcm_s16le", rate=16_000, layout="mono") if sound_at else None
        for n in range(frames):
            pixels = np.full((size[1], size[0], 3), min(255, 2 * n), np.uint8)
            if half:
                pixels[: size[1] // 2] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = stamps[n] if stamps else n, 1 / rate
            box.mux(stream.encode(frame))
        box.mux(stream.encode())
        for begin, length in sound_at or []:
            piece = av.AudioFrame.from_ndarray(
                (sine(300, length, 16_000)[None] * 32767).astype(np.int16), format="s16", layout="mono"
            )
            piece.sample_rate, piece.pts, piece.time_base = 16_000, int(begin * 16_000), Fraction(1, 16_000)
            box.mux(track.encode(piece))
        if track:
            box.mux(track.encode())
    return path


def heard(path: Path, rate: int = 16_000) -> torch.Tensor:
    """All the samples of a file."""
    return torch.cat(list(read_audio(path, rate)))


def clips(frames: int, height: int = 64, width: int = 64, hop: int = 7, level: float = 0.3) -> Iterator[Clip]:
    """Clips of a moving ramp, ``hop`` frames each, with constant sound."""
    ramp = torch.linspace(0, 255, width).expand(3, height, width)
    for start in range(0, frames, hop):
        stop = min(start + hop, frames)
        rgb = torch.stack([(ramp + 5 * n) % 256 for n in range(start, stop)]).to(torch.uint8)
        pcm = torch.full((CLOCK.sample(stop) - CLOCK.sample(start),), level)
        yield Clip(Span(start, stop), rgb, pcm)
