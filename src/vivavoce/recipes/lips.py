"""Go on from the phone encoder until what it hears also foretells how strangers' lips move.

Phones are a detour: many sounds that count as one look different, and the noisy labels of real speech blur them. Here
the encoder keeps classifying phones, and at the same time a linear reading of its output over half a second must give
the lips of real speakers. The reading is thrown away; the features keep what it needed.

``vivavoce train lips --out DIR`` starts from the packaged phone encoder, or from the weights named by the environment
variable ``VIVAVOCE_PHONES``; prepared clips and speech are found as in :mod:`vivavoce.recipes.moda` and
:mod:`vivavoce.recipes.phones`.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32
from torch import Tensor, nn
from torch.nn.functional import pad

from vivavoce import weights
from vivavoce.data.prepare import Prepared
from vivavoce.face.model import FaceModel
from vivavoce.motion.lips import opening, shape
from vivavoce.motion.space import FACE_MESH
from vivavoce.recipes import moda, phones
from vivavoce.speech import mixing
from vivavoce.speech.corpus import Corpus, rows_of_sound
from vivavoce.speech.encoder import PhoneEncoder
from vivavoce.speech.mel import BANDS, Level, normalised
from vivavoce.speech.network import PhoneConfig, PhoneNetwork
from vivavoce.train.loop import Recipe
from vivavoce.train.tasks import Objective

START = "VIVAVOCE_PHONES"
PER_FRAME = 4  # log-mel rows of one frame; the network gives half as many
BACK, AHEAD = 12, 8  # 20 ms rows before and after a frame's own two that its lips are read from
SHAPES = 10  # ways the lips move that are foretold beside their opening
LEAST = 0.3  # a speaker's opening is scaled up to at most the usual one over this
EVENNESS, ENOUGH = 0.6, 7500  # a speaker counts as this power of their frames, and no more for more than so many


@dataclass(frozen=True, slots=True)
class Spoken:
    """One clip: log-mel rows, and lips per frame (opening first), each clip about its own mean."""

    speaker: str
    rows: Float16[np.ndarray, "n 64"]
    lips: Float32[np.ndarray, "t k"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Excerpts whose lips are known, and excerpts whose phones are known."""

    rows: Float[Tensor, "b n 64"]
    lips: Float[Tensor, "b t k"]
    valid: Float[Tensor, "b t"]
    phones: phones.Batch


def spoken(clip: Prepared, model: FaceModel) -> Spoken:
    """The lips of ``clip`` and the sound they should follow from."""
    moved = torch.from_numpy(clip.rows[:, FACE_MESH.slice("expression")]).float()
    lips = torch.cat([(moved @ opening(model))[:, None], moved @ shape(model, SHAPES)], 1).numpy()
    return Spoken(clip.speaker, rows_of_sound(clip.audio.astype(np.float32)).astype(np.float16), lips - lips.mean(0))


@cache
def clips() -> tuple[tuple[Spoken, ...], tuple[Spoken, ...]]:
    """Clips to learn from, lips in units of their deviation, and those of kept-out speakers to judge by."""
    encoder, model = PhoneEncoder.pretrained(), FaceModel.pretrained()
    mark = hashlib.sha256(weights.path("phones").read_bytes()).hexdigest()
    found = [c for c in moda.in_step(moda.clips(), encoder, mark) if c.kind == "talking" and len(c.audio)]
    every = [spoken(clip, model) for clip in found]
    return evened([one for one in every if one.speaker not in moda.JUDGES]), tuple(
        one for one in every if one.speaker in moda.JUDGES
    )


def evened(clips: Sequence[Spoken]) -> tuple[Spoken, ...]:
    """``clips`` with every mouth opening about as far, and every number with a deviation of 1 over all."""
    usual = float(np.mean([one.lips[:, 0].std() for one in clips]))
    scaled = [one.lips * usual / max(LEAST * usual, float(one.lips[:, 0].std())) for one in clips]
    spread = np.concatenate(scaled).std(0) + 1e-6
    return tuple(
        Spoken(one.speaker, one.rows, (lips / spread).astype(np.float32))
        for one, lips in zip(clips, scaled, strict=True)
    )


