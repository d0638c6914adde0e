"""Published DiffTalk checkpoints, and first stages of latent diffusion -> our weights, strictly name by name.

A checkpoint of training holds the denoiser twice: as it was last trained, and as a moving average (EMA) under names
without dots. The average is what the published inference runs, and what is imported where it is there.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from vivavoce.errors import InputError
from vivavoce.importing.checkpoints import PICKLED, SAFE, Checkpoint, matched, read
from vivavoce.nets.difftalk import DiffTalk, DiffTalkConfig, Schedule, save_first_stage
from vivavoce.nets.talk_conditions import TalkConfig
from vivavoce.nets.unet import UNetConfig
from vivavoce.nets.vae import FirstStage, FirstStageConfig
from vivavoce.sampling.ddim import latent_diffusion

STATE = "state_dict"
UNET, FIRST, EMA = "model.diffusion_model", "first_stage_model", "model_ema"
PARTS = {  # of the conditions: published name -> ours
    "cond_stage_model_for_audio": "audio",
    "cond_stage_model_for_audio_smooth": "smooth",
    "cond_stage_model_for_ldm": "landmarks",
}
BETAS = "betas"
# What follows from the betas; and of the training of a first stage, its losses' own networks.
DERIVED = (
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
)
LOSSES = "loss"
# Trainers write down their callbacks by class. The classes stand for nothing here and are never called.
INERT = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.lr_monitor.LearningRateMonitor",
    "main.SetupCallback",
    "main.ImageLogger",
    "main.CUDACallback",
)
_EMA_OWN = ("decay", "num_updates")
_NEAR = 1e-4  # relative, of betas to the table their ends give
_STAGE = re.compile(r"input_blocks\.(\d+)\.")

Tensors = Mapping[str, Shaped[Tensor, "..."]]


def convert(source: Path, out: Path) -> Path:
    """Read a published checkpoint and write ``out/difftalk.safetensors`` with its card.

    A file that has nothing but a first stage becomes ``out/first-stage.safetensors``.

    Args:
        source: the checkpoint, or a folder in which it is the only weight file.
        out: a folder, made if need be.

    Raises:
        InputError: there is no such checkpoint, or it is not what it should be, saying what is wrong.
    """
    file = source if source.is_file() else _only(source)
    found = read(file, only=STATE, inert=INERT)
    what = f"{file.name} (DiffTalk)"
    if f"{UNET}.input_blocks.0.0.weight" in found.tensors:
        made, averaged = networks(found.tensors, what)
        return made.save(out, _card(found, made, averaged))
    stage = first_stage(_without_losses(found.under(FIRST) or found.tensors), f"{file.name} (first stage)")
    return save_first_stage(stage, out, _first_stage_card(found, stage))


def networks(tensors: Tensors, what: str) -> tuple[DiffTalk, bool]:
    """Our networks with the published weights, and whether the denoiser's are averages over training.

    Raises:
        InputError: naming what is missing, unknown or of the wrong shape.
    """
    parts = {part: _under(tensors, part) for part in (UNET, FIRST, EMA, *PARTS)}
    known = {f"{part}.{key}" for part, keys in parts.items() for key in keys} | {BETAS, *DERIVED}
    if stray := sorted(tensors.keys() - known):
        raise InputError(f"{what} does not fit: unknown: {', '.join(stray[:3])}")
    config = DiffTalkConfig(
        first_stage_config(parts[FIRST], what),
        unet_config(parts[UNET], first_stage_config(parts[FIRST], what).latent, what),
        talk_config({part: parts[part] for part in PARTS}, what),
        schedule(tensors.get(BETAS), what),
    )
    try:
        with torch.device("meta"):
            made = DiffTalk(config)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{what} does not fit together: {error}") from error
    _fill(made.first_stage, parts[FIRST], f"{what}, {FIRST}")
    _fill(made.unet, parts[UNET], f"{what}, {UNET}")
    for part, ours in PARTS.items():
        _fill(getattr(made.conditions, ours), parts[part], f"{what}, {part}")
    if parts[EMA]:
        _fill(made.unet, _dotted(parts[EMA], made.unet), f"{what}, {EMA}")
    return made.eval().requires_grad_(False), bool(parts[EMA])


def first_stage(tensors: Tensors, what: str) -> FirstStage:
    """A first stage alone.

    Raises:
        InputError: naming what is missing, unknown or of the wrong shape.
    """
    with torch.device("meta"):
        made = FirstStage(first_stage_config(tensors, what))
    _fill(made, tensors, what)
    return made.eval().requires_grad_(False)


def first_stage_config(tensors: Tensors, what: str) -> FirstStageConfig:
    """The sizes of the first stage that ``tensors`` belong to.

    Raises:
        InputError: they lack what says the sizes, or are no first stage.
    """
    try:
        width, picture = tensors["encoder.conv_in.weight"].shape[:2]
        levels = _count(tensors, r"encoder\.down\.(\d+)\.")
        book = tensors.get("quantize.embedding.weight")
        return FirstStageConfig(
            kind="kl" if book is None else "vq",
            codes=FirstStageConfig().codes if book is None else len(book),
            latent=tensors["post_quant_conv.weight"].shape[1],
            picture=picture,
            width=width,
            multiples=tuple(len(tensors[f"encoder.down.{n}.block.0.conv2.bias"]) // width for n in range(levels)),
            blocks=_count(tensors, r"encoder\.down\.0\.block\.(\d+)\."),
            attention="encoder.mid.attn_1.q.weight" in tensors,
        )
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"{what} is not a first stage of latent diffusion: it has no usable {error}") from error


def unet_config(tensors: Tensors, latent: int, what: str) -> UNetConfig:
    """The sizes of the denoiser that ``tensors`` belong to. Heads are taken to be as wide as published.

    Raises:
        InputError: they lack what says the sizes, or are not a denoiser with transformers.
    """
    try:
        width, into = tensors["input_blocks.0.0.weight"].shape[:2]
        levels: list[list[int]] = [[]]  # widths of the residual blocks, level by level
        attention: set[int] = set()
        for n in range(1, _count(tensors, _STAGE.pattern)):
            if f"input_blocks.{n}.0.op.weight" in tensors:
                levels.append([])
            else:
                levels[-1].append(len(tensors[f"input_blocks.{n}.0.in_layers.2.bias"]))
            if f"input_blocks.{n}.1.norm.weight" in tensors:
                attention.add(len(levels) - 1)
        return UNetConfig(
            latent=latent,
            given=into - latent,
            context=tensors["middle_block.1.transformer_blocks.0.attn2.to_v.weight"].shape[1],
            width=width,
            multiples=tuple(level[0] // width for level in levels),
            blocks=len(levels[0]),
            attention=tuple(sorted(attention)),
        )
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"{what} is not a denoiser of latent diffusion: it has no usable {error}") from error


def talk_config(parts: Mapping[str, Tensors], what: str) -> TalkConfig:
    """The sizes of what encodes speech and landmarks, from the tensors of each published part.

    Raises:
        InputError: they lack what says the sizes.
    """
    audio, smooth, landmarks = (parts[name] for name in PARTS)
    try:
        return TalkConfig(
            features=audio["encoder_conv.0.weight"].shape[1],
            window=1 << _count(audio, r"encoder_conv\.(\d+)\."),
            frames=len(smooth["attentionNet.0.bias"]),
            seen=smooth["attentionConvNet.0.weight"].shape[1],
            landmarks=landmarks["encoder_fc1.0.weight"].shape[1] // 2,
            width=len(audio["encoder_fc1.2.bias"]),
        )
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"{what} has no conditions of DiffTalk: it has no usable {error}") from error


def schedule(betas: Float[Tensor, " t"] | None, what: str) -> Schedule:
    """The noise table of a checkpoint; the published one for a checkpoint that keeps none.

    Raises:
        InputError: it is not a table of latent diffusion.
    """
    if betas is None:
        return Schedule()
    if betas.ndim == 1 and len(betas) > 1:
        start, end = (round(float(betas[n]), 7) for n in (0, -1))
        made = torch.from_numpy(latent_diffusion(max(start, 0.0), max(end, 0.0), len(betas)).betas)
        if start > 0 and bool(((betas - made).abs() <= _NEAR * made).all()):
            return Schedule(start, end, len(betas))
    raise InputError(f"{what} was trained with another noise table than latent diffusion's, which rises by squares")


def _only(folder: Path) -> Path:
    if not folder.exists():
        raise InputError(f"there is no file or folder {folder}")
    found = sorted(file for file in folder.rglob("*") if file.suffix in (*PICKLED, SAFE) and file.is_file())
    if len(found) != 1:
        some = f": {', '.join(file.name for file in found[:3])}" if found else ""
        raise InputError(f"{folder} has {len(found)} weight files{some}; give the file of the DiffTalk checkpoint")
    return found[0]


def _under(tensors: Tensors, part: str) -> dict[str, Tensor]:
    start = f"{part}."
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}


def _without_losses(tensors: Tensors) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if not key.startswith(f"{LOSSES}.")}


def _count(tensors: Iterable[str], numbered: str) -> int:
    """How many different numbers names of tensors have in a place."""
    return len({found[1] for key in tensors if (found := re.match(numbered, key))})


def _dotted(tensors: Tensors, network: nn.Module) -> dict[str, Tensor]:
    """Averages under the names of ``network``: published without dots, behind the name of a wrapper."""
    own = UNET.partition(".")[2]
    names = {f"{own}{key.replace('.', '')}": key for key in network.state_dict()}
    return {names.get(key, key): value for key, value in tensors.items() if key not in _EMA_OWN}


def _fill(network: nn.Module, tensors: Tensors, what: str) -> None:
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    ours = matched(tensors, shapes, what=what)
    network.load_state_dict({key: value.float() for key, value in ours.items()}, assign=True)


def _parameters(network: nn.Module) -> str:
    return f"{sum(value.numel() for value in network.parameters()):,}"


def _card(found: Checkpoint, made: DiffTalk, averaged: bool) -> str:
    plan, talk = made.config.schedule, made.config.conditions
    origin = "their averages over training (EMA)" if averaged else "as last trained: the checkpoint has no averages"
    return f"""# difftalk.safetensors

