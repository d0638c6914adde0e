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
from vivavoce.face.lower import PUBLISHED, UPPER
from vivavoce.importing.checkpoints import matched, publish
from vivavoce.nets.talk_conditions import TalkConditions, TalkConfig
from vivavoce.nets.unet import UNet, UNetConfig
from vivavoce.nets.vae import FirstStage, FirstStageConfig
from vivavoce.sampling.ddim import latent_diffusion
from vivavoce.sampling.diffusion import Diffusion
from vivavoce.weights.systems import loaded, shapes, weight_file

NAME = "difftalk"  # of the weight file in its folder
MADE_BY = f"`vivavoce import {NAME} FILE --out WEIGHTS` makes from a published checkpoint"
FIRST_STAGE = "first-stage"  # of a file with the first stage alone
LATENT = 64  # pixels; side of the latents of a whole square

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


# Rows and columns of latents of 64 x 64 between which the painted region of nearly every face lies, and some of what
# surrounds it; a multiple of 8 wide and high.
WINDOW = (24, 64, 8, 56)


@dataclass(frozen=True, slots=True)
class Painting:
    """What the denoiser sees and what its output means. The defaults are DiffTalk's."""

    # "noise": of the noise table. "clean": the output added to the reference is the clean latent, on straight paths.
    predicts: str = "noise"
    hidden: str = "band"  # or "region", of vivavoce.face.lower: what of the frame is masked
    told: str = "published"  # landmarks; or "upper", or "none"
    window: tuple[int, int, int, int] = (0, 64, 0, 64)  # first and last row, first and last column that are painted
    sees: tuple[str, ...] = ("masked", "reference")  # of the two latents; another is zeros: to compare with
    # The reference is first bent until its head stands as in the frame and its lips as told (vivavoce.face.bend), and
    # those lips are drawn into what is hidden. As published it is shown as it is.
    bends: bool = False

    def __post_init__(self) -> None:
        """Refuse what does not exist."""
        if self.predicts not in ("noise", "clean") or self.hidden not in ("band", "region"):
            raise ValueError(f"no denoiser predicts {self.predicts!r} with {self.hidden!r} hidden")
        if self.told not in ("published", "upper", "none"):
            raise ValueError(f"there are no landmarks called {self.told!r}")

    @property
    def landmarks(self) -> tuple[int, ...]:
        """Which of the 68 are told."""
        return {"published": PUBLISHED, "upper": UPPER, "none": ()}[self.told]


@dataclass(frozen=True, slots=True)
class DiffTalkConfig:
    """Sizes of all networks; the defaults are the published ones, for pictures of 256 x 256."""

    first_stage: FirstStageConfig = field(default_factory=FirstStageConfig)
    unet: UNetConfig = field(default_factory=UNetConfig)
    conditions: TalkConfig = field(default_factory=TalkConfig)
    schedule: Schedule = field(default_factory=Schedule)
    painting: Painting = field(default_factory=Painting)

    @property
    def side(self) -> int:
        """Of the square that is cut out of a frame, in pixels: 64 latent pixels."""
        return LATENT * self.first_stage.factor

    @property
    def pixels(self) -> tuple[slice, slice]:
        """Rows and columns of the square that are painted."""
        top, bottom, left, right = (self.first_stage.factor * edge for edge in self.painting.window)
        return slice(top, bottom), slice(left, right)

    @classmethod
    def of(cls, values: Mapping[str, Mapping[str, Any]]) -> DiffTalkConfig:
        """From what ``dataclasses.asdict`` gave, possibly through JSON."""
        kinds = {"first_stage": FirstStageConfig, "unet": UNetConfig, "conditions": TalkConfig, "schedule": Schedule}
        painting = restored(Painting, values.get("painting", {}))  # imported weights are DiffTalk's own
        return cls(**{name: restored(kind, values[name]) for name, kind in kinds.items()}, painting=painting)


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
        if len(config.painting.landmarks) != config.conditions.landmarks:
            told = len(config.painting.landmarks)
            raise ValueError(f"{told} landmarks are told, conditions are for {config.conditions.landmarks}")
        if config.painting.bends and not config.conditions.lips:
            raise ValueError("references can only be bent by readings of the lips")
        self.first_stage = FirstStage(first)
        self.unet = UNet(unet)
        self.conditions = TalkConditions(config.conditions)

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> DiffTalk:
        """Networks from a folder (or file) that ``vivavoce import difftalk`` or training wrote; frozen.

        Raises:
            InputError: there are no such weights, they are damaged, of another system, or do not fit.
        """
        file = weight_file(folder, NAME, MADE_BY)
        return loaded(file, NAME, lambda values: cls(DiffTalkConfig.of(values))).to(device)

    def save(self, folder: Path, card: str, **more: Any) -> Path:
        """Write the folder format that :meth:`load` reads; the file's header gets ``more``."""
        config = dataclasses.asdict(self.config)
        return publish(folder, NAME, self.state_dict(), card, system=NAME, config=config, **more)


def restored(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A configuration from what ``dataclasses.asdict`` gave, possibly through JSON, which turns tuples into lists."""
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def first_stage(place: str | Path, device: str | torch.device = "cpu") -> FirstStage:
    """A first stage alone, frozen: from a file (or a folder) of one, or from one of whole networks.

    Raises:
        InputError: there is none, or it does not fit.
    """
    found = Path(place)
    if found.is_dir():
        alone = found / f"{FIRST_STAGE}.safetensors"
        found = alone if alone.is_file() else weight_file(found, NAME, MADE_BY)
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
    made.load_state_dict(matched(tensors, shapes(made), what=str(found)), assign=True)
    return made.float().eval().requires_grad_(False).to(device)


def save_first_stage(network: FirstStage, folder: Path, card: str, **more: Any) -> Path:
    """Write a file that :func:`first_stage` reads; its header gets ``more``."""
    config = dataclasses.asdict(network.config)
    return publish(folder, FIRST_STAGE, network.state_dict(), card, system=FIRST_STAGE, config=config, **more)
