"""``animate`` and ``reenact``: read, load, stream, write, report."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vivavoce.cli.progress import one_line, progress, say, warnings_told
from vivavoce.errors import InputError
from vivavoce.media.picture import is_picture
from vivavoce.media.read import (
    PORTRAITS,
    Contents,
    Soundtrack,
    contents,
    read_audio,
    read_image,
    read_soundtrack,
    read_source,
)
from vivavoce.media.sheet import contact_sheet, moving_box, watched
from vivavoce.media.write import check_target, write_video
from vivavoce.motion.edit import Edit
from vivavoce.registry import BUILT_IN, DRIVEN, load
from vivavoce.streams import Background
from vivavoce.system import Film, Source, System
from vivavoce.timeline import Clock, Pcm

SHEET_FRAMES = 16
PIECE = 16_000  # samples of silence at a time
# Options handed to the system under their own name; one it does not have is refused there.
OPTIONS = (
    "size", "crop", "face", "device", "backend", "weights", "speech", "steps", "stitch", "precision", "batch",
    "region", "retarget", "close_lips", "multiplier", "motion_mean", "motion_std",
    "progressive", "anchor", "lips",
)  # fmt: skip
CHANGES = ("pose_scale", "pose", "mouth_gain", "blink_rate", "gaze")  # options that are fields of Edit


@dataclass(frozen=True, slots=True)
class Voice:
    """What is heard: by the model, and by the viewer."""

    pcm: Iterable[Pcm]
    soundtrack: Soundtrack | None
    seconds: float | None


def animate(arguments: argparse.Namespace) -> int:
    """``vivavoce animate PORTRAIT AUDIO -o OUT.mp4``."""
    check(arguments, arguments.portrait, arguments.audio, *([arguments.drive] if arguments.drive else []))
    told: list[str] = []
    with warnings_told(told, quiet=arguments.json):
        found = contents(arguments.audio)
        if arguments.system in DRIVEN and arguments.system not in BUILT_IN:
            raise InputError(f"{arguments.system!r} follows a video, not speech: use vivavoce reenact")
        asked = {
            "emotion": arguments.emotion,
            "emotion_model": arguments.emotion_model,
            "emotion_strength": arguments.emotion_strength,
        }
        asked |= {f"guidance_{name}": scale for name, scale in (arguments.guidance or {}).items()}
        if arguments.emotion_strength is not None and arguments.emotion is None:
            raise InputError("--emotion-strength needs an emotion to be strong in: give --emotion too")
        if arguments.emotion_model is not None and arguments.emotion is None:
            raise InputError("--emotion-model reads the words of an emotion: give --emotion too")
        talker = _following(load(arguments.system, **given_options(arguments, **asked)), arguments)
        voice = heard(arguments.audio, found, talker.clock)
        return produce(talker, read_source(arguments.portrait, talker.clock.fps), voice, arguments, told)


def _following(talker: System, arguments: argparse.Namespace) -> System:
    """``talker``, led by the driver that was asked for, if any."""
    from vivavoce.systems.driven import DRIVABLE, driven

    if arguments.drive is None:
        if arguments.drive_parts is not None:
            raise InputError("--drive-parts needs something that leads: give --drive FILE too")
        return talker
    if not is_picture(arguments.drive) and not contents(arguments.drive, accepted=PORTRAITS).picture:
        raise InputError(f"{arguments.drive} has no picture in it: what leads must be a video or a picture")
    return driven(talker, arguments.drive, DRIVABLE if arguments.drive_parts is None else arguments.drive_parts)


def reenact(arguments: argparse.Namespace) -> int:
    """``vivavoce reenact PORTRAIT DRIVING.mp4 -o OUT.mp4``."""
    check(arguments, arguments.portrait, arguments.driving)
    told: list[str] = []
    with warnings_told(told, quiet=arguments.json):
        found = contents(arguments.driving)
        if arguments.system not in DRIVEN:
            raise InputError(f"{arguments.system!r} follows no video; what does is {' or '.join(DRIVEN)}")
        if not found.picture:
            raise InputError(f"{arguments.driving} has no picture in it: the driving file must be a video")
        if not found.sound and found.seconds is None:
            raise InputError(f"{arguments.driving} has no sound and does not say how long it is")
        options = given_options(arguments, relative=arguments.relative, driving=arguments.driving)
        talker = load(arguments.system, **options)
        voice = _whole(arguments.driving, found, talker.clock)
        return produce(talker, read_source(arguments.portrait, talker.clock.fps), voice, arguments, told)


def check(arguments: argparse.Namespace, *inputs: Path) -> None:
    """Refuse before the long work what would fail after it."""
    check_target(arguments.output)
    outputs = [arguments.output]
    if arguments.sheet:
        outputs.append(arguments.sheet)
        if arguments.sheet.suffix.lower() != ".png" or not arguments.sheet.parent.is_dir():
            raise InputError(f"the sheet must be a .png file in a folder that exists, not {arguments.sheet}")
    given_twice(outputs, inputs)


def given_twice(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse to overwrite what is read."""
    for output in outputs:
        for given in inputs:
            if output.exists() and given.exists() and output.samefile(given):
                raise InputError(f"{output} is both input and output; it would be overwritten")


