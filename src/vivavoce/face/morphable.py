"""A 3D face as named numbers: who it is, what it does, where it looks, how it is lit and what its skin looks like.

Linear in identity, expression and texture on the 478-point mesh. The bases are our own, learned by
``recipes/morphable.py``, or any other that is written in the same file format (:func:`load`): registered to these
points, published 3D morphable models can take their place. Gaze, pose and light are closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from vivavoce import weights
from vivavoce.errors import InputError
from vivavoce.face.atlas import CORNERS
from vivavoce.face.mesh import LEFT_IRIS, RIGHT_IRIS, Points, Pose, rotation_matrix
from vivavoce.face.model import FaceModel
from vivavoce.motion.space import FACE_MESH

WEIGHTS = "morphable"
_BENT = 20.0  # degrees in which angles count in what they do to the tracker's shapes

IDENTITY = ("identity", "texture")  # parts that belong to a person
REENACTED = ("expression", "eyelids", "rotation", "translation", "scale", "gaze")  # those a driver gives
LIT = ("light",)


@dataclass(frozen=True, slots=True)
class Coefficients:
    """One face in one picture."""

    identity: Float[np.ndarray, " i"]  # standard deviations over people, mostly in [-3, 3]
    expression: Float[np.ndarray, " 32"]  # face-mesh/1: standard deviations over frames, mostly in [-4, 4]
    eyelids: Float[np.ndarray, " 2"]  # how far closed, left and right of the picture: 0 as at rest, 1 closed
    rotation: Float[np.ndarray, " 3"]  # yaw, pitch, roll in degrees, as in face/mesh.py
    translation: Float[np.ndarray, " 2"]  # of the middle of the face, pixels
    scale: float  # pixels per face width, > 0
    gaze: Float[np.ndarray, "2 2"]  # iris of each eye from the middle of its corners, eye widths, x right, y down
    light: Float[np.ndarray, "9 3"]  # harmonics x colour; the first row is even light, 1 = as bright as the texture
    texture: Float[np.ndarray, " l"]  # standard deviations over people

    @property
    def pose(self) -> Pose:
        """Canonical space to pixels."""
        return Pose(self.scale, rotation_matrix(self.rotation), np.array([*self.translation, 0.0]))

    def vector(self, side: float) -> Float[np.ndarray, " d"]:
        """All numbers in one row, of about unit size, for a picture ``side`` pixels wide and high."""
        parts = (
            self.identity,
            self.expression,
            self.eyelids,
            self.rotation / 20,
            self.translation / side * 2 - 1,
            np.array([2 * self.scale / side - 1]),
            self.gaze.reshape(-1) * 10,
            self.light.reshape(-1),
            self.texture,
        )
        return np.concatenate(parts)

    def framed(self, scale: float, x: float, y: float) -> Coefficients:
        """The same face in the picture cut out at (``x``, ``y``) and then enlarged ``scale`` times."""
        moved = (self.translation - np.array([x, y])) * scale
        return replace(self, translation=moved, scale=self.scale * scale)


def recombine(source: Coefficients, driver: Coefficients, taken: tuple[str, ...] = REENACTED) -> Coefficients:
    """``source`` with the parts called ``taken`` from ``driver``.

    ``REENACTED`` lets the source do what the driver does. Everything but ``IDENTITY`` puts the source's face into the
    driver's picture, under its light: :func:`swapped`. Raises :class:`vivavoce.errors.InputError` for unknown parts.
    """
    known = {part.name for part in fields(Coefficients)}
    if unknown := [name for name in taken if name not in known]:
        raise InputError(f"a face has no part {unknown[0]!r}; it has {', '.join(sorted(known))}")
    return replace(source, **{name: getattr(driver, name) for name in taken})


def swapped(source: Coefficients, target: Coefficients) -> Coefficients:
    """The face of ``source`` with pose, expression, gaze and light of ``target``."""
    return recombine(target, source, IDENTITY)


def driven(source: Coefficients, row: Float[np.ndarray, " 48"], reference: Float[np.ndarray, " 48"]) -> Coefficients:
    """``source`` moved by a row of face-mesh/1, as motion generators make them.

    Args:
        source: the face in its picture.
        row: what it is to do.
        reference: what it does in its picture, as ``Portrait.reference`` tells: translation and scale count from it.
    """
    now, was = ({part.name: row_[FACE_MESH.slice(part.name)] for part in FACE_MESH.parts} for row_ in (row, reference))
    return replace(
        source,
        expression=source.expression + now["expression"] - was["expression"],
        eyelids=np.clip(source.eyelids + was["eyelids"] - now["eyelids"], -0.4, 1.0),
        rotation=source.rotation + now["rotation"] - was["rotation"],
        translation=source.translation + (now["translation"] - was["translation"]) * source.scale,
        scale=source.scale * float(now["scale"][0] / max(1e-3, float(was["scale"][0]))),
        gaze=source.gaze + (now["gaze"] - was["gaze"]),
    )


@dataclass(frozen=True, eq=False)  # compared and hashed as objects: what is derived is kept
class Morphable:
    """The bases. ``s`` is the side of the texture."""

    mean: Float[np.ndarray, "478 3"]  # of people at rest, face widths
    identity: Float[np.ndarray, "i 478 3"]  # displacement per standard deviation
    expression: Float[np.ndarray, "32 478 3"]
    lids: Float[np.ndarray, "2 478 3"]  # displacement when a lid closes
    bend: Float[np.ndarray, "5 478 3"]  # what the tracker makes of turned heads, see :func:`bending`
    reader: Float[np.ndarray, "i 1434"]  # offset of a stranger's shape from the mean -> identity
    steady: Float[np.ndarray, "i 1434"]  # the same for films: more cautious, and alike whenever one begins
    texture_mean: Float[np.ndarray, "s s 3"]  # in [0, 1]
    texture: Float[np.ndarray, "l s s 3"]  # per standard deviation

    @staticmethod
    def pretrained() -> Morphable:
        """The bases that ship with the package."""
        return _pretrained()

    def rest(self, identity: Float[np.ndarray, " i"]) -> Points:
        """A person's shape at rest: no expression, eyes open, no pose."""
        return self.mean + np.tensordot(identity, self.identity, 1)

    def shape(self, face: Coefficients) -> Points:
        """The face without pose. The irises lie where it looks."""
        out = self.rest(face.identity)
        out = out + np.tensordot(face.expression, self.expression, 1) + np.tensordot(face.eyelids, self.lids, 1)
        out = out + np.tensordot(bending(face.rotation), self.bend, 1)
        for iris, (a, b), look in zip((LEFT_IRIS, RIGHT_IRIS), CORNERS, face.gaze, strict=True):
            width = np.linalg.norm(out[a, :2] - out[b, :2])
            ring = self.mean[list(iris)] - self.mean[iris[0]]
            out[list(iris)] = out[[a, b]].mean(0) + np.array([*(width * look), 0.0]) + ring
        return out

    def landmarks(self, face: Coefficients) -> Points:
        """The 478 points in pixels."""
        return face.pose.apply(self.shape(face))

    def colours(self, texture: Float[np.ndarray, " l"]) -> Float[np.ndarray, "s s 3"]:
        """The skin without light, in [0, 1]."""
        return np.clip(self.texture_mean + np.tensordot(texture, self.texture, 1), 0.0, 1.0)


