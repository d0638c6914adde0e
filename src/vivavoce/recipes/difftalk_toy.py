"""DiffTalk's denoiser at a size that trains in seconds, on drawn faces whose mouths open as far as is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import torch

from vivavoce.nets.difftalk import DiffTalkConfig
from vivavoce.nets.talk_conditions import TalkConfig, reach
from vivavoce.nets.unet import UNetConfig
from vivavoce.nets.vae import FirstStage, FirstStageConfig
from vivavoce.recipes.difftalk import PAINTING, DiffTalkTask, Losses
from vivavoce.recipes.first_stage import LIPS
from vivavoce.recipes.talk import Judged, Talk
from vivavoce.train.loop import Recipe


def toy() -> Recipe:
    """A denoiser of drawn faces: seconds long, no data, an untrained first stage."""
    stage = FirstStageConfig(
        kind="kl", width=8, multiples=(1,), blocks=1, attention=False, groups=4, fold=4, direct=True
    )
    talk = TalkConfig(features=6, window=2, frames=2, seen=8, landmarks=26, centre=16.0, unit=8.0, width=16, lips=2)
    unet = UNetConfig(context=32, width=16, multiples=(1, 2), blocks=1, attention=(1,), head=8, groups=4, patch=1)
    painting = replace(PAINTING, window=(0, 8, 0, 8), bends=False)
    config = DiffTalkConfig(stage, unet, talk, painting=painting)

    def made() -> FirstStage:
        torch.manual_seed(0)
        return FirstStage(stage)

    @cache
    def judged() -> Judged:
        talk_of = pretend(8, np.random.default_rng(7), talk)
        return Judged(talk_of, ((talk_of.speech, talk_of.readings),), torch.tensor([1.0, 0.0]))

    def data(seed: int) -> Callable[[int], Talk]:
        def batch_at(step: int) -> Talk:
            found = pretend(8, np.random.default_rng((seed, step)), talk)
            return Talk(found.speech, found.readings) if step < 40 else found

        return batch_at

    return Recipe(
        name="toy-difftalk",
        task=lambda: DiffTalkTask(config, made(), Losses(), judged),
        data=data,
        steps=200,
        lr={"denoiser": 3e-3},
        warm_up=10,
        ema=0.98,
        judge_every=100,
        facts={"data": "faces drawn from ellipses"},
    )


def pretend(count: int, rng: np.random.Generator, talk: TalkConfig, side: int = 32) -> Talk:
    """Drawn faces; how far the mouth is open is what is said."""
    frames, others, painted, points, openings = [], [], [], [], rng.uniform(0, 1, (count, 2))
    openings[:, 1] = (openings[:, 0] + 0.5) % 1
    for pair in openings:
        looks = rng.uniform(60, 255, (3, 3))
        for opening, found in zip(pair, (frames, others), strict=True):
            picture = np.full((side, side, 3), looks[0]).astype(np.uint8)
            cv2.ellipse(picture, (side // 2, side // 2), (side // 3, side // 2 - 2), 0, 0, 360, looks[1].tolist(), -1)
            axes = (side // 5, 1 + round(opening * side / 5))
            cv2.ellipse(picture, (side // 2, 2 * side // 3), axes, 0, 0, 360, (0.3 * looks[2]).tolist(), -1)
            found.append(picture)
        lower = np.zeros((side, side), np.float32)
        lower[side // 2 :] = 1
        painted.append(lower)
        where = np.full((68, 2), side / 2, np.float32)
        where[list(LIPS)] = np.array([side / 2, 2 * side / 3]) + rng.uniform(-side / 6, side / 6, (20, 2))
        points.append(where * 256 / side)
    before, after = reach(talk)
    speech = 0.1 * rng.standard_normal((count, before + after + 1, talk.features))
    speech[:, :, 0] += 4 * openings[:, :1] - 2
    readings = np.stack([4 * openings[:, 0] - 2, np.zeros(count)], 1)
    stacks = (torch.from_numpy(np.stack(found)) for found in (frames, [f * np.uint8(1) for f in frames], others))
    first, hidden, other = stacks
    inside = torch.from_numpy(np.stack(painted))
    hidden = (hidden * (1 - inside[..., None])).to(torch.uint8)
    told_so = (torch.from_numpy(speech).float(), torch.from_numpy(readings).float())
    return Talk(*told_so, first, hidden, other, torch.from_numpy(np.stack(points)), inside)
