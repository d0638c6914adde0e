"""The keypoint renderer: networks draw an upright square around the face, which is laid back over the picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.face import upright
from vivavoce.face.upright import Square
from vivavoce.motion import keypoints
from vivavoce.motion.space import KEYPOINT, MotionSpace
from vivavoce.nets.liveportrait import DRAWN, PICTURE, Networks
from vivavoce.nets.warping import Seen
from vivavoce.render.aligned import crop, found_faces, framed, image, scaled, through_standing, warnings
from vivavoce.render.footage import mirrored
from vivavoce.system import Drive, Frames, Portrait, Source
from vivavoce.timeline import Span

__all__ = ["KeypointRenderer", "Networks", "Precision"]

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
_OPEN_LIPS = 0.03  # opening from which lips are closed first, where that is asked for


@dataclass(frozen=True)
class KeypointRenderer:
    """Draws liveportrait-kp21/1 motion of one portrait."""

    networks: Networks = field(compare=False)
    size: int | None = None  # side of the head view (``crop``; 512 if None), or largest side of what is redrawn
    crop: bool = False  # the upright head view itself instead of the whole picture
    face: str | int = "largest"  # or "left", "right", or a number counted from the left, from 0
    longest: int = 1920  # largest side of the output, in pixels
    stitch: bool = True  # fit the moved head to its shoulders
    close_lips: bool = False  # close a portrait's open lips before moving them, for motion that adds to them
    multiplier: float = 1.0  # of the whole movement, after stitching
    precision: Precision = "fp32"  # of the networks that draw
    batch: int = 1  # frames drawn at once

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        if self.precision not in PRECISIONS:
            raise InputError(f"there is no precision {self.precision!r}; there are {', '.join(PRECISIONS)}")
        if self.batch < 1:
            raise InputError(f"a batch needs 1 frame or more, not {self.batch}")

    @property
    def space(self) -> MotionSpace:
        """The motion this renderer reads."""
        return KEYPOINT

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return next(self.networks.parameters()).device

    def portrait(self, source: Source) -> Portrait:
        """Prepare a picture, or a video that keeps its own frames around and under the drawn face.

        The cache holds, besides the pictures: ``canonical`` [s 21 3], ``openings`` [s 3] (left eye, right eye, lips)
        and ``squares`` [s 4], in the output's pixels.

        Raises:
            InputError: there is no face, or not the one asked for.
        """
        faces = found_faces(source, self.face)
        squares = [upright.around(face.landmarks, *upright.SOURCE) for face in faces]
        scale = self._scale(source, squares)
        both = zip(source, squares, strict=True)
        crops = torch.stack([crop(image(frame), square, PICTURE, DRAWN) for frame, square in both])
        pictures = source
        if not self.crop:
            pictures = torch.stack([scaled(frame, scale) for frame in source])
            ratios = pictures.shape[3] / source.shape[3], pictures.shape[2] / source.shape[2]
            squares = [square.scaled(*ratios) for square in squares]
        rows, canonical = self.watched(crops)
        cache = {
            "crops": crops,
            "pictures": pictures,
            "canonical": canonical,
            "openings": torch.from_numpy(np.stack([upright.openings(face.landmarks) for face in faces])).float(),
            "squares": torch.tensor([[s.x, s.y, s.side, s.turn] for s in squares], dtype=torch.float64),
        }
        if len(source) == 1:
            cache["volume"] = self.networks.appearance(self._float(crops))
        return Portrait(source, rows, cache, warnings(squares))

    def watched(self, crops: UInt8[Tensor, "n 3 256 256"]) -> tuple[Float[Tensor, "n 70"], Float[Tensor, "n 21 3"]]:
        """Motion rows of upright crops, and the canonical keypoints seen in each; on the CPU."""
        found = [
            keypoints.decoded(self.networks.motion(self._float(crops[n : n + 8]))) for n in range(0, len(crops), 8)
        ]
        return torch.cat([rows for rows, _ in found]).cpu(), torch.cat([points for _, points in found]).cpu()

    def follow(self, pictures: Iterable[UInt8[Tensor, "3 h w"]]) -> Iterator[Float[Tensor, "_t 70"]]:
        """See :class:`vivavoce.system.Follower`: seen through a square that stands still where the face is first seen.

        Raises:
            InputError: no face is seen in the first 50 pictures.
        """
        row = torch.zeros(0)
        for picture, square, count in through_standing(pictures, upright.DRIVING):
            if picture is not None:
                row = self.watched(crop(picture, square, PICTURE, DRAWN)[None])[0]
            yield row.expand(count, -1)

    def frames(self, portrait: Portrait, drives: Iterable[Drive]) -> Iterator[Frames]:
        """See :class:`vivavoce.system.Renderer`."""
        artist = _Artist(self, portrait)
        for drive in drives:
            first = drive.motion.span.start
            for rows in drive.motion.rows.split(self.batch):
                yield Frames(Span(first, first + len(rows)), artist.draw(first, rows))
                first += len(rows)

    def precisely(self) -> AbstractContextManager[object]:
        """The precision of drawing, as a context."""
        if self.precision == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype)

    def _scale(self, source: Source, squares: list[Square]) -> float:
        """Picture -> output, for whole pictures."""
        side = max(square.side for square in squares)
        return min(1.0, self.longest / max(source.shape[-2:]), (self.size or side) / side)

    def _float(self, crops: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        return crops.to(self.device).float() / 255


class _Artist:
    """Draws one portrait; what depends on its source alone is computed once."""

    def __init__(self, renderer: KeypointRenderer, portrait: Portrait) -> None:
        self.renderer, self.portrait, self.networks = renderer, portrait, renderer.networks
        self.cache = portrait.cache
        self.moving = len(portrait.source) > 1
        self.own = keypoints.placed(portrait.reference, self.cache["canonical"]).to(renderer.device)
        self.still: tuple[Tensor, Seen] | None = None if self.moving else self._seen([0])

    def draw(self, first: int, rows: Float[Tensor, "t 70"]) -> UInt8[Tensor, "t 3 h w"]:
        """Frames ``first`` on."""
        shown = [mirrored(first + n, len(self.portrait.source)) for n in range(len(rows))]
        device, count = self.renderer.device, len(rows)
        canonical = self.cache["canonical"][shown].to(device)
        source = self.own[shown]
        driving = self._wished(source, keypoints.placed(rows.to(device), canonical), shown)
        volume, seen = self.still or self._seen(shown)
        if not self.moving:
            volume, seen = (
                volume.expand(count, -1, -1, -1, -1),
                Seen(*(part.expand(count, -1, -1, -1, -1) for part in seen)),
            )
        with self.renderer.precisely():
            features = self.networks.warping(volume, driving, source, seen).features
            drawn = self.networks.decoder(features)
        pixels = (drawn.float() * 255).round().to(torch.uint8).cpu()
        return torch.stack([self._framed(picture, n) for picture, n in zip(pixels, shown, strict=True)])

    def _wished(self, source: Tensor, driving: Tensor, shown: list[int]) -> Tensor:
        """Driving keypoints, fitted to this portrait."""
        flat = source.flatten(1)
        if self.renderer.stitch:
            change = self.networks.stitching(torch.cat([flat, driving.flatten(1)], 1))
            driving = keypoints.stitched(change, driving)
        lips = self.cache["openings"][shown, 2:].to(flat)
        if self.renderer.close_lips and (lips >= _OPEN_LIPS).any():
            change = self.networks.lips(torch.cat([flat, lips, torch.zeros_like(lips)], 1)).unflatten(1, (-1, 3))
            driving = driving + torch.where(lips[..., None] >= _OPEN_LIPS, change, 0.0)
        return source + (driving - source) * self.renderer.multiplier

    def _seen(self, shown: list[int]) -> tuple[Tensor, Seen]:
        if "volume" in self.cache:
            volume = self.cache["volume"].to(self.renderer.device)
        else:
            volume = self.networks.appearance(self.renderer._float(self.cache["crops"][shown]))
        return volume, self.networks.warping.seen(volume, self.own[shown])

    def _framed(self, drawn: UInt8[Tensor, "3 512 512"], n: int) -> UInt8[Tensor, "3 h w"]:
        """The drawn square as the output shows it."""
        under = None if self.renderer.crop else self.cache["pictures"][n]
        return framed(drawn, Square(*self.cache["squares"][n].tolist()), under, self.renderer.size or DRAWN)
