"""What DiffTalk's denoisers learn from and are judged by: batches of lower faces with what was said around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vivavoce.face import bend
from vivavoce.face.lower import masked
from vivavoce.face.model import FaceModel
from vivavoce.motion import lips
from vivavoce.motion.space import FACE_MESH
from vivavoce.nets.difftalk import DiffTalkConfig
from vivavoce.nets.talk_conditions import TalkConfig, reach
from vivavoce.recipes.lowered import Chosen, another, faces, some

READINGS = 8  # of the lips
JUDGED = 64  # frames of people kept out of training
EXPRESSION = FACE_MESH.slice("expression")


@dataclass(frozen=True, slots=True)
class Bending:
    """What it takes to bend references; see :mod:`vivavoce.face.bend`."""

    squares: UInt8[Tensor, "b s s 3"]  # the references, whole
    was: Float[Tensor, "b 68 2"]  # their landmarks
    shapes: Float[Tensor, "b 68 3"]  # and those in space
    doing: Float[Tensor, "b k"]  # what their lips do
    cameras: Float[Tensor, "b 2 4"]  # of the frames


@dataclass(frozen=True, slots=True)
class Talk:
    """Frames, what was said around them, and pictures of the same people; without pictures, frames to foretell."""

    speech: Float[Tensor, "b r f"]
    readings: Float[Tensor, "b k"]
    frames: UInt8[Tensor, "b h w 3"] | None = None  # within the window
    hidden: UInt8[Tensor, "b h w 3"] | None = None  # the same, masked
    others: UInt8[Tensor, "b h w 3"] | None = None  # references
    places: Float[Tensor, "b 68 2"] | None = None
    painted: Float[Tensor, "b h w"] = field(default_factory=lambda: torch.zeros(0, 1, 1))  # 1 in the painted region
    bending: Bending | None = None  # where references are to be bent until they stand as the frames do


@dataclass(frozen=True, slots=True)
class Judged:
    """Frames to paint, and clips to foretell: speech around every frame, and what the lips did."""

    talk: Talk
    clips: tuple[tuple[Float[Tensor, "t r f"], Float[Tensor, "t k"]], ...]
    opening: Float[Tensor, " k"]  # readings @ opening = how far the lips are parted


def pieces(batch: Talk, count: int) -> Iterator[Talk]:
    """Frames to paint in pieces of ``count``."""
    for at in range(0, len(batch.speech), count):
        yield _cut(batch, slice(at, at + count))


def _cut(batch: Any, part: slice) -> Any:
    def one(value: Any) -> Any:
        return value if value is None else value[part] if isinstance(value, Tensor) else _cut(value, part)

    return type(batch)(**{field.name: one(getattr(batch, field.name)) for field in fields(batch)})


def readings_of(rows: Float[Tensor, "t 48"], mirrored: Bool[Tensor, " t"]) -> Float[Tensor, "t k"]:
    """Readings of the lips of face-mesh/1 rows, some of them seen in a mirror."""
    reader, mirror = _readers()
    return torch.where(mirrored[:, None], rows @ mirror, rows)[:, EXPRESSION] @ reader


@cache
def _readers() -> tuple[Float[Tensor, "32 k"], Float[Tensor, "48 48"]]:
    model = FaceModel.pretrained()
    return lips.readings(model, READINGS), lips.mirror_rows(model)


def opening_of() -> Float[Tensor, " k"]:
    """How far the lips are parted by each reading; least squares."""
    model = FaceModel.pretrained()
    return torch.linalg.lstsq(lips.readings(model, READINGS), lips.opening(model)[:, None]).solution[:, 0]


def told(chosen: list[Chosen], talk: TalkConfig) -> tuple[Tensor, Tensor]:
    """Speech around frames, and the readings of their lips."""
    speech = np.stack([one.clip.around(one.index, *reach(talk)) for one in chosen])
    return torch.from_numpy(speech), _doing(chosen)


def _doing(chosen: list[Chosen]) -> Float[Tensor, "b k"]:
    """Readings of the lips of frames."""
    mirrored = torch.tensor([one.mirrored for one in chosen])
    return readings_of(_stacked([one.clip.rows[one.clip.frames[one.index]] for one in chosen]), mirrored)


def shown(chosen: list[Chosen], config: DiffTalkConfig, rng: np.random.Generator) -> Talk:
    """Frames to paint, each with another frame of its clip."""
    model, (rows, columns) = FaceModel.pretrained(), config.pixels
    references = [another(one, rng) for one in chosen]
    frames, hidden, others, painted = [], [], [], []
    for one, other in zip(chosen, references, strict=True):
        picture, inside = one.picture, one.hidden(model)
        under = inside if config.painting.hidden == "region" else one.band(model)
        pictures = (picture, masked(np.ascontiguousarray(picture), under), other.picture)
        for found, kept in zip((frames, hidden, others), pictures, strict=True):
            found.append(kept[rows, columns])
        painted.append(inside[rows, columns])
    speech, readings = told(chosen, config.conditions)
    first, second, third = (torch.from_numpy(np.stack(found)) for found in (frames, hidden, others))
    at, inside = _stacked([one.landmarks for one in chosen]), torch.from_numpy(np.stack(painted)).float()
    bending = _bending(chosen, references) if config.painting.bends else None
    return Talk(speech, readings, first, second, third, at, inside, bending)


def _bending(chosen: list[Chosen], references: list[Chosen]) -> Bending:
    squares = torch.from_numpy(np.stack([one.picture for one in references]))
    shapes = [bend.solid(one.landmarks.astype(np.float64), one.camera) for one in references]
    was = _stacked([one.landmarks for one in references])
    return Bending(squares, was, _stacked(shapes), _doing(references), _stacked([one.camera for one in chosen]))


def bent(batch: Talk, readings: Float[Tensor, "b k"], config: DiffTalkConfig) -> Talk:
    """The batch with references whose heads stand as the frames' do and whose lips as told; lips drawn as a sketch."""
    how, hidden = batch.bending, batch.hidden
    assert how is not None and hidden is not None  # noqa: S101, PT018
    sketches, others, (rows, columns) = hidden.clone().numpy(), [], config.pixels
    for n, told_so in enumerate(readings.detach().double().numpy()):
        was, doing = how.was[n].double().numpy(), how.doing[n].double().numpy()
        shape = bend.moved(how.shapes[n].double().numpy(), told_so - doing)
        now = bend.seen(shape, how.cameras[n].double().numpy())
        others.append(torch.from_numpy(bend.bent(how.squares[n].numpy(), was, now, config.pixels)))
        bend.sketched(sketches[n], now, config.side, (columns.start, rows.start))
    return replace(batch, hidden=torch.from_numpy(sketches), others=torch.stack(others))


def _stacked(found: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(found)).float()


def heard_only(found: tuple[Chosen, ...] | list[Chosen], talk: TalkConfig) -> Talk:
    """Frames to foretell."""
    return Talk(*told(list(found), talk))


def kept_out(config: DiffTalkConfig) -> Judged:
    """People to judge by."""
    rng, aside = np.random.default_rng(0), faces()[1]
    talk = shown(some(aside, JUDGED, rng, mirror=False), config, rng)
    clips = tuple(told([Chosen(clip, n) for n in range(len(clip.ends))], config.conditions) for clip in aside)
    return Judged(talk, clips, opening_of())


def signed(pictures: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Pictures as networks see them, in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def places(config: DiffTalkConfig, batch: Talk) -> Float[Tensor, "b p 2"] | None:
    """The landmarks that are told."""
    chosen = config.painting.landmarks
    return batch.places[:, list(chosen)] if chosen and batch.places is not None else None
