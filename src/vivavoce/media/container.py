"""Open a media file someone gave us: only formats that carry sound or pictures, never another file or address."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.frame import Frame
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from vivavoce.errors import InputError, InputWarning

# Demuxers we let FFmpeg pick from. Playlists (hls, concat, dash) are left out because they name other files and
# addresses, "tty" and "image2" because they make a film out of any text or picture.
FORMATS = (
    "aac,ac3,aiff,amr,ape,apng,asf,au,avi,caf,eac3,flac,flv,gif,ivf,m4v,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,"
    "mpeg,mpegts,mpegvideo,h264,hevc,nut,ogg,rm,rso,tta,voc,w64,wav,wv,yuv4mpegpipe"
)
SOUND_KINDS = "WAV, FLAC, MP3, M4A, OGG, Opus, or a video with sound"
VIDEO_KINDS = "MP4, MOV, WebM, MKV, AVI"


def existing(path: Path) -> Path:
    """``path`` if it is a readable, non-empty file; :class:`vivavoce.errors.InputError` otherwise."""
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder, not a file")
        if not path.exists():
            raise InputError(f"there is no file {path}")
        if not path.is_file():
            raise InputError(f"{path} is not a regular file")
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty")
        if not os.access(path, os.R_OK):
            raise InputError(f"{path} may not be read (permission denied)")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    return path


@contextmanager
def opened(path: Path, *, accepted: str) -> Iterator[InputContainer]:
    """The container in ``path``; ``accepted`` names the kinds of file wanted, for the message.

    Raises :class:`vivavoce.errors.InputError` when nothing in FORMATS can read it.
    """
    existing(path)
    try:
        box = av.open(
            f"file:{path.absolute()}",
            container_options={"format_whitelist": FORMATS, "protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except (FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: it is damaged or not of a known kind ({accepted})") from error
    with box:
        yield box


def picture_stream(box: InputContainer) -> VideoStream | None:
    """The moving picture of the file; a cover picture in a sound file is none."""
    return next((s for s in box.streams.video if not s.disposition & Disposition.attached_pic), None)


def start(box: InputContainer) -> Fraction:
    """When the file's own clock starts, in seconds: the zero that sound and picture share."""
    return Fraction(box.start_time or 0, av.time_base)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file has, as far as its header says."""

    sound: bool
    picture: bool
    seconds: float | None  # None: the header does not say


def contents(path: Path, *, accepted: str = f"{SOUND_KINDS}, {VIDEO_KINDS}") -> Contents:
    """Look at the header of a sound or video file. Raises :class:`vivavoce.errors.InputError` when it has none."""
    with opened(path, accepted=accepted) as box:
        seconds = box.duration / av.time_base if box.duration and box.duration > 0 else None
        return Contents(bool(box.streams.audio), picture_stream(box) is not None, seconds)


def decoded(box: InputContainer, stream: Stream, path: Path) -> Iterator[Frame]:
    """All frames of ``stream`` that can be decoded; damaged stretches are left out and told in one warning."""
    lost = 0
    for packet in _packets(box, stream):
        if packet is None:
            lost += 1
            continue
        try:
            yield from packet.decode()
        except FFmpegError:
            lost += 1
    if lost:
        warnings.warn(f"{path} is damaged: {lost} piece(s) of it were left out", InputWarning, stacklevel=2)


def _packets(box: InputContainer, stream: Stream) -> Iterator[av.Packet | None]:
    """Packets up to the end or to where the file cannot be followed any more (then a last ``None``)."""
    packets = box.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except FFmpegError:
            yield None
            return
        yield packet
