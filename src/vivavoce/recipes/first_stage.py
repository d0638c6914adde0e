"""Train a first stage: pictures of lower faces to latents of 64 x 64 x 3 and back, for DiffTalk's denoiser.

The faces are those of :mod:`vivavoce.recipes.lowered`. The small one is a Gaussian (KL) first stage whose latents begin
as the picture made small and whose pictures begin as latents made large, so that layers learn only what is to be added;
it sees the part of the picture that is painted anew, with what surrounds it. Latents are made standard at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vivavoce.face.lower import INNER, OUTER, POINTS
from vivavoce.nets.critic import Critic, CriticConfig, deceit, hinge, unlikeness
from vivavoce.nets.difftalk import FIRST_STAGE, WINDOW, first_stage, save_first_stage
from vivavoce.nets.vae import FirstStage, FirstStageConfig
from vivavoce.recipes.lowered import SIDE, Chosen, faces, some
from vivavoce.recipes.moda import JUDGES
from vivavoce.train.loop import Recipe
from vivavoce.train.tasks import Objective

SMALL = FirstStageConfig(kind="kl", width=40, multiples=(1,), blocks=1, attention=False, groups=8, fold=4, direct=True)
STAGE = "VIVAVOCE_FIRST_STAGE"  # names trained weights
JUDGED = 96  # pictures of people kept out of training
LIPS = tuple(range(len(POINTS) - len(OUTER) - len(INNER), len(POINTS)))  # of the 68 landmarks
PEAK = 2.0  # of pictures in [-1, 1], for decibels


@dataclass(frozen=True, slots=True)
class Losses:
    """How much each part counts."""

    picture: float = 1.0  # mean absolute difference
    edges: float = 1.0  # and of neighbouring pixels' differences
    divergence: float = 1e-5  # of the latents' distributions from the normal one, per number
    likeness: float = 0.0  # unlikeness in the layers of a critic that learns alongside; 0: there is none
    deceit: float = 0.0  # how little it is taken in
    book: float = 1.0  # distance of latents and the codebook's entries, for a codebook
    mouth: float = 3.0  # added to the weight 1 of a pixel in the middle of the mouth


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures, and where their mouths are."""

    pictures: UInt8[Tensor, "b h w 3"]
    lips: Float[Tensor, "b n 2"]  # pixels