The networks of DiffTalk (Shen et al. 2023, arXiv 2301.03786), imported.

| | |
|---|---|
| Source | `{found.file.name}`, SHA-256 `{found.sha256}` |
| Licence | that of the source: the public code names none, so ask its authors before you pass this file on |
| Parameters | first stage {_parameters(made.first_stage)}, denoiser {_parameters(made.unet)}, \
conditions {_parameters(made.conditions)} |
| Denoiser's weights | {origin} |
| Predicts | noise; {plan.steps} steps, shares of noise from {plan.start} to {plan.end} by squares |
| Hears | {talk.frames} frames of {talk.window} x {talk.features} speech features, sees {talk.landmarks} landmarks |
| Left behind | the noise tables, which follow from the line above; the trainer's own state |
"""


def _first_stage_card(found: Checkpoint, stage: FirstStage) -> str:
    config = dataclasses.asdict(stage.config)
    size = ", ".join(f"{name} {value}" for name, value in config.items())
    return f"""# first-stage.safetensors

A first stage of latent diffusion (Rombach et al. 2022), imported.

| | |
|---|---|
| Source | `{found.file.name}`, SHA-256 `{found.sha256}` |
| Licence | that of the source |
| Parameters | {_parameters(stage)} |
| Sizes | {size} |
| Left behind | the networks of its losses and the trainer's own state |
"""
