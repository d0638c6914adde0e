"""What DiffTalk's recipes learn from: lower faces of the training clips, and batches of them.

``VIVAVOCE_DATA`` names the recordings and ``VIVAVOCE_MOTION`` the clips prepared from them; faces are cut into
``VIVAVOCE_LOWERED`` (default ``runs/lowered``) when a run first needs them.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vivavoce import weights
from vivavoce.data import lowered
from vivavoce.data.clips import recordings
from vivavoce.data.lowered import Lowered
from vivavoce.data.prepare import Prepared
from vivavoce.errors import InputError
from vivavoce.face import bend, lower
from vivavoce.face.lower import MIRRORED
from vivavoce.face.model import FaceModel
from vivavoce.media.read import read_video
from vivavoce.recipes.interior import DATA
from vivavoce.recipes.moda import CLEAN, JUDGES, clips, heard, in_step
from vivavoce.timeline import Clock

FOLDER = "VIVAVOCE_LOWERED"
SIDE = 256  # pixels of a picture
FRAMES = 75  # of a clip that are kept, the first ones
MOST = 600  # frames of a speaker, of whom no further clips are taken then
APART, CANDIDATES = 8, 3  # frames between a picture and its reference, and how many the reference is chosen from
SHARE = 0.5  # a speaker with n frames is met n ** SHARE times as often as one with a single frame


def folder() -> Path:
    """Where the faces are."""
    return Path(os.environ.get(FOLDER, "runs/lowered"))


@cache
def faces() -> tuple[tuple[Lowered, ...], tuple[Lowered, ...]]:
    """Clips to learn from and clips to judge by; what is not cut yet is cut first. Pictures stay JPEG files.

    Raises:
        InputError: there is nothing to cut them from, or not of all the people needed.
    """
    place = folder()
    if not (place / "complete").exists():
        _cut(place)
        (place / "complete").touch()
    found = [lowered.load(file) for file in sorted(place.glob("*.npz"))]
    aside = tuple(clip for clip in found if clip.speaker in JUDGES)
    learned = tuple(clip for clip in found if clip.speaker not in JUDGES)
    if not learned or not aside:
        raise InputError(f"{place} needs faces of people to learn from and of {', '.join(JUDGES[:3])} ... to judge by")
    return learned, aside


def _cut(place: Path) -> None:
    from vivavoce.speech.encoder import PhoneEncoder

    encoder = PhoneEncoder.pretrained()
    mark = hashlib.sha256(weights.path("phones").read_bytes()).hexdigest()
    chosen = _few(in_step([clip for clip in clips() if clip.kind == "talking"], encoder, mark))
    files = {one.name: one.path for one in recordings(Path(os.environ.get(DATA, "data")), split="train")}
    filmed = ((clip, _frames(files[clip.name], clip)) for clip in chosen if clip.name in files)

    def hear(clip: Prepared) -> np.ndarray:
        return np.asarray(heard(clip, CLEAN, encoder, mark).audio)

    lowered.cut_all(filmed, hear, place, side=SIDE, frames=FRAMES)


def _few(found: list[Prepared]) -> Iterator[Prepared]:
    """Clips until their speaker has MOST frames."""
    frames = Counter[str]()
    for clip in found:
        if frames[clip.speaker] < MOST:
            frames[clip.speaker] += min(FRAMES, int(clip.valid.sum()))
            yield clip


def _frames(path: Path, clip: Prepared) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for picture, landmarks, seen in zip(read_video(path, Clock().fps), clip.landmarks, clip.valid, strict=False):
        if seen:
            yield picture.permute(1, 2, 0).contiguous().numpy(), landmarks


def chances(found: tuple[Lowered, ...]) -> np.ndarray:
    """How likely each clip is to be met; sums to 1."""
    frames = Counter[str]()
    for clip in found:
        frames[clip.speaker] += len(clip.ends)
    weight = np.array([len(clip.ends) * frames[clip.speaker] ** (SHARE - 1) for clip in found])
    return weight / weight.sum()


@dataclass(frozen=True, slots=True)
class Chosen:
    """A frame of a clip."""

    clip: Lowered
    index: int
    mirrored: bool = False

    @property
    def picture(self) -> UInt8[np.ndarray, "s s 3"]:
        """RGB."""
        rgb = self.clip.picture(self.index)
        return rgb[:, ::-1] if self.mirrored else rgb

    def hidden(self, model: FaceModel) -> Bool[np.ndarray, "s s"]:
        """What of the picture is painted anew."""
        return self._seen(lower.region(self.clip.place(self.index), SIDE, model))

    def band(self, model: FaceModel) -> Bool[np.ndarray, "s s"]:
        """What of the picture DiffTalk hides."""
        return self._seen(lower.band(self.clip.place(self.index), SIDE, model))

    def _seen(self, inside: Bool[np.ndarray, "s s"]) -> Bool[np.ndarray, "s s"]:
        return inside[:, ::-1] if self.mirrored else inside

    @property
    def camera(self) -> Float[np.ndarray, "2 4"]:
        """See :func:`vivavoce.face.bend.camera`."""
        found = bend.camera(self.clip.place(self.index))
        return bend.mirrored(found) if self.mirrored else found

    @property
    def landmarks(self) -> Float[np.ndarray, "68 2"]:
        """``landmarks68/1`` of the picture."""
        points = self.clip.landmarks[self.index]
        return np.stack([SIDE - points[list(MIRRORED), 0], points[list(MIRRORED), 1]], 1) if self.mirrored else points


def some(found: tuple[Lowered, ...], count: int, rng: np.random.Generator, *, mirror: bool = True) -> list[Chosen]:
    """``count`` frames by chance, people as :func:`chances` says, half of them seen in a mirror."""
    clips = rng.choice(len(found), count, p=chances(found))
    return [
        Chosen(found[n], int(rng.integers(len(found[n].ends))), mirrored=mirror and bool(rng.random() < 0.5))
        for n in clips
    ]


def another(one: Chosen, rng: np.random.Generator) -> Chosen:
    """Of some frames of the clip, the one whose head is turned most alike: the reference.

    None is close by, if that can be: its mouth would be nearly the same, and nothing would have to be listened to.
    """
    count = len(one.clip.ends)
    away = np.flatnonzero(np.abs(np.arange(count) - one.index) >= APART)
    among = rng.choice(away, CANDIDATES) if len(away) else np.arange(count)
    turned = one.clip.places[among, 1:10] - one.clip.places[one.index, 1:10]
    return Chosen(one.clip, int(among[np.square(turned).sum(1).argmin()]), one.mirrored)


def signed(pictures: list[UInt8[np.ndarray, "h w 3"]]) -> Float[Tensor, "b 3 h w"]:
    """Pictures as networks see them, in [-1, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
