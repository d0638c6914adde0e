"""Train TGDM's face painter on pairs of frames of one person (Xu et al. 2023).

``VIVAVOCE_FIRST_STAGE`` names the weights of the first stage, which is DiffTalk's (default
``runs/difftalk-first-stage``); the pairs are those of :mod:`vivavoce.recipes.fitted`. Reenactment and swapping are one
task: for half of a batch the source's picture is carried to the target's geometry, for the other half the carried face
lies in the target's own picture. In both the target frame is to come out; no adversary, no identity loss.

The small painter tells the clean latent as a change of the known picture, so it begins by leaving that as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.nets.difftalk import first_stage
from vivavoce.nets.textures import PainterConfig
from vivavoce.nets.tgdm import KEPT, LAST, Sight, Tgdm, TgdmConfig
from vivavoce.nets.vae import FirstStage
from vivavoce.recipes.first_stage import STAGE, decibels
from vivavoce.recipes.fitted import AROUND, Faces, batch, clips, some
from vivavoce.recipes.moda import JUDGES
from vivavoce.sampling.texturing import paint
from vivavoce.train.loop import Recipe
from vivavoce.train.tasks import Objective

PAINTER = PainterConfig(
    fold=4, width=48, multiples=(1, 2, 3), blocks=1, attention=(1, 2), head=48, embedding=192, groups=8, patch=2,
    dropout=0.0,
)  # fmt: skip
DRAWN = replace(PAINTER, attention=(0, 1, 2))  # all of the source's looks come by attention
BESIDE = {"carried": AROUND, "drawn": 0.1}  # weight of what is beside the face: hair is painted, or known
MARGINS = 12, 4, 8, 8  # latent pixels of 64 x 64 that are not painted: the face lies within the others
JUDGED = 32  # pairs of people kept out of training
UNNAMED = (32, 48)  # coefficients of identity and texture
STEPS = 1  # of judging, and of use: of people never seen, more make pictures worse
# Latent pixels over which errors are averaged once more: a colour that drifts is lost among edges that are a pixel off,
# and nothing about those can be learned.
COARSE = 4


@dataclass(frozen=True, slots=True)
class Chance:
    """What is left to chance."""

    hidden: float = 0.1  # share of pictures of which neither coefficients nor textures are told, for guidance
    noisiest: float = 0.75  # share of pictures that are pure noise, from which painting starts
    least: float = (
        0.02  # squared error of what is known up to which pictures count alike; above it by what share of it is mended
    )
    shaken: float = 0.15  # standard deviation of what is added to coefficients, lest they name the person


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one step teaches."""

    batch: Faces
    sight: Sight  # but for the textures, which each painter reads itself
    x: Float[Tensor, "b c y x"]  # noisy latents
    time: Float[Tensor, " b"]
    shown: Float[Tensor, " b"]  # 0 where neither coefficients nor textures are told
    wanted: Float[Tensor, "b c y x"]  # noise, or clean latents


class TgdmTask:
    """One player: the painter with its texture encoder."""

    def __init__(
        self, config: TgdmConfig, stage: FirstStage | None, judged: Callable[[], Faces], chance: Chance | None = None
    ) -> None:
        self.net = Tgdm(config)
        if stage is not None:
            self.net.first_stage = stage.requires_grad_(False).eval()
        self.judged, self.chance = judged, chance or Chance()

    def players(self) -> Mapping[str, nn.Module]:
        """See :class:`vivavoce.train.tasks.Task`."""
        return {"painter": self.net.painter}

    def objectives(self, batch: Faces, rng: torch.Generator) -> Iterator[Objective]:
        """See :class:`vivavoce.train.tasks.Task`."""
        loss, left = self.loss(self.lesson(batch, rng))
        yield Objective("painter", loss, None if left is None else {"of_known": left})

    def lesson(self, batch: Faces, rng: torch.Generator) -> Lesson:
        """A batch, and what is left to chance, for any painter of these networks' configuration."""
        net, chance, config = self.net, self.chance, self.net.config
        batch = windowed(batch, config)
        face = batch.face + chance.shaken * torch.randn(batch.face.shape, generator=rng)
        sight = net.sight(batch.known, batch.drawn, face, ())
        with torch.no_grad():
            latent = net.encode(batch.truth)
        shown = (torch.rand(len(latent), generator=rng) >= chance.hidden).float()
        noise = torch.randn(latent.shape, generator=rng)
        if config.predicts == "noise":
            step = torch.randint(0, config.steps, (len(latent),), generator=rng)
            x = config.table.noised(latent.flatten(2), noise.flatten(2), step).view(latent.shape)
            return Lesson(batch, sight, x, step.float(), shown, noise)
        t = torch.rand(len(latent), generator=rng).square()  # where noise hides nothing there is nothing to learn
        t = t * (torch.rand(len(t), generator=rng) >= chance.noisiest)
        x = torch.lerp(noise, latent, t[:, None, None, None])
        return Lesson(batch, sight, x, (1 - t) * LAST, shown, latent)

    def loss(self, lesson: Lesson) -> tuple[Float[Tensor, ""], float | None]:
        """What to descend and, of painters that change what is known, how much of its error is left."""
        sight, painter = lesson.sight, self.net.painter
        textures = painter.textures(lesson.batch.source)
        told = painter(lesson.x, lesson.time, sight.given, sight.face, textures, lesson.shown)
        if self.net.config.predicts == "noise":
            return (told - lesson.wanted).square().mean(), None
        weight = functional.avg_pool2d(lesson.batch.weight[:, None], self.net.config.factor)
        maps = sight.known + told, sight.known, lesson.wanted, weight
        fine, left = self._share(*maps)
        coarse, _ = self._share(*(functional.avg_pool2d(one, COARSE) for one in maps))
        return fine + coarse, left

    def _share(self, made: Tensor, known: Tensor, truth: Tensor, weight: Tensor) -> tuple[Tensor, float]:
        """How much of what is known's error is left, mean over pictures, and in all.

        In proportion, as heads that turned far, whose hair and background nobody can tell, would drown all others.
        """
        off, idle = (((one - truth).square() * weight).mean((1, 2, 3)) for one in (made, known))
        return (off / (idle + self.chance.least)).mean(), float(off.detach().sum() / idle.sum())

    def judge(self) -> Mapping[str, float]:
        """How alike painted faces of people kept out of training are to the target frames, in dB, after ``STEPS``.

        ``psnr`` weighs as training does; ``gain`` is how much more that is than what was carried. ``swapped``
        and ``swapped_gain`` are the same of pictures in which only the face was put in.
        """
        batch, made = windowed(self.judged(), self.net.config), list[Tensor]()
        for at in range(0, len(batch.truth), 4):
            part = Faces(*(getattr(batch, one.name)[at : at + 4] for one in fields(Faces)))
            made.append(self._drawn(part))
        kept = batch.drawn[:, KEPT].amax((1, 2)) > 0
        found = dict[str, float]()
        for name, chosen in (("", ~kept), ("swapped_", kept)):
            after, before = (psnr(one, batch, chosen) for one in (torch.cat(made), batch.known))
            found |= {f"{name}psnr": after, f"{name}gain": after - before}
        return found

    def _drawn(self, part: Faces) -> Float[Tensor, "b 3 s s"]:
        net = self.net
        with torch.no_grad():
            sight = net.sight(part.known, part.drawn, part.face, net.painter.textures(part.source))
            start = torch.randn(sight.known.shape, generator=torch.Generator().manual_seed(0))
            latent = paint(net, start, sight, steps=STEPS)
            change = net.decode(latent) - net.before(sight, part.known)
        return (part.known + change).clamp(-1, 1)

    def export(self, out: Path) -> Mapping[str, Any]:
        """See :class:`vivavoce.train.tasks.Task`."""
        figures = {name: round(value, 3) for name, value in self.judge().items()}
        count = sum(p.numel() for p in self.net.painter.parameters())
        self.net.half().save(out, f"# TGDM\n\nKept out of training: {figures}\n", kept_out=figures)
        return {"kept_out": figures, "parameters": count}


