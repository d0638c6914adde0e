"""Train the motion generator on prepared clips: flow matching, with what matters on a face said explicitly.

``vivavoce train moda --out DIR`` reads clips prepared by :mod:`vivavoce.data.prepare` from the folder named by the
environment variable ``VIVAVOCE_MOTION`` (default ``runs/motion``) and keeps their features beside them.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivavoce import weights
from vivavoce.data.align import Voice, lags
from vivavoce.data.batches import CLEAN, Batch, Cut, Take, Variant, advanced, apart, disturb, encode, feed, take
from vivavoce.data.prepare import Prepared, load
from vivavoce.emotion.labels import EMOTIONS
from vivavoce.errors import InputError
from vivavoce.face.model import FaceModel
from vivavoce.motion import lips
from vivavoce.motion.flow import FORETOLD_FROM, MotionFlow, calmed, pose_mask, save, surroundings
from vivavoce.motion.generate import FlowGenerator
from vivavoce.motion.space import FACE_MESH
from vivavoce.nets.mmdit import Config, compact
from vivavoce.nets.sync import SyncExpert
from vivavoce.sampling.paths import along, arrival
from vivavoce.system import AudioEncoder, Features, Portrait
from vivavoce.timeline import Span
from vivavoce.train.loop import Recipe
from vivavoce.train.tasks import Objective

FOLDER = "VIVAVOCE_MOTION"
# Speakers of the training split that are kept out of training, to judge by.
JUDGES = (
    "hdtf_KatieHill", "lrs3_domhnall", "celebv_-_zyvfId578", "lrs2_00004", "grid_lbax4n", "celebv_-2KGPYEFnsU_3",
    "hdtf_av2av11", "hr_t2", "lia_driving2", "vox2_id05176", "andrew", "reagan", "lrs3_1PNX6MSdVsk", "mead_M024",
)  # fmt: skip
VARIANTS = (
    CLEAN,
    Variant(speed=0.94, snr=25.0, echo=0.2),
    Variant(speed=1.06, gain=-12.0),
)
EXPRESSION = FACE_MESH.slice("expression")
INTERIOR = FACE_MESH.slice("interior")
FORETELLING_RIDGE = 3.0  # per frame of data, on features of unit variance; chosen on the judges
TYPICAL = 0.5  # deviation of a speaker's lip opening, as a share of that of all training frames
EVENING = (0.6, 1.8)  # by how much a speaker's mouth movement is scaled at most
LEAST_SPREAD = 0.05  # share of a part's largest deviation that each of its numbers is at least normalised by


@dataclass(frozen=True, slots=True)
class Losses:
    """What is learned beside the flow itself, and how much each counts."""

    lips: float = 1.0  # shape of the lips in the predicted clean motion
    opening: float = 1.0  # lip opening in the predicted clean motion
    closed: float = 3.0  # how much more the opening counts where the lips are truly closed
    speed: float = 1.0  # change from frame to frame of the predicted clean motion
    sync: float = 0.1  # disagreement with the sound, where there is an expert who can tell
    still: float = 0.1  # share of windows trained at t = 0, where the velocity leads to the conditional mean
    drop: float = 0.12  # probability of hiding each condition
    past_noise: float = 0.15  # standard deviations of noise on the past, so that small errors do not grow


class MotionTask:
    """Flow matching of motion windows on straight paths, with condition dropout."""

    def __init__(
        self,
        config: Config,
        takes: Sequence[Take],
        judges: Sequence[Take],
        losses: Losses,
        *,
        variants: int = 1,
        expert: SyncExpert | None = None,
    ) -> None:
        """``takes`` hold each clip in ``variants`` ways, the clean one first; ``judges`` are never learned from."""
        self.expert = expert
        self.flow, self.losses, self.judges = MotionFlow(config), losses, judges
        model = FaceModel.pretrained()
        measure(self.flow, takes)
        self.flow.memory.copy_(calmed(self.flow.std, lips.resting(model), 0.0))
        self.flow.foretelling.copy_(foretelling(self.flow, takes[::variants], model))
        self.shape, self.opening = lips.shape(model), lips.opening(model)
        self.weight = importance(model)
        self.typical = float(self.opening.norm())  # standard deviation of the opening, coefficients being white

    def players(self) -> Mapping[str, nn.Module]:
        """See :class:`vivavoce.train.tasks.Task`."""
        return {"flow": self.flow}

    def objectives(self, batch: Batch, rng: torch.Generator) -> Iterator[Objective]:
        """See :class:`vivavoce.train.tasks.Task`."""
        flow, losses, nowhere = self.flow, self.losses, torch.zeros(FACE_MESH.dim)
        data, given = flow.enter(batch.rows, nowhere), batch.conditions
        past, identity = flow.enter(given.past, nowhere), flow.enter(given.identity, nowhere)
        noisy = past + losses.past_noise * torch.randn(past.shape, generator=rng)
        given = replace(given, past=noisy, identity=identity).drop(losses.drop, rng)
        start = flow.centre(given, data.shape[1]) + torch.randn(data.shape, generator=rng)
        t = torch.sigmoid(torch.randn(len(data), generator=rng))
        t = t * (torch.rand(len(data), generator=rng) >= losses.still)
        x = along(start, data, t)
        velocity = flow(x, t, given).float()
        clean = arrival(x, velocity, t)
        parts = {
            "v": masked((velocity - (data - start)).square() * self.weight, batch.valid),
            **self._face(clean, data, batch),
            "speed": losses.speed * self._speed(clean, data, past, batch),
            **self._sync(clean, batch),
        }
        notes = {name: float(part.detach()) for name, part in parts.items()}
        yield Objective("flow", torch.stack(list(parts.values())).sum(), notes)

    def _face(self, clean: Tensor, data: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Lip shape and opening of the predicted clean motion against the truth."""
        std = self.flow.std[EXPRESSION]
        wrong = (clean - data)[..., EXPRESSION] * std
        opening = batch.rows[..., EXPRESSION] @ self.opening / self.typical
        closed = torch.sigmoid((0.3 - opening) / 0.1)
        weight = 1 + self.losses.closed * closed
        off = (wrong @ self.opening / self.typical).square() * weight
        return {
            "lips": self.losses.lips * masked((wrong @ self.shape).square().sum(-1, keepdim=True), batch.valid),
            "opening": self.losses.opening * masked(off[..., None], batch.valid),
        }

    def _speed(self, clean: Tensor, data: Tensor, past: Tensor, batch: Batch) -> Tensor:
        """Frame-to-frame change, the step from the last shown frame included."""
        last = past[:, -1:]
        wrong = torch.diff(clean, dim=1, prepend=last) - torch.diff(data, dim=1, prepend=last)
        return masked(wrong.square() * self.weight, batch.valid)

    def _sync(self, clean: Tensor, batch: Batch) -> dict[str, Tensor]:
        """What an expert holds against the lips of the predicted clean motion."""
        if self.expert is None:
            return {}
        read = torch.cat([self.opening[:, None], self.shape], dim=1)
        made = self.flow.leave(clean, torch.zeros(FACE_MESH.dim))[..., EXPRESSION] @ read
        audio = batch.conditions.audio[:, -clean.shape[1] :]
        heard = batch.valid & batch.conditions.present[:, :1]
        return {
            "sync": self.losses.sync * self.expert.disagreement(audio, made, batch.rows[..., EXPRESSION] @ read, heard)
        }

    def judge(self) -> Mapping[str, float]:
        """Correlation of the lip opening and what else can be read off, on speakers kept out of training."""
        return figures(FlowGenerator(self.flow), self.judges, self.opening)

    def export(self, out: Path) -> Mapping[str, Any]:
        """See :class:`vivavoce.train.tasks.Task`."""
        save(self.flow, out / "moda.safetensors")
        count = sum(p.numel() for p in self.flow.parameters())
        return {"parameters": count, "kept_out": {k: round(v, 3) for k, v in self.judge().items()}}


