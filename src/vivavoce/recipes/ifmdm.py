"""Train IF-MDM's second stage: a diffusion transformer that speaks the codes of a trained first stage.

What they are learned from is said in :mod:`vivavoce.recipes.spoken`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from vivavoce.data.batches import Batch, Take
from vivavoce.motion.chunks import ChunkGenerator, MotionControl, suited
from vivavoce.motion.codes import BEFORE, USUAL, CodeModel, save, statistics, surroundings
from vivavoce.nets.dit import NAMES, Config, Given, Known, compact
from vivavoce.recipes.spoken import Spoken, fed, pretend, spoken
from vivavoce.sampling.diffusion import losses as diffusion_losses
from vivavoce.sampling.paths import along
from vivavoce.system import Features, Portrait
from vivavoce.timeline import Span
from vivavoce.train.loop import Recipe
from vivavoce.train.tasks import Objective

RIDGE = 1e-3  # of the lip reading, as a share of the codes' mean variance
DRAFT_RIDGE = 3.0  # per frame of data, on features of unit variance
LEAST_SPREAD = 0.05  # share of the largest deviation that each number is at least normalised by
ROOM = 1.1  # how much further than seen in training a code may go


@dataclass(frozen=True, slots=True)
class Losses:
    """What is learned beside noise or velocity, how much it counts, and what is hidden how often."""

    lips: float = 1.0  # the error's share along the reading of the lips, once more
    bound: float = 1.0  # the variational bound, which teaches the variances
    hint_noise: float = 0.1  # standard deviations of noise on the hint, so that small errors do not grow
    silent: float = 0.1  # share of chunks with both ways of the sound hidden, as the guidance needs
    known: float = 0.7  # share of chunks whose first frames are known, if the network is to go on from such
    still: float = 0.15  # share of those in which these stand still, as before the sound begins
    drop: Mapping[str, float] = field(
        default_factory=lambda: {"heard": 0.1, "said": 0.1, "hint": 0.1, "mean": 0.3, "std": 0.3}
    )


# The release hides both ways of the sound independently, which leaves 9 % for what guidance compares with.
PUBLISHED = Losses(lips=0.0, hint_noise=0.0, silent=0.0, known=0.0, drop=dict.fromkeys(NAMES, 0.3))


class CodeTask:
    """Diffusion or flow matching of chunks of codes, with condition dropout."""

    def __init__(
        self,
        config: Config,
        learn: Sequence[Spoken],
        judges: Sequence[Spoken],
        losses: Losses,
        *,
        draft: bool = False,
        normalised: bool = True,
    ) -> None:
        """``judges`` are never learned from. Without ``normalised`` codes are seen as they are, as published."""
        self.model, self.losses, self.judges = CodeModel(config, draft=draft), losses, judges
        if normalised:
            measure(self.model, [one.take for one in learn])
        read_lips(self.model, learn)
        if draft:
            self.model.foretelling.copy_(foretelling(self.model, [one.take for one in learn]))
        along_lips = self.model.reading * self.model.std
        self.lips = along_lips / along_lips.norm().clamp(min=1e-12)

    def players(self) -> Mapping[str, nn.Module]:
        """See :class:`vivavoce.train.tasks.Task`."""
        return {"dit": self.model}

    def objectives(self, batch: Batch, rng: torch.Generator) -> Iterator[Objective]:
        """See :class:`vivavoce.train.tasks.Task`."""
        model, length = self.model, self.model.config.length
        rows, valid = batch.rows[:, :length], batch.valid[:, :length]
        hint, (before, after) = batch.conditions.past[:, -1], model.around
        first = BEFORE - before
        audio = batch.conditions.audio[:, first : BEFORE + length + after]
        mean, std = statistics(
            torch.cat([hint[:, None], rows], dim=1), torch.cat([torch.ones_like(valid[:, :1]), valid], dim=1)
        )
        shown = shown_at_random(batch.conditions.present[:, 0], self.losses, rng)
        # Clips without sound are learned as they are: there is nothing to foretell them from.
        draft = model.drafted(audio) * batch.conditions.present[:, 0, None, None]
        data, known = model.enter(rows) - draft, None
        if model.config.goes_on:
            hint, known = self._begun(rows, hint, draft, rng)
            valid = valid & ~known.there
        shaken = hint + self.losses.hint_noise * model.std * torch.randn(hint.shape, generator=rng)
        given = model.given(audio, shaken, mean, std, shown, known)
        learn = self._noise if model.config.prediction == "epsilon" else self._velocity
        wrong, parts = learn(data, given, valid, rng)
        parts["lips"] = self.losses.lips * masked((wrong @ self.lips).square()[..., None], valid)
        notes = {name: float(part.detach()) for name, part in parts.items()}
        yield Objective("dit", torch.stack(list(parts.values())).sum(), notes)

    def _begun(
        self,
        rows: Float[Tensor, "b t d"],
        hint: Float[Tensor, "b d"],
        draft: Float[Tensor, "b t d"],
        rng: torch.Generator,
    ) -> tuple[Float[Tensor, "b d"], Known]:
        """Hint and first frames of chunks some of which are known so far by chance, a little wrong."""
        count, length = rows.shape[:2]
        until = torch.randint(1, length, (count,), generator=rng)
        until = until * (torch.rand(count, generator=rng) < self.losses.known)
        still = (torch.rand(count, generator=rng) < self.losses.still) & (until > 0)
        last = rows[torch.arange(count), (until - 1).clamp(min=0)]
        hint = torch.where(still[:, None], last, hint)
        rows = torch.where(still[:, None, None], last[:, None], rows)
        off = self.losses.hint_noise * torch.randn(rows.shape, generator=rng)
        there = torch.arange(length) < until[:, None]
        return hint, Known(self.model.enter(rows) - draft + off, there)

    def _noise(
        self, data: Tensor, given: Given, valid: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Error of the predicted noise, and the losses of a diffusion."""
        diffusion = self.model.diffusion
        n = torch.randint(len(diffusion.betas), (len(data),), generator=rng)
        noise = torch.randn(data.shape, generator=rng)
        told = self.model.net(diffusion.noised(data, noise, n), n.float(), given).float()
        square, bound = diffusion_losses(diffusion, told, data, noise, n)
        parts = {"noise": masked(square, valid), "bound": self.losses.bound * masked(bound, valid)}
        return told[..., : data.shape[-1]] - noise, parts

    def _velocity(
        self, data: Tensor, given: Given, valid: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Error of the predicted velocity on straight paths."""
        t = torch.sigmoid(torch.randn(len(data), generator=rng))
        noise = torch.randn(data.shape, generator=rng)
        told = self.model.prepared(given)(along(noise, data, t), t).float()
        wrong = told - (data - noise)
        return wrong, {"velocity": masked(wrong.square(), valid)}

    def judge(self) -> Mapping[str, float]:
        """What :func:`figures` says of speakers kept out of training."""
        return figures(ChunkGenerator(self.model, MotionControl("none"), **suited(self.model)), self.judges)

    def export(self, out: Path) -> Mapping[str, Any]:
        """See :class:`vivavoce.train.tasks.Task`."""
        save(self.model, out / "if-mdm.safetensors")
        count = sum(p.numel() for p in self.model.net.parameters())
        return {"parameters": count, "kept_out": {k: round(v, 3) for k, v in self.judge().items()}}


def shown_at_random(audible: Bool[Tensor, " b"], losses: Losses, rng: torch.Generator) -> Bool[Tensor, "b 5"]:
    """What each chunk is told: nothing of the sound where there is none, the rest by chance."""
    chance = torch.tensor([losses.drop.get(name, 0.0) for name in NAMES])
    shown = torch.rand(len(audible), len(NAMES), generator=rng) >= chance
    hears = audible & (torch.rand(len(audible), generator=rng) >= losses.silent)
    shown[:, :2] &= hears[:, None]
    return shown


def masked(values: Float[Tensor, "b t d"], valid: Bool[Tensor, "b t"]) -> Float[Tensor, ""]:
    """Mean over the numbers of the frames that are ``valid``."""
    return (values * valid[..., None]).sum() / (valid.sum().clamp(min=1) * values.shape[-1])


def measure(model: CodeModel, takes: Sequence[Take]) -> None:
    """Set the normalisation of ``model``, and what a usual deviation over a chunk is, from its training takes."""
    rows = np.concatenate([one.rows for one in takes])
    std = rows.std(0)
    std = np.maximum(std, LEAST_SPREAD * std.max())
    model.mean.copy_(torch.from_numpy(rows.mean(0)))
    model.std.copy_(torch.from_numpy(std))
    length = model.config.length + 1
    pieces = [one.rows[at : at + length] for one in takes for at in range(0, len(one.rows) - length + 1, length)]
    usual = np.mean([piece.std(0, ddof=1) for piece in pieces], axis=0) if pieces else std
    model.spread.copy_(torch.from_numpy(np.maximum(usual, LEAST_SPREAD * usual.max()) / USUAL))
    model.low.copy_(model.mean + ROOM * (torch.from_numpy(rows.min(0)) - model.mean))
    model.high.copy_(model.mean + ROOM * (torch.from_numpy(rows.max(0)) - model.mean))
    voices = np.concatenate([one.audio for one in takes if one.audio is not None])
    model.audio_mean.copy_(torch.from_numpy(voices.mean(0)))
    model.audio_std.copy_(torch.from_numpy(np.maximum(voices.std(0), 1e-2)))


def read_lips(model: CodeModel, learn: Sequence[Spoken]) -> None:
    """Fit the lip opening as a linear reading of the codes, each clip about its own means.

    Who somebody is and how they hold their head is in the codes too, and says nothing about the lips.
    """
    valid = [one for one in learn if one.take.valid.sum() > 1]
    rows = np.concatenate([one.take.rows[one.take.valid] - one.take.rows[one.take.valid].mean(0) for one in valid])
    opening = np.concatenate(
        [one.opening[one.take.valid] - one.opening[one.take.valid].mean() for one in valid]
    ).astype(np.float64)
    square = rows.T.astype(np.float64) @ rows
    ridge = RIDGE * np.trace(square) / len(square) * np.eye(len(square))
    reading = np.linalg.solve(square + ridge, rows.T @ opening)
    pattern = rows.T @ opening
    model.reading.copy_(torch.from_numpy(reading))
    model.pattern.copy_(torch.from_numpy(pattern / max(1e-12, float(reading @ pattern))))


def foretelling(model: CodeModel, takes: Sequence[Take]) -> Float[Tensor, "c d"]:
    """Ridge regression from the features around a frame to its code, normalised, each take about its own mean."""
    left, right, total = torch.zeros(()), torch.zeros(()), 0
    for one in takes:
        if one.audio is None:
            continue
        around = surroundings((torch.from_numpy(one.audio)[None] - model.audio_mean) / model.audio_std)[0]
        rows = model.enter(torch.from_numpy(one.rows))
        left, right = left + around.mT @ around, right + around.mT @ (rows - rows.mean(0))
        total += len(rows)
    if not total:
        raise ValueError("a draft needs takes with sound")
    ridge = DRAFT_RIDGE * total / len(left) * model.audio_dim * torch.eye(len(left))
    return torch.linalg.solve((left + ridge).double(), right.double()).float()


def figures(generator: ChunkGenerator, judged: Sequence[Spoken]) -> dict[str, float]:
    """How well ``generator`` speaks: means over the frames of ``judged``, each with its first code as portrait.

    ``correlation``: of the lip opening read off what is generated with that measured on the face; ``shuffled``: the
    same, generated to the sound of another clip; ``readable``: the same for the true codes, which is the most there
    is; ``liveliness``: deviation of the codes over that of the true ones.
    """
    totals: dict[str, float] = {}
    frames = 0
    with torch.inference_mode():
        for index, one in enumerate(judged):
            other = judged[(index + 1) % len(judged)].take.audio
            found = _figures(generator, one, other, index)
            frames += len(one.opening)
            for name, value in found.items():
                totals[name] = totals.get(name, 0.0) + value * len(one.opening)
    return {name: total / max(1, frames) for name, total in totals.items()}


def _figures(generator: ChunkGenerator, one: Spoken, other: Any, seed: int) -> dict[str, float]:
    assert one.take.audio is not None  # noqa: S101  (judges are chosen for their sound)
    truth, reading = torch.from_numpy(one.take.rows), generator.model.reading
    real = torch.from_numpy(one.opening)
    made = generated(generator, truth[0], one.take.audio, seed=seed)
    wrong = np.resize(other, one.take.audio.shape)  # a shorter one begins again
    shuffled = generated(generator, truth[0], wrong, seed=seed)
    return {
        "correlation": correlation(made @ reading, real),
        "shuffled": correlation(shuffled @ reading, real),
        "readable": correlation(truth @ reading, real),
        "amplitude": float((made @ reading).std() / (truth @ reading).std().clamp(min=1e-6)),
        "liveliness": float((made.std(0) / truth.std(0).clamp(min=1e-3)).mean()),
    }


def correlation(a: Float[Tensor, " t"], b: Float[Tensor, " t"]) -> float:
    """Pearson's; 0 when one of them does not move."""
    found = float(torch.corrcoef(torch.stack([a, b]))[0, 1])
    return found if math.isfinite(found) else 0.0


def generated(
    generator: ChunkGenerator, own: Float[Tensor, " d"], audio: Float32[np.ndarray, "t a"], *, seed: int = 0
) -> Float[Tensor, "t d"]:
    """Codes for ``audio`` on a portrait whose code is ``own``."""
    portrait = Portrait(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), own[None], {})
    sound = [Features(Span(0, len(audio)), torch.from_numpy(audio))]
    return torch.cat([drive.motion.rows for drive in generator.drives(portrait, sound, seed=seed)])


