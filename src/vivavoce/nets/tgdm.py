"""The networks of TGDM together: a face painter and, where it paints latents, the first stage shared with DiffTalk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.face.morphable import Coefficients
from vivavoce.importing.checkpoints import publish
from vivavoce.nets.difftalk import restored
from vivavoce.nets.textures import Painter, PainterConfig
from vivavoce.nets.vae import FirstStage, FirstStageConfig
from vivavoce.render.pivot import Pivot, Rgb
from vivavoce.render.textured import Rendered
from vivavoce.sampling.diffusion import Diffusion
from vivavoce.weights.systems import loaded, weight_file

NAME = "tgdm"  # of the weight file in its folder
MADE_BY = f"`vivavoce train {NAME} --out DIR` makes"
# Channels of what is seen beside the known picture: the drawn face 3, places 2, mask, depth, stretch, what is kept.
SEEN = 9
MASK, STRETCH, KEPT = 5, 7, 8  # which of them
_WHOLLY = 0.99  # of a place that is kept wholly: enlarging and shrinking maps leaves rounding
LAST = 999.0  # the painter's time of pure noise

Signed = Float[Tensor, "b 3 s s"]  # pictures in [-1, 1]


@dataclass(frozen=True, slots=True)
class TgdmConfig:
    """Sizes of all networks, and what the painter's output means; the defaults are those inferred for the paper."""

    painter: PainterConfig = field(default_factory=PainterConfig)
    first_stage: FirstStageConfig | None = None  # None: the painter works on pixels
    side: int = 256  # of the pictures, in pixels
    # "noise": of the table. "clean": the output added to the known picture is the clean one, on straight paths.
    predicts: str = "noise"
    steps: int = 1000  # of the noise table, which is linear
    # Pixels at the top, bottom, left and right of the square that are never painted, nor looked at in the source: a
    # smaller picture is quicker to paint.
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)
    # How many of a face's first and last coefficients are not told, which are identity and texture. Of few people these
    # numbers name each one, and a painter that is told them learns their faces by heart.
    unnamed: tuple[int, int] = (0, 0)
    # What is known before painting: the source's picture "carried" to the wanted geometry or, as was published, nothing
    # but the "drawn" face before black, or before the target's picture where that is kept. See :func:`sketched`.
    begins: str = "carried"

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.predicts not in ("noise", "clean"):
            raise ValueError(f"no painter predicts {self.predicts!r}")
        if self.begins not in ("carried", "drawn"):
            raise ValueError(f"no painter begins with what is {self.begins!r}")
        if self.painter.given != self.painter.latent + SEEN or self.painter.fold != self.factor:
            raise ValueError(
                f"a painter given {self.painter.given} channels beside {self.painter.latent}, sources folded "
                f"{self.painter.fold}: it needs {self.painter.latent + SEEN} and {self.factor}"
            )
        if self.first_stage is not None and self.first_stage.latent != self.painter.latent:
            raise ValueError(f"a painter of {self.painter.latent} channels for latents of {self.first_stage.latent}")
        if (unit := self.factor * self.painter.multiple) and any(inner % unit or inner < unit for inner in self.inner):
            raise ValueError(f"pictures of {self.inner} pixels are no multiple of {unit}")
        if min(self.margins) < 0 or self.inner[0] != self.inner[1]:
            raise ValueError(f"what is painted is no square within the picture: margins are {self.margins}")

    @property
    def factor(self) -> int:
        """Pixels along one side of a latent pixel."""
        return 1 if self.first_stage is None else self.first_stage.factor

    @property
    def inner(self) -> tuple[int, int]:
        """Height and width of what is painted, in pixels."""
        top, bottom, left, right = self.margins
        return self.side - top - bottom, self.side - left - right

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the square that are painted."""
        top, bottom, left, right = self.margins
        return slice(top, self.side - bottom), slice(left, self.side - right)

    @property
    def table(self) -> Diffusion:
        """The noise of every step."""
        return Diffusion.linear(self.steps)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TgdmConfig:
        """From what ``dataclasses.asdict`` gave, possibly through JSON."""
        parts = {"painter": restored(PainterConfig, values["painter"])}
        first = values.get("first_stage")
        stage = None if first is None else restored(FirstStageConfig, first)
        rest = {name: values[name] for name in ("side", "predicts", "steps")}
        rest["begins"] = values.get("begins", "carried")
        return cls(
            **parts, first_stage=stage, margins=tuple(values["margins"]), unnamed=tuple(values["unnamed"]), **rest
        )


@dataclass(frozen=True, slots=True)
class Sight:
    """What the painter is shown of some pictures to paint."""

    known: Float[Tensor, "b c y x"]  # latents of what the results begin as
    given: Float[Tensor, "b g y x"]  # those and what was drawn
    face: Float[Tensor, "b k"]  # coefficients of the wanted faces
    textures: tuple[Float[Tensor, "n _c _h _w"], ...]  # of the sources


class Tgdm(nn.Module):
    """Every network of the system. :meth:`load` makes one that is ready to run; called plainly, one to train."""

    def __init__(self, config: TgdmConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TgdmConfig()
        self.painter = Painter(config.painter)
        self.first_stage = None if config.first_stage is None else FirstStage(config.first_stage)

    def encode(self, pictures: Signed) -> Float[Tensor, "b c y x"]:
        """Pictures as the painter works on them."""
        return pictures if self.first_stage is None else self.first_stage.encode(pictures)

    def decode(self, latents: Float[Tensor, "b c y x"]) -> Signed:
        """Pictures of what was painted, about [-1, 1]."""
        return latents if self.first_stage is None else self.first_stage.decode(latents)

    def sight(
        self,
        known: Signed,
        drawn: Float[Tensor, "b 9 s s"],
        face: Float[Tensor, "b k"],
        textures: Sequence[Float[Tensor, "n _c _h _w"]],
    ) -> Sight:
        """What the painter is shown.

        Args:
            known: what the results begin as.
            drawn: see :func:`shown`.
            face: see :func:`coefficients`.
            textures: what ``painter.textures`` made of :func:`source_of`.
        """
        if self.config.begins == "drawn":
            known, drawn = sketched(known, drawn)
        with torch.no_grad():
            latent = self.encode(known)
        small = functional.avg_pool2d(drawn, self.config.factor)
        first, last = self.config.unnamed
        face = face.clone()
        face[:, :first], face[:, face.shape[1] - last :] = 0, 0
        return Sight(latent, torch.cat([latent, small], 1), face, tuple(textures))

    def before(self, sight: Sight, known: Signed) -> Signed:
        """What painting changes the ``known`` pictures from, which the painter has in ``sight``.

        Of a painter that changes what is carried only its change counts: it leaves alone what latents lose.
        """
        changes = self.config.predicts == "clean" and self.config.begins == "carried"
        return self.decode(sight.known) if changes else known

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> Tgdm:
        """Networks from a folder (or file) that training wrote; frozen.

        Raises:
            InputError: there are no such weights, they are damaged, of another system, or do not fit.
        """
        file = weight_file(folder, NAME, MADE_BY)
        return loaded(file, NAME, lambda values: cls(TgdmConfig.of(values))).to(device)

    def save(self, folder: Path, card: str, **more: Any) -> Path:
        """Write the folder format that :meth:`load` reads; the file's header gets ``more``."""
        config = dataclasses.asdict(self.config)
        return publish(folder, NAME, self.state_dict(), card, system=NAME, config=config, **more)


