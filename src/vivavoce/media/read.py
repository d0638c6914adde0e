"""Everything that comes in. A photo is a video of one frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from vivavoce.media.container import VIDEO_KINDS, Contents, contents
from vivavoce.media.film import read_video
from vivavoce.media.picture import KINDS, is_picture, read_animation, read_image, stacked
from vivavoce.media.sound import Soundtrack, read_audio, read_soundtrack
from vivavoce.system import Source

__all__ = [
    "Contents",
    "Soundtrack",
    "contents",
    "read_audio",
    "read_image",
    "read_soundtrack",
    "read_source",
    "read_video",
]

PORTRAITS = f"a picture: {KINDS}; or a video: {VIDEO_KINDS}"
MOVING_SIDE = 720  # px; a moving portrait is held in memory as a whole


def read_source(path: str | Path, fps: Fraction | int = 25, *, frames: int = 250) -> Source:
    """A portrait: a photo (one frame, see :func:`read_image`), or the start of a video or animated picture.

    Of moving portraits at most ``frames`` frames are read, at ``fps`` frames a second and at most 720 pixels
    long, so memory stays bounded. Raises :class:`vivavoce.errors.InputError` for anything else.
    """
    path = Path(path)
    if is_picture(path):
        apart = float(1 / Fraction(fps))
        return read_animation(path, seconds_apart=apart, frames=frames, long_side=MOVING_SIDE)
    contents(path, accepted=PORTRAITS)  # refuses all other files in words that fit a portrait
    return stacked(read_video(path, fps, long_side=MOVING_SIDE), frames)
