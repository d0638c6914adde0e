"""Train the sync expert on prepared clips: which of two mouths says this sound?

``vivavoce train sync-expert --out DIR``; ``vivavoce train moda-synced`` then learns from it (its file is named by the
environment variable ``VIVAVOCE_SYNC``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivavoce import weights
from vivavoce.data.batches import Batch, Cut, Take, feed
from vivavoce.face.model import FaceModel
from vivavoce.motion import lips
from vivavoce.nets.sync import SPAN, SyncConfig, SyncExpert
from vivavoce.recipes import moda
from vivavoce.train.loop import Recipe
from vivavoce.train.tasks import Objective

EXPERT = "VIVAVOCE_SYNC"
SHIFTS = (3, 4, 5, 6, 8, 10)  # frames by which false lips are late, to either side
FRAMES = 32


def readings(model: FaceModel) -> Float[Tensor, "32 k"]:
    """Expression coefficients -> the numbers the expert sees of a mouth: opening, and ten main movements."""
    return torch.cat([lips.opening(model)[:, None], lips.shape(model)], dim=1)


class SyncTask:
    """Tell true from shifted."""

    def __init__(self, takes: Sequence[Take], judges: Sequence[Take], model: FaceModel) -> None:
        self.read, self.judges = readings(model), judges
        self.expert = SyncExpert(SyncConfig(moda.features_of(takes), self.read.shape[1]))
        heard = torch.from_numpy(np.concatenate([one.audio for one in takes if one.audio is not None]))
        self.expert.audio_mean.copy_(heard.mean(0))
        self.expert.audio_std.copy_(heard.std(0).clamp(min=1e-2))
        seen = torch.cat([self._lips(torch.from_numpy(one.rows)) for one in takes])
        self.expert.lips_std.copy_(seen.std(0).clamp(min=1e-3))

    def _lips(self, rows: Float[Tensor, "*t d"]) -> Float[Tensor, "*t k"]:
        return rows[..., moda.EXPRESSION] @ self.read

    def players(self) -> Mapping[str, nn.Module]:
        """See :class:`vivavoce.train.tasks.Task`."""
        return {"expert": self.expert}

    def objectives(self, batch: Batch, rng: torch.Generator) -> Iterator[Objective]:
        """See :class:`vivavoce.train.tasks.Task`."""
        shift = SHIFTS[int(torch.randint(len(SHIFTS), (), generator=rng))]
        sign = 1 if torch.rand((), generator=rng) < 0.5 else -1
        known = batch.valid.all(1) & batch.conditions.present[:, 0]
        audio = batch.conditions.audio[known][:, -batch.rows.shape[1] :]
        if len(audio):
            yield Objective("expert", self.expert.telling(audio, self._lips(batch.rows[known]), sign * shift))

    def judge(self) -> Mapping[str, float]:
        """Share of stretches of kept-out speakers whose true lips agree better than the same lips shifted."""
        right, cosines = [], []
        for one in self.judges:
            if one.audio is None or len(one.rows) < max(SHIFTS) + SPAN:
                continue
            audio, seen = torch.from_numpy(one.audio)[None], self._lips(torch.from_numpy(one.rows))[None]
            true = self.expert(audio, seen)
            cosines.append(true.flatten())
            late = [self.expert(audio, seen.roll(shift, 1)) for shift in (*SHIFTS, *(-n for n in SHIFTS))]
            right += [(true > other).float().flatten() for other in late]
        return {"told": float(torch.cat(right).mean()), "cosine": float(torch.cat(cosines).mean())}

    def export(self, out: Path) -> Mapping[str, Any]:
        """See :class:`vivavoce.train.tasks.Task`."""
        save(self.expert, out / "sync.safetensors")
        return {"kept_out": dict(self.judge())}


def save(expert: SyncExpert, file: Path) -> None:
    """Write the expert with its configuration."""
    weights.write(file, expert.state_dict(), config=asdict(expert.config))


def load(file: str | Path) -> SyncExpert:
    """An expert as :func:`save` wrote it, frozen."""
    expert = SyncExpert(SyncConfig(**weights.metadata(file)["config"]))
    return weights.load_into(expert, file)


def expert() -> Recipe:
    """The expert for face-mesh motion and our own phone encoder."""

    def task() -> SyncTask:
        learn, judges = moda.takes()
        return SyncTask(learn, judges, FaceModel.pretrained())

    def data(seed: int) -> Callable[[int], Batch]:
        learn, _ = moda.takes()
        return feed(learn, moda.features_of(learn), Cut(length=FRAMES, size=64, muted=0.0))(seed)

    return Recipe(
        name="sync-expert",
        task=task,
        data=data,
        steps=600,
        lr={"expert": 1e-3},
        warm_up=30,
        weight_decay=0.05,
        ema=0.99,
        judge_every=200,
    )


def toy() -> Recipe:
    """The same at a size that trains in seconds."""
    model = FaceModel.pretrained()
    return Recipe(
        name="toy-sync",
        task=lambda: SyncTask(moda.pretend(6, 0), moda.pretend(2, 1), model),
        data=feed(moda.pretend(6, 0), 4, Cut(size=16, length=20)),
        steps=40,
        lr={"expert": 3e-3},
        ema=0.9,
        judge_every=20,
    )


def synced() -> Recipe:
    """The shipped generator's recipe, also listening to the expert named by ``VIVAVOCE_SYNC``."""
    return moda.moda("moda-synced", expert=lambda: load(os.environ.get(EXPERT, "runs/sync/sync.safetensors")))
