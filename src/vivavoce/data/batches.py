"""Prepared clips -> batches of windows for the motion generator: a batch is a function of (seed, step)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from scipy.signal import fftconvolve, resample
from torch import Tensor

from vivavoce.data.prepare import Prepared
from vivavoce.emotion.labels import EMOTIONS, NONE
from vivavoce.motion.conditions import Conditions
from vivavoce.sampling.paths import Rows
from vivavoce.system import AudioEncoder
from vivavoce.timeline import Clock

Sound = Float32[np.ndarray, " _samples"]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of hearing a clip: played ``speed`` times as fast (pitch and motion too), in noise and in a room."""

    speed: float = 1.0
    snr: float | None = None  # dB of speech over noise; None = no noise
    echo: float = 0.0  # seconds in which the room's sound falls by 60 dB; 0 = no room
    gain: float = 0.0  # dB


CLEAN = Variant()


def disturb(sound: Sound, variant: Variant, rng: np.random.Generator) -> Sound:
    """``sound`` as ``variant`` hears it; the room's direct sound keeps its time."""
    out = sound if variant.speed == 1.0 else np.asarray(resample(sound, max(1, round(len(sound) / variant.speed))))
    if variant.echo and len(out):
        time = np.arange(int(16_000 * variant.echo)) / 16_000
        tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / variant.echo) * 0.05
        tail[0] = 1.0
        out = fftconvolve(out, tail)[: len(out)]
    if variant.snr is not None and len(out):
        spectrum = np.fft.rfft(rng.standard_normal(len(out)))
        spectrum /= np.maximum(1.0, np.arange(len(spectrum))) ** rng.uniform(0.0, 0.8)  # white to nearly pink
        hiss = np.fft.irfft(spectrum, len(out))
        loud = np.sqrt(np.square(out).mean()) * 10 ** (-variant.snr / 20)
        out = out + hiss * loud / max(1e-12, float(np.sqrt(np.square(hiss).mean())))
    return (out * 10 ** (variant.gain / 20)).astype(np.float32)


def quicken(rows: Float32[np.ndarray, "t d"], speed: float) -> Float32[np.ndarray, "u d"]:
    """Motion played ``speed`` times as fast: ``round(t / speed)`` rows, linearly interpolated."""
    count = round(len(rows) / speed)
    at = np.minimum(np.arange(count) * speed, len(rows) - 1)
    low = np.minimum(at.astype(int), max(0, len(rows) - 2))
    high = np.minimum(low + 1, len(rows) - 1)
    part = (at - low)[:, None].astype(np.float32)
    return rows[low] * (1 - part) + rows[high] * part


def encode(sound: Sound, encoder: AudioEncoder, frames: int) -> Float32[np.ndarray, "t a"]:
    """Features of ``frames`` frames, through the same streaming encoder that will be heard in use."""
    clock = Clock()
    padded = np.zeros(clock.sample(frames), np.float32)
    padded[: len(sound)] = sound[: len(padded)]
    with torch.inference_mode():
        rows = torch.cat([f.rows for f in encoder.features(clock, [torch.from_numpy(padded)])])
    return rows[:frames].float().numpy()


@dataclass(frozen=True, slots=True)
class Take:
    """One clip heard in one way, ready to cut windows from."""

    speaker: str
    rows: Float32[np.ndarray, "t d"]  # motion in units of its space
    reference: Float32[np.ndarray, " d"]  # resting pose of the clip: what generation is relative to
    valid: Bool[np.ndarray, " t"]
    audio: Float32[np.ndarray, "t a"] | None  # None: nothing to hear
    emotion: int  # index in EMOTIONS, or -1


def take(clip: Prepared, audio: Float32[np.ndarray, "t a"] | None, speed: float, pose: Sequence[int]) -> Take:
    """``clip`` at ``speed`` with its features; the numbers in ``pose`` are relative to the clip's median."""
    rows = quicken(clip.rows, speed)
    reference = np.zeros(rows.shape[1], np.float32)
    reference[list(pose)] = np.median(rows[:, list(pose)], axis=0)
    valid = quicken(clip.valid[:, None].astype(np.float32), speed)[:, 0] > 0.99
    emotion = -1 if clip.emotion == NONE else EMOTIONS.index(clip.emotion)
    if audio is not None:
        rows, valid = rows[: len(audio)], valid[: len(audio)]
    return Take(clip.speaker, rows, reference, valid, audio, emotion)


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows to learn: what the generator may see, and what it should make of it."""

    rows: Rows  # targets [b t d], units of the space, relative to the clip's reference
    conditions: Conditions  # past and identity in the same units; not normalised
    valid: Bool[Tensor, "b t"]


@dataclass(frozen=True, slots=True)
class Cut:
    """How windows are cut and disturbed."""

    past: int = 10
    length: int = 11
    size: int = 64  # windows per batch
    mirror: Float[Tensor, "d d"] | None = None  # rows @ mirror = the same motion seen in a mirror
    mirrored: float = 0.5  # share of mirrored windows
    muted: float = 0.1  # share of windows with a few frames of features missing
    fresh: float = 0.05  # share of windows whose past is the identity row, as at the start of a stream


@dataclass(frozen=True, slots=True)
class Shelf:
    """All takes end to end, so that a batch is a few gathers."""

    rows: Float[Tensor, "n d"]
    audio: Float[Tensor, "n a"]
    valid: Bool[Tensor, " n"]
    first: Tensor  # [takes] where each take begins
    frames: Tensor  # [takes]
    heard: Bool[Tensor, " takes"]
    emotion: Tensor  # [takes]
    weight: Float[Tensor, " takes"]


def shelve(takes: Sequence[Take], audio_dim: int) -> Shelf:
    """Line up ``takes``; each speaker counts as the 0.7th power of their minutes, at most one minute's worth."""
    seconds = Counter[str]()
    for one in takes:
        seconds[one.speaker] += len(one.rows)
    weight = [len(t.rows) / seconds[t.speaker] * min(seconds[t.speaker], 1500) ** 0.7 for t in takes]
    silence = [np.zeros((len(t.rows), audio_dim), np.float32) if t.audio is None else t.audio for t in takes]
    frames = torch.tensor([len(t.rows) for t in takes])
    return Shelf(
        rows=torch.from_numpy(np.concatenate([t.rows - t.reference for t in takes])),
        audio=torch.from_numpy(np.concatenate(silence)),
        valid=torch.from_numpy(np.concatenate([t.valid for t in takes])),
        first=frames.cumsum(0) - frames,
        frames=frames,
        heard=torch.tensor([t.audio is not None for t in takes]),
        emotion=torch.tensor([t.emotion for t in takes]),
        weight=torch.tensor(weight, dtype=torch.float64),
    )


