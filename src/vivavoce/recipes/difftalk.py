"""Train DiffTalk's denoiser and what it is told, on latents of a first stage that is trained already.

``VIVAVOCE_FIRST_STAGE`` names the first stage's weights (default ``runs/difftalk-first-stage``); the faces are those of
:mod:`vivavoce.recipes.lowered`.

The small denoiser tells the clean latent, as a change of the reference, so it begins by painting the reference. What is
heard is learned first and without pictures, which costs little: the first channels of what the sound becomes are to be
readings of the lips. While mouths are learned, most of them are told their true readings, as the sound leaves so much
open that a painter who only hears learns slowly and blurs; the others are told what the sound foretells, as in use.
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
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.nets.difftalk import WINDOW, DiffTalk, DiffTalkConfig, Painting, first_stage
from vivavoce.nets.talk_conditions import TalkConditions, TalkConfig, windowed
from vivavoce.nets.unet import UNetConfig
from vivavoce.nets.vae import FirstStage, FirstStageConfig
from vivavoce.recipes.first_stage import LIPS, STAGE, decibels, hill
from vivavoce.recipes.lowered import faces, some
from vivavoce.recipes.talk import READINGS, Judged, Talk, bent, heard_only, kept_out, pieces, places, shown, signed
from vivavoce.sampling.painting import clean, paint, seen
from vivavoce.speech.encoder import CHANNELS
from vivavoce.train.loop import Recipe
from vivavoce.train.tasks import Objective

STEPS = 4  # of judging
TALK = TalkConfig(features=len(CHANNELS), window=8, landmarks=26, centre=128.0, unit=64.0, lips=READINGS)
PAINTING = Painting("clean", hidden="region", told="upper", window=WINDOW, bends=True)
UNET = UNetConfig(
    context=TALK.context, width=48, multiples=(1, 2, 3), blocks=1, attention=(1, 2), head=24, groups=8, patch=2
)


@dataclass(frozen=True, slots=True)
class Losses:
    """How much each part counts, and what is left to chance."""

    paint: float = 1.0  # squared difference of latents
    lips: float = 0.3  # squared difference of foretold readings of the lips
    around: float = 0.1  # weight of latent pixels outside the painted region; 1 inside
    mouth: float = 3.0  # added in the middle of the mouth
    known: float = 0.9  # share of frames told their true readings
    wrong: float = 0.1  # standard deviation of what is added to those
    noisiest: float = 0.3  # share of frames that are pure noise, from which painting starts
    worn: float = 0.1  # and to references, finely and coarsely: in use they were painted, and errors must not grow
    deaf: float = 0.4  # standard deviation of what is added to features, for people and rooms never heard


class DiffTalkTask:
    """One player: the denoiser with its conditions."""

    def __init__(self, config: DiffTalkConfig, stage: FirstStage, losses: Losses, judged: Callable[[], Judged]) -> None:
        self.net = DiffTalk(config)
        self.net.first_stage = stage.requires_grad_(False).eval()
        self.losses, self.judged = losses, judged
        self.learned = nn.ModuleDict({"unet": self.net.unet, "conditions": self.net.conditions})

    def players(self) -> Mapping[str, nn.Module]:
        """See :class:`vivavoce.train.tasks.Task`."""
        return {"denoiser": self.learned}

    def objectives(self, batch: Talk, rng: torch.Generator) -> Iterator[Objective]:
        """See :class:`vivavoce.train.tasks.Task`."""
        net, losses, config = self.net, self.losses, self.net.config
        speech = batch.speech + losses.deaf * torch.randn(batch.speech.shape, generator=rng)
        heard = net.conditions.heard(windowed(speech, config.conditions))
        parts: dict[str, Tensor] = {}
        if number := config.conditions.lips:
            parts["lips"] = (heard[:, :number] - batch.readings).square().mean()
        if batch.frames is not None:
            parts["paint"] = self._painted(batch, heard, rng)
        loss = torch.stack([getattr(losses, name) * value for name, value in parts.items()]).sum()
        yield Objective("denoiser", loss, {name: float(value.detach()) for name, value in parts.items()})

    def _painted(self, batch: Talk, heard: Float[Tensor, "b w"], rng: torch.Generator) -> Tensor:
        config, losses = self.net.config, self.losses
        if number := config.conditions.lips:
            known = batch.readings + losses.wrong * torch.randn(batch.readings.shape, generator=rng)
            told = torch.rand(len(heard), 1, generator=rng) < losses.known
            first = torch.where(told, known, heard[:, :number])
            heard = torch.cat([first, heard[:, number:]], 1)
            batch = bent(batch, first, config) if config.painting.bends else batch
        latent, hidden, other = latents(self.net, batch)
        other = worn(other, losses.worn, rng)
        context = self.net.conditions.token(heard, places(config, batch))
        given = seen(self.net, hidden, other)
        noise = torch.randn(latent.shape, generator=rng)
        weight = self._weight(batch, latent)
        if config.painting.predicts == "noise":
            table = config.schedule.table()
            step = torch.randint(0, len(table.betas), (len(latent),), generator=rng)
            x = table.noised(latent.flatten(2), noise.flatten(2), step).view(latent.shape)
            return (self.net.unet(x, step.float(), given, context) - noise).square().mean()
        t = torch.rand(len(latent), generator=rng).square()  # where noise hides nothing there is nothing to learn
        t = t * (torch.rand(len(t), generator=rng) >= losses.noisiest)
        x = torch.lerp(noise, latent, t[:, None, None, None])
        made = clean(self.net, x, t, hidden, other, context)
        return ((made - latent).square() * weight).mean()

    def _weight(self, batch: Talk, latent: Tensor) -> Float[Tensor, "b 1 h w"]:
        assert batch.places is not None  # noqa: S101  (frames come with places)
        factor, (top, _, left, _) = self.net.config.first_stage.factor, self.net.config.painting.window
        inside = functional.avg_pool2d(batch.painted[:, None], factor)
        scale = self.net.config.side / 256
        mouth = batch.places[:, list(LIPS)] * scale / factor - torch.tensor([left, top])
        weight = self.losses.around + (1 - self.losses.around) * inside
        weight = weight + self.losses.mouth * hill(mouth, *latent.shape[2:])
        return weight / weight.mean()

    def judge(self) -> Mapping[str, float]:
        """How well faces of people kept out of training are painted from what they said.

        ``psnr`` is that of a hill over the mouth, in dB, after ``STEPS`` steps; ``gain`` how much more that is than
        the reference's; ``below`` how much less than the first stage alone has. ``foretold`` is the correlation of the
        opening of the lips with the foretold one; mean over clips.
        """
        judged = self.judged()
        made, truth, other, ceiling, near = (list[Tensor]() for _ in range(5))
        for part in pieces(judged.talk, 8):
            for found, one in zip((made, truth, other, ceiling, near), self._drawn(part), strict=True):
                found.append(one)
        real, mouth = torch.cat(truth), torch.cat(near)

        def psnr(found: list[Tensor]) -> float:
            off = (torch.cat(found).clamp(-1, 1) - real).square().mean(1, keepdim=True)
            return decibels((off * mouth).sum((1, 2, 3)) / mouth.sum((1, 2, 3)))

        figures = {"psnr": psnr(made)}
        figures |= {"gain": figures["psnr"] - psnr(other), "below": psnr(ceiling) - figures["psnr"]}
        if self.net.config.conditions.lips:
            figures["foretold"] = foretold(self.net.conditions, judged)
        return figures

    def _drawn(self, part: Talk) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What is painted, the truth, the reference, what the first stage makes of the truth, and the mouth's hill."""
        net, config = self.net, self.net.config
        assert part.frames is not None and part.others is not None and part.places is not None  # noqa: S101, PT018
        frames, other, where = signed(part.frames), signed(part.others), part.places
        heard = net.conditions.heard(windowed(part.speech, config.conditions))
        if config.painting.bends:
            part = bent(part, heard[:, : config.conditions.lips], config)
        latent, hidden, reference = latents(net, part)
        context = net.conditions.token(heard, places(config, part))
        start = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
        drawn = net.first_stage.decode(paint(net, start, hidden, reference, context, steps=STEPS))
        top, left = (config.first_stage.factor * edge for edge in config.painting.window[::2])
        mouth = where[:, list(LIPS)] * config.side / 256 - torch.tensor([left, top])
        size = (drawn.shape[2], drawn.shape[3])
        return drawn, frames, other, net.first_stage.decode(latent), hill(mouth, *size)

    def export(self, out: Path) -> Mapping[str, Any]:
        """See :class:`vivavoce.train.tasks.Task`."""
        figures = {name: round(value, 3) for name, value in self.judge().items()}
        count = sum(p.numel() for p in self.learned.parameters())
        self.net.half().save(out, f"# DiffTalk\n\nKept out of training: {figures}\n", kept_out=figures)
        return {"kept_out": figures, "parameters": count}