def batches(
    clips: Callable[[], Sequence[Spoken]],
    speech: Callable[[int], Callable[[int], phones.Batch]],
    *,
    size: int = 16,
    frames: int = 100,
) -> Callable[[int], Callable[[int], Batch]]:
    """Seed -> step -> batch of ``size`` excerpts of ``frames`` frames with lips, and the phones of ``speech``."""

    def seeded(seed: int) -> Callable[[int], Batch]:
        held, phones_at, bank = clips(), speech(seed), mixing.noises(seed)
        talk = sound(held)
        seen = Counter[str]()
        for one in held:
            seen[one.speaker] += len(one.lips)
        share = np.array([len(o.lips) / seen[o.speaker] * min(seen[o.speaker], ENOUGH) ** EVENNESS for o in held])
        share /= share.sum()

        def batch_at(step: int) -> Batch:
            rng = np.random.default_rng([seed, step, 7])
            chosen = [_cut(rng, held[i], frames) for i in rng.choice(len(held), size, p=share)]
            rows = torch.from_numpy(np.stack([_disturbed(rng, one[0], talk, bank) for one in chosen]))
            rows = phones.levelled(rows, torch.from_numpy(rng.random(size) < 0.5))
            masked = np.stack([mixing.masked(rng, r) for r in rows.numpy()])
            lips, valid = (torch.from_numpy(np.stack([one[n] for one in chosen])) for n in (1, 2))
            return Batch(torch.from_numpy(masked), lips, valid, phones_at(step))

        return batch_at

    return seeded


def sound(clips: Sequence[Spoken]) -> Corpus:
    """What is heard in ``clips``, as a corpus without labels."""
    rows = [one.rows for one in clips]
    return Corpus(np.concatenate(rows), np.zeros(sum(map(len, rows)), np.uint8), np.cumsum([0, *map(len, rows)]))


