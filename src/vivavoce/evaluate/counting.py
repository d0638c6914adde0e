"""Parameters and operations of networks, counted without running them: on PyTorch's ``meta`` device, without memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

GIGA = 1e9


def parameters(module: nn.Module, *, without: str = "") -> int:
    """How many numbers are learned."""
    return sum(value.numel() for key, value in module.named_parameters() if key != without)


def operations(call: Callable[[], Any]) -> float:
    """10^9 operations of ``call``, which runs networks on the ``meta`` device."""
    with FlopCounterMode(display=False) as counted:
        call()
    return counted.get_total_flops() / GIGA


def nothing_in(module: Any) -> Any:
    """A network of the same configuration without memory behind it."""
    with torch.device("meta"):
        return type(module)(module.config).eval().requires_grad_(False)


def below(found: dict[str, int], root: str, module: str) -> int:
    """Operations of a module, or of the modules in a list."""
    own = f"{root}.{module}"
    if own in found:
        return found[own]
    return sum(work for name, work in found.items() if name.startswith(f"{own}.") and name.count(".") == 2)