def worn(latent: Float[Tensor, "b c h w"], most: float, rng: torch.Generator) -> Float[Tensor, "b c h w"]:
    """Latents with noise of the finest and of a coarse scale, of a strength up to ``most`` each."""
    coarse = torch.randn((*latent.shape[:2], latent.shape[2] // 8 + 1, latent.shape[3] // 8 + 1), generator=rng)
    wide = functional.interpolate(coarse, latent.shape[2:], mode="bicubic", align_corners=False)
    amount = most * torch.rand((2, len(latent), 1, 1, 1), generator=rng)
    return latent + amount[0] * torch.randn(latent.shape, generator=rng) + amount[1] * wide


def latents(net: DiffTalk, batch: Talk) -> tuple[Tensor, Tensor, Tensor]:
    """Of the frames, of the frames masked, and of the references."""
    assert batch.frames is not None and batch.hidden is not None and batch.others is not None  # noqa: S101, PT018
    with torch.no_grad():
        found = net.first_stage.encode(torch.cat([signed(one) for one in (batch.frames, batch.hidden, batch.others)]))
    first, second, third = found.chunk(3)
    return first, second, third


def foretold(conditions: TalkConditions, judged: Judged) -> float:
    """Correlation of the opening of the lips with what the sound foretells of it; mean over clips."""
    found = []
    for speech, readings in judged.clips:
        told = conditions.heard(windowed(speech, conditions.config))[:, : readings.shape[1]]
        pair = torch.stack([told @ judged.opening, readings @ judged.opening])
        found.append(float(torch.corrcoef(pair)[0, 1].detach()))
    return float(np.nanmean(found))


def small(
    name: str = "difftalk",
    painting: Painting = PAINTING,
    talk: TalkConfig = TALK,
    unet: UNetConfig = UNET,
    *,
    hearing: int = 200,
    steps: int = 4000,
    batch: int = 4,
    losses: Losses | None = None,
) -> Recipe:
    """The small denoiser that ships with the package. The first ``hearing`` of ``steps`` have no pictures."""
    config = DiffTalkConfig(FirstStageConfig(), replace(unet, context=talk.context), talk, painting=painting)

    @cache
    def whole() -> tuple[DiffTalkConfig, FirstStage]:
        stage = first_stage(os.environ.get(STAGE, "runs/difftalk-first-stage"))
        return replace(config, first_stage=stage.config), stage

    @cache
    def judged() -> Judged:
        return kept_out(whole()[0])

    def data(seed: int) -> Callable[[int], Talk]:
        learned, sized = faces()[0], whole()[0]

        def batch_at(step: int) -> Talk:
            rng = np.random.default_rng((seed, step))
            if step < hearing:
                return heard_only(some(learned, 32 * batch, rng), talk)
            return shown(some(learned, batch, rng), sized, rng)

        return batch_at

    return Recipe(
        name=name,
        task=lambda: DiffTalkTask(*whole(), losses or Losses(), judged),
        data=data,
        steps=steps,
        lr={"denoiser": 1e-3},
        betas=(0.9, 0.99),
        weight_decay=0.01,
        warm_up=50,
        ema=0.995,
        judge_every=500,
    )


def audio_only() -> Recipe:
    """Ablation: told what is said, and nothing else; nothing is seen."""
    talk = replace(TALK, landmarks=0)
    return small("difftalk-audio", replace(PAINTING, told="none", sees=()), talk)


def with_landmarks() -> Recipe:
    """Ablation: told what is said and landmarks; nothing is seen."""
    return small("difftalk-landmarks", replace(PAINTING, sees=()))


def with_reference() -> Recipe:
    """Ablation: told everything, and shown the reference alone."""
    return small("difftalk-reference", replace(PAINTING, sees=("reference",)))


def without_smoothing() -> Recipe:
    """Ablation: no attention over neighbouring frames."""
    return small("difftalk-plain-audio", talk=replace(TALK, smooth=False))


def paper() -> Recipe:
    """The published denoiser on our own speech features; needs a first stage with three channels, and GPUs."""
    talk = replace(TALK, landmarks=39, centre=0.0, unit=1.0, lips=0)
    recipe = small("difftalk-paper", Painting(), talk, UNetConfig(), hearing=0, steps=400_000)
    slow = replace(recipe, lr={"denoiser": 6.4e-5}, clip_norm=0.1, warm_up=1000, ema=0.9999)
    return replace(slow, bf16=True, judge_every=5000)