def _cut(rng: np.random.Generator, one: Spoken, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random excerpt: rows, lips, and which frames there are; short clips end in their own quietest sound."""
    there = min(len(one.lips), len(one.rows) // PER_FRAME)
    count = min(there, frames)
    at = int(rng.integers(0, there - count + 1))
    sound = one.rows[PER_FRAME * at : PER_FRAME * (at + count)].astype(np.float32)
    rows = np.concatenate([sound, np.broadcast_to(sound.min(0), (PER_FRAME * (frames - count), BANDS))])
    lips = np.zeros((frames, one.lips.shape[1]), np.float32)
    lips[:count] = one.lips[at : at + count]
    return rows, lips, (np.arange(frames) < count).astype(np.float32)


def _disturbed(rng: np.random.Generator, rows: np.ndarray, talk: Corpus, bank: mixing.Bank) -> np.ndarray:
    """Another throat, room, microphone and level; tempo stays, for the lips keep time."""
    if rng.random() < 0.7:
        rows = mixing.throat(rng, rows)
    if rng.random() < 0.3:
        rows = mixing.room(rng, rows)
    if rng.random() < 0.5:
        rows = mixing.add(rows, mixing.noise_bed(rng, bank, talk, len(rows)), rng.uniform(5, 30))
    if rng.random() < 0.6:
        rows = mixing.microphone(rng, rows)
    return (rows + rng.normal(0, 0.15, rows.shape) + rng.uniform(-4.0, 1.5)).astype(np.float32)


class Listener(nn.Module):
    """The phone network and a linear reading of lips from what it gives around each frame."""

    def __init__(self, config: PhoneConfig, lips: int) -> None:
        super().__init__()
        self.network = PhoneNetwork(config)
        given = config.hidden + self.network.classify.out_features
        self.read = nn.Conv1d(given, lips, BACK + 2 + AHEAD)

    def forward(self, rows: Float[Tensor, "b n 64"]) -> Float[Tensor, "b t k"]:
        """Lips of every frame from normalised log-mel rows."""
        logits, hidden, _ = self.network(rows, self.network.start(len(rows)))
        heard = torch.cat([hidden, 3 * logits.softmax(-1)], -1).mT
        frames = rows.shape[1] // PER_FRAME
        return self.read(pad(heard, (BACK, AHEAD + 2 * frames - heard.shape[2] + 2)))[..., ::2].mT[:, :frames]


class LipTask:
    """Phones and lips at once; judged by the lip opening of speakers kept out of training, and by unseen voices."""

    def __init__(
        self,
        phone_task: phones.PhoneTask,
        judges: Sequence[Spoken],
        *,
        lips: int = 1 + SHAPES,
        start: str | Path | None = None,
        weight: float = 1.0,
    ) -> None:
        self.phone_task, self.judges, self.weight = phone_task, judges, weight
        self.listener = Listener(phone_task.network.config, lips)
        phone_task.network = self.listener.network
        if start is not None:
            weights.load_into(self.listener.network, start).train().requires_grad_(True)
        self.importance = torch.ones(lips)
        self.importance[0] = max(1, lips - 1)  # the opening counts as much as all the rest
        self.importance /= self.importance.mean()

    def players(self) -> Mapping[str, nn.Module]:
        """See :class:`vivavoce.train.tasks.Task`."""
        return {"listener": self.listener}

    def objectives(self, batch: Batch, rng: torch.Generator) -> Iterator[Objective]:
        """See :class:`vivavoce.train.tasks.Task`. Every excerpt counts about its own mean, guessed and true."""
        there = batch.valid[..., None]

        def centred(values: Tensor) -> Tensor:
            return values - (values * there).sum(1, keepdim=True) / there.sum(1, keepdim=True)

        wrong = (centred(self.listener(batch.rows)) - centred(batch.lips)).square() * self.importance * there
        lips = wrong.sum() / there.sum() / wrong.shape[-1]
        phone = next(iter(self.phone_task.objectives(batch.phones, rng))).loss
        notes = {"lips": float(lips.detach()), "phones": float(phone.detach())}
        yield Objective("listener", phone + self.weight * lips, notes)

    def judge(self) -> Mapping[str, float]:
        """See :class:`vivavoce.train.tasks.Task`."""
        found, frames = [], []
        for one in self.judges:
            rows = torch.from_numpy(one.rows.astype(np.float32))[None, : len(one.rows) // PER_FRAME * PER_FRAME]
            guess = self.listener(normalised(rows, Level.start(1))[0])[0, :, 0].detach().numpy()
            count = min(len(guess), len(one.lips))
            found.append(np.corrcoef(guess[:count], one.lips[:count, 0])[0, 1])
            frames.append(count)
        return {**self.phone_task.judge(), "lip opening": float(np.average(found, weights=frames))}

    def export(self, out: Path) -> Mapping[str, Any]:
        """See :class:`vivavoce.train.tasks.Task`: the phone encoder alone, as :mod:`vivavoce.recipes.phones` does."""
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in self.listener.network.state_dict().items()}
        weights.write(out / "phones.safetensors", tensors, config=asdict(self.listener.network.config))
        return {"kept out": dict(self.judge())}


def main() -> Recipe:
    """The packaged weights."""
    return Recipe(
        name="lips",
        task=lambda: LipTask(
            phones.PhoneTask(PhoneConfig(), phones.unseen), clips()[1], start=os.environ.get(START, "phones")
        ),
        data=batches(lambda: clips()[0], phones.learning),
        steps=200,  # the lips of few speakers are soon known by heart: 500 steps foretell strangers less well
        lr={"listener": 1e-3},
        warm_up=40,
        weight_decay=0.02,
        ema=0.99,
        judge_every=100,
        facts={"data": "as for phones, and the lips of the training split's talking clips, judges left out"},
    )
