"""What IF-MDM's second stage learns from: clips as codes, with the sound that goes with them and what the lips did.

``VIVAVOCE_CODES`` (default ``runs/codes``) names the folder of codes (:mod:`vivavoce.data.codes`), ``VIVAVOCE_MOTION``
that of the prepared clips of the same names, whose sound is heard as in :mod:`vivavoce.recipes.moda`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from vivavoce import weights
from vivavoce.data.batches import CLEAN, Batch, Cut, Take, Variant, apart, feed, quicken
from vivavoce.data.codes import Codes, load
from vivavoce.data.prepare import Prepared
from vivavoce.errors import InputError
from vivavoce.face.model import FaceModel
from vivavoce.motion import lips
from vivavoce.motion.codes import AFTER, BEFORE
from vivavoce.motion.space import IMPLICIT
from vivavoce.recipes.moda import EXPRESSION, JUDGES, VARIANTS, clips, heard, in_step
from vivavoce.system import AudioEncoder

FOLDER = "VIVAVOCE_CODES"
JUDGED = 200  # frames of a clip that are judged
FEWEST_JUDGED = 60


@dataclass(frozen=True, slots=True)
class Spoken:
    """One clip heard in one way, with what its lips did."""

    take: Take
    opening: Float32[np.ndarray, " t"]  # of the lips, in face widths, as measured on the face


def folder() -> Path:
    """Where codes are on this machine."""
    return Path(os.environ.get(FOLDER, "runs/codes"))


def coded() -> dict[str, Codes]:
    """All codes by the name of their clip.

    Raises:
        InputError: there are none.
    """
    found = {codes.name: codes for codes in map(load, sorted(folder().glob("*.npz")))}
    if not found:
        raise InputError(f"{folder()} has no motion codes; extract some, and name their folder in {FOLDER}")
    return found


@cache
def spoken() -> tuple[tuple[Spoken, ...], tuple[Spoken, ...]]:
    """Clips to train on, each in every variant, the clean one first, and clips to judge by, heard clean.

    Raises:
        InputError: there are no codes, no prepared clips, or none that are both.
    """
    from vivavoce.speech.encoder import PhoneEncoder

    encoder, codes = PhoneEncoder.pretrained(), coded()
    mark = hashlib.sha256(weights.path("phones").read_bytes()).hexdigest()
    learn, judge = apart([c for c in in_step(clips(), encoder, mark) if c.name in codes], JUDGES)
    if not learn:
        raise InputError(f"none of the clips with codes in {folder()} is among the prepared ones of the training split")

    def say(clip: Prepared, variant: Variant) -> Spoken:
        return said(clip, codes[clip.name], variant, encoder, mark)

    judges = [begun(say(clip, CLEAN)) for clip in judge if clip.kind == "talking"]
    judges = [one for one in judges if len(one.opening) >= FEWEST_JUDGED]
    return tuple(say(clip, variant) for clip in learn for variant in VARIANTS), tuple(judges)


def said(clip: Prepared, codes: Codes, variant: Variant, encoder: AudioEncoder, mark: str) -> Spoken:
    """``clip`` as ``variant`` hears it, with its codes instead of the motion of the face."""
    one = heard(clip, variant, encoder, mark)
    opening = one.rows[:, EXPRESSION] @ lips.opening(FaceModel.pretrained()).numpy()
    rows = quicken(codes.codes, variant.speed)
    seen = quicken(codes.valid[:, None].astype(np.float32), variant.speed)[:, 0] > 0.99
    count = min(len(rows), len(one.rows))
    audio = None if one.audio is None else one.audio[:count]
    reference = np.zeros(IMPLICIT.dim, np.float32)
    take = Take(one.speaker, rows[:count], reference, one.valid[:count] & seen[:count], audio, -1)
    return Spoken(take, opening[:count].astype(np.float32))


def begun(one: Spoken) -> Spoken:
    """The beginning of ``one``: enough to judge by."""
    take, count = one.take, JUDGED
    audio = None if take.audio is None else take.audio[:count]
    take = replace(take, rows=take.rows[:count], valid=take.valid[:count], audio=audio)
    return Spoken(take, one.opening[:count])


def pretend(count: int, seed: int, frames: int = 90) -> tuple[Spoken, ...]:
    """Codes of nobody that follow the first feature here and there. For trying the run, not for use."""
    rng, out = np.random.default_rng(seed), []
    for index in range(count):
        audio = rng.standard_normal((frames, 4)).astype(np.float32)
        rows = 0.05 * rng.standard_normal((frames, IMPLICIT.dim)).cumsum(0).astype(np.float32)
        rows = np.tanh(0.3 * (rows + np.where(np.arange(IMPLICIT.dim) % 5, 0, audio[:, :1])))
        zero = np.zeros(IMPLICIT.dim, np.float32)
        take = Take(f"nobody {index}", rows.astype(np.float32), zero, np.ones(frames, bool), audio, -1)
        out.append(Spoken(take, audio[:, 0]))
    return tuple(out)


def fed(learn: Callable[[], Sequence[Spoken]], length: int, size: int) -> Callable[[int], Callable[[int], Batch]]:
    """The data of a recipe: chunks with as much sound around them as a draft looks at."""

    def data(seed: int) -> Callable[[int], Batch]:
        takes = [one.take for one in learn()]
        audio = next(one.audio.shape[1] for one in takes if one.audio is not None)
        return feed(takes, audio, Cut(past=BEFORE, length=length + AFTER, size=size))(seed)

    return data