def thorough(bases: Morphable) -> Morphable:
    """The same bases, by which films are read for all that they tell, like single pictures.

    For putting another's face into a film: what is not told of who is in it would be taken for expression and stay.
    """
    return replace(bases, steady=bases.reader)


def bending(rotation: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 5"]:
    """Terms of the head's angles in which the tracker's shapes change: yaw, pitch, their squares and their product."""
    yaw, pitch = np.clip(rotation[:2] / _BENT, -2.5, 2.5)
    return np.array([yaw, pitch, yaw * yaw, pitch * pitch, yaw * pitch])


def load(path: Path | str) -> Morphable:
    """Bases from a ``.safetensors`` file: tensors identity, bend, reader, texture_mean and texture.

    The file may also have mean, expression and lids, those of the face model are taken otherwise, and steady, which is
    the reader otherwise. Shapes are those of :class:`Morphable`, in its units.

    Raises:
        InputError: a tensor is missing, unknown, or does not fit.
    """
    tensors, _ = weights.read(path)
    model = FaceModel.pretrained()
    own = {"mean": model.mean, "expression": model.expression, "lids": model.lids}
    found = own | {name: tensor.double().numpy() for name, tensor in tensors.items()}
    if "reader" in found:
        found = {"steady": found["reader"]} | found
    names = {part.name for part in fields(Morphable)}
    if missing := sorted(names - found.keys()):
        raise InputError(f"{path} holds no face: {', '.join(missing)} missing")
    if unknown := sorted(found.keys() - names):
        raise InputError(f"{path} holds no face: {unknown[0]!r} is no part of one")
    people, looks, side = (len(found[n]) for n in ("identity", "texture", "texture_mean"))
    wanted = {
        "mean": (478, 3), "identity": (people, 478, 3), "expression": (32, 478, 3), "lids": (2, 478, 3),
        "bend": (5, 478, 3), "reader": (people, 1434), "steady": (people, 1434),
        "texture_mean": (side, side, 3), "texture": (looks, side, side, 3),
    }  # fmt: skip
    for name, size in wanted.items():
        if found[name].shape != size:
            raise InputError(f"{path}: {name} is {list(found[name].shape)} but must be {list(size)}")
    return Morphable(**{name: found[name].astype(np.float64) for name in names})


def save(face: Morphable, file: Path, *, whole: bool = False) -> None:
    """Write the bases in half precision; ``whole`` also those that the face model has."""
    names = [part.name for part in fields(Morphable) if whole or part.name not in ("mean", "expression", "lids")]
    tensors = {name: torch.from_numpy(getattr(face, name)).half() for name in names}
    weights.write(file, tensors, config={"space": FACE_MESH.name})


@lru_cache(maxsize=1)
def _pretrained() -> Morphable:
    return load(WEIGHTS)