def masked(values: Float[Tensor, "b t d"], valid: Tensor) -> Float[Tensor, ""]:
    """Mean over the numbers of the frames that are ``valid``."""
    return (values * valid[..., None]).sum() / (valid.sum().clamp(min=1) * values.shape[-1])


def measure(flow: MotionFlow, takes: Sequence[Take]) -> None:
    """Set the normalisation of ``flow`` from its training takes."""
    pose = pose_mask(FACE_MESH).bool().numpy()
    rows = np.concatenate([t.rows - np.where(pose, t.reference, 0) for t in takes])
    heard = np.concatenate([t.audio for t in takes if t.audio is not None])
    std = rows.std(0)
    for part in FACE_MESH.parts:
        own = FACE_MESH.slice(part.name)
        std[own] = np.maximum(std[own], LEAST_SPREAD * std[own].max())
    mean = rows.mean(0)
    mean[pose] = 0  # the portrait's own pose is the middle
    flow.mean.copy_(torch.from_numpy(mean))
    flow.std.copy_(torch.from_numpy(std))
    flow.audio_mean.copy_(torch.from_numpy(heard.mean(0)))
    flow.audio_std.copy_(torch.from_numpy(np.maximum(heard.std(0), 1e-2)))


def foretelling(flow: MotionFlow, takes: Sequence[Take], model: FaceModel) -> Float[Tensor, "c d"]:
    """Ridge regression from the features around a frame to its mouth, normalised; what else a face does stays 0.

    Each take counts with its deviations from its own mean, on the scale of its own lip opening: how far somebody
    opens their mouth says nothing about the next person. A speaker counts as the square root of their frames.
    """
    reading, mouth = lips.opening(model), [*range(FACE_MESH.dim)[EXPRESSION], *range(FACE_MESH.dim)[INTERIOR]]
    frames = Counter[str]()
    for one in takes:
        frames[one.speaker] += len(one.rows)
    left, right, total = torch.zeros(()), torch.zeros(()), 0.0
    for one in takes:
        if one.audio is None:
            continue
        heard = surroundings((torch.from_numpy(one.audio)[None] - flow.audio_mean) / flow.audio_std)[0]
        rows = flow.enter(torch.from_numpy(one.rows), torch.zeros(FACE_MESH.dim))[:, mouth]
        scale = float(reading.norm() / (torch.from_numpy(one.rows)[:, EXPRESSION] @ reading).std().clamp(min=0.005))
        share, rows = frames[one.speaker] ** -0.5, (rows - rows.mean(0)) * scale * TYPICAL
        left, right = left + share * heard.mT @ heard, right + share * heard.mT @ rows
        total += share * len(rows)
    ridge = FORETELLING_RIDGE * total / len(FORETOLD_FROM) * torch.eye(len(left))
    out = torch.zeros(len(left), FACE_MESH.dim)
    out[:, mouth] = torch.linalg.solve((left + ridge).double(), right.double()).float()
    return out


