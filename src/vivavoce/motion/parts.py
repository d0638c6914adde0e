"""Which share of a motion row is pose, eyes, brows or lips: linear maps, so that motions can be mixed part by part."""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.face.model import FaceModel
from vivavoce.motion import lips
from vivavoce.motion.keypoints import EYES
from vivavoce.motion.space import FACE_MESH, KEYPOINT, MotionSpace

PARTS = ("pose", "brows", "eyes", "lips")
POSE_KINDS = ("rotation_deg", "rotation_rad", "translation", "scale")
EYE_KINDS = ("openness", "gaze", "gaze_rad")
BROW_POINTS = (1, 2)  # keypoints that move the brows; those that are neither eyes nor brows count as lips: speech


def share(space: MotionSpace, *parts: str) -> Float[Tensor, "d d"]:
    """Matrix P so that ``rows @ P`` is what ``parts`` have of differences of rows; over all of PARTS, P sum to 1.

    Raises :class:`vivavoce.errors.InputError` for a part that does not exist, and for a space without parts.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise InputError(f"there is no part {unknown[0]!r} of a face's motion; there are {', '.join(PARTS)}")
    if space not in (FACE_MESH, KEYPOINT):
        raise InputError(f"the parts of {space.name} are not known; they are for {FACE_MESH.name} and {KEYPOINT.name}")
    out = torch.zeros(space.dim, space.dim)
    for part in parts:
        out += _shares(space)[part]
    return out


@cache
def _shares(space: MotionSpace) -> dict[str, Float[Tensor, "d d"]]:
    pose, eyes = _of_kinds(space, POSE_KINDS), _of_kinds(space, EYE_KINDS)
    brows = _upper_face(space) if space == FACE_MESH else _points(space, BROW_POINTS)
    eyes = eyes if space == FACE_MESH else eyes + _points(space, EYES)
    return {"pose": pose, "brows": brows, "eyes": eyes, "lips": torch.eye(space.dim) - pose - brows - eyes}


def _of_kinds(space: MotionSpace, kinds: tuple[str, ...]) -> Float[Tensor, "d d"]:
    return torch.diag(torch.cat([torch.full((part.size,), float(part.kind in kinds)) for part in space.parts]))


def _upper_face(space: MotionSpace) -> Float[Tensor, "d d"]:
    """What of the expression moves the face above the mouth."""
    out, at = torch.zeros(space.dim, space.dim), space.slice("expression")
    out[at, at] = lips.resting(FaceModel.pretrained())
    return out


def _points(space: MotionSpace, points: tuple[int, ...]) -> Float[Tensor, "d d"]:
    marks = torch.zeros(space.dim)
    marks[space.slice("expression")].view(-1, 3)[list(points)] = 1
    return torch.diag(marks)