def toy(**layout: Any) -> Recipe:
    """The same task at a size that trains in seconds; ``layout`` replaces parts of the configuration."""
    config = replace(Config(audio=4, tokens=1, length=12, width=32, heads=2, depth=2, goes_on=True), **layout)
    return Recipe(
        name="toy-if-mdm",
        task=lambda: CodeTask(config, pretend(6, 0), pretend(2, 1, frames=30), Losses(), draft=True),
        data=fed(lambda: pretend(6, 0), config.length, 8),
        steps=30,
        lr={"dit": 3e-3},
        warm_up=5,
        ema=0.9,
        judge_every=15,
        keep="correlation",
    )


def small(name: str = "if-mdm", steps: int = 2400, **layout: Any) -> Recipe:
    """The compact generator, hearing our own phone encoder: minutes on one CPU core.

    ``layout`` replaces parts of :func:`vivavoce.nets.dit.compact`.
    """
    length = int(layout.get("length", 32))

    def task() -> CodeTask:
        learn, judges = spoken()
        features = next(one.take.audio.shape[1] for one in learn if one.take.audio is not None)
        return CodeTask(replace(compact(audio=features), **layout), learn, judges, Losses(), draft=True)

    return Recipe(
        name=name,
        task=task,
        data=fed(lambda: spoken()[0], length, 32),
        steps=steps,
        lr={"dit": 1e-3},
        warm_up=100,
        weight_decay=0.03,
        betas=(0.9, 0.99),
        ema=0.998,
        judge_every=600,
    )


def flow() -> Recipe:
    """Velocities of straight paths instead of noise."""
    return small("if-mdm-flow", prediction="flow")


def no_statistics() -> Recipe:
    """Without tokens for mean and deviation."""
    return small("if-mdm-no-statistics", statistics=False)


def no_framewise() -> Recipe:
    """The sound steers by AdaLN alone."""
    return small("if-mdm-no-framewise", framewise=False)


def paper() -> Recipe:
    """The published size, rates and losses on our phone encoder's features; the number of steps is not known."""

    def task() -> CodeTask:
        learn, judges = spoken()
        features = next(one.take.audio.shape[1] for one in learn if one.take.audio is not None)
        return CodeTask(Config(audio=features, tokens=1), learn, judges, PUBLISHED, normalised=False)

    return replace(
        small("if-mdm-paper", 400_000),
        task=task,
        data=fed(lambda: spoken()[0], Config().length, 128),
        lr={"dit": 1e-4},
        lr_floor=1.0,
        warm_up=0,
        weight_decay=0.0,
        betas=(0.9, 0.999),
        ema=0.9999,
        judge_every=10_000,
        seed=903,
    )
