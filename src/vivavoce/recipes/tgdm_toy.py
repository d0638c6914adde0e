"""TGDM's painter at a size that trains in seconds, on drawn faces that look aside and open their mouths as is told."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import torch

from vivavoce.nets.textures import PainterConfig
from vivavoce.nets.tgdm import SEEN, TgdmConfig
from vivavoce.nets.vae import FirstStage, FirstStageConfig
from vivavoce.recipes.fitted import Faces
from vivavoce.recipes.tgdm import TgdmTask
from vivavoce.train.loop import Recipe

STAGE = FirstStageConfig(kind="kl", width=8, multiples=(1,), blocks=1, attention=False, groups=4, fold=2, direct=True)
PAINTER = PainterConfig(
    given=3 + SEEN, coefficients=3, fold=2, width=16, multiples=(1, 2), blocks=1, attention=(1,), head=16,
    embedding=32, groups=4, dropout=0.0,
)  # fmt: skip
SIDE = 32


def toy() -> Recipe:
    """A painter of drawn faces: seconds long, no data, an untrained first stage."""

    def task() -> TgdmTask:
        torch.manual_seed(0)
        return TgdmTask(TgdmConfig(PAINTER, STAGE, SIDE, "clean"), FirstStage(STAGE), judged)

    @cache
    def judged() -> Faces:
        return pretend(16, np.random.default_rng(7))

    def data(seed: int) -> Callable[[int], Faces]:
        return lambda step: pretend(8, np.random.default_rng((seed, step)))

    return Recipe(
        name="toy-tgdm",
        task=task,
        data=data,
        steps=200,
        lr={"painter": 3e-3},
        warm_up=10,
        ema=0.98,
        judge_every=100,
        facts={"data": "faces drawn from ellipses"},
    )


def pretend(count: int, rng: np.random.Generator) -> Faces:
    """Drawn faces: the source's picture is known, the target's mouth, place and gaze are told and drawn in grey.

    In half of them only the face is the source's, and the target's background stays.
    """
    found = [_pair(rng, kept=n < count // 2) for n in range(count)]
    return Faces(*(torch.from_numpy(np.stack(one)).float() for one in zip(*found, strict=True)))


def _pair(rng: np.random.Generator, *, kept: bool) -> tuple[np.ndarray, ...]:
    looks, behind = rng.uniform(60, 255, (2, 3)), rng.uniform(0, 255, (2, 3))
    here, there = rng.uniform(-1, 1, (2, 3))
    source = _face(here, looks, behind[0])
    truth = _face(there, looks, behind[1 if kept else 0])
    inside = _face(there, np.full((2, 3), 255), np.zeros(3), flat=True) > 0
    known = np.where(inside, source, truth) if kept else source
    grey = _face(there, np.full((2, 3), 128), np.zeros(3))
    mask = inside[..., :1].astype(np.float32)
    places = np.indices((SIDE, SIDE)).transpose(1, 2, 0) / SIDE * 2 - 1
    drawn = np.concatenate([grey / 127.5 - 1, places * mask, mask, 0 * mask, 0 * mask, (1 - mask) * kept], 2)
    own = _face(here, np.full((2, 3), 255), np.zeros(3), flat=True)[..., :1] > 0
    seen = np.concatenate([source / 127.5 - 1, places * own, own], 2)
    weight = np.where(inside[..., 0], 1.0, 0.2)
    maps = (truth / 127.5 - 1, known / 127.5 - 1, drawn, seen)
    return (*(one.transpose(2, 0, 1) for one in maps), there, weight / weight.mean())


def _face(told: np.ndarray, looks: np.ndarray, behind: np.ndarray, *, flat: bool = False) -> np.ndarray:
    """A face moved aside by the first number told, whose mouth is open by the second and which looks by the third."""
    picture = np.full((SIDE, SIDE, 3), behind).astype(np.uint8)
    x, y = SIDE // 2 + round(3 * told[0]), SIDE // 2
    cv2.ellipse(picture, (x, y), (SIDE // 3, SIDE // 2 - 2), 0, 0, 360, looks[0].tolist(), -1)
    if not flat:
        dark = (0.3 * looks[1]).tolist()
        cv2.ellipse(picture, (x, y + 7), (SIDE // 6, 1 + round(1.5 + 1.5 * told[1])), 0, 0, 360, dark, -1)
        for eye in (-5, 5):
            cv2.circle(picture, (x + eye + round(2 * told[2]), y - 4), 2, dark, -1)
    return picture
