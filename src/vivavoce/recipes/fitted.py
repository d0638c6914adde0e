"""What TGDM's recipe learns from: pairs of frames of one person with the 3D face fitted to each.

Frames are those of the recipe ``if-mdm-renderer`` (``VIVAVOCE_FACES``); faces are fitted to them into
``VIVAVOCE_FITTED`` (default ``runs/fitted``) when a run first needs them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce.data import fitted
from vivavoce.data.fitted import Fitted
from vivavoce.data.pairs import held
from vivavoce.errors import InputError
from vivavoce.face.morphable import Coefficients, Morphable, recombine, swapped
from vivavoce.nets.tgdm import coefficients, shown, signed, source_of
from vivavoce.recipes import implicit
from vivavoce.render.pivot import Pivot, Rgb, exchanged, reenacted
from vivavoce.render.texture import features
from vivavoce.render.textured import render

FOLDER = "VIVAVOCE_FITTED"
FRAMES = 30  # of a clip that are fitted, evenly apart
CANDIDATES = 3  # frames that the source is chosen from
SHARE = 0.5  # a speaker with n frames is met n ** SHARE times as often as one with a single frame
# What pairs are seen in as well, so that there seem to be more people: deviations of the logarithm of light and of its
# colour, the most that is cut off the square, and how far it moves, as shares of its side.
LIGHT, HUE, ZOOM, SHIFT = 0.2, 0.08, 0.12, 0.04
TINT, MISJUDGED = 0.25, 0.1  # deviations of the logarithm of light: of what sources are tinted by, of the light's fit
AROUND, FACE, FEATURE = 0.02, 0.3, 6.0  # weights: beside the face, on it, and added in the middle of mouth and eyes


@dataclass(frozen=True, slots=True)
class Faces:
    """Pictures to paint, and what the painter is shown of each; see :mod:`vivavoce.nets.tgdm`."""

    truth: Float[Tensor, "b 3 s s"]  # in [-1, 1]
    known: Float[Tensor, "b 3 s s"]
    drawn: Float[Tensor, "b 9 s s"]
    source: Float[Tensor, "b 6 s s"]
    face: Float[Tensor, "b k"]
    weight: Float[Tensor, "b s s"]  # how much each place counts


def folder() -> Path:
    """Where the fitted faces are."""
    return Path(os.environ.get(FOLDER, "runs/fitted"))


@cache
def clips() -> tuple[tuple[Fitted, ...], tuple[Fitted, ...]]:
    """Clips to learn from and clips to judge by; what is not fitted yet is fitted first.

    Raises:
        InputError: there is nothing to fit to, or not of all the people needed.
    """
    files, place, bases = implicit.faces(), folder(), Morphable.pretrained()
    if not (place / "complete").exists():
        fitted.fit_all([*files[0], *files[1]], place, bases, frames=FRAMES)
        (place / "complete").touch()
    parts = _parts(bases)
    found = [tuple(fitted.load(place / file.name, held(file), parts) for file in side) for side in files]
    learned, aside = (tuple(clip for clip in side if len(clip)) for side in found)
    if not learned or not aside:
        raise InputError(f"{place} has no fitted faces of people to learn from and to judge by")
    return learned, aside


def _parts(bases: Morphable) -> dict[str, tuple[int, ...]]:
    """What is in a row of coefficients."""
    people, looks = len(bases.identity), len(bases.texture)
    return {
        "identity": (people,), "expression": (32,), "eyelids": (2,), "rotation": (3,), "translation": (2,),
        "scale": (), "gaze": (2, 2), "light": (9, 3), "texture": (looks,),
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """Two frames of a clip."""

    clip: Fitted
    source: int
    target: int
    mirrored: bool = False
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)  # what both frames' colours are multiplied by
    zoom: float = 1.0  # what both frames are enlarged by
    shift: tuple[float, float] = (0.0, 0.0)  # where they are cut off on the left and above, shares of the side

    def picture(self, n: int) -> Rgb:
        """Frame ``n``."""
        rgb = self.clip.picture(n, mirrored=self.mirrored)
        if self.zoom != 1 or self.shift != (0, 0):
            x, y = self._offset(rgb.shape[0])
            move = self.zoom * np.array([[1, 0, -x], [0, 1, -y]])
            rgb = cv2.warpAffine(rgb, move, rgb.shape[:2], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        return rgb if self.gain == (1, 1, 1) else _times(rgb, np.array(self.gain))

    def face(self, n: int) -> Coefficients:
        """The face in :meth:`picture`."""
        face = self.clip.face(n, mirrored=self.mirrored)
        face = face.framed(self.zoom, *self._offset(self.clip.picture(n, mirrored=False).shape[0]))
        return replace(face, light=face.light * np.array(self.gain))

    def _offset(self, side: int) -> tuple[float, float]:
        return self.shift[0] * side, self.shift[1] * side


def _times(picture: Rgb, gain: np.ndarray) -> Rgb:
    return np.clip(np.rint(picture * gain), 0, 255).astype(np.uint8)


def some(found: Sequence[Fitted], count: int, rng: np.random.Generator, *, vary: bool = True) -> list[Pair]:
    """``count`` pairs by chance; if they are to ``vary``, in other light, from nearer, half of them in a mirror.

    Of some frames the one whose head is turned most alike is the source: what is hidden in it nobody can paint.
    """
    pairs = []
    for n in rng.choice(len(found), count, p=_chances(tuple(found))):
        target, *among = (int(k) for k in rng.choice(len(found[n]), min(1 + CANDIDATES, len(found[n])), replace=False))
        turns = [found[n].face(k, mirrored=False).rotation for k in (target, *among)]
        source = among[int(np.argmin([np.square(turn - turns[0]).sum() for turn in turns[1:]]))]
        pairs.append(_varied(found[n], source, target, rng) if vary else Pair(found[n], source, target))
    return pairs


def _varied(clip: Fitted, source: int, target: int, rng: np.random.Generator) -> Pair:
    # Rather darker than brighter: what is white already would be cut off.
    gain = np.exp(LIGHT * rng.standard_normal() - LIGHT / 2 + HUE * rng.standard_normal(3))
    cut = ZOOM * rng.random()
    x, y = cut / 2 + SHIFT * rng.uniform(-1, 1, 2)
    red, green, blue = (float(one) for one in gain)
    mirrored = bool(rng.random() < 0.5)
    return Pair(clip, source, target, mirrored, (red, green, blue), 1 / (1 - cut), (float(x), float(y)))


def _chances(found: tuple[Fitted, ...]) -> np.ndarray:
    frames = Counter[str]()
    for clip in found:
        frames[clip.frames.speaker] += len(clip)
    weight = np.array([len(clip) * frames[clip.frames.speaker] ** (SHARE - 1) for clip in found])
    return weight / weight.sum()


def reenacting(pair: Pair) -> tuple[Pivot, Float[Tensor, "6 s s"], Coefficients]:
    """The source frame with the target frame's face."""
    picture, source, wanted = pair.picture(pair.source), pair.face(pair.source), pair.face(pair.target)
    bases = Morphable.pretrained()
    pivot = reenacted(picture, source, recombine(source, wanted, (*_MOVED, "light")), bases)
    return pivot, source_of(picture, render(source, bases, picture.shape[0])), wanted


