"""What can be trained: networks, and objectives that descend them in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

B = TypeVar("B", contravariant=True)


@dataclass(frozen=True, slots=True)
class Objective:
    """Descend ``loss`` with the optimiser of the player called ``name``; ``notes`` are reported beside it."""

    name: str
    loss: Float[Tensor, ""]
    notes: Mapping[str, float] | None = None


@runtime_checkable
class Task(Protocol[B]):
    """What is trained. One objective per step for flow matching, two for an adversarial renderer."""

    def players(self) -> Mapping[str, nn.Module]:
        """The networks by name, each with its own optimiser."""
        ...

    def objectives(self, batch: B, rng: torch.Generator) -> Iterator[Objective]:
        """Losses of one step. Lazy on purpose: the second is computed after the first one's step."""
        ...

    def judge(self) -> Mapping[str, float]:
        """Figures on data kept out of training (higher is better for the one a recipe keeps); may be empty.

        Called with the averaged weights in place and every player in evaluation mode.
        """
        ...

    def export(self, out: Path) -> Mapping[str, Any]:
        """Write the finished weights under ``out`` and return what their card should say beyond the run's facts.

        Called with the final weights in place and every player in evaluation mode.
        """
        ...
