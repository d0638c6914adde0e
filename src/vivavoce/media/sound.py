"""Sound: any rate, channel count and container in; what the model hears and what the viewer hears out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from av import AudioFrame, AudioResampler
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from jaxtyping import Float
from torch import Tensor

from vivavoce.errors import InputError, InputWarning
from vivavoce.media.container import SOUND_KINDS, decoded, opened, picture_stream, start
from vivavoce.timeline import Pcm

Samples = np.ndarray  # float32 [channels, samples]

PIECE = 16_384  # samples handed on at a time, at most
LONGEST_GAP = 10  # s; longer jumps of the time stamps are taken for mistakes
SHORTEST_GAP = 0.05  # s; shorter ones are rounding of the container
PADDING = 0.2  # s; what a lossy encoder adds to fill its last packet is shorter
# AAC rates that every player takes.
RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
# How much of each loudspeaker is heard on the left, in the middle, on the right (ITU-R BS.775; no bass channel).
SIDE = 0.7071
LOUDSPEAKERS = {
    "FL": (1.0, SIDE, 0.0),
    "FR": (0.0, SIDE, 1.0),
    "FC": (SIDE, 1.0, SIDE),
    "LFE": (0.0, 0.0, 0.0),
    "BL": (SIDE, 0.5, 0.0),
    "BR": (0.0, 0.5, SIDE),
    "SL": (SIDE, 0.5, 0.0),
    "SR": (0.0, 0.5, SIDE),
    "BC": (0.5, 0.5, 0.5),
}


@dataclass(frozen=True, slots=True)
class Soundtrack:
    """Sound for the finished video, in step with the samples the model heard, at its own rate and width."""

    sample_rate: int  # Hz, one of RATES
    channels: int  # 1 or 2
    blocks: Iterable[Float[Tensor, "_c _samples"]]  # [-1, 1]


def read_audio(path: str | Path, sample_rate: int = 16_000) -> Iterator[Pcm]:
    """Mono sound of any file with sound in it, in pieces of at most 16384 samples; one held at a time.

    Channels are mixed down, other rates resampled, gaps in the time stamps of a video filled with silence, so
    sample n is heard n / ``sample_rate`` seconds after the start of the file. Samples that are no numbers become
    silence and samples beyond full scale are clipped, both with an :class:`vivavoce.errors.InputWarning`.

    Raises :class:`vivavoce.errors.InputError`: at once when the file has no sound stream, at the first piece
    when the stream has no samples.
    """
    path = Path(path)
    if sample_rate <= 0:
        raise InputError(f"a sample rate must be above 0 Hz, not {sample_rate}")
    with opened(path, accepted=SOUND_KINDS) as box:
        _stream(box, path)
    return (piece[0] for piece in _read(path, sample_rate, 1))


def read_soundtrack(path: str | Path) -> Soundtrack:
    """The sound of a file as the viewer should hear it: mono or stereo, the file's own rate where AAC has it.

    Starts and lasts exactly like :func:`read_audio` of the same file, and raises the same errors.
    """
    path = Path(path)
    with opened(path, accepted=SOUND_KINDS) as box:
        stream = _stream(box, path)
        rate = next((rate for rate in RATES if rate >= stream.sample_rate), RATES[-1])
        channels = min(stream.channels, 2)
    return Soundtrack(rate, channels, _read(path, rate, channels))


def _stream(box: InputContainer, path: Path) -> AudioStream:
    if not box.streams.audio:
        raise InputError(f"{path} has no sound in it (wanted: {SOUND_KINDS})")
    stream = box.streams.audio[0]
    if stream.codec_context is None or stream.sample_rate <= 0 or stream.channels <= 0:
        raise InputError(f"the sound of {path} cannot be decoded (wanted: {SOUND_KINDS})")
    return stream


def _read(path: Path, rate: int, channels: int) -> Iterator[Float[Tensor, "_c _samples"]]:
    """Decode, clean, mix to ``channels`` and resample to ``rate``, a piece at a time."""
    heard = False
    for samples in _resampled(_mixed(path, channels), rate):
        for at in range(0, samples.shape[1], PIECE):
            heard = True
            # Resampling overshoots at steps between loud samples.
            yield torch.from_numpy(np.clip(samples[:, at : at + PIECE], -1, 1))
    if not heard:
        raise InputError(f"{path} has no sound in it: its sound track is empty")


def _mixed(path: Path, channels: int) -> Iterator[tuple[int, Samples]]:
    """(rate, samples) of the file, sound in numbers within full scale."""
    bad = clipped = total = 0
    for rate, layout, samples in _on_time(path):
        faulty = ~np.isfinite(samples)
        if faults := int(faulty.sum()):
            bad += faults
            samples = np.where(faulty, np.float32(0), samples)
        mixed = _mix(layout, samples.shape[0], channels) @ samples
        over = np.abs(mixed) > 1
        clipped += int(over.sum())
        total += mixed.size
        yield rate, np.clip(mixed, -1, 1).astype(np.float32)
    if bad:
        message = f"{path}: {bad} samples were not numbers and became silence"
        warnings.warn(message, InputWarning, stacklevel=2)
    if clipped > total / 1000:
        message = f"{path}: {100 * clipped / total:.1f}% of the samples were beyond full scale and were clipped"
        warnings.warn(message, InputWarning, stacklevel=2)


def _on_time(path: Path) -> Iterator[tuple[int, AudioLayout, Samples]]:
    """Decoded frames, with silence where the time stamps of a video leave a gap, without the encoder's padding."""
    with opened(path, accepted=SOUND_KINDS) as box:
        stream = _stream(box, path)
        zero = start(box) if picture_stream(box) else None
        end = _end(box, stream)
        given = Fraction(0)  # seconds
        for rate, layout, samples, time in _floats(box, stream, path):
            zero = time if zero is None else zero
            now = given if time is None or zero is None else time - zero
            gap = int((now - given) * rate) if SHORTEST_GAP < now - given < LONGEST_GAP else 0
            if gap:
                yield rate, layout, np.zeros((samples.shape[0], gap), np.float32)
            length = samples.shape[1]
            if time is not None and end is not None and 0 < time + Fraction(length, rate) - end < PADDING:
                length = max(0, int((end - time) * rate))
            given += Fraction(gap + length, rate)
            yield rate, layout, samples[:, :length]


