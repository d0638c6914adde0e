"""Train MoDA's motion transformer in LivePortrait's keypoint space, at the paper's size or smaller.

``vivavoce prepare DATA --weights WEIGHTS --out DIR`` measures the motion; ``VIVAVOCE_KEYPOINTS`` names that folder for
``vivavoce train moda-liveportrait-small`` (our phone encoder) and ``moda-liveportrait-paper`` (a HuBERT or wav2vec2
base model, whose folder ``VIVAVOCE_SPEECH_MODEL`` names). What comes out is a weight file that
``--system moda-liveportrait`` uses.

The losses are those of the authors' training code (arXiv 2507.03256): for all of the expression, for the pose and once
more for the lips, each its flow loss, that of its changes from frame to frame, and smoothness of the clean motion.
Their weights are not published; these are ours.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from vivavoce import weights
from vivavoce.data.batches import encode
from vivavoce.data.keypoints import KeypointClip, load
from vivavoce.emotion.labels import EMOTIONS, NONE
from vivavoce.errors import InputError
from vivavoce.motion.conditions import NAMES, Conditions
from vivavoce.motion.space import KEYPOINT
from vivavoce.motion.windows import EXPRESSION, LIP_NUMBERS, NAME, SCALE, SYSTEM, WINDOW, KeypointFlow
from vivavoce.nets.mmdit import Config, full
from vivavoce.nets.sync import SyncExpert
from vivavoce.sampling.paths import along, arrival
from vivavoce.system import AudioEncoder
from vivavoce.train.loop import Recipe, mixed
from vivavoce.train.tasks import Objective

FOLDER, SPEECH_MODEL = "VIVAVOCE_KEYPOINTS", "VIVAVOCE_SPEECH_MODEL"
DEAD = 1e-4  # deviation below which a number is noise (depths, mostly) and not learned


@dataclass(frozen=True, slots=True)
class Losses:
    """How much each part counts, beside the flow loss itself."""

    change: float = 1.0  # frame-to-frame change of the velocity
    smooth: float = 0.1  # second difference of the predicted clean motion
    lips: float = 2.0  # the lips once more, beside the whole expression
    sync: float = 0.1  # disagreement with the sound, where there is an expert who can tell
    # Probability of hiding each condition. The paper's: the head's past and shape are always known.
    drop: Mapping[str, float] = field(default_factory=lambda: {"audio": 0.2, "emotion": 0.1})


@dataclass(frozen=True, slots=True)
class Take:
    """One clip with its features."""

    speaker: str
    rows: Float32[np.ndarray, "t 70"]
    canonical: Float32[np.ndarray, " 63"]
    audio: Float32[np.ndarray, "t a"]
    emotion: int  # index in EMOTIONS, or -1


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows in units of the space; ``reference`` is the row of the portrait they start from."""

    rows: Float[Tensor, "b t 70"]
    reference: Float[Tensor, "b 70"]
    conditions: Conditions
    valid: Bool[Tensor, "b t"]


def batches(takes: Callable[[], Sequence[Take]], size: int) -> Callable[[int], Callable[[int], Batch]]:
    """Seed -> step -> batch: the row before the window is shown, another row of the clip is the portrait."""

    def seeded(seed: int) -> Callable[[int], Batch]:
        held = takes()
        frames = Counter[str]()
        for one in held:
            frames[one.speaker] += len(one.rows)
        share = torch.tensor([len(t.rows) / frames[t.speaker] * min(frames[t.speaker], 1500) ** 0.7 for t in held])

        def batch_at(step: int) -> Batch:
            rng = torch.Generator().manual_seed(mixed(seed, step))
            chosen = torch.multinomial(share, size, replacement=True, generator=rng).tolist()
            return stacked([_window(held[n], rng) for n in chosen])

        return batch_at

    return seeded


