"""What the expression coefficients of ``face-mesh/1`` say about the mouth: linear readings of the face model."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce.face.mesh import BROWS, INNER_LIPS, LEFT_EYE, LOWER_LIP, OUTER_LIPS, RIGHT_EYE, UPPER_LIP
from vivavoce.face.model import FaceModel
from vivavoce.motion.space import FACE_MESH

LIPS = (*INNER_LIPS, *OUTER_LIPS)
REACH = 0.10  # face widths over which the mouth's part in a point falls off above the lips
TIE = 1e-3  # how much a coefficient that moves nothing is held where it is


def opening(model: FaceModel) -> Float[Tensor, "32"]:
    """How far each coefficient parts the inner lips at the middle of the mouth, in face widths."""
    moved = model.expression[:, list(LOWER_LIP), 1] - model.expression[:, list(UPPER_LIP), 1]
    return torch.from_numpy(moved.mean(1)).float()


def width(model: FaceModel) -> Float[Tensor, "32"]:
    """How far each coefficient parts the corners of the mouth, in face widths."""
    return torch.from_numpy(model.expression[:, 291, 0] - model.expression[:, 61, 0]).float()


def shape(model: FaceModel, count: int = 10) -> Float[Tensor, "32 k"]:
    """Coefficients -> the ``count`` main ways the lips move, whose squares sum to 1 on average over the training clips.

    Coefficients are uncorrelated with unit variance there, so the mean square of a reading is its column's norm.
    """
    moved = model.expression[:, list(LIPS)].reshape(len(model.expression), -1)
    u, s, _ = np.linalg.svd(moved, full_matrices=False)
    scaled = u[:, :count] * s[:count]
    return torch.from_numpy(scaled / np.sqrt(np.square(scaled).sum())).float()


def readings(model: FaceModel, count: int) -> Float[Tensor, "32 k"]:
    """Coefficients -> the ``count`` main ways the lips move, each of unit variance over the training clips."""
    found = shape(model, count)
    return found / found.square().sum(0).sqrt()


def resting(model: FaceModel) -> Float[Tensor, "32 32"]:
    """Matrix R so that ``e @ R`` has the mouth closed and at rest and moves the rest of the face as ``e`` does.

    Least squares: points of the mouth go to where 0 puts them, the others stay where ``e`` puts them.
    """
    share = _mouth_share(model)[None, :, None]
    mouth = (model.expression * np.sqrt(share)).reshape(len(model.expression), -1)
    rest = (model.expression * np.sqrt(1 - share)).reshape(len(model.expression), -1)
    keep = rest @ rest.T
    tie = TIE * np.trace(mouth @ mouth.T) / len(mouth) * np.eye(len(mouth))
    return torch.from_numpy(np.linalg.solve(mouth @ mouth.T + keep + tie, keep + tie).T.copy()).float()


def closed_rows(model: FaceModel) -> Float[Tensor, "48 48"]:
    """Matrix C so that ``rows @ C`` are the rows with the mouth closed and nothing seen inside it."""
    out = torch.eye(FACE_MESH.dim)
    expression, interior = FACE_MESH.slice("expression"), FACE_MESH.slice("interior")
    out[expression, expression] = resting(model)
    out[interior, interior] = 0
    return out


def mirror_rows(model: FaceModel) -> Float[Tensor, "48 48"]:
    """Matrix M so that ``rows @ M`` is the motion seen in a mirror. What is seen inside the mouth is kept."""
    signs = torch.ones(FACE_MESH.dim)
    turned, moved, looked = (FACE_MESH.slice(name).start for name in ("rotation", "translation", "gaze"))
    signs[[turned, turned + 2, moved, looked]] = -1  # yaw, roll, x, gaze to the side
    out = torch.diag(signs)
    expression, lids = FACE_MESH.slice("expression"), FACE_MESH.slice("eyelids")
    out[expression, expression] = torch.from_numpy(model.mirror.T.copy()).float()
    out[lids, lids] = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    return out


def _mouth_share(model: FaceModel) -> Float[np.ndarray, "478"]:
    """1 at and below the lips, falling to 0 towards eyes and brows."""
    top = model.mean[list(LIPS), 1].min()
    share = np.exp(-np.square(np.maximum(0, top - model.mean[:, 1]) / REACH))
    share[[*BROWS, *LEFT_EYE, *RIGHT_EYE]] = 0
    return share
