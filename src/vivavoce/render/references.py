"""Pictures that show how a person looks: some of a film, of which each frame is painted after those most like it.

A mouth that has to be opened, closed or turned by bending is less of a picture than one that was filmed so: teeth and
folds are those of another moment. Every frame takes its own mean of the few references that are nearest to the lips it
is to show and to how the head stands. Their shares change as smoothly as what is asked for, so nothing jumps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vivavoce.face import bend
from vivavoce.face.lower import Place

COUNT = 12  # references of a film
_MIXED = 3  # references that a frame is the mean of, at most
_FALL = 0.3  # how much more unlike a reference is that counts 1 / e as much as the nearest one


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A face cut out, and what it takes to bend it; see :mod:`vivavoce.face.bend`."""

    square: UInt8[np.ndarray, "s s 3"]
    camera: Float[np.ndarray, "2 4"]
    shape: Float[np.ndarray, "68 3"]
    readings: Float[np.ndarray, " k"]  # of the lips

    def bent(self, square: UInt8[np.ndarray, "s s 3"], at: Place, readings: Float[np.ndarray, " k"]) -> Held:
        """What stands for ``square``, a face at ``at`` with these readings of the lips, which is this person's."""
        return Held(square, bend.camera(at), bend.moved(self.shape, readings - self.readings), readings)

    def like(self, other: Held, window: tuple[slice, slice]) -> UInt8[np.ndarray, "h w 3"]:
        """Rows and columns of the own square, bent until face and lips stand as in ``other``."""
        return bend.bent(self.square, self.places, other.places, window)

    @property
    def places(self) -> Float[np.ndarray, "68 2"]:
        """Where the 68 landmarks lie in the square counted 256 wide."""
        return bend.seen(self.shape, self.camera)


@dataclass(frozen=True, slots=True)
class Mixed:
    """The mean of some references."""

    parts: tuple[tuple[float, Held], ...]  # shares, which sum to 1

    def bent(self, square: UInt8[np.ndarray, "s s 3"], at: Place, readings: Float[np.ndarray, " k"]) -> Held:
        """See :meth:`Held.bent`; the shape is the mean of what each reference's becomes."""
        made = [(share, held.bent(square, at, readings)) for share, held in self.parts]
        shape = np.sum([share * one.shape for share, one in made], 0)
        return Held(square, made[0][1].camera, shape, readings)

    def like(self, other: Held, window: tuple[slice, slice]) -> UInt8[np.ndarray, "h w 3"]:
        """See :meth:`Held.like`."""
        if len(self.parts) == 1:
            return self.parts[0][1].like(other, window)
        bent = [share * held.like(other, window).astype(np.float64) for share, held in self.parts]
        return np.rint(np.sum(bent, 0)).astype(np.uint8)


def mixed(
    references: Sequence[Held], readings: Float[np.ndarray, " k"], camera: Float[np.ndarray, "2 4"], count: int = _MIXED
) -> Mixed:
    """The ``count`` references that are most like lips of these readings, seen by ``camera``; the nearest count most.

    The share of the next reference is taken off all, so that one that comes or goes does so from or to nothing.
    """
    off = _unlike(references, readings, camera)
    order = np.argsort(off, kind="stable")
    weight = np.exp((off[order[0]] - off[order]) / _FALL)
    weight = weight[:count] - (weight[count] if len(weight) > count else 0.0)
    if weight[0] <= 0:  # all are as near
        weight = np.ones(len(weight))
    kept = [(float(share), references[n]) for share, n in zip(weight / weight.sum(), order, strict=False) if share > 0]
    return Mixed(tuple(kept))


def spread(found: Sequence[Held], first: int, count: int = COUNT) -> list[Held]:
    """``count`` of some faces, unlike each other as far as can be; ``found[first]`` is the first.

    Each is the one that is most unlike the most similar of those before it (Gonzalez 1985); copies are left out.
    """
    chosen, nearest = [first], np.full(len(found), np.inf)
    while len(chosen) < count:
        last = found[chosen[-1]]
        nearest = np.minimum(nearest, _unlike(found, last.readings, last.camera))
        furthest = int(nearest.argmax())
        if nearest[furthest] <= 0:
            break
        chosen.append(furthest)
    return [found[n] for n in chosen]


def _unlike(
    found: Sequence[Held], readings: Float[np.ndarray, " k"], camera: Float[np.ndarray, "2 4"]
) -> Float[np.ndarray, " n"]:
    change = np.stack([one.readings for one in found]) - readings
    return bend.unlike(change, np.stack([one.camera for one in found]), camera)


def tensors(references: Sequence[Held], start: str) -> dict[str, Tensor]:
    """To be kept, under names that begin with ``start``; :func:`restored` is the inverse."""
    return {
        start + field.name: torch.from_numpy(np.stack([getattr(one, field.name) for one in references]))
        for field in fields(Held)
    }


def restored(kept: Mapping[str, Tensor], start: str) -> list[Held]:
    """From what :func:`tensors` gave."""
    columns = [kept[start + field.name].numpy() for field in fields(Held)]
    return [Held(*one) for one in zip(*columns, strict=True)]