def _window(one: Take, rng: torch.Generator) -> Batch:
    """One window of ``one``, as a batch of 1; the last row is held where the clip ends early."""
    count = len(one.rows)
    start = int(torch.randint(max(1, count - WINDOW // 2), (), generator=rng))
    at = torch.arange(start, start + WINDOW)
    rows, audio = torch.from_numpy(one.rows), torch.from_numpy(one.audio)
    portrait = rows[int(torch.randint(count, (), generator=rng))]
    shown = rows[start - 1] if start else portrait
    heard = torch.where((at < count)[:, None], audio[at.clamp(max=count - 1)], 0.0)
    emotion = torch.nn.functional.one_hot(torch.tensor([max(0, one.emotion)]), len(EMOTIONS)).float()
    present = torch.tensor([[True, True, True, one.emotion >= 0]])
    conditions = Conditions(heard[None], shown[None, None], torch.from_numpy(one.canonical)[None], emotion, present)
    return Batch(rows[at.clamp(max=count - 1)][None], portrait[None], conditions, (at < count)[None])


def stacked(windows: Sequence[Batch]) -> Batch:
    """One batch of several."""
    rows, reference, valid = (
        torch.cat([getattr(one, name) for one in windows]) for name in ("rows", "reference", "valid")
    )
    return Batch(rows, reference, Conditions.cat([one.conditions for one in windows]), valid)


class KeypointTask:
    """Flow matching of whole windows, with condition dropout and the losses of :class:`Losses`."""

    def __init__(
        self,
        config: Config,
        takes: Sequence[Take],
        judges: Sequence[Take],
        losses: Losses,
        *,
        expert: SyncExpert | None = None,
    ) -> None:
        self.flow, self.losses, self.judges, self.expert = KeypointFlow(config), losses, judges, expert
        measure(self.flow, takes)
        alive = (self.flow.std > DEAD).float()
        lips, face, pose = (torch.zeros(KEYPOINT.dim) for _ in range(3))
        lips[LIP_NUMBERS], face[EXPRESSION], pose[EXPRESSION.stop :] = losses.lips, 1.0, 1.0
        groups = [group * alive for group in (face, pose, lips)]
        # Each group is a mean over its own numbers: seven of the pose count as much as 63 of the expression.
        self.weight = torch.stack([group / (group > 0).sum().clamp(min=1) for group in groups]).sum(0)

    def players(self) -> Mapping[str, nn.Module]:
        """See :class:`vivavoce.train.tasks.Task`."""
        return {"flow": self.flow}

    def objectives(self, batch: Batch, rng: torch.Generator) -> Iterator[Objective]:
        """See :class:`vivavoce.train.tasks.Task`."""
        losses = self.losses
        data, past = self._entered(batch.rows, batch.reference), self._entered(batch.conditions.past, batch.reference)
        given = dropped(replace(batch.conditions, past=past), losses.drop, rng)
        noise = torch.randn(data.shape, generator=rng)
        t = torch.rand(len(data), generator=rng)
        x = along(noise, data, t)
        velocity = self.flow.prepared(given)(x, t).float()
        wrong, clean = velocity - (data - noise), arrival(x, velocity, t)
        parts = {
            "flow": self._mean(wrong, batch.valid),
            "change": losses.change * self._mean(wrong.diff(dim=1), batch.valid[:, 1:]),
            "smooth": losses.smooth * self._mean(clean.diff(n=2, dim=1), batch.valid[:, 2:]),
        }
        if self.expert is not None:
            heard = batch.valid & given.present[:, :1]
            lips = (clean[..., LIP_NUMBERS], data[..., LIP_NUMBERS])
            parts["sync"] = losses.sync * self.expert.disagreement(batch.conditions.audio, *lips, heard)
        notes = {f"{name} loss": float(part.detach()) for name, part in parts.items()}
        yield Objective("flow", torch.stack(list(parts.values())).sum(), notes)

    def _entered(self, rows: Float[Tensor, "b t 70"], reference: Float[Tensor, "b 70"]) -> Float[Tensor, "b t 70"]:
        return torch.stack([self.flow.enter(r, own) for r, own in zip(rows, reference, strict=True)])

    def _mean(self, values: Tensor, valid: Tensor) -> Float[Tensor, ""]:
        return (values.square() * self.weight * valid[..., None]).sum() / valid.sum().clamp(min=1)

    def judge(self) -> Mapping[str, float]:
        """Minus the flow loss of kept-out takes, on fixed noise and times."""
        if not self.judges:
            return {}
        rng = torch.Generator().manual_seed(0)
        batch = stacked([_window(one, rng) for one in self.judges for _ in range(4)])
        quiet = {**self.losses.drop, **dict.fromkeys(self.losses.drop, 0.0)}
        task = replace(self.losses, drop=quiet)
        kept, self.losses = self.losses, task
        try:
            notes = next(self.objectives(batch, rng)).notes or {}
        finally:
            self.losses = kept
        return {"kept out": -notes["flow loss"]}

    def export(self, out: Path) -> Mapping[str, Any]:
        """See :class:`vivavoce.train.tasks.Task`: a file that ``--system moda-liveportrait`` reads."""
        config = asdict(self.flow.net.config)
        weights.write(out / f"{NAME}.safetensors", self.flow.state_dict(), system=SYSTEM, config=config)
        return {"parameters": sum(p.numel() for p in self.flow.parameters()), "kept_out": dict(self.judge())}


def measure(flow: KeypointFlow, takes: Sequence[Take]) -> None:
    """Set the normalisation of ``flow``; scale and place as if every head were of average size."""
    rows = torch.from_numpy(np.concatenate([one.rows for one in takes]))
    flow.mean.copy_(rows.mean(0))
    level = torch.cat([torch.from_numpy(one.rows) for one in takes])
    own = torch.cat([torch.full((len(t.rows), 1), float(np.median(t.rows[:, SCALE]))) for t in takes])
    level[:, SCALE.start : SCALE.stop + 3] *= flow.mean[SCALE] / own
    flow.std.copy_(level.std(0))
    flow.mean.copy_(level.mean(0))
    for row in (flow.mean, flow.std):
        row[SCALE.stop + 2] = 0.0  # depth


def dropped(given: Conditions, probability: Mapping[str, float], rng: torch.Generator) -> Conditions:
    """Hide each condition of each window by its own probability."""
    chance = torch.tensor([probability.get(name, 0.0) for name in NAMES])
    kept = torch.rand(given.present.shape, generator=rng) >= chance
    return replace(given, present=given.present & kept)


@cache
def takes(speech: str) -> tuple[tuple[Take, ...], tuple[Take, ...]]:
    """Takes of the training split and of every tenth of its speakers, kept out to judge by; heard by ``speech``.

    Raises:
        InputError: there are no prepared clips, or no such speech model.
    """
    folder = Path(os.environ.get(FOLDER, "runs/keypoints"))
    clips = [clip for clip in map(load, sorted(folder.glob("*.npz"))) if clip.split == "train"]
    if not clips:
        raise InputError(f"{folder} has no prepared keypoint motion; prepare some, and name its folder in {FOLDER}")
    encoder = _encoder(speech)
    speakers = sorted({clip.speaker for clip in clips})
    judged = set(speakers[5::10])
    found = [_take(clip, encoder) for clip in clips]
    return tuple(t for t in found if t.speaker not in judged), tuple(t for t in found if t.speaker in judged)


def _encoder(speech: str) -> AudioEncoder:
    if speech == "phones":
        from vivavoce.speech.encoder import PhoneEncoder

        return PhoneEncoder.pretrained()
    from vivavoce.speech.pretrained import load as load_speech
    from vivavoce.speech.transformer import TransformerEncoder
    from vivavoce.systems.moda_liveportrait import EMPHASIS

    return TransformerEncoder(load_speech(speech), emphasis=EMPHASIS)


def _take(clip: KeypointClip, encoder: AudioEncoder) -> Take:
    heard = encode(clip.audio, encoder, len(clip.rows))
    emotion = -1 if clip.emotion == NONE else EMOTIONS.index(clip.emotion)
    return Take(clip.speaker, clip.rows[: len(heard)], clip.canonical.reshape(-1), heard, emotion)


def pretend(count: int, seed: int, audio: int = 4) -> tuple[Take, ...]:
    """Takes of nobody: smooth random motion whose lips follow the first feature. For trying the run, not for use."""
    rng, out = np.random.default_rng(seed), []
    for index in range(count):
        heard = rng.standard_normal((120, audio)).cumsum(0).astype(np.float32) * 0.1
        rows = 0.01 * rng.standard_normal((120, KEYPOINT.dim)).cumsum(0).astype(np.float32) * 0.1
        rows[:, LIP_NUMBERS] += 0.02 * heard[:, :1]
        rows[:, SCALE] = 1.2 + 0.01 * heard[:, 1:2]
        canonical = rng.standard_normal(63).astype(np.float32) * 0.3
        out.append(Take(f"nobody {index}", rows, canonical, heard, index % 9 - 1))
    return tuple(out)


def toy() -> Recipe:
    """The paper's task at a size that trains in seconds."""
    config = replace(full(audio=4), width=32, heads=2, four=1, two=1, one=1, audio_hidden=1)
    return Recipe(
        name="toy-moda-liveportrait",
        task=lambda: KeypointTask(config, pretend(6, 0), pretend(1, 1), Losses()),
        data=batches(lambda: pretend(6, 0), 4),
        steps=30,
        lr={"flow": 3e-3},
        warm_up=5,
        ema=0.9,
        judge_every=15,
    )


def small() -> Recipe:
    """11 M parameters, hearing our own phone encoder: a day on one small graphics card."""

    def task() -> KeypointTask:
        learn, judges = takes("phones")
        config = replace(full(audio=learn[0].audio.shape[1]), width=256, heads=4, four=1, two=2, one=4)
        return KeypointTask(config, learn, judges, Losses())

    return replace(
        toy(),
        name="moda-liveportrait-small",
        task=task,
        data=batches(lambda: takes("phones")[0], 32),
        steps=60_000,
        lr={"flow": 3e-4},
        warm_up=1000,
        ema=0.9995,
        judge_every=2000,
        bf16=True,
        keep="kept out",
    )


def paper() -> Recipe:
    """The published size on 12 layers of a speech model; batch and rate are ours, the paper's are not known."""

    def learned() -> tuple[tuple[Take, ...], tuple[Take, ...]]:
        return takes(os.environ.get(SPEECH_MODEL, "runs/speech-model"))

    def task() -> KeypointTask:
        learn, judges = learned()
        return KeypointTask(full(audio=learn[0].audio.shape[1]), learn, judges, Losses())

    return replace(
        small(),
        name="moda-liveportrait-paper",
        task=task,
        data=batches(lambda: learned()[0], 128),
        steps=200_000,
        lr={"flow": 1e-4},
        ema=0.9999,
    )
