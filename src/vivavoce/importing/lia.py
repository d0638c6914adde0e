"""Published LIA checkpoints, alone or inside FLOAT's -> ``lia.safetensors``, strictly name by name.

The published layers multiply their weights by a constant of their size whenever they run; here that is done once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.importing.checkpoints import Checkpoint, find, matched, publish, read
from vivavoce.nets.lia import Lia, LiaConfig

NAME = "lia"  # of the weight file in its folder
SYSTEM = "lia"  # in its header
# Of several in one folder the first is taken: faces before whole bodies.
FILES = ("vox.pt", "ted.pt", "taichi.pt", "float.pth", "FLOAT.safetensors", "lia.pt", "lia.pth")
ENTRY = "gen"  # of a training run's checkpoint
INSIDE_FLOAT = "motion_autoencoder"
# Published and never used when pictures are made: a first colour layer that nothing calls, strengths of a noise that is
# never given, and the fixed taps of blurs.
LEFT_BEHIND = (r"dec\.to_rgb1\..+", r"dec\.(?:conv1|convs\.\d+)\.noise\.weight", r".+\.kernel")

_FIXED = {
    "dec.direction.weight": "directions.weight",
    "dec.input.input": "synthesis.start",
    "enc.net_app.convs.0.0.weight": "encoder.enter.weight",
    "enc.net_app.convs.0.1.bias": "encoder.enter.bias",
}
_STYLED = {
    "conv.weight": "weight",
    "conv.modulation.weight": "style.weight",
    "conv.modulation.bias": "style.bias",
    "activate.bias": "bias",
}
_FLOW = {
    "conv.weight": "tell.weight",
    "bias": "tell.bias",
    "conv.modulation.weight": "style.weight",
    "conv.modulation.bias": "style.bias",
}
_HALVING = {
    "conv1.0.weight": "conv.weight",
    "conv1.1.bias": "conv.bias",
    "conv2.1.weight": "halve.weight",
    "conv2.2.bias": "halve.bias",
    "skip.1.weight": "skip.weight",
}
_PAINT = {"conv.0.weight": "paint.weight", "conv.1.bias": "paint.bias", "bias": "bias"}
_LISTED = re.compile(
    r"(enc\.net_app\.convs|enc\.fc|dec\.convs|dec\.to_flows|dec\.to_rgbs|dec\.conv1)\.(?:(\d+)\.)?(.+)"
)


def renamed(key: str) -> str | None:
    """Published name -> ours; ``None`` for what is left behind; unknown names stay as they are."""
    if any(re.fullmatch(pattern, key) for pattern in LEFT_BEHIND):
        return None
    if key in _FIXED:
        return _FIXED[key]
    found = _LISTED.fullmatch(key)
    return _listed(found[1], int(found[2] or 0), found[3]) or key if found else key


def _listed(kind: str, place: int, rest: str) -> str | None:
    """The name of layer ``place`` of a published list, or ``None`` if no layer there has such a weight."""
    if (kind, rest) == ("enc.net_app.convs", "weight"):
        return "encoder.leave.weight"
    level = f"synthesis.levels.{place // 2 if kind == 'dec.convs' else place}"
    where, names = {
        "enc.fc": (f"encoder.read.{place}", {"weight": "weight", "bias": "bias"}),
        "enc.net_app.convs": (f"encoder.blocks.{place - 1}", _HALVING),
        "dec.conv1": ("synthesis.first", _STYLED),
        "dec.convs": (f"{level}.{'conv' if place % 2 else 'enlarge'}", _STYLED),
        "dec.to_flows": (f"{level}.flow", _FLOW),
        "dec.to_rgbs": (level, _PAINT),
    }[kind]
    return f"{where}.{names[rest]}" if rest in names else None


def configured(tensors: Mapping[str, Shaped[Tensor, "..."]], what: str) -> LiaConfig:
    """The sizes of the network that ``tensors``, by published name, belong to.

    Raises:
        InputError: they lack what says the sizes, or are no LIA of width 1.
    """
    places = {int(found[1]) for key in tensors if (found := re.fullmatch(r"dec\.to_flows\.(\d+)\..+", key))}
    code = tensors.get("dec.direction.weight")
    if not places or code is None or code.ndim != 2:
        raise InputError(f"{what} is something else: it has no flows and directions as a LIA checkpoint has")
    if not 1 <= len(places) <= 8 or not 1 <= code.shape[1] <= len(code):  # beyond, pictures and codes grow absurd
        raise InputError(f"{what} has {len(places)} levels and {code.shape[1]} directions, which no LIA has")
    return LiaConfig(size=4 << len(places), motion=code.shape[1])


def mapped(
    tensors: Mapping[str, Shaped[Tensor, "..."]], what: str
) -> tuple[LiaConfig, dict[str, Float[Tensor, "..."]]]:
    """Sizes, and the tensors under our names, ready to be loaded.

    Args:
        tensors: by published name.
        what: how messages call them.

    Raises:
        InputError: naming what is missing, unknown, of the wrong shape, or not finite.
    """
    config = configured(tensors, what)
    with torch.device("meta"):
        wanted = {key: tuple(value.shape) for key, value in Lia(config).state_dict().items()}
    here = {key: _squeezed(key, value) for key, value in tensors.items()}
    found = matched(here, wanted, what=what, rename=renamed)
    return config, {key: folded(key, value.float()) for key, value in found.items()}


def _squeezed(key: str, value: Tensor) -> Tensor:
    """Without the ones that published shapes begin with (batch) or, in biases, end with."""
    if key.endswith(("conv.weight", "input.input")) and value.ndim > 3 and len(value) == 1:
        return value[0]
    return value.flatten() if key.endswith("bias") and value.ndim == 4 else value


def folded(name: str, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """A published weight, under our name, times what its layer multiplies it by: one over the root of its inputs."""
    if not name.endswith("weight") or name == "directions.weight":
        return value
    return value / math.sqrt(value[0].numel())


def convert(source: Path, out: Path) -> Path:
    """Read a published LIA checkpoint under ``source`` and write ``out/lia.safetensors`` with its card.

    Args:
        source: the checkpoint (``vox.pt``, ``ted.pt`` or ``taichi.pt`` of LIA, ``float.pth`` or its copy as
            safetensors of FLOAT, or a file of either layout under any name), or a folder that has one within.
        out: a folder, made if need be.

    Raises:
        InputError: there is no such checkpoint, or it is not what it should be, saying what is wrong.
    """
    file = source if source.is_file() else find(source, FILES)
    if file is None:
        raise InputError(f"{source} has no LIA checkpoint (looked for {', '.join(FILES)} in it and its folders)")
    checkpoint = read(file, only=ENTRY)
    tensors = checkpoint.under(INSIDE_FLOAT) or dict(checkpoint.tensors)
    config, ours = mapped(tensors, f"{file.name} (LIA)")
    card = _card(checkpoint, tensors, config, ours)
    return publish(out, NAME, ours, card, system=SYSTEM, config=asdict(config))


def _card(found: Checkpoint, tensors: Mapping[str, Tensor], config: LiaConfig, ours: Mapping[str, Tensor]) -> str:
    left = sorted(key for key in tensors if renamed(key) is None)
    inside = bool(found.under(INSIDE_FLOAT))
    whose = (
        "inside FLOAT (Ki et al. 2024), CC BY-NC-ND 4.0: no commercial use, and changed copies such as this one may "
        "not be passed on"
        if inside
        else "Inria's licence for LIA: non-commercial, research and evaluation use only; pass its text on with this"
    )
    return f"""# lia.safetensors

The networks of LIA, the latent image animator (Wang et al. 2022, https://github.com/wyhsirius/LIA), imported.

| | |
|---|---|
| Source | `{found.file.name}`, SHA-256 `{found.sha256}` |
| Licence | that of the source. {whose} |
| Pictures | {config.size} x {config.size} |
| Motion | {config.motion} numbers a frame |
| Parameters | {sum(value.numel() for value in ours.values()):,} |
| Changed | names; the constants that published layers multiply their weights by are multiplied in |
| Left behind, because nothing uses it | {", ".join(f"`{key}`" for key in left)} |
"""