class FirstStageTask:
    """One player, or two where there is a critic."""

    def __init__(
        self,
        stage: FirstStage,
        losses: Losses,
        judged: Callable[[], Pictures],
        *,
        critic: CriticConfig | None = None,
        keeps_latents: bool = False,
    ) -> None:
        """``keeps_latents`` leaves the way to latents as it is and learns the way back only."""
        self.stage, self.losses, self.judged, self.keeps_latents = stage, losses, judged, keeps_latents
        self.critic = Critic(critic) if critic else None
        if keeps_latents:
            self.stage.encoder.requires_grad_(False)
            self.stage.quant_conv.requires_grad_(False)

    def players(self) -> Mapping[str, nn.Module]:
        """See :class:`vivavoce.train.tasks.Task`."""
        return {"stage": self.stage} | ({"critic": self.critic} if self.critic else {})

    def objectives(self, batch: Pictures, rng: torch.Generator) -> Iterator[Objective]:
        """See :class:`vivavoce.train.tasks.Task`."""
        real = batch.pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
        latent, parts = self._through(real, rng)
        drawn = self.stage.draw(latent)
        weight = 1 + self.losses.mouth * hill(batch.lips, real.shape[2], real.shape[3])
        weight = weight / weight.mean((1, 2, 3), keepdim=True)
        parts["picture"] = ((drawn - real).abs() * weight).mean()
        parts["edges"] = edges(drawn - real, weight)
        if self.critic:
            yield Objective("critic", hinge(self.critic(real / 2 + 0.5), self.critic(drawn.detach() / 2 + 0.5)))
            opinions = self.critic(drawn / 2 + 0.5)
            parts["likeness"] = unlikeness(self.critic(real / 2 + 0.5), opinions)
            parts["deceit"] = deceit(opinions)
        loss = torch.stack([getattr(self.losses, name) * value for name, value in parts.items()]).sum()
        yield Objective("stage", loss, {name: float(value.detach()) for name, value in parts.items()})

    def _through(self, real: Float[Tensor, "b 3 h w"], rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Latents to draw from, and what they cost."""
        if self.stage.config.kind == "kl":
            told = self.stage.distribution(real)
            noise = torch.randn(told.mean.shape, generator=rng, device=told.mean.device)
            cost = {"divergence": told.divergence().mean() / told.mean[0].numel()}
            return told.sample(noise), {} if self.keeps_latents else cost
        latent = self.stage.encode(real)
        near = self.stage.snap(latent.detach()).latent
        apart = (near - latent.detach()).square().mean() + 0.25 * (near.detach() - latent).square().mean()
        return latent + (near - latent).detach(), {"book": apart}

    def judge(self) -> Mapping[str, float]:
        """Likeness of pictures of people kept out of training after encoding and decoding, in dB.

        ``psnr`` is of the whole picture, ``mouth`` of a hill over the mouth, ``edge`` of neighbouring pixels'
        differences: how sharp it is.
        """
        found: dict[str, list[Tensor]] = {"psnr": [], "mouth": [], "edge": []}
        batch = self.judged()
        for at in range(0, len(batch.pictures), 8):
            real = batch.pictures[at : at + 8].permute(0, 3, 1, 2).float() / 127.5 - 1
            drawn = self.stage.decode(self.stage.encode(real)).clamp(-1, 1)
            near = hill(batch.lips[at : at + 8], real.shape[2], real.shape[3])
            off = (drawn - real).square()
            found["psnr"].append(off.mean((1, 2, 3)))
            found["mouth"].append((off.mean(1, keepdim=True) * near).sum((1, 2, 3)) / near.sum((1, 2, 3)))
            found["edge"].append((drawn - real).diff(dim=3).square().mean((1, 2, 3)))
        return {name: decibels(torch.cat(values)) for name, values in found.items()}

    def export(self, out: Path) -> Mapping[str, Any]:
        """See :class:`vivavoce.train.tasks.Task`. New latents of a Gaussian first stage are made standard first."""
        figures = {name: round(value, 3) for name, value in self.judge().items()}
        if self.stage.config.kind == "kl" and not self.keeps_latents:
            pictures = self.judged().pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
            latents = torch.cat([self.stage.encode(some) for some in pictures.split(8)])
            self.stage.normalise(latents.mean((0, 2, 3)), latents.std((0, 2, 3)))
        save_first_stage(self.stage, out, f"# First stage\n\nKept out of training: {figures}\n", kept_out=figures)
        return {"kept_out": figures, "parameters": sum(p.numel() for p in self.stage.parameters())}


def decibels(squared: Float[Tensor, " n"]) -> float:
    """Mean peak signal-to-noise ratio of pictures in [-1, 1] with these mean squared differences."""
    return float((10 * (PEAK**2 / squared.detach().clamp_min(1e-8)).log10()).mean())


def hill(points: Float[Tensor, "b n 2"], height: int, width: int) -> Float[Tensor, "b 1 h w"]:
    """1 in the middle of points (pixels), half as much where the widest of them lie."""
    middle = points.mean(1)
    wide = ((points[..., 0].amax(1) - points[..., 0].amin(1)) / 2).clamp_min(2.0)
    x = torch.arange(width, device=points.device) + 0.5 - middle[:, :1]
    y = torch.arange(height, device=points.device) + 0.5 - middle[:, 1:]
    return torch.exp2(-(x[:, None].square() + y[:, :, None].square()) / wide[:, None, None].square())[:, None]


def edges(off: Float[Tensor, "b c h w"], weight: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Weighted mean absolute difference of what neighbouring pixels are off by: what is lost of edges."""
    across = (off.diff(dim=3).abs() * weight[..., 1:]).mean()
    return (across + (off.diff(dim=2).abs() * weight[:, :, 1:]).mean()) / 2


def framed(chosen: list[Chosen]) -> Pictures:
    """The part of the frames that is painted anew, with what surrounds it."""
    top, bottom, left, right = (4 * edge for edge in WINDOW)
    pictures = np.stack([one.picture[top:bottom, left:right] for one in chosen])
    lips = np.stack([one.landmarks[list(LIPS)] for one in chosen]) - [left, top]
    return Pictures(torch.from_numpy(np.ascontiguousarray(pictures)), torch.from_numpy(lips).float())


@cache
def kept_out() -> Pictures:
    """Pictures to judge by."""
    return framed(some(faces()[1], JUDGED, np.random.default_rng(0), mirror=False))


def small(
    name: str = FIRST_STAGE,
    config: FirstStageConfig = SMALL,
    losses: Losses | None = None,
    *,
    critic: CriticConfig | None = None,
    steps: int = 260,
) -> Recipe:
    """The first stage that the small denoiser works on."""

    def data(seed: int) -> Callable[[int], Pictures]:
        learned = faces()[0]
        return lambda step: framed(some(learned, 6, np.random.default_rng((seed, step))))

    return Recipe(
        name=f"difftalk-{name}",
        task=lambda: FirstStageTask(FirstStage(config), losses or Losses(), kept_out, critic=critic),
        data=data,
        steps=steps,
        lr={"stage": 2e-3},
        betas=(0.9, 0.99),
        weight_decay=0.0,
        warm_up=30,
        ema=0.99,
        judge_every=130,
        facts={"side": SIDE, "kept_out_people": JUDGES},
    )


def sharp() -> Recipe:
    """The same latents drawn sharper: the way back of the first stage that the environment names learns on by a critic.

    It may run while a denoiser learns the latents, and takes the first stage's place afterwards.
    """
    losses = Losses(likeness=0.5, deceit=0.02)
    recipe = small("first-stage-sharp", losses=losses, steps=400)

    def task() -> FirstStageTask:
        stage = first_stage(os.environ.get(STAGE, "runs/difftalk-first-stage")).requires_grad_(True)
        return FirstStageTask(stage, losses, kept_out, critic=CriticConfig(scales=1, first=16), keeps_latents=True)

    return replace(recipe, task=task, lr={"stage": 1e-3, "critic": 4e-4}, betas=(0.5, 0.9))


def paper() -> Recipe:
    """The published first stage: VQ, f = 4. Where no GPU is, a step takes a minute."""
    losses = Losses(divergence=0.0, likeness=1.0, deceit=0.1, mouth=0.0)
    critic = CriticConfig(scales=1, first=64)
    recipe = small("first-stage-paper", FirstStageConfig(), losses, critic=critic, steps=200_000)
    rates = {"stage": 3.6e-5, "critic": 3.6e-5}
    return replace(recipe, lr=rates, betas=(0.5, 0.9), warm_up=1000, ema=0.9999, bf16=True, judge_every=5000)


def toy() -> Recipe:
    """A first stage of drawn faces 32 pixels wide: seconds long, no data."""
    config = replace(SMALL, width=16)

    @cache
    def judged() -> Pictures:
        return pretend(8, np.random.default_rng(7))

    return Recipe(
        name="toy-difftalk-first-stage",
        task=lambda: FirstStageTask(FirstStage(config), Losses(), judged),
        data=lambda seed: lambda step: pretend(8, np.random.default_rng((seed, step))),
        steps=100,
        lr={"stage": 3e-3},
        weight_decay=0.0,
        warm_up=10,
        ema=0.98,
        judge_every=50,
        facts={"data": "faces drawn from ellipses"},
    )


def pretend(count: int, rng: np.random.Generator, side: int = 32) -> Pictures:
    """Drawn faces."""
    from vivavoce.recipes import keypoint

    drawn = keypoint.pretend(count, rng, side)
    lips = (drawn.guides[:, 0, -6:] + 1) * side / 2
    return Pictures(drawn.pictures[:, 0].permute(0, 2, 3, 1).contiguous(), lips)
