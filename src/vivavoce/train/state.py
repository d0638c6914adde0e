"""What a run must remember to go on to exactly the same numbers, in one safetensors file replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vivavoce.errors import InputError

Weights = dict[str, Tensor]


@dataclass(slots=True)
class Progress:
    """Where a run stands. ``step`` is the next step to take; ``best`` is the best figure so far."""

    recipe: str
    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = -1


@dataclass(slots=True)
class State:
    """Networks, optimisers, averages and progress of one run; mutable, owned by the loop."""

    progress: Progress
    players: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    average: dict[str, Weights] = field(default_factory=dict)  # exponential moving average per player
    kept: dict[str, Weights] = field(default_factory=dict)  # the averaged weights that judged best

    def follow(self, decay: float) -> None:
        """Move the averages towards the networks; ``decay`` 0 copies. Buffers and integers are copied."""
        rate = 1 - min(decay, (1 + self.progress.step) / (10 + self.progress.step)) if decay else 1.0
        for name, net in self.players.items():
            held = self.average.setdefault(name, {})
            learned = dict(net.named_parameters())
            for key, value in net.state_dict().items():
                if key in learned and key in held:
                    held[key].lerp_(value, rate)
                else:
                    held[key] = value.clone()

    def keep(self) -> None:
        """Remember the averages as the best so far."""
        self.kept = {name: {k: v.clone() for k, v in held.items()} for name, held in self.average.items()}

    def save(self, path: Path) -> None:
        """Write everything to ``path``; a crash while writing leaves the previous file."""
        tensors: Weights = {}
        for name, net in self.players.items():
            tensors |= {f"net/{name}/{key}": value for key, value in net.state_dict().items()}
            for index, entry in self.optimizers[name].state_dict()["state"].items():
                tensors |= {f"optimizer/{name}/{index}/{key}": value for key, value in entry.items()}
        for title, group in (("average", self.average), ("kept", self.kept)):
            for name, held in group.items():
                tensors |= {f"{title}/{name}/{key}": value for key, value in held.items()}
        part = path.with_name(path.name + ".part")
        # Copies: safetensors refuses tensors that share memory, which tied weights do.
        plain = {key: value.detach().clone().contiguous().cpu() for key, value in tensors.items()}
        save_file(plain, part, metadata={"progress": json.dumps(asdict(self.progress))})
        part.replace(path)

    def load(self, path: Path) -> None:
        """Inverse of :meth:`save`. Raises :class:`InputError` when the file is not a checkpoint of this recipe."""
        progress, tensors = read_checkpoint(path)
        if progress.recipe != self.progress.recipe:
            raise InputError(f"{path} belongs to recipe {progress.recipe!r}, not {self.progress.recipe!r}")
        for name, net in self.players.items():
            try:
                net.load_state_dict(_below(tensors, f"net/{name}/"))
            except RuntimeError as error:
                raise InputError(f"{path} was made by another version of {progress.recipe!r}: {error}") from None
            optimizer, entries = self.optimizers[name], {}
            for key, value in _below(tensors, f"optimizer/{name}/").items():
                index, _, field_name = key.partition("/")
                entries.setdefault(int(index), {})[field_name] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": entries, "param_groups": groups})
            now = net.state_dict()
            for group, held in (("average", self.average), ("kept", self.kept)):
                if found := _below(tensors, f"{group}/{name}/"):
                    held[name] = {key: value.to(now[key].device) for key, value in found.items()}
        self.progress = progress


def read_checkpoint(path: Path) -> tuple[Progress, Weights]:
    """Progress and tensors of a checkpoint file.

    Raises :class:`InputError` when it is missing, cut short or something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            progress = Progress(**json.loads((file.metadata() or {})["progress"]))
            return progress, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a checkpoint of a training run ({error})") from None


def _below(tensors: Weights, prefix: str) -> Weights:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
