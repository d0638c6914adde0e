"""Weights of whole systems in files of their own, as importers and training write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from vivavoce import weights
from vivavoce.errors import InputError
from vivavoce.importing.checkpoints import COUNTERS, Shape, matched

Networks = TypeVar("Networks", bound=nn.Module)


def weight_file(folder: str | Path, system: str, made_by: str) -> Path:
    """The weight file of ``system`` in a folder, or the file itself; ``made_by`` tells users how to get one.

    Raises:
        InputError: there is none.
    """
    place = Path(folder)
    file = place / f"{system}.safetensors" if place.is_dir() else place
    if not file.is_file() or file.suffix != ".safetensors":
        raise InputError(f"there are no {system} weights in {place}: it needs {system}.safetensors, which {made_by}")
    return file


def loaded(file: Path, system: str, make: Callable[[Mapping[str, Any]], Networks]) -> Networks:
    """Networks that ``make`` lays out from a file's configuration, with its tensors; frozen, in single precision.

    Raises:
        InputError: the file is damaged, of another system, or does not fit.
    """
    tensors, header = weights.read(file)
    if header.get("system") != system:
        raise InputError(f"{file} holds weights of {header.get('system', 'something unknown')!r}, not of {system!r}")
    try:
        with torch.device("meta"):
            made = make(header["config"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(f"{file} does not say what its networks look like: {error}") from error
    made.load_state_dict(matched(tensors, shapes(made), what=str(file)), strict=False, assign=True)
    return made.float().eval().requires_grad_(False)


def shapes(network: nn.Module) -> dict[str, Shape]:
    """Shape of every tensor that a file of the network keeps: all but counters of training."""
    return {
        key: tuple(value.shape) for key, value in network.state_dict().items() if key.rpartition(".")[2] != COUNTERS
    }
