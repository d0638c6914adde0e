"""Make one portrait talk: portrait and speech in, lip-synced video out.

    talker = vivavoce.load("moda")
    clips = talker.stream(vivavoce.read_source("photo.jpg"), vivavoce.read_audio("speech.wav"), seed=7)
    vivavoce.write_video("out.mp4", clips, talker.clock)

Importing the package is quick; the parts are imported when their names are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vivavoce.errors import InputError, InputWarning

if TYPE_CHECKING:
    from vivavoce.media.read import read_audio, read_image, read_soundtrack, read_source, read_video
    from vivavoce.media.sheet import contact_sheet
    from vivavoce.media.write import write_video
    from vivavoce.motion.edit import Edit
    from vivavoce.registry import load, names
    from vivavoce.session import Session
    from vivavoce.streams import Background
    from vivavoce.system import Clip, Portrait, System
    from vivavoce.timeline import Clock, Span

_HOMES = {
    "Background": "streams",
    "Clip": "system",
    "Clock": "timeline",
    "Edit": "motion.edit",
    "Portrait": "system",
    "Session": "session",
    "Span": "timeline",
    "System": "system",
    "contact_sheet": "media.sheet",
    "load": "registry",
    "names": "registry",
    "read_audio": "media.read",
    "read_image": "media.read",
    "read_soundtrack": "media.read",
    "read_source": "media.read",
    "read_video": "media.read",
    "write_video": "media.write",
}

__all__ = [
    "Background",
    "Clip",
    "Clock",
    "Edit",
    "InputError",
    "InputWarning",
    "Portrait",
    "Session",
    "Span",
    "System",
    "contact_sheet",
    "load",
    "names",
    "read_audio",
    "read_image",
    "read_soundtrack",
    "read_source",
    "read_video",
    "write_video",
]


def __getattr__(name: str) -> Any:
    """Import the part that has ``name`` when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vivavoce' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"vivavoce.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
