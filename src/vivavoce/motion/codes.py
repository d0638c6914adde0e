"""The network that speaks motion codes, with its coordinates: what it sees is normalised, what it says is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vivavoce import weights
from vivavoce.errors import InputError
from vivavoce.motion.flow import FORETOLD_FROM, surroundings
from vivavoce.motion.space import IMPLICIT, MotionSpace
from vivavoce.nets.dit import NAMES, Config, DiT, Given, Known
from vivavoce.nets.mmdit import TIME_SCALE
from vivavoce.sampling.diffusion import Diffusion
from vivavoce.sampling.paths import Rows, Times

BEFORE, AFTER = -FORETOLD_FROM[0], FORETOLD_FROM[-1]  # frames of sound around a chunk that are heard too
# A requested deviation of this much is what training clips show on average. The paper calls 0.1 calm and 0.3 lively.
USUAL = 0.2

Row = Float[Tensor, " d"]


class CodeModel(nn.Module):
    """Velocity of chunks of codes, as :mod:`vivavoce.sampling` wants it, whatever the network predicts.

    All buffers start as what the published form has: codes as they are, a deviation in units of the codes themselves,
    no draft. A recipe measures them, so that the network sees numbers of unit variance, and a user's one number for
    the deviation means as much for codes that move a lot as for others.

    With a ``draft``, what sound alone foretells of the codes (linearly) is taken off before the network sees them and
    added to what it says, so that the network learns what is left. It is taken off with the sound hidden, too: the
    guidance needs both of its branches in the same coordinates.
    """

    mean: Tensor
    std: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor
    audio_mean: Tensor
    audio_std: Tensor
    foretelling: Tensor
    reading: Tensor
    pattern: Tensor

    def __init__(self, config: Config, *, draft: bool = False, space: MotionSpace = IMPLICIT) -> None:
        super().__init__()
        if config.motion != space.dim:
            raise ValueError(f"{space.name} has {space.dim} numbers, got {config}")
        self.space, self.net, self.draft = space, DiT(config), draft
        self.diffusion = Diffusion.linear()
        heard = config.audio * config.tokens
        for name, value in (("mean", 0.0), ("std", 1.0)):
            self.register_buffer(name, torch.full((space.dim,), value))
            self.register_buffer(f"audio_{name}", torch.full((heard,), value))
        self.register_buffer("spread", torch.ones(space.dim))  # deviation of the codes that a request of 1 means
        self.register_buffer("low", torch.full((space.dim,), -1.0))  # no code leaves [low, high]
        self.register_buffer("high", torch.ones(space.dim))
        self.register_buffer("foretelling", torch.zeros(len(FORETOLD_FROM) * heard if draft else 0, space.dim))
        # rows @ reading = how far the lips are open, up to a person's own constant; rows + pattern = 1 further open.
        self.register_buffer("reading", torch.zeros(space.dim))
        self.register_buffer("pattern", torch.zeros(space.dim))

    @property
    def config(self) -> Config:
        """Of the network."""
        return self.net.config

    @property
    def audio_dim(self) -> int:
        """Features per frame that are heard."""
        return len(self.audio_mean)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    @property
    def around(self) -> tuple[int, int]:
        """Frames of sound before and after a chunk that :meth:`drafted` looks at."""
        return (BEFORE, AFTER) if self.draft else (0, 0)

    def enter(self, rows: Float[Tensor, "*t d"]) -> Float[Tensor, "*t d"]:
        """Codes -> normalised."""
        return (rows - self.mean) / self.std

    def leave(self, rows: Float[Tensor, "*t d"]) -> Float[Tensor, "*t d"]:
        """Inverse of :meth:`enter`, within what codes can be."""
        return (rows * self.std + self.mean).clamp(self.low, self.high)

    def given(
        self,
        audio: Float[Tensor, "b s a"],
        hint: Float[Tensor, "b d"],
        mean: Float[Tensor, "b d"],
        std: Float[Tensor, "b d"],
        present: Bool[Tensor, "b 5"],
        known: Known | None = None,
    ) -> Given:
        """Conditions in the network's coordinates; all but ``present`` and ``known`` in the units they come in.

        ``audio`` covers the chunk and what is :attr:`around` it.
        """
        before, after = self.around
        heard = (audio[:, before : audio.shape[1] - after] - self.audio_mean) / self.audio_std
        return Given(heard, self.enter(hint), self.enter(mean), std / self.spread, present, known)

    def drafted(self, audio: Float[Tensor, "b s a"]) -> Rows:
        """What the sound alone foretells of a chunk's codes, normalised; 0 without a draft."""
        before, after = self.around
        frames = audio.shape[1] - before - after
        if not self.draft:
            return audio.new_zeros(len(audio), frames, self.space.dim)
        heard = surroundings((audio - self.audio_mean) / self.audio_std)
        return heard[:, before : before + frames] @ self.foretelling

    def prepared(self, given: Given) -> Callable[[Rows, Times], Rows]:
        """Velocity at normalised rows, the draft taken off, and times (0 noise, 1 data), under ``given``."""
        embedded = self.net.embed(given)

        def predicted(x: Rows, at: Times) -> Rows:
            return self.net.predicted(x, at, embedded)[..., : self.space.dim]

        if self.config.prediction == "flow":
            return lambda x, t: predicted(x, TIME_SCALE * t)
        within = (self.enter(self.low), self.enter(self.high))
        return lambda x, t: self.diffusion.velocity(predicted, x, t, within)


def statistics(
    rows: Float[Tensor, "b t d"], counts: Bool[Tensor, "b t"]
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
    """Mean and unbiased standard deviation over the frames that count; the deviation of one frame is 0."""
    weight = counts[..., None].to(rows.dtype)
    many = weight.sum(1)
    mean = (rows * weight).sum(1) / many.clamp(min=1)
    square = ((rows - mean[:, None]).square() * weight).sum(1)
    return mean, (square / (many - 1).clamp(min=1)).sqrt()


def all_present(count: int, *, hidden: tuple[str, ...] = ()) -> Bool[Tensor, "b 5"]:
    """Flags for ``count`` chunks to which everything is told but what is ``hidden``."""
    return torch.tensor([[name not in hidden for name in NAMES]]).expand(count, -1)


def save(model: CodeModel, file: Path, **header: Any) -> None:
    """Write ``model`` to ``file``: matrices in half precision, the rest in full."""
    tensors = {k: v.half() if v.ndim > 1 else v for k, v in model.state_dict().items()}
    weights.write(file, tensors, config=asdict(model.config), draft=model.draft, space=model.space.name, **header)


def load(name: str | Path = "if-mdm") -> CodeModel:
    """A model as :func:`save` wrote it.

    Raises:
        InputError: ``name`` is not there or holds something else.
    """
    header = weights.metadata(name)
    if header.get("space") != IMPLICIT.name:
        raise InputError(f"weights {str(name)!r} are not those of a generator of {IMPLICIT.name} codes")
    try:
        model = CodeModel(Config(**header["config"]), draft=bool(header["draft"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"weights {str(name)!r} do not say what their network looks like: {error}") from error
    return weights.load_into(model, name)
