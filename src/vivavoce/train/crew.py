"""Several processes, on one machine or many, that descend one loss together: what ``accelerate launch`` starts.

The loop asks its crew for the places of its batches and for means over all processes; alone, both are free. Networks
are not wrapped: gradients are averaged as one flat tensor, so tasks can call their players as they like.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivavoce.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Crew:
    """All processes of a run, seen from one of them."""

    accelerator: Accelerator | None = None  # None: alone, on the CPU

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.accelerator.num_processes if self.accelerator else 1

    @property
    def rank(self) -> int:
        """Which of them this is, from 0."""
        return self.accelerator.process_index if self.accelerator else 0

    @property
    def leads(self) -> bool:
        """This one writes files and speaks."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.accelerator.device if self.accelerator else torch.device("cpu")

    @property
    def bf16(self) -> bool:
        """Forward passes in bfloat16 were asked for when the processes were started."""
        return bool(self.accelerator and self.accelerator.mixed_precision == "bf16")

    def places(self, step: int, each: int) -> list[int]:
        """Which batches this process takes at ``step``, ``each`` in number; together, all take consecutive ones."""
        first = (step * self.size + self.rank) * each
        return list(range(first, first + each))

    def wait(self) -> None:
        """Until every process has come here."""
        if self.accelerator:
            self.accelerator.wait_for_everyone()

    def mean(self, values: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Over all processes; the same bits in each."""
        if self.accelerator is None or self.size == 1:
            return values
        averaged = self.accelerator.reduce(values, "mean")
        assert isinstance(averaged, Tensor)  # noqa: S101  (for the type checker: it gives what it takes)
        return averaged

    def average_gradients(self, net: nn.Module) -> None:
        """Put the mean over all processes into every gradient of ``net``.

        A parameter without a gradient here counts as zero if another process has one, and stays without if none has.
        """
        if self.size == 1:
            return
        learned = [p for p in net.parameters() if p.requires_grad]
        there = [p.grad is not None for p in learned]
        shares = self.mean(torch.tensor(there, dtype=torch.float32, device=self.device))
        flat = [torch.zeros_like(p) if p.grad is None else p.grad for p in learned]
        self._replace(flat)
        for parameter, gradient, share in zip(learned, flat, shares.tolist(), strict=True):
            parameter.grad = gradient if share > 0 else None

    def average_buffers(self, nets: Iterable[nn.Module]) -> None:
        """Put the mean over all processes into running statistics, so that every process holds the same networks."""
        if self.size > 1:
            self._replace([b for net in nets for b in net.buffers() if b.is_floating_point()])

    def average_figures(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Mean of every figure; all processes must have the same ones."""
        if self.size == 1:
            return dict(figures)
        names = sorted(figures)
        means = self.mean(torch.tensor([figures[n] for n in names], dtype=torch.float32, device=self.device))
        return dict(zip(names, means.tolist(), strict=True))

    def _replace(self, tensors: list[Tensor]) -> None:
        if not tensors:
            return
        averaged = self.mean(torch.cat([t.detach().flatten().float() for t in tensors]))
        for tensor, part in zip(tensors, averaged.split([t.numel() for t in tensors]), strict=True):
            tensor.detach().copy_(part.view_as(tensor))


def crew() -> Crew:
    """The crew that ``accelerate launch`` (or ``torchrun``) started; without either, one process on the CPU.

    Raises :class:`InputError` when the package is missing, or half precision was asked for, which needs loss scaling.
    """
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION")
    if precision is None and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Crew()
    if precision not in (None, "no", "bf16"):
        raise InputError(f"mixed precision {precision!r} cannot be trained in; 'no' and 'bf16' can")
    try:
        from accelerate import Accelerator
    except ModuleNotFoundError as error:
        raise InputError("training in several processes needs accelerate: pip install 'vivavoce[train]'") from error
    accelerator = Accelerator()
    atexit.register(_part)
    return Crew(accelerator)


def _part() -> None:
    """Let the other processes go: threads that still listen to them can end an interpreter that exits in an abort."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def moved(batch: Any, device: torch.device) -> Any:
    """``batch`` on ``device``: tensors, and those within dataclasses, mappings, lists and tuples."""
    if device.type == "cpu":
        return batch
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if is_dataclass(batch) and not isinstance(batch, type):
        return type(batch)(**{f.name: moved(getattr(batch, f.name), device) for f in fields(batch) if f.init})
    if isinstance(batch, Mapping):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        inside = [moved(value, device) for value in batch]
        return type(batch)(*inside) if hasattr(batch, "_fields") else type(batch)(inside)
    return batch