_MOVED = ("expression", "eyelids", "rotation", "translation", "scale", "gaze")


def swapping(pair: Pair, rng: np.random.Generator) -> tuple[Pivot, Float[Tensor, "6 s s"], Coefficients]:
    """The target frame whose face is the source frame's, filmed in another light, of which the fit is a little wrong.

    Between different people the fits of light and skin are both a little wrong, and only what is around the face tells
    what the colours are to be.
    """
    source, target = pair.face(pair.source), pair.face(pair.target)
    tint = np.exp(TINT * rng.standard_normal() + TINT / 3 * rng.standard_normal(3))
    picture = _times(pair.picture(pair.source), tint)
    source = replace(source, light=source.light * tint)
    wrong = np.exp(MISJUDGED * rng.standard_normal() + MISJUDGED / 3 * rng.standard_normal(3))
    wanted = swapped(source, target)
    wanted = replace(wanted, light=wanted.light * wrong)
    bases = Morphable.pretrained()
    pivot = exchanged(picture, source, pair.picture(pair.target), wanted, bases)
    return pivot, source_of(picture, render(source, bases, picture.shape[0])), wanted


def batch(pairs: Sequence[Pair], rng: np.random.Generator, *, swaps: float = 0.5, around: float = AROUND) -> Faces:
    """Pairs as the painter sees them; the first share ``swaps`` of them with the target's picture around the face.

    What is beside the face counts ``around``.
    """
    found = []
    for n, pair in enumerate(pairs):
        pivot, source, wanted = swapping(pair, rng) if n < round(swaps * len(pairs)) else reenacting(pair)
        truth = pair.picture(pair.target)
        face = coefficients(wanted, truth.shape[0])
        weight = torch.from_numpy(weighed(wanted, pivot, around))
        found.append((signed(truth), signed(pivot.known), shown(pivot), source, face, weight))
    truth, known, drawn, source, face, weight = (torch.stack(one) for one in zip(*found, strict=True))
    return Faces(truth, known, drawn, source, face, weight)


def weighed(face: Coefficients, pivot: Pivot, around: float) -> Float[np.ndarray, "s s"]:
    """How much each place of a picture counts: ``around`` the face, on it, mouth and eyes most; 1 on average."""
    points, side = Morphable.pretrained().landmarks(face), len(pivot.kept)
    out = np.where(pivot.drawn.mask, FACE, around) + FEATURE * features(points, side)
    return (out / out.mean()).astype(np.float32)
