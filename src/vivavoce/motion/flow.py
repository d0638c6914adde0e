"""The motion network with its coordinates: what it sees is normalised and relative to the portrait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vivavoce import weights
from vivavoce.emotion.labels import EMOTIONS
from vivavoce.errors import InputError
from vivavoce.motion.conditions import NAMES, Conditions
from vivavoce.motion.space import FACE_MESH, MotionSpace
from vivavoce.nets.mmdit import Config, MMDiT
from vivavoce.sampling.paths import Rows, Times

# Frames, relative to the one described, whose features foretell its row.
FORETOLD_FROM = (-6, -4, -2, -1, 0, 1, 2, 3)
POSE_KINDS = ("rotation_deg", "translation", "scale")
SPACES = {FACE_MESH.name: FACE_MESH}


class MotionFlow(nn.Module):
    """Velocity of motion rows in ``space``; implements :class:`vivavoce.motion.generate.Flow`."""

    mean: Tensor
    std: Tensor
    audio_mean: Tensor
    audio_std: Tensor
    pose: Tensor
    memory: Tensor
    foretelling: Tensor

    def __init__(self, config: Config, space: MotionSpace = FACE_MESH) -> None:
        super().__init__()
        if config.motion != space.dim or config.emotions != len(EMOTIONS):
            raise ValueError(f"{space.name} has {space.dim} numbers and {len(EMOTIONS)} emotions, got {config}")
        self.space, self.net = space, MMDiT(config)
        for name, value in (("mean", 0.0), ("std", 1.0)):
            self.register_buffer(name, torch.full((space.dim,), value))
            self.register_buffer(f"audio_{name}", torch.full((config.audio,), value))
        # What of the past is seen, ``past @ memory``: a mouth that sees its own past follows it instead of the sound.
        self.register_buffer("memory", torch.eye(space.dim))
        # Linear regression from the features around a frame to its row: the flow starts from there.
        self.register_buffer("foretelling", torch.zeros(len(FORETOLD_FROM) * config.audio, space.dim))
        self.register_buffer("pose", pose_mask(space), persistent=False)

    @property
    def audio_dim(self) -> int:
        """Features per frame that are heard."""
        return self.net.config.audio

    @property
    def emotions(self) -> int:
        """Emotion classes."""
        return self.net.config.emotions

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    def forward(self, x: Rows, t: Times, conditions: Conditions) -> Rows:
        """Velocity at normalised ``x``; past and identity in the flow's coordinates, audio as the encoder gives it.

        The network sees how far ``x`` is from :meth:`centre`, where the noise is centred too: a straight path from
        ``centre + noise`` to the data has the velocity of the path from the noise to ``data - centre``.
        """
        return self.prepared(conditions)(x, t)

    def prepared(self, conditions: Conditions) -> Callable[[Rows, Times], Rows]:
        """:meth:`forward` under ``conditions``, what depends on them alone computed once."""
        heard = (conditions.audio - self.audio_mean) / self.audio_std
        given = self.net.embed(replace(conditions, audio=heard, past=conditions.past @ self.memory))

        def velocity(x: Rows, t: Times) -> Rows:
            return self.net.velocity(x - self._centre(heard, conditions, x.shape[1]), t, given)

        return velocity

    def centre(self, conditions: Conditions, count: int) -> Rows:
        """What its sound alone foretells of a window's last ``count`` rows, normalised: the noise is centred there."""
        return self._centre((conditions.audio - self.audio_mean) / self.audio_std, conditions, count)

    def _centre(self, heard: Tensor, conditions: Conditions, count: int) -> Rows:
        foretold = surroundings(heard)[:, heard.shape[1] - count :] @ self.foretelling
        return foretold * conditions.present[:, NAMES.index("audio"), None, None]

    def enter(self, rows: Float[Tensor, "*t d"], reference: Float[Tensor, " d"]) -> Float[Tensor, "*t d"]:
        """Rows in units of the space -> normalised, pose relative to ``reference``."""
        return (rows - self.pose * reference - self.mean) / self.std

    def leave(self, rows: Float[Tensor, "*t d"], reference: Float[Tensor, " d"]) -> Float[Tensor, "*t d"]:
        """Inverse of :meth:`enter`."""
        return rows * self.std + self.mean + self.pose * reference


def surroundings(heard: Float[Tensor, "b t a"]) -> Float[Tensor, "b t c"]:
    """Features at :data:`FORETOLD_FROM` around every frame, end to end; zeros, the mean, outside the window."""
    before, after = -FORETOLD_FROM[0], FORETOLD_FROM[-1]
    padded = functional.pad(heard, (0, 0, before, after))
    count = heard.shape[1]
    return torch.cat([padded[:, before + at : before + at + count] for at in FORETOLD_FROM], dim=2)


def calmed(
    std: Float[Tensor, " d"], rest: Float[Tensor, "32 32"], amount: float, space: MotionSpace = FACE_MESH
) -> Float[Tensor, "d d"]:
    """Matrix that scales the mouth's share of normalised rows by ``amount`` and leaves the rest of the face.

    ``rest`` does that to expression coefficients with ``amount`` 0 (:func:`vivavoce.motion.lips.resting`).
    """
    expression, interior = space.slice("expression"), space.slice("interior")
    own = std[expression]
    out = torch.eye(space.dim, device=std.device)
    still = own[:, None] * rest.to(std.device) / own  # the same linear map between normalised coefficients
    out[expression, expression] = amount * torch.eye(len(own), device=std.device) + (1 - amount) * still
    out[interior, interior] *= amount
    return out


def pose_mask(space: MotionSpace) -> Float[Tensor, " d"]:
    """1 for the numbers of a row that say where the head is, 0 for the rest."""
    return torch.cat([torch.full((part.size,), float(part.kind in POSE_KINDS)) for part in space.parts])


def save(flow: MotionFlow, file: Path, **header: Any) -> None:
    """Write ``flow`` to ``file``: matrices in half precision, the rest in full."""
    tensors = {k: v.half() if v.ndim > 1 else v for k, v in flow.state_dict().items()}
    weights.write(file, tensors, config=asdict(flow.net.config), space=flow.space.name, **header)


def load(name: str | Path = "moda") -> MotionFlow:
    """A flow as :func:`save` wrote it. Raises :class:`InputError` when ``name`` holds something else."""
    header = weights.metadata(name)
    try:
        flow = MotionFlow(Config(**header["config"]), SPACES[header["space"]])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"weights {str(name)!r} are not those of a motion generator ({error})") from error
    weights.load_into(flow, name)
    return flow