def given_options(arguments: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """The options the user gave, for the system's ``assemble``; what was not given is the system's to choose."""
    changes = {name: getattr(arguments, name, None) for name in CHANGES}
    if getattr(arguments, "freeze_head", False):
        changes["pose_scale"] = 0.0
    changes = {name: value for name, value in changes.items() if value is not None}
    options = {name: getattr(arguments, name, None) for name in OPTIONS}
    for photo in ("teeth", "reference"):
        path = getattr(arguments, photo, None)
        options[photo] = read_image(path) if path else None
    options |= more
    options["edit"] = Edit(**changes) if changes else None
    return {name: value for name, value in options.items() if value is not None}


def heard(path: Path, found: Contents, clock: Clock) -> Voice:
    """The speech in ``path`` as the model and as the viewer hear it."""
    return Voice(read_audio(path, clock.sample_rate), read_soundtrack(path), found.seconds)


def _whole(path: Path, found: Contents, clock: Clock) -> Voice:
    """The sound of a film, with silence up to its end where the sound is shorter or not there."""
    voice = heard(path, found, clock) if found.sound else Voice((), None, found.seconds)
    return replace(voice, pcm=lasting(voice.pcm, math.ceil((found.seconds or 0) * clock.sample_rate)))


def lasting(sound: Iterable[Pcm], samples: int) -> Iterator[Pcm]:
    """``sound``, then silence until there were ``samples`` samples."""
    given = 0
    for pcm in sound:
        given += len(pcm)
        yield pcm
    while given < samples:
        silence = torch.zeros(min(PIECE, samples - given))
        given += len(silence)
        yield silence


def produce(talker: System, source: Source | Film, voice: Voice, arguments: argparse.Namespace, told: list[str]) -> int:
    """Stream into the file and report. Rendering and encoding overlap: they run in two threads."""
    began = time.perf_counter()
    with torch.inference_mode():
        portrait = talker.portrait(source)
    for warning in portrait.warnings:
        told.append(warning)
        if not arguments.json:
            say(f"warning: {warning}")
    prepared = time.perf_counter()
    total = math.ceil(voice.seconds * talker.clock.fps) if voice.seconds else None
    first: list[float] = []
    with (
        progress(arguments.output.name, total, quiet=arguments.json) as tell,
        closing(Background(talker.stream(portrait, voice.pcm, seed=arguments.seed))) as clips,
    ):

        def on_frame(done: int) -> None:
            if not first:
                first.append(time.perf_counter() - prepared)
            tell(done)

        shown, frames = watched(clips, SHEET_FRAMES) if arguments.sheet else (clips, None)
        written = write_video(arguments.output, shown, talker.clock, sound=voice.soundtrack, on_frame=on_frame)
    took = time.perf_counter() - prepared
    if frames:
        shown_frames = frames()
        contact_sheet(arguments.sheet, shown_frames, moving_box(shown_frames))
    _report(
        {
            "output": str(arguments.output),
            "sheet": str(arguments.sheet) if arguments.sheet else None,
            "system": talker.name,
            "seed": arguments.seed,
            "frames": written.frames,
            "seconds": written.seconds,
            "fps": float(talker.clock.fps),
            "width": written.width,
            "height": written.height,
            "prepare_seconds": round(prepared - began, 3),
            "first_frame_seconds": round(first[0], 3),
            "compute_seconds": round(took, 3),
            "frames_per_second": round(written.frames / took, 2),
            "real_time_factor": round(took / written.seconds, 4),
            "warnings": told,
        },
        as_json=arguments.json,
    )
    return 0


def _report(figures: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    line = (
        "{output}: {seconds:.2f} s, {frames} frames of {width}x{height}, made in {compute_seconds:.1f} s "
        "({frames_per_second:.1f} fps, real-time factor {real_time_factor:.2f})"
    )
    sys.stdout.write(one_line(line.format(**figures)) + "\n")
    if figures["sheet"]:
        sys.stdout.write(one_line(f"{figures['sheet']}: contact sheet") + "\n")
