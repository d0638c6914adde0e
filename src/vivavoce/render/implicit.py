"""The implicit renderer: networks that know no face paint an upright square, which is laid back over the picture.

Where the square is larger than what the networks paint, the portrait's own finer detail is carried along.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.face import upright
from vivavoce.face.upright import Square
from vivavoce.motion.space import IMPLICIT, MotionSpace
from vivavoce.nets.lia import Appearance, Lia
from vivavoce.nets.lia_quick import prepared
from vivavoce.render.aligned import crop, found_faces, framed, image, scaled, tensor, through_standing, warnings
from vivavoce.render.detail import finer, laid
from vivavoce.render.footage import mirrored
from vivavoce.system import Drive, Frames, Portrait, Source
from vivavoce.threads import side_by_side
from vivavoce.timeline import Span

SQUARE = (2.0, -0.1, True)  # side over the face's extent, shift down the face, turned upright: of what is redrawn
FINEST = 512  # pixels; largest side of a square with detail of its own


@dataclass(frozen=True)
class ImplicitRenderer:
    """Draws lia-w20/1 motion of one portrait."""

    networks: Lia = field(compare=False)
    size: int | None = None  # side of the head view (``crop``; the networks' own if None), or largest side redrawn
    crop: bool = False  # the upright head view itself instead of the whole picture
    face: str | int = "largest"  # or "left", "right", or a number counted from the left, from 0
    longest: int = 1920  # largest side of the output, in pixels
    batch: int = 1  # frames drawn at once

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        if self.batch < 1:
            raise InputError(f"a batch needs 1 frame or more, not {self.batch}")

    @property
    def space(self) -> MotionSpace:
        """The motion this renderer reads."""
        return IMPLICIT

    @property
    def side(self) -> int:
        """Of the squares that are drawn, in pixels."""
        return self.networks.config.size

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return next(self.networks.parameters()).device

    def portrait(self, source: Source) -> Portrait:
        """Prepare a picture, or a video that keeps its own frames around and under the drawn face.

        The cache holds the ``pictures`` drawn into, the ``squares`` [s 4] in their pixels and, of the first frame, the
        appearance that is moved: ``latent``, ``features 0`` ... and the ``detail`` [s s 3] that the networks cannot
        see, if there is any. A video lends its frames; the face drawn into each is the first frame's.

        Raises:
            InputError: there is no face, or not the one asked for.
        """
        faces = found_faces(source, self.face)
        height, width = source.shape[-2:]
        squares = [upright.within(upright.around(face.landmarks, *SQUARE), width, height) for face in faces]
        largest = max(square.side for square in squares)
        scale = min(1.0, self.longest / max(source.shape[-2:]), (self.size or largest) / largest)
        crops = torch.stack([self._cut(frame, square) for frame, square in zip(source, squares, strict=True)])
        pictures = source
        if not self.crop:
            pictures = torch.stack([scaled(frame, scale) for frame in source])
            ratios = pictures.shape[3] / source.shape[3], pictures.shape[2] / source.shape[2]
            squares = [square.scaled(*ratios) for square in squares]
        finest = round(self.size or self.side if self.crop else largest * scale)
        sharp = upright.cut(image(pictures[0]), squares[0], max(self.side, min(FINEST, finest)))
        appearance, code = self.networks.seen(self._signed(crops[:1]))
        appearance = prepared(self.networks, appearance)
        codes = torch.cat([code.cpu(), *(self.watched(some) for some in crops[1:].split(8))])
        cache = {
            "pictures": pictures,
            "squares": torch.tensor([[s.x, s.y, s.side, s.turn] for s in squares], dtype=torch.float64),
            "latent": appearance.latent,
            "detail": torch.from_numpy(finer(sharp, self.side)),
            **{f"features {n}": one for n, one in enumerate(appearance.features)},
        }
        return Portrait(source, codes, cache, warnings(squares))

    def watched(self, crops: UInt8[Tensor, "n 3 s s"]) -> Float[Tensor, "n d"]:
        """Codes of squares as the networks see them; on the CPU."""
        return self.networks.seen(self._signed(crops))[1].cpu()

    def follow(self, pictures: Iterable[UInt8[Tensor, "3 h w"]]) -> Iterator[Float[Tensor, "_t d"]]:
        """See :class:`vivavoce.system.Follower`: seen through a square that stands still where the face is first seen.

        Raises:
            InputError: no face is seen in the first 50 pictures.
        """
        row = torch.zeros(0)
        for picture, square, count in through_standing(pictures, (*SQUARE[:2], False), inside=True):
            if picture is not None:
                row = self.watched(crop(picture, square, self.side, self.side)[None])
            yield row.expand(count, -1)

    def frames(self, portrait: Portrait, drives: Iterable[Drive]) -> Iterator[Frames]:
        """See :class:`vivavoce.system.Renderer`."""
        cache = portrait.cache
        features = tuple(cache[f"features {n}"] for n in range(len(self.networks.config.sides)))
        draw = partial(self._frames, portrait, Appearance(cache["latent"], features))
        for drive in drives:
            span, rows = drive.motion.span, drive.motion.rows
            spans = (Span(n, min(n + self.batch, span.stop)) for n in range(span.start, span.stop, self.batch))
            parts = zip(spans, rows.split(self.batch), strict=True)
            yield from side_by_side(draw, parts) if self.device.type == "cpu" else map(draw, parts)

    def _frames(self, portrait: Portrait, appearance: Appearance, part: tuple[Span, Float[Tensor, "t d"]]) -> Frames:
        span, rows = part
        squares = self._painted(appearance, rows, portrait.cache["detail"].numpy())
        return Frames(span, torch.stack([self._framed(portrait, one, span.start + n) for n, one in enumerate(squares)]))

    def _painted(
        self, appearance: Appearance, rows: Float[Tensor, "t d"], detail: Float32[np.ndarray, "s s 3"]
    ) -> UInt8[Tensor, "t 3 s s"]:
        """Squares of one person moving; on the CPU."""
        latent, features = (appearance.latent.expand(len(rows), -1), appearance.features)
        spread = Appearance(latent, tuple(one.expand(len(rows), -1, -1, -1) for one in features))
        made = self.networks(spread, rows.to(self.device))
        picture = ((made.picture.clamp(-1, 1) + 1) * 127.5).cpu()
        if detail.shape[0] == self.side:
            return picture.round().to(torch.uint8)
        parts = picture.movedim(1, -1), made.flow, made.mask[:, 0]
        pictures, flows, taken = (part.float().cpu().numpy() for part in parts)
        return torch.stack([tensor(laid(pictures[n], flows[n], taken[n], detail)) for n in range(len(rows))])

    def _framed(self, portrait: Portrait, drawn: UInt8[Tensor, "3 s s"], n: int) -> UInt8[Tensor, "3 _h _w"]:
        at = mirrored(n, len(portrait.source))
        under = None if self.crop else portrait.cache["pictures"][at]
        return framed(drawn, Square(*portrait.cache["squares"][at].tolist()), under, self.size or self.side)

    def _cut(self, frame: UInt8[Tensor, "3 h w"], square: Square) -> UInt8[Tensor, "3 s s"]:
        return crop(image(frame), square, self.side, self.side)

    def _signed(self, crops: UInt8[Tensor, "n 3 s s"]) -> Float[Tensor, "n 3 s s"]:
        return crops.to(self.device).float() / 127.5 - 1
