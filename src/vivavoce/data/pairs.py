"""Pairs of frames of one person, cut out alike, in which only the person moves.

What :mod:`vivavoce.recipes.implicit` learns from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vivavoce.data import crops
from vivavoce.data.crops import Crops

SIZE, TURN, SHIFT = 0.07, 4.0, 0.08  # deviations of views: of the logarithm of sizes, of degrees, of half widths
BRIGHT, TINT = 0.15, 0.05  # and of their light: of the logarithms of its strength, and of each colour's on top
FURTHEST = 0.2  # half widths that a view is shifted


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two frames of one person each."""

    pictures: UInt8[Tensor, "b 2 3 s s"]
    landmarks: Float[Tensor, "b 2 478 2"]  # in half widths
    person: Float[Tensor, "b 2 m m"]  # 1 where a person is
    painted: int  # so many of them, the first; the others teach what codes tell, which costs a tenth


@cache
def held(file: Path) -> Crops:
    """Frames of a clip, kept in memory as the JPEG files they are."""
    return crops.load(file)


def paired(files: tuple[Path, ...], count: int, rng: np.random.Generator, views: int = 0) -> Pairs:
    """``count`` people by chance, a clip of each and two frames of it; half of the pairs as seen in a mirror.

    With one of ``views`` both frames of a pair are seen in one other way (nearer, turned, aside), with two each in its
    own, and in its own light.
    """
    people: dict[str, list[Path]] = {}
    for file in files:
        people.setdefault(held(file).speaker, []).append(file)
    names, chosen = sorted(people), []
    for _ in range(count):
        theirs = people[names[rng.integers(len(names))]]
        clip = held(theirs[rng.integers(len(theirs))])
        two = _pair(clip, list(two_of(len(clip.ends), rng)), mirrored=bool(rng.random() < 0.5))
        if views:
            seen = [_view(rng) for _ in range(views)]
            each = [_seen(two[0][n], two[1][n], two[2][n], seen[n % views]) for n in range(2)]
            two = tuple(np.stack(one) for one in zip(*each, strict=True))
        if views == 2:
            two = (np.stack([_lit(picture, rng) for picture in two[0]]), *two[1:])
        chosen.append(two)
    pictures, landmarks, person = (np.stack(one) for one in zip(*chosen, strict=True))
    people_here = torch.from_numpy(person).float() / 255
    return Pairs(torch.from_numpy(pictures), torch.from_numpy(landmarks), people_here, painted=count)


def beside(painted: Pairs, told: Pairs) -> Pairs:
    """``painted``, and pairs that only teach what codes tell."""
    both = {
        name: torch.cat([getattr(painted, name), getattr(told, name)]) for name in ("pictures", "landmarks", "person")
    }
    return Pairs(**both, painted=painted.painted)


def two_of(frames: int, rng: np.random.Generator) -> tuple[int, int]:
    """Which two of a clip's frames are a pair: not the same, unless there is only one."""
    first, second = rng.choice(frames, 2, replace=frames < 2)
    return int(first), int(second)


def _pair(clip: Crops, two: list[int], *, mirrored: bool) -> tuple[np.ndarray, ...]:
    pictures, landmarks, person = np.stack([clip.picture(n) for n in two]), clip.landmarks[two], clip.person[two]
    if not mirrored:
        return pictures, landmarks, person
    # Landmarks change sides too, but each still lies on the same spot of the skin in both frames, which is all that
    # counts here.
    return pictures[..., ::-1].copy(), landmarks * np.array([-1, 1], np.float32), person[..., ::-1].copy()


def _view(rng: np.random.Generator) -> Float[np.ndarray, "2 3"]:
    """Places in half widths -> where they are seen: sizes, turns and shifts by chance."""
    size, turn = np.exp(SIZE * rng.standard_normal()), np.radians(TURN) * rng.standard_normal()
    shift = np.clip(SHIFT * rng.standard_normal(2), -FURTHEST, FURTHEST)
    c, s = size * np.cos(turn), size * np.sin(turn)
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


def _lit(picture: UInt8[np.ndarray, "3 s s"], rng: np.random.Generator) -> UInt8[np.ndarray, "3 s s"]:
    """A picture in other light."""
    light = np.exp(BRIGHT * rng.standard_normal() + TINT * rng.standard_normal((3, 1, 1))).astype(np.float32)
    return np.clip(picture * light, 0, 255).astype(np.uint8)


def _seen(
    picture: UInt8[np.ndarray, "3 s s"],
    landmarks: Float[np.ndarray, "478 2"],
    person: UInt8[np.ndarray, "m m"],
    view: Float[np.ndarray, "2 3"],
) -> tuple[np.ndarray, ...]:
    """A frame in another view; what lies beyond its edges is taken to go on like them."""

    def moved(image: np.ndarray) -> np.ndarray:
        half = image.shape[0] / 2
        matrix, middle = view.copy(), np.full(2, half - 0.5)
        matrix[:, 2] = half * view[:, 2] + middle - view[:, :2] @ middle
        return cv2.warpAffine(
            image, matrix, image.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

    turned = moved(np.ascontiguousarray(picture.transpose(1, 2, 0))).transpose(2, 0, 1)
    return turned, (landmarks @ view[:, :2].T + view[:, 2]).astype(np.float32), moved(person)
