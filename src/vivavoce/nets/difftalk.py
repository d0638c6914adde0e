"""The networks of DiffTalk together: the first stage, the denoiser and what it is told (Shen et al. 2023)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from vivavoce import weights
from vivavoce.errors import InputError
from vivavoce.importing.checkpoints import matched, publish
from vivavoce.nets.talk_conditions import TalkConditions, TalkConfig
from vivavoce.nets.unet import UNet, UNetConfig
from vivavoce.nets.vae import FirstStage, FirstStageConfig
from vivavoce.sampling.ddim import latent_diffusion
from vivavoce.sampling.diffusion import Diffusion

NAME = "difftalk"  # of the weight file in its folder
FIRST_STAGE = "first-stage"  # of a file with the first stage alone

Config = TypeVar("Config")


@dataclass(frozen=True, slots=True)
class Schedule:
    """The noise table of :func:`latent_diffusion` the denoiser was trained with. The defaults are DiffTalk's."""

    start: float = 0.0015
    end: float = 0.0195
    steps: int = 1000

    def table(self) -> Diffusion:
        """The noise of every step."""
        return latent_diffusion(self.start, self.end, self.steps)


@dataclass(frozen=True, slots=True)
class DiffTalkConfig:
    """Sizes of all networks; the defaults are the published ones, for pictures of 256 x 256."""

    first_stage: FirstStageConfig = field(default_factory=FirstStageConfig)
    unet: UNetConfig = field(default_factory=UNetConfig)
    conditions: TalkConfig = field(default_factory=TalkConfig)
    schedule: Schedule = field(default_factory=Schedule)

    @classmethod
    def of(cls, values: Mapping[str, Mapping[str, Any]]) -> DiffTalkConfig:
        """From what ``dataclasses.asdict`` gave, possibly through JSON."""
        kinds = {"first_stage": FirstStageConfig, "unet": UNetConfig, "conditions": TalkConfig, "schedule": Schedule}
        return cls(**{name: restored(kind, values[name]) for name, kind in kinds.items()})


class DiffTalk(nn.Module):
    """Every network of the system. :meth:`load` makes one that is ready to run; called plainly, one to train."""

    def __init__(self, config: DiffTalkConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DiffTalkConfig()
        first, unet = config.first_stage, config.unet
        if unet.latent != first.latent or unet.given != 2 * first.latent:
            raise ValueError(f"a denoiser of {unet.latent} + {unet.given} channels for latents of {first.latent}")
        if unet.context != config.conditions.context:
            raise ValueError(f"a denoiser told {unet.context} numbers, conditions of {config.conditions.context}")
        self.first_stage = FirstStage(first)
        self.unet = UNet(unet)
        self.conditions = TalkConditions(config.conditions)

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> DiffTalk:
        """Networks from a folder (or file) that ``vivavoce import difftalk`` or training wrote; frozen.

        Raises:
            InputError: there are no such weights, they are damaged, of another system, or do not fit.
        """
        file = weight_file(folder)
        tensors, header = weights.read(file)
        if header.get("system") != NAME:
            raise InputError(f"{file} holds weights of {header.get('system', 'something unknown')!r}, not of {NAME!r}")
        try:
            config = DiffTalkConfig.of(header["config"])
            with torch.device("meta"):
                made = cls(config)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise InputError(f"{file} does not say what its networks look like: {error}") from error
        shapes = {key: tuple(value.shape) for key, value in made.state_dict().items()}
        made.load_state_dict(matched(tensors, shapes, what=str(file)), assign=True)
        return made.float().eval().requires_grad_(False).to(device)

    def save(self, folder: Path, card: str, **more: Any) -> Path:
        """Write the folder format that :meth:`load` reads; the file's header gets ``more``."""
        config = dataclasses.asdict(self.config)
        return publish(folder, NAME, self.state_dict(), card, system=NAME, config=config, **more)


def restored(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A configuration from what ``dataclasses.asdict`` gave, possibly through JSON, which turns tuples into lists."""
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def weight_file(folder: str | Path) -> Path:
    """The weight file in a folder, or the file itself.

    Raises:
        InputError: there is none.
    """
    place = Path(folder)
    file = place / f"{NAME}.safetensors" if place.is_dir() else place
    if not file.is_file() or file.suffix != ".safetensors":
        raise InputError(
            f"there are no {NAME} weights in {place}: it needs {NAME}.safetensors, "
            f"which `vivavoce import {NAME} FILE --out WEIGHTS` makes from a published checkpoint"
        )
    return file


def first_stage(place: str | Path, device: str | torch.device = "cpu") -> FirstStage:
    """A first stage alone, frozen: from a file (or a folder) of one, or from one of whole networks.

    Raises:
        InputError: there is none, or it does not fit.
    """
    found = Path(place)
    if found.is_dir():
        alone = found / f"{FIRST_STAGE}.safetensors"
        found = alone if alone.is_file() else weight_file(found)
    tensors, header = weights.read(found)
    whole = header.get("system") == NAME
    if not whole and header.get("system") != FIRST_STAGE:
        raise InputError(f"{found} holds weights of {header.get('system', 'something unknown')!r}, no first stage")
    try:
        values = header["config"]["first_stage"] if whole else header["config"]
        with torch.device("meta"):
            made = FirstStage(restored(FirstStageConfig, values))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(f"{found} does not say what its first stage looks like: {error}") from error
    if whole:
        start = "first_stage."
        tensors = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
    shapes = {key: tuple(value.shape) for key, value in made.state_dict().items()}
    made.load_state_dict(matched(tensors, shapes, what=str(found)), assign=True)
    return made.float().eval().requires_grad_(False).to(device)


def save_first_stage(network: FirstStage, folder: Path, card: str, **more: Any) -> Path:
    """Write a file that :func:`first_stage` reads; its header gets ``more``."""
    config = dataclasses.asdict(network.config)
    return publish(folder, FIRST_STAGE, network.state_dict(), card, system=FIRST_STAGE, config=config, **more)
