"""The seven networks of a LivePortrait-compatible renderer, together (Guo et al. 2024)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivavoce.importing.checkpoints import COUNTERS
from vivavoce.nets import retargeting
from vivavoce.nets.appearance import AppearanceConfig, AppearanceExtractor
from vivavoce.nets.convolution import fold
from vivavoce.nets.motion_extractor import MotionExtractor, MotionExtractorConfig
from vivavoce.nets.quick import quicken
from vivavoce.nets.retargeting import RetargetingConfig
from vivavoce.nets.spade import DecoderConfig, SpadeDecoder
from vivavoce.nets.warping import Warping, WarpingConfig
from vivavoce.weights.systems import loaded, weight_file

NAME = "liveportrait"  # of the weight file in its folder
MADE_BY = f"`vivavoce import {NAME} DIR --out WEIGHTS` makes from the published files"
PICTURE = 256  # side of the pictures the networks see, in pixels
DRAWN = 512  # side of the pictures they draw
PARTS = ("appearance", "motion", "warping", "decoder", "stitching", "eyes", "lips")


@dataclass(frozen=True, slots=True)
class NetworksConfig:
    """Widths of all networks; the defaults are the published ones."""

    appearance: AppearanceConfig = field(default_factory=AppearanceConfig)
    motion: MotionExtractorConfig = field(default_factory=MotionExtractorConfig)
    warping: WarpingConfig = field(default_factory=WarpingConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    retargeting: RetargetingConfig = field(default_factory=RetargetingConfig)

    @classmethod
    def of(cls, values: Mapping[str, Mapping[str, Any]]) -> NetworksConfig:
        """From what ``dataclasses.asdict`` gave, possibly through JSON."""
        made = {}
        for part in dataclasses.fields(cls):
            given = {key: tuple(v) if isinstance(v, list) else v for key, v in values[part.name].items()}
            made[part.name] = part.default_factory(**given)  # type: ignore[misc]  (the factories are the classes)
        return cls(**made)


class Networks(nn.Module):
    """Every network of the renderer. ``load`` makes one that is ready to run; called plainly, one to train."""

    def __init__(self, config: NetworksConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NetworksConfig()
        self.appearance = AppearanceExtractor(config.appearance)
        self.motion = MotionExtractor(config.motion)
        self.warping = Warping(config.warping)
        self.decoder = SpadeDecoder(config.decoder)
        self.stitching = retargeting.stitching(config.retargeting)
        self.eyes = retargeting.eyes(config.retargeting)
        self.lips = retargeting.lips(config.retargeting)

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu", *, quick: bool = True) -> Networks:
        """Networks from a folder (or file) that ``vivavoce import liveportrait`` wrote; frozen, norms folded.

        Args:
            folder: where the weights are.
            device: where the networks will run.
            quick: on a CPU, draw with fewer multiplications (see :mod:`vivavoce.nets.quick`), in single precision only.
                Without, ordinary modules: to export, and for ``torch.autocast``.

        Raises:
            InputError: there are no such weights, they are damaged, of another system, or do not fit.
        """
        file = weight_file(folder, NAME, MADE_BY)
        made = loaded(file, NAME, lambda values: cls(NetworksConfig.of(values)))
        for module in made.modules():  # counters of training, which no file keeps
            if isinstance(counter := getattr(module, COUNTERS, None), Tensor) and counter.is_meta:
                setattr(module, COUNTERS, torch.zeros((), dtype=torch.int64))
        fold(made)
        if quick and torch.device(device).type == "cpu":
            quicken(made.warping)
            quicken(made.decoder)
        return made.to(device)

    def save(self, folder: Path, card: str, **more: Any) -> Path:
        """Write the folder format that :meth:`load` reads; the file's header gets ``more``."""
        from vivavoce.importing.checkpoints import publish

        tensors = {key: value for key, value in self.state_dict().items() if key.rpartition(".")[2] != COUNTERS}
        return publish(folder, NAME, tensors, card, system=NAME, config=dataclasses.asdict(self.config), **more)

    def drawn(
        self,
        volume: Float[Tensor, "b c d h w"],
        driving: Float[Tensor, "b k 3"],
        source: Float[Tensor, "b k 3"],
    ) -> Float[Tensor, "b 3 512 512"]:
        """Appearance and keypoints to pictures, RGB in [0, 1]: the warping, then the decoder."""
        return self.decoder(self.warping(volume, driving, source).features)
