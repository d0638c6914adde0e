"""``dub``: a film says something else. Its lips are drawn anew, the rest stays, the old sound goes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from vivavoce.cli.produce import Voice, check, given_options, heard, lasting, produce
from vivavoce.cli.progress import warnings_told
from vivavoce.errors import InputError
from vivavoce.media.container import VIDEO_KINDS
from vivavoce.media.read import Contents, contents
from vivavoce.media.reel import Reel
from vivavoce.registry import DRIVEN, load
from vivavoce.timeline import Clock, Pcm


def dub(arguments: argparse.Namespace) -> int:
    """``vivavoce dub VIDEO AUDIO -o OUT.mp4``."""
    check(arguments, arguments.video, arguments.audio)
    told: list[str] = []
    with warnings_told(told, quiet=arguments.json):
        film, speech = contents(arguments.video, accepted=VIDEO_KINDS), contents(arguments.audio)
        if not film.picture:
            raise InputError(f"{arguments.video} has no picture in it: what is dubbed must be a video ({VIDEO_KINDS})")
        if arguments.length == "video" and film.seconds is None:
            raise InputError(f"{arguments.video} does not say how long it is; use --length audio")
        if arguments.system in DRIVEN:
            raise InputError(f"{arguments.system!r} follows a video, not speech; it cannot dub")
        talker = load(arguments.system, **given_options(arguments))
        said = heard(arguments.audio, speech, talker.clock)
        if arguments.length == "video":
            said = _as_long_as(film, said, talker.clock)
        return produce(talker, Reel(arguments.video, talker.clock.fps), said, arguments, told)


def _as_long_as(film: Contents, said: Voice, clock: Clock) -> Voice:
    """The speech cut to the length of the film, or silent from its own end on."""
    seconds = film.seconds or 0.0
    samples = math.ceil(seconds * clock.sample_rate)
    return replace(said, pcm=_first(lasting(said.pcm, samples), samples), seconds=seconds)


def _first(sound: Iterable[Pcm], samples: int) -> Iterator[Pcm]:
    left = samples
    for pcm in sound:
        yield pcm[:left]
        left -= len(pcm)
        if left <= 0:
            return
