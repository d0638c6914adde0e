"""The smallest runs: seconds long, so that the loop itself can be tried and tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from vivavoce.train.loop import Recipe, mixed
from vivavoce.train.tasks import Objective


class LineTask:
    """Flow matching of points on a line: the straight-path velocity from noise to ``3 + 0.1 z``."""

    def __init__(self) -> None:
        self.flow = nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Dropout(0.1), nn.Linear(16, 1))

    def players(self) -> Mapping[str, nn.Module]:
        """See :class:`vivavoce.train.tasks.Task`."""
        return {"flow": self.flow}

    def objectives(self, batch: Float[Tensor, "b 1"], rng: torch.Generator) -> Iterator[Objective]:
        """See :class:`vivavoce.train.tasks.Task`."""
        t = torch.rand(len(batch), 1, generator=rng)
        start = torch.randn(batch.shape, generator=rng)
        velocity = self.flow(torch.cat([torch.lerp(start, batch, t), t], dim=1))
        yield Objective("flow", (velocity - (batch - start)).square().mean())

    def judge(self) -> Mapping[str, float]:
        """How near the mean velocity at t = 0 is to the data's mean; 0 is best."""
        return {"nearness": -abs(float(self.flow(torch.zeros(1, 2)).detach()) - 3)}

    def export(self, out: Path) -> Mapping[str, Any]:
        """See :class:`vivavoce.train.tasks.Task`."""
        save_file(self.flow.state_dict(), out / "toy.safetensors")
        return {"heldout": dict(self.judge())}


class DuelTask:
    """Shape of an adversarial renderer: the critic steps first, the painter sees the stepped critic."""

    def __init__(self) -> None:
        self.painter, self.critic = nn.Linear(2, 1), nn.Linear(1, 1)

    def players(self) -> Mapping[str, nn.Module]:
        """See :class:`vivavoce.train.tasks.Task`."""
        return {"critic": self.critic, "painter": self.painter}

    def objectives(self, batch: Float[Tensor, "b 1"], rng: torch.Generator) -> Iterator[Objective]:
        """See :class:`vivavoce.train.tasks.Task`."""
        fake = self.painter(torch.randn(len(batch), 2, generator=rng))
        yield Objective("critic", torch.relu(1 + self.critic(fake.detach()) - self.critic(batch)).mean())
        yield Objective("painter", -self.critic(fake).mean())

    def judge(self) -> Mapping[str, float]:
        """Nothing: a duel has no figure of its own."""
        return {}

    def export(self, out: Path) -> Mapping[str, Any]:
        """See :class:`vivavoce.train.tasks.Task`."""
        save_file(self.painter.state_dict(), out / "toy.safetensors")
        return {}


def _near_three(size: int) -> Callable[[int], Callable[[int], Tensor]]:
    def data(seed: int) -> Callable[[int], Tensor]:
        def batch(step: int) -> Tensor:
            return 3 + 0.1 * torch.randn(size, 1, generator=torch.Generator().manual_seed(mixed(seed, step)))

        return batch

    return data


def motion() -> Recipe:
    """Smallest flow-matching run."""
    return Recipe(
        name="toy-motion",
        task=LineTask,
        data=_near_three(64),
        steps=200,
        lr={"flow": 1e-2},
        warm_up=10,
        ema=0.9,
        judge_every=50,
        keep="nearness",
    )


def duel() -> Recipe:
    """Smallest adversarial run."""
    return Recipe(name="toy-duel", task=DuelTask, data=_near_three(64), steps=400, lr={"critic": 3e-2, "painter": 3e-2})