def windowed(batch: Faces, config: TgdmConfig) -> Faces:
    """The part of pictures that is painted."""
    rows, columns = config.window
    seen = {one.name: getattr(batch, one.name)[..., rows, columns] for one in fields(Faces) if one.name != "face"}
    weight = seen.pop("weight")
    return Faces(face=batch.face, weight=weight / weight.mean((1, 2), keepdim=True), **seen)


def psnr(made: Float[Tensor, "b 3 s s"], batch: Faces, chosen: Tensor) -> float:
    """Weighted likeness of the ``chosen`` pictures to the truth, in dB; 0 where there are none."""
    if not bool(chosen.any()):
        return 0.0
    off = (made[chosen] - batch.truth[chosen]).square().mean(1) * batch.weight[chosen]
    return decibels(off.mean((1, 2)))


def small(
    name: str = "tgdm", painter: PainterConfig = PAINTER, *, steps: int = 3600, count: int = 4, begins: str = "carried"
) -> Recipe:
    """The small painter: latents of the first stage, 64 x 64 x 3."""

    def data(seed: int) -> Callable[[int], Faces]:
        learned, around = clips()[0], BESIDE[begins]

        def batch_at(step: int) -> Faces:
            rng = np.random.default_rng((seed, step))
            return batch(some(learned, count, rng), rng, around=around)

        return batch_at

    return Recipe(
        name=name,
        task=lambda: task(painter, begins),
        data=data,
        steps=steps,
        lr={"painter": 1e-3},
        betas=(0.9, 0.99),
        weight_decay=0.01,
        warm_up=50,
        ema=0.995,
        judge_every=400,
        facts={"kept_out_people": JUDGES},
    )


def task(painter: PainterConfig, begins: str) -> TgdmTask:
    """Of the small painter."""
    stage = first_stage(os.environ.get(STAGE, "runs/difftalk-first-stage"))
    factor, (top, bottom, left, right) = stage.config.factor, MARGINS
    margins = (factor * top, factor * bottom, factor * left, factor * right)
    config = TgdmConfig(painter, stage.config, 64 * factor, "clean", margins=margins, unnamed=UNNAMED, begins=begins)
    return TgdmTask(config, stage, kept_out)


@cache
def kept_out() -> Faces:
    """Pairs to judge by."""
    rng = np.random.default_rng(0)
    return batch(some(clips()[1], JUDGED, rng, vary=False), rng)


def drawn() -> Recipe:
    """As published: the painter sees the drawn face alone, everything else of the source by texture attention."""
    return small("tgdm-drawn", DRAWN, begins="drawn")


def paper() -> Recipe:
    """The size inferred for the published painter, on pixels; for GPUs."""
    recipe = small("tgdm-paper", PainterConfig(), steps=400_000, count=8)
    return replace(
        recipe,
        task=lambda: TgdmTask(TgdmConfig(), None, kept_out),
        lr={"painter": 2e-5},
        betas=(0.9, 0.999),
        weight_decay=0.0,
        warm_up=5000,
        lr_floor=1.0,
        ema=0.9999,
        bf16=True,
        judge_every=5000,
    )
