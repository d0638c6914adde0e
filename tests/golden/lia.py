"""A published LIA filled with numbers that are the same everywhere, and pictures for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from golden import weights as golden
from torch import Tensor
from torch.nn import functional

SEED = 4
FIR = torch.tensor([1.0, 3.0, 3.0, 1.0])
# Published layers divide their weights by the root of their inputs; flows stay small, so that pictures stay in sight.
SMALL = 0.1


def published(layout: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """A state dictionary under the published names; ``layout`` maps them to shapes."""
    return {key: weight(key, tuple(shape)) for key, shape in layout.items()}


def weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """One weight by its published name."""
    leaf = key.rpartition(".")[2]
    if leaf == "kernel":
        gain = 4.0 if "conv.blur" in key or "upsample" in key else 1.0
        return gain * FIR[:, None] * FIR / FIR.sum() ** 2
    small = SMALL if "to_flows" in key and "modulation" not in key else 1.0
    if leaf == "bias":
        middle = 1.0 if key.endswith("modulation.bias") else 0.0
        return middle + golden.normal(SEED, key, shape, 0.1 * small)
    return golden.normal(SEED, key, shape, small)


def picture(name: str, side: int) -> Tensor:
    """Something smooth with a little noise, [1, 3, side, side] in [-1, 1]."""
    coarse = golden.uniform(SEED, name, (1, 3, 16, 16), -1, 1)
    fine = golden.uniform(SEED, f"{name}, fine", (1, 3, side, side), -0.1, 0.1)
    return 0.9 * functional.interpolate(coarse, size=(side, side), mode="bilinear") + fine
