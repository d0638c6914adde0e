"""Speech and a driver together: what a driving video or picture does with head, brows or eyes, and lips that speak."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice, repeat
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.media.film import MAX_SIDE
from vivavoce.media.picture import is_picture, read_image
from vivavoce.media.reel import Reel
from vivavoce.motion.parts import EYE_KINDS, share
from vivavoce.motion.space import Motion, MotionSpace
from vivavoce.motion.through import Through
from vivavoce.streams import Background
from vivavoce.system import Drive, Features, Follower, Portrait, System

DRIVABLE = ("pose", "brows", "eyes")
_AHEAD = 2  # stretches of the driver that are tracked before they are needed


@dataclass(frozen=True)
class Driven(Through):
    """Motion of ``generator`` whose ``parts`` are the driver's.

    Head and brows are added to the portrait's own as changes from the driver's first frame; lids and gaze are taken as
    they are, being relative to the driver's usual ones. A video shorter than the speech runs back and forth. A single
    picture has no changes: its head angles and brows are taken as they are, and its eyes too, where they are known.
    """

    follower: Follower
    driver: Path
    parts: tuple[str, ...] = DRIVABLE

    def drives(self, portrait: Portrait, features: Iterable[Features], *, seed: int) -> Iterator[Drive]:
        """See :class:`vivavoce.system.MotionGenerator`. Raises :class:`InputError` when the driver has no face."""
        still, own, taken = is_picture(self.driver), portrait.reference[0], share(self.space, *self.parts)
        kept = _kept_absolute(self.space, still)
        first: Tensor | None = None
        with closing(Background(self._watched(still), _AHEAD)) as watched:
            rows = _one_by_one(watched)
            for drive in self.generator.drives(portrait, features, seed=seed):
                shown = torch.stack(list(islice(rows, len(drive.motion.span))))
                first = shown[0] if first is None else first
                wanted = torch.where(kept, shown, own + shown - first)
                mixed = drive.motion.rows + (wanted - drive.motion.rows) @ taken
                yield Drive(Motion(drive.motion.span, self.space, mixed), drive.audio)

    def _watched(self, still: bool) -> Iterator[Float[Tensor, "_t d"]]:
        if still:
            yield from repeat(next(iter(self.follower.follow(read_image(self.driver, long_side=MAX_SIDE)))))
        yield from self.follower.follow(Reel(self.driver).pictures())


def driven(system: System, driver: Path, parts: tuple[str, ...] = DRIVABLE) -> System:
    """``system`` whose ``parts`` of the motion, of :data:`DRIVABLE`, follow the face in ``driver``.

    Raises :class:`vivavoce.errors.InputError` for other parts and for systems that cannot follow a face.
    """
    if unknown := [part for part in parts if part not in DRIVABLE]:
        raise InputError(f"{unknown[0]!r} cannot be driven; {', '.join(DRIVABLE)} can")
    if not parts:
        raise InputError(f"there is nothing to drive; name some of {', '.join(DRIVABLE)}")
    if not isinstance(system.renderer, Follower):
        raise InputError(f"the system {system.name!r} cannot follow a driving video")
    return replace(system, generator=Driven(system.generator, system.renderer, Path(driver), tuple(parts)))


def _kept_absolute(space: MotionSpace, still: bool) -> Tensor:
    """Which numbers of a row are the driver's own rather than changes, ``[d]`` bool."""
    moves = ("translation", "scale")  # where a head is in its picture says nothing about another picture
    kinds = [part.kind in EYE_KINDS or (still and part.kind not in moves) for part in space.parts]
    return torch.cat([torch.full((part.size,), kind) for part, kind in zip(space.parts, kinds, strict=True)])


def _one_by_one(pieces: Iterable[Float[Tensor, "_t d"]]) -> Iterator[Float[Tensor, " d"]]:
    for piece in pieces:
        yield from piece