def signed(picture: Rgb) -> Float[Tensor, "3 s s"]:
    """A picture as networks see it, in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float() / 127.5 - 1


def shown(pivot: Pivot) -> Float[Tensor, "9 s s"]:
    """The drawn face, where its pixels lie in the texture, mask, depth, how the picture is stretched, what is kept."""
    drawn = pivot.drawn
    depth = np.where(drawn.mask, np.clip(np.where(drawn.mask, drawn.depth, 0) + 0.5, -1, 1), 0)
    planes = [*_located(drawn), drawn.mask.astype(np.float32), depth, pivot.stretch, pivot.kept]
    return torch.from_numpy(np.concatenate([drawn.picture.transpose(2, 0, 1) * 2 - 1, np.stack(planes)])).float()


def sketched(known: Signed, drawn: Float[Tensor, "b 9 s s"]) -> tuple[Signed, Float[Tensor, "b 9 s s"]]:
    """Nothing but the drawn face before black and, where it is kept, the target's own picture; the rest of ``shown``.

    The source's picture is seen by texture attention only then, as in the paper's figure.
    """
    face = torch.where(drawn[:, MASK : MASK + 1] > 0, drawn[:, :3], -torch.ones_like(known))
    drawn = drawn.clone()
    drawn[:, STRETCH] = 0
    return torch.where(drawn[:, KEPT:] > _WHOLLY, known, face), drawn


def source_of(picture: Rgb, drawn: Rendered) -> Float[Tensor, "6 s s"]:
    """The source as the texture encoder sees it: the picture, where its pixels lie in the texture, and the mask."""
    planes = torch.from_numpy(np.stack([*_located(drawn), drawn.mask.astype(np.float32)])).float()
    return torch.cat([signed(picture), planes])


def coefficients(face: Coefficients, side: int) -> Float[Tensor, " k"]:
    """What blocks are told of a face in a picture ``side`` wide; far-off fits are cut."""
    return torch.from_numpy(np.clip(face.vector(float(side)), -5, 5)).float()


def _located(drawn: Rendered) -> list[np.ndarray]:
    """Places in the texture, in [-1, 1]; 0 beside the face."""
    return [np.where(drawn.mask, 2 * drawn.at[..., k] - 1, 0) for k in range(2)]