def evened(one: Take, model: FaceModel) -> Take:
    """``one`` with its mouth's movement about the closed mouth scaled so that the lips move as far as usual."""
    rows, rest = torch.from_numpy(one.rows), lips.resting(model)
    reading = lips.opening(model)
    own = float((rows[:, EXPRESSION] @ reading).std())
    scale = min(EVENING[1], max(EVENING[0], TYPICAL * float(reading.norm()) / max(own, 1e-4)))
    out = rows.clone()
    still = rows[:, EXPRESSION] @ rest
    out[:, EXPRESSION] = still + scale * (rows[:, EXPRESSION] - still)
    return replace(one, rows=out.numpy())


def importance(model: FaceModel) -> Float[Tensor, " d"]:
    """Weight of every number in the flow loss, 1 on average: coefficients count by how far they move the face."""
    weight = torch.ones(FACE_MESH.dim)
    moved = torch.from_numpy(np.sqrt(np.square(model.expression).sum((1, 2)))).float()
    weight[EXPRESSION] = (moved / moved.max()).clamp(min=0.15) * 2
    weight[FACE_MESH.slice("interior")] = 0.5
    return weight / weight.mean()


def figures(generator: FlowGenerator, takes: Sequence[Take], opening: Tensor) -> dict[str, float]:
    """How well ``generator`` moves the lips of ``takes``: mean over frames of each take's own figures."""
    totals: dict[str, float] = {}
    frames = 0
    with torch.inference_mode():
        for index, one in enumerate(takes):
            made = generated(generator, one, seed=index)
            truth = torch.from_numpy(one.rows)
            mouth, real = made[:, EXPRESSION] @ opening, truth[:, EXPRESSION] @ opening
            found = {
                "correlation": float(torch.corrcoef(torch.stack([mouth, real]))[0, 1]),
                "amplitude": float(mouth.std() / real.std()),
                "lip_speed": float(mouth.diff().abs().mean() / real.diff().abs().mean()),
                "head_speed": float(made[:, :3].diff(dim=0).abs().mean() / truth[:, :3].diff(dim=0).abs().mean()),
            }
            frames += len(truth)
            for name, value in found.items():
                totals[name] = totals.get(name, 0.0) + value * len(truth)
    return {name: total / max(1, frames) for name, total in totals.items()}