def batch_at(shelf: Shelf, cut: Cut, seed: int, step: int) -> Batch:
    """Windows drawn at random places, the same ones for the same ``(seed, step)``."""
    mixed = int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
    rng = torch.Generator().manual_seed(mixed)
    chosen = torch.multinomial(shelf.weight, cut.size, replacement=True, generator=rng)
    frames, first = shelf.frames[chosen], shelf.first[chosen]
    # From where the window is the start of the stream to where it holds the last frame only.
    start = (torch.rand(cut.size, generator=rng) * (frames + cut.length // 2)).long() - cut.length // 2
    at = start.clamp(min=0)[:, None] + torch.arange(-cut.past, cut.length)
    inside = (at >= 0) & (at < frames[:, None])
    place = first[:, None] + at.clamp(min=0).minimum(frames[:, None] - 1)
    rows, audio = shelf.rows[place], shelf.audio[place] * inside[..., None]
    audio = _muted(audio, cut, rng)
    identity = shelf.rows[first + (torch.rand(cut.size, generator=rng) * frames).long()]
    if cut.mirror is not None:
        flip = torch.rand(cut.size, 1, 1, generator=rng) < cut.mirrored
        rows = torch.where(flip, rows @ cut.mirror, rows)
        identity = torch.where(flip[:, 0], identity @ cut.mirror, identity)
    fresh = torch.rand(cut.size, 1, 1, generator=rng) < cut.fresh
    past = torch.where(fresh, identity[:, None], rows[:, : cut.past])
    real = (shelf.valid[place] & inside)[:, cut.past :]
    return Batch(rows[:, cut.past :], _conditions(shelf, chosen, audio, past, identity), real)


def _conditions(shelf: Shelf, chosen: Tensor, audio: Tensor, past: Tensor, identity: Tensor) -> Conditions:
    emotion = shelf.emotion[chosen]
    classes = torch.nn.functional.one_hot(emotion.clamp(min=0), len(EMOTIONS)).float()
    always = torch.ones_like(emotion, dtype=torch.bool)
    present = torch.stack([shelf.heard[chosen], always, always, emotion >= 0], dim=1)
    return Conditions(audio, past, identity, classes, present)


def _muted(audio: Tensor, cut: Cut, rng: torch.Generator) -> Tensor:
    """Zero a run of two to eight frames in some windows: features drop out, the face must go on."""
    count = len(audio)
    length = torch.randint(2, 9, (count, 1), generator=rng)
    begin = torch.randint(0, audio.shape[1], (count, 1), generator=rng)
    at = torch.arange(audio.shape[1])
    gone = (at >= begin) & (at < begin + length) & (torch.rand(count, 1, generator=rng) < cut.muted)
    return audio * ~gone[..., None]


def feed(takes: Sequence[Take], audio_dim: int, cut: Cut) -> Callable[[int], Callable[[int], Batch]]:
    """The data of a recipe: seed -> (step -> batch)."""
    shelf = shelve(takes, audio_dim)
    return lambda seed: lambda step: batch_at(shelf, cut, seed, step)


def apart(clips: Iterable[Prepared], speakers: Sequence[str]) -> tuple[list[Prepared], list[Prepared]]:
    """Clips of everyone but ``speakers``, and theirs."""
    clips = list(clips)
    return [c for c in clips if c.speaker not in speakers], [c for c in clips if c.speaker in speakers]


def advanced(clip: Prepared, frames: int) -> Prepared:
    """``clip`` with its sound moved ``frames`` earlier (later when negative) against its pictures."""
    samples = Clock().sample(abs(frames))
    quiet = np.zeros(samples, np.float32)
    heard = clip.audio
    heard = np.concatenate([heard[samples:], quiet]) if frames > 0 else np.concatenate([quiet, heard])[: len(heard)]
    return replace(clip, audio=heard)