def _end(box: InputContainer, stream: AudioStream) -> Fraction | None:
    """When the sound ends by the file's own account, in its own seconds; MP4 alone can be trusted in this."""
    if "mp4" not in box.format.name or not stream.duration or not stream.time_base:
        return None
    return ((stream.start_time or 0) + stream.duration) * stream.time_base


def _floats(
    box: InputContainer, stream: AudioStream, path: Path
) -> Iterator[tuple[int, AudioLayout, Samples, Fraction | None]]:
    """Decoded frames as float32 with their time stamps in seconds."""
    converters: dict[tuple[str, str, int], AudioResampler] = {}  # a file may change its format on the way
    for frame in decoded(box, stream, path):
        if not isinstance(frame, AudioFrame) or not frame.samples:
            continue
        time = frame.pts * frame.time_base if frame.pts is not None and frame.time_base else None
        key = (frame.format.name, frame.layout.name, frame.sample_rate)
        # Channels in turn, not in planes: PyAV reads past the end of eight or more planes.
        converter = converters.setdefault(key, AudioResampler(format="flt"))
        try:
            made = converter.resample(frame)
        except FFmpegError as error:
            raise InputError(
                f"the sound of {path} cannot be read: {frame.layout.nb_channels} channels at {frame.sample_rate} Hz "
                f"(wanted: {SOUND_KINDS})"
            ) from error
        for converted in made:
            samples = converted.to_ndarray().reshape(-1, frame.layout.nb_channels).T
            yield converted.sample_rate, frame.layout, samples, time


def _mix(layout: AudioLayout, given: int, wanted: int) -> np.ndarray:
    """Matrix [wanted, given] that mixes loudspeaker channels down without clipping."""
    if given == 1:
        return np.ones((wanted, 1), np.float32)
    names = [channel.name for channel in layout.channels]
    if len(names) != given or any(name not in LOUDSPEAKERS for name in names):
        names = ["FL", "FR"] if given == 2 else ["FC"] * given  # unnamed channels: all alike
    heard = np.array([LOUDSPEAKERS[name] for name in names], np.float32).T  # [left middle right, given]
    rows = heard[1:2] if wanted == 1 else heard[[0, 2]]
    total = rows.sum(axis=1, keepdims=True)
    return rows / np.where(total > 0, total, 1)


def _resampled(pieces: Iterable[tuple[int, Samples]], rate: int) -> Iterator[Samples]:
    """``pieces`` at ``rate``."""
    resampler: AudioResampler | None = None
    before = 0
    for given, samples in pieces:
        if given != before:
            yield from _flushed(resampler)
            resampler, before = None if given == rate else AudioResampler(format="fltp", rate=rate), given
        if resampler is None:
            yield samples
            continue
        frame = AudioFrame.from_ndarray(samples, format="fltp", layout="mono" if len(samples) == 1 else "stereo")
        frame.sample_rate = given
        for out in resampler.resample(frame):
            yield out.to_ndarray()
    yield from _flushed(resampler)


def _flushed(resampler: AudioResampler | None) -> Iterator[Samples]:
    for out in resampler.resample(None) if resampler else []:
        yield out.to_ndarray()