def generated(generator: FlowGenerator, one: Take, *, seed: int = 0) -> Float[Tensor, "t d"]:
    """Motion generated for the sound of ``one`` on a portrait at the clip's resting pose."""
    if one.audio is None:
        raise ValueError("a take without sound cannot be generated from")
    reference = torch.from_numpy(np.where(one.reference != 0, one.reference, np.median(one.rows, axis=0)))
    portrait = Portrait(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), reference[None], {})
    heard = [Features(Span(0, len(one.audio)), torch.from_numpy(one.audio))]
    return torch.cat([d.motion.rows for d in generator.drives(portrait, heard, seed=seed)])


def folder() -> Path:
    """Where prepared clips are on this machine."""
    return Path(os.environ.get(FOLDER, "runs/motion"))


@cache
def clips() -> tuple[Prepared, ...]:
    """All prepared clips of the training split.

    Raises :class:`InputError` when there are none, saying where they were looked for.
    """
    found = [load(file) for file in sorted(folder().glob("*.npz"))]
    chosen = tuple(clip for clip in found if clip.split == "train")
    if not chosen:
        raise InputError(f"{folder()} has no prepared clips; prepare them, and name their folder in {FOLDER}")
    return chosen


def heard(clip: Prepared, variant: Variant, encoder: AudioEncoder, mark: str) -> Take:
    """``clip`` as ``variant`` hears it; features are kept on disk under ``mark``, which names the encoder."""
    pose = [i for i, there in enumerate(pose_mask(FACE_MESH)) if there]
    if clip.kind != "talking" or not len(clip.audio):
        return take(clip, None, variant.speed, pose)
    name = hashlib.sha256(mark.encode() + repr((clip.name, variant)).encode() + clip.audio.tobytes()).hexdigest()[:16]
    file = folder() / "heard" / f"{name}.npy"
    if not file.exists():
        rng = np.random.default_rng(int(name[:8], 16))
        sound = disturb(clip.audio, variant, rng)
        rows = encode(sound, encoder, round(len(clip.rows) / variant.speed))
        file.parent.mkdir(exist_ok=True)
        with file.with_suffix(".part").open("wb") as part:
            np.save(part, rows.astype(np.float16))
        file.with_suffix(".part").replace(file)
    return take(clip, np.load(file).astype(np.float32), variant.speed, pose)


