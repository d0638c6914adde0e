"""A film of any length, shown without end: forwards, then backwards, then forwards, so that it never jumps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, repeat
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from vivavoce.media.film import MAX_SIDE, read_video

HELD_BYTES = 64 << 20  # of pictures held at once while a film runs backwards


@dataclass(frozen=True, slots=True)
class Reel:
    """The film in ``path`` at ``fps`` frames a second; implements :class:`vivavoce.system.Film`.

    Nothing of it is held but the frame shown, or, while it runs backwards, a stretch of at most 64 MB.
    """

    path: Path
    fps: Fraction | int = 25
    long_side: int = MAX_SIDE  # px; longer pictures are scaled down to this

    def pictures(self) -> Iterator[UInt8[Tensor, "3 h w"]]:
        """Every picture from the first, there and back again, without end; ends of the film are shown once a turn.

        Raises :class:`vivavoce.errors.InputError` when the file is no film or nothing of it can be decoded.
        """
        length, last = 0, None
        for picture in self.once():
            length, last = length + 1, picture
            yield picture
        if last is None:
            return
        if length == 1:
            yield from repeat(last)
        held = max(1, HELD_BYTES // last.numel())
        del last
        while True:
            yield from self._backwards(length, held)
            yield from self.once()

    def once(self) -> Iterator[UInt8[Tensor, "3 h w"]]:
        """Every picture once, in order."""
        return read_video(self.path, self.fps, long_side=self.long_side)

    def _backwards(self, length: int, held: int) -> Iterator[UInt8[Tensor, "3 h w"]]:
        """The pictures between the last and the first, last one first."""
        for stop in range(length - 1, 1, -held):
            first = max(1, stop - held)
            part = islice(read_video(self.path, self.fps, long_side=self.long_side, first=first), stop - first)
            yield from reversed(list(part))
