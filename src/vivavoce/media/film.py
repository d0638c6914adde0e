"""Moving pictures on the clock: frame n is what the file shows in the middle of the n-th frame time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av import VideoFrame
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from jaxtyping import UInt8
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.media.container import VIDEO_KINDS, decoded, opened, picture_stream, start
from vivavoce.media.picture import MIN_SIDE

Picture = UInt8[Tensor, "3 h w"]  # sRGB
MAX_SIDE = 1920  # px; longer films are scaled down to this


def read_video(
    path: str | Path, fps: Fraction | int = 25, *, long_side: int = MAX_SIDE, first: int = 0
) -> Iterator[UInt8[Tensor, "3 h w"]]:
    """Frames of a video on a grid of ``fps`` frames a second, upright, square pixels; one held at a time.

    Time counts from the start of the file, which is also where :func:`vivavoce.media.sound.read_audio` starts,
    so frame n and the samples of frame n belong together. Whatever the file's own rate (or lack of one), frames
    are picked by their time stamps. Reading starts at frame ``first``; what lies before is skipped, not decoded, where
    the file allows it.

    Raises :class:`vivavoce.errors.InputError` at once when the file has no moving picture; damage further on is
    left out with an :class:`vivavoce.errors.InputWarning`.
    """
    path = Path(path)
    if fps <= 0 or long_side < MIN_SIDE or first < 0:
        raise InputError(f"a video needs a rate above 0 and a side of {MIN_SIDE} or more, not {fps} and {long_side}")
    with opened(path, accepted=VIDEO_KINDS) as box:
        _picture(box, path)
    return _on_clock(path, Fraction(fps), long_side, first)


def _picture(box: InputContainer, path: Path) -> VideoStream:
    stream = picture_stream(box)
    if stream is None:
        raise InputError(f"{path} has no picture in it, only sound (wanted: {VIDEO_KINDS})")
    if stream.codec_context is None:
        raise InputError(f"the picture of {path} cannot be decoded (wanted: {VIDEO_KINDS})")
    if min(stream.width, stream.height) < MIN_SIDE:
        size = f"{stream.width}x{stream.height}"
        raise InputError(f"{path} has only {size} pixels: a face needs at least {MIN_SIDE} each way")
    return stream


def _on_clock(path: Path, fps: Fraction, long_side: int, first: int) -> Iterator[Picture]:
    shown: VideoFrame | None = None
    size = (0, 0)
    due = first  # index of the next frame to give
    for time, frame, aspect in _from(path, first / fps):
        picture = None
        while shown is not None and (due + Fraction(1, 2)) / fps <= time:
            picture = _rgb(shown, size) if picture is None else picture
            yield picture
            due += 1
        if shown is None and frame is not None:
            size = _size(frame, aspect, long_side)
        shown = frame
    if not due:
        raise InputError(f"{path} has no frame that can be decoded")


def _from(path: Path, after: Fraction) -> Iterator[tuple[Fraction, VideoFrame | None, Fraction]]:
    """:func:`_timed` from the last key frame at or before ``after``, or from the start where that cannot be found."""
    timed = _timed(path, after)
    begin = next(timed)
    # Some containers have no index, and jump too far or not at all.
    if after and (begin[1] is None or begin[0] > after):
        timed = _timed(path, Fraction(0))
        begin = next(timed)
    yield begin
    yield from timed


def _timed(path: Path, after: Fraction) -> Iterator[tuple[Fraction, VideoFrame | None, Fraction]]:
    """(time, frame, pixel aspect); times in seconds from the start of the file, never going back.

    Jumps to a key frame near ``after`` first, where that is not the start.

    The last entry has no frame: it is the time at which the last one disappears.
    """
    with opened(path, accepted=VIDEO_KINDS) as box:
        stream = _picture(box, path)
        stream.thread_type = "AUTO"
        zero = start(box)
        step = 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        if after:
            with suppress(FFmpegError):
                box.seek(int((after + zero) * av.time_base))
        time, lasts = -step, step
        for frame in decoded(box, stream, path):
            if not isinstance(frame, VideoFrame):
                continue
            if frame.pts is not None and frame.time_base:
                time = max(time, frame.pts * frame.time_base - zero)
            else:
                time += step
            lasts = frame.duration * frame.time_base if frame.duration and frame.time_base else step
            yield time, frame, aspect
        yield max(time, Fraction(0)) + lasts, None, aspect


def _size(frame: VideoFrame, aspect: Fraction, long_side: int) -> tuple[int, int]:
    """Width and height with square pixels, at most ``long_side`` long."""
    width, height = frame.width * aspect, Fraction(frame.height)
    scale = min(Fraction(1), long_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _rgb(frame: VideoFrame, size: tuple[int, int]) -> Picture:
    """Scaled to ``size`` and turned as the file says."""
    pixels = frame.reformat(*size, format="rgb24", interpolation=Interpolation.BICUBIC).to_ndarray()
    quarter_turns = round(frame.rotation / 90) % 4
    if quarter_turns:
        pixels = np.rot90(pixels, quarter_turns)
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).contiguous()