@cache
def takes() -> tuple[tuple[Take, ...], tuple[Take, ...]]:
    """Takes to train on, every clip in every variant, and takes to judge by, heard clean."""
    from vivavoce.speech.encoder import PhoneEncoder

    encoder = PhoneEncoder.pretrained()
    mark = hashlib.sha256(weights.path("phones").read_bytes()).hexdigest()
    learn, judge = apart(in_step(clips(), encoder, mark), JUDGES)
    judges = [heard(clip, CLEAN, encoder, mark) for clip in judge if clip.kind == "talking"]
    model = FaceModel.pretrained()
    learned = [heard(clip, variant, encoder, mark) for clip in learn for variant in VARIANTS]
    return tuple(evened(one, model) for one in learned), tuple(judges)


def in_step(clips: Sequence[Prepared], encoder: AudioEncoder, mark: str) -> list[Prepared]:
    """``clips`` with sound and picture in step; talking clips whose lips do not follow their sound are left out."""
    reading = lips.opening(FaceModel.pretrained()).numpy()
    voices = []
    for clip in clips:
        if clip.kind == "talking":
            one = heard(clip, CLEAN, encoder, mark)
            opening = one.rows[:, EXPRESSION] @ reading
            voices.append(Voice(clip.name, clip.speaker, np.asarray(one.audio), opening))
    found = lags(voices)
    kept = [(clip, found.get(clip.name, 0)) for clip in clips]
    return [advanced(clip, -lag) if lag else clip for clip, lag in kept if lag is not None]


def features_of(takes: Sequence[Take]) -> int:
    """Features per frame that the takes were heard with."""
    return next(one.audio.shape[1] for one in takes if one.audio is not None)


def pretend(count: int, seed: int) -> tuple[Take, ...]:
    """Takes of nobody: smooth random motion whose lips follow the first feature. For trying the run, not for use."""
    rng, out = np.random.default_rng(seed), []
    for index in range(count):
        drift = rng.standard_normal((90, FACE_MESH.dim + 4)).cumsum(0) * 0.1
        rows, audio = drift[:, :-4].astype(np.float32), drift[:, -4:].astype(np.float32)
        rows[:, EXPRESSION.start] = 3 * audio[:, 0]
        reference = np.zeros(FACE_MESH.dim, np.float32)
        out.append(Take(f"nobody {index}", rows, reference, np.ones(90, bool), audio, index % 9 - 1))
    return tuple(out)


def moda_toy() -> Recipe:
    """The same task at a size that trains in seconds, on motion that nobody made."""
    size = FACE_MESH.dim
    config = replace(compact(motion=size, audio=4, identity=size, emotions=len(EMOTIONS)), width=32, heads=2)
    return Recipe(
        name="toy-moda",
        task=lambda: MotionTask(config, pretend(6, 0), pretend(1, 1), Losses()),
        data=feed(pretend(6, 0), 4, Cut(size=8)),
        steps=30,
        lr={"flow": 3e-3},
        warm_up=5,
        ema=0.9,
        judge_every=15,
        keep="correlation",
    )


def moda(
    name: str = "moda", steps: int = 2600, *, expert: Callable[[], SyncExpert] | None = None, **layout: int
) -> Recipe:
    """The compact generator that ships with the package.

    ``expert`` gives one who adds a loss; ``layout`` replaces numbers of blocks in the configuration.
    """
    cut = Cut(length=10, size=32)

    def task() -> MotionTask:
        learn, judges = takes()
        size = FACE_MESH.dim
        config = compact(motion=size, audio=features_of(learn), identity=size, emotions=len(EMOTIONS))
        told_by = expert() if expert else None
        return MotionTask(replace(config, **layout), learn, judges, Losses(), variants=len(VARIANTS), expert=told_by)

    def data(seed: int) -> Callable[[int], Batch]:
        learn, _ = takes()
        mirrored = replace(cut, mirror=lips.mirror_rows(FaceModel.pretrained()))
        return feed(learn, features_of(learn), mirrored)(seed)

    return Recipe(
        name=name,
        task=task,
        data=data,
        steps=steps,
        lr={"flow": 1.5e-3},
        warm_up=50,
        weight_decay=0.03,
        betas=(0.9, 0.99),
        ema=0.997,
        judge_every=650,
    )
