"""LivePortrait's published files -> ``liveportrait.safetensors``, key by key."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.importing.checkpoints import COUNTERS, Checkpoint, Shape, find, matched, publish, read
from vivavoce.nets.liveportrait import NAME, Networks, NetworksConfig
from vivavoce.weights.systems import shapes

Rules = tuple[tuple[str, str], ...]  # patterns of published names and what they become here; the first that fits counts
Tensors = dict[str, Tensor]

_MODULATIONS: Rules = tuple(
    (rf"(.*)norm_{old}\.{before}(weight|bias)", rf"\1modulate_{new}.{after}\2")
    for old, new in (("0", "in"), ("1", "out"), ("s", "short"))
    for before, after in ((r"mlp_shared\.0\.", "shared."), (r"mlp_gamma\.", "gain."), (r"mlp_beta\.", "offset."))
)
_MLP: Rules = ((r"mlp\.(\d+\.\w+)", r"\1"),)


@dataclass(frozen=True, slots=True)
class Published:
    """How one network was published."""

    part: str  # our name of it
    what: str  # for messages
    file: str  # without suffix
    rules: Rules
    entries: tuple[str, ...] = ()  # prefixes in a file of several networks, either of which may be used
    expected: Callable[[dict[str, Shape]], dict[str, Shape]] = dict  # shapes here -> shapes there, under our names
    finish: Callable[[Tensors], Tensors] = dict  # the reverse, with values


def _wide_gains(wanted: dict[str, Shape]) -> dict[str, Shape]:
    return {k: (1, 1, 1, *s) if k.endswith((".gain", ".offset")) else s for k, s in wanted.items()}


def _flat_gains(found: Tensors) -> Tensors:
    return {k: v.flatten() if k.endswith((".gain", ".offset")) else v for k, v in found.items()}


def _spectral(name: str) -> bool:
    return re.search(r"\.conv_(in|out|short)\.weight$", name) is not None


def _split_shapes(wanted: dict[str, Shape]) -> dict[str, Shape]:
    """The decoder keeps gains and offsets apart, and kernels beside the vectors that measure their norm."""
    there: dict[str, Shape] = {}
    for name, shape in wanted.items():
        if ".gain_offset." in name:
            for half in ("gain", "offset"):
                there[name.replace("gain_offset", half)] = (shape[0] // 2, *shape[1:])
        elif _spectral(name):
            there[f"{name}_orig"] = shape
            there[f"{name}_u"] = shape[:1]
            there[f"{name}_v"] = (shape[1] * shape[2] * shape[3],)
        else:
            there[name] = shape
    return there


def _joined(found: Tensors) -> Tensors:
    """Kernels divided by their spectral norm (Miyato et al. 2018), gains and offsets in one convolution each."""
    here: Tensors = {}
    for name, value in found.items():
        if name.endswith("_orig"):
            plain = name.removesuffix("_orig")
            u, v = found[f"{plain}_u"], found[f"{plain}_v"]
            norm = torch.dot(u.double(), value.double().flatten(1) @ v.double())
            if not norm.abs() > 0:
                raise InputError(f"the decoder does not fit: the spectral norm of {plain} is {norm:g}")
            here[plain] = (value.double() / norm).to(value.dtype)
        elif ".gain." in name:
            here[name.replace(".gain.", ".gain_offset.")] = torch.cat([value, found[name.replace("gain", "offset")]])
        elif ".offset." not in name and not name.endswith(("_u", "_v")):
            here[name] = value
    return here


FILES = (
    Published(
        "appearance",
        "the appearance feature extractor",
        "appearance_feature_extractor",
        (
            (r"first\.(.*)", r"stem.\1"),
            (r"down_blocks\.(.*)", r"down.\1"),
            (r"second\.(.*)", r"unfold.\1"),
            (r"resblocks_3d\.3dr(\d+)\.(conv|norm)1\.(.*)", r"refine.\1.\2_in.\3"),
            (r"resblocks_3d\.3dr(\d+)\.(conv|norm)2\.(.*)", r"refine.\1.\2_out.\3"),
        ),
    ),
    Published(
        "motion",
        "the motion extractor",
        "motion_extractor",
        (
            (r"detector\.downsample_layers\.0\.(.*)", r"stem.\1"),
            *((rf"detector\.downsample_layers\.{n + 1}\.(.*)", rf"down.{n}.\1") for n in range(3)),
            (r"detector\.stages\.(\d+\.\d+)\.dwconv\.(.*)", r"stages.\1.depthwise.\2"),
            (r"detector\.stages\.(\d+\.\d+)\.pwconv1\.(.*)", r"stages.\1.widen.\2"),
            (r"detector\.stages\.(\d+\.\d+)\.pwconv2\.(.*)", r"stages.\1.narrow.\2"),
            (r"detector\.stages\.(\d+\.\d+)\.grn\.gamma", r"stages.\1.gain"),
            (r"detector\.stages\.(\d+\.\d+)\.grn\.beta", r"stages.\1.offset"),
            (r"detector\.stages\.(\d+\.\d+)\.norm\.(.*)", r"stages.\1.norm.\2"),
            (r"detector\.norm\.(.*)", r"norm.\1"),
            (r"detector\.fc_kp\.(.*)", r"heads.canonical.\1"),
            (r"detector\.fc_t\.(.*)", r"heads.translation.\1"),
            (r"detector\.fc_exp\.(.*)", r"heads.expression.\1"),
            (r"detector\.fc_(scale|pitch|yaw|roll)\.(.*)", r"heads.\1.\2"),
        ),
        expected=_wide_gains,
        finish=_flat_gains,
    ),
    Published(
        "warping",
        "the warping network",
        "warping_module",
        (
            (r"dense_motion_network\.hourglass\.encoder\.down_blocks\.(.*)", r"hourglass.down.\1"),
            (r"dense_motion_network\.hourglass\.decoder\.up_blocks\.(.*)", r"hourglass.up.\1"),
            (r"dense_motion_network\.hourglass\.decoder\.((?:conv|norm)\..*)", r"hourglass.last.\1"),
            (r"dense_motion_network\.norm\.(.*)", r"compress_norm.\1"),
            (r"dense_motion_network\.((?:mask|compress|occlusion)\..*)", r"\1"),
            (r"third\.(.*)", r"mix.\1"),
            (r"fourth\.(.*)", r"out.\1"),
        ),
    ),
    Published(
        "decoder",
        "the decoder",
        "spade_generator",
        (
            *_MODULATIONS,
            (r"(.*\.)conv_0\.(.*)", r"\1conv_in.\2"),
            (r"(.*\.)conv_1\.(.*)", r"\1conv_out.\2"),
            (r"(.*\.)conv_s\.(.*)", r"\1conv_short.\2"),
            (r"fc\.(.*)", r"first.\1"),
            (r"conv_img\.0\.(.*)", r"colour.\1"),
        ),
        expected=_split_shapes,
        finish=_joined,
    ),
    *(
        Published(part, what, "stitching_retargeting_module", _MLP, (entry, f"{entry}_module"))
        for part, what, entry in (
            ("stitching", "the stitching network", "retarget_shoulder"),
            ("eyes", "the eye retargeting network", "retarget_eye"),
            ("lips", "the lip retargeting network", "retarget_mouth"),
        )
    ),
)
_BLOCKS = ((r"^G_middle_(\d+)\.", r"middle.\1."), (r"^up_0\.", "twice."), (r"^up_1\.", "fourfold."))


def import_liveportrait(source: Path, out: Path, config: NetworksConfig | None = None) -> Path:
    """Read the published files under ``source`` and write ``liveportrait.safetensors`` and its card to ``out``.

    Args:
        source: folder with ``appearance_feature_extractor``, ``motion_extractor``, ``warping_module``,
            ``spade_generator`` and ``stitching_retargeting_module``, each ``.safetensors`` or ``.pth``, however deep.
        out: folder to write to; made if need be.
        config: widths, when they are not the published ones.

    Raises:
        InputError: a file is missing, unsafe, damaged or of another network; nothing is written then.
    """
    config = config or NetworksConfig()
    with torch.device("meta"):
        wanted = shapes(Networks(config))
    files = {published.file: _file(source, published) for published in FILES}
    tensors: Tensors = {}
    sources: dict[str, str] = {}
    for name, networks in groupby(FILES, lambda published: published.file):
        checkpoint = read(files[name])  # one file in memory at a time
        sources[checkpoint.file.name] = checkpoint.sha256
        for published in networks:
            part = _part(checkpoint, published, wanted)
            tensors |= {f"{published.part}.{key}": value.float() for key, value in part.items()}
    card = _card(sources, tensors)
    return publish(out, NAME, tensors, card, system=NAME, config=asdict(config), sources=sources)


def _file(source: Path, published: Published) -> Path:
    names = [f"{published.file}.safetensors", f"{published.file}.pth"]
    file = find(source, names)
    if file is None:
        raise InputError(f"{source} has no {names[0]} or {names[1]} ({published.what})")
    return file


def _part(checkpoint: Checkpoint, published: Published, wanted: Mapping[str, Shape]) -> Tensors:
    """One network's tensors under our names."""
    what = f"{checkpoint.file} ({published.what})"
    found: Mapping[str, Tensor] = checkpoint.tensors
    if published.entries:
        found = next((entry for name in published.entries if (entry := checkpoint.under(name))), {})
        if not found:
            raise InputError(f"{what} has no entry {' or '.join(published.entries)}")
    start = f"{published.part}."
    here = {key.removeprefix(start): shape for key, shape in wanted.items() if key.startswith(start)}
    there = published.expected(here)
    return published.finish(matched(found, there, what=what, rename=lambda key: _renamed(key, published.rules)))


def _renamed(key: str, rules: Rules) -> str | None:
    if key.rpartition(".")[2] == COUNTERS:
        return None
    for pattern, replacement in _BLOCKS:
        key = re.sub(pattern, replacement, key)
    for pattern, replacement in rules:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, replacement, key)
    return key


def _card(sources: Mapping[str, str], tensors: Tensors) -> str:
    counts = "\n".join(
        f"| {p.part} | {p.file} | {sum(v.numel() for k, v in tensors.items() if k.startswith(p.part + '.')):,} |"
        for p in FILES
    )
    hashes = "\n".join(f"- `{name}`: sha256 {checksum}" for name, checksum in sources.items())
    return f"""# liveportrait: networks of a LivePortrait-compatible renderer

Made by `vivavoce import liveportrait` from files published by the LivePortrait project (Guo et al. 2024,
https://github.com/KwaiVGI/LivePortrait), whose code and weights are under the MIT licence. Keep that licence with
these weights. Its face detector (InsightFace, non-commercial) is not used and not imported.

| network | published file | numbers |
|---|---|---|
{counts}

Changed on the way: spectral norms are divided out, the decoder's gains and offsets share one convolution each, batch
counters are left behind. Values are otherwise as published.

Source files:

{hashes}
"""
