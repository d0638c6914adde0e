"""What a face adds to its speech in an emotion, in ``face-mesh/1``: brows, lids and the corners of the mouth.

Closed form: movements of the Facial Action Coding System (Ekman & Friesen 1978) as displacements of landmarks, mixed
for each emotion as its manual lists them, and written in the expression basis by least squares. They leave the lips'
opening alone, so that what is said stays what is seen. Speech training tells too little of emotions to learn them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce.emotion.labels import EMOTIONS
from vivavoce.face.mesh import BROWS
from vivavoce.face.model import FaceModel
from vivavoce.motion import lips
from vivavoce.motion.space import FACE_MESH

_LEFT, _RIGHT = 61, 291  # corners of the mouth, on the left and the right of the picture
# How strongly each action is done. Right corner and brow stand for one side alone.
_MIXED: dict[str, dict[str, float]] = {
    "anger": {"brows up": -1.0, "brows together": 1.0, "corners up": -0.4, "lids": -0.25},
    "contempt": {"right corner up": 1.2, "brows up": -0.2, "lids": -0.2},
    "disgust": {"brows up": -0.8, "brows together": 0.6, "corners up": -0.7, "lids": -0.35},
    "fear": {"brows up": 0.8, "brows together": 0.8, "corners out": 0.7, "lids": 0.3},
    "happiness": {"corners up": 1.5, "corners out": 1.1, "brows up": 0.25, "lids": -0.15},
    "neutral": {},
    "sadness": {"inner brows up": 1.0, "brows together": 0.5, "corners up": -1.2, "lids": -0.2},
    "surprise": {"brows up": 1.3, "lids": 0.35},
}
_BROWS, _INNER, _TOGETHER = 0.040, 0.045, 0.014  # face widths that brows move at strength 1
_UP, _OUT = 0.032, 0.022  # and corners of the mouth
_WEIGHT_BROWS, _WEIGHT_CORNERS, _WEIGHT_REST, _WEIGHT_OPENING = 1.0, 3.0, 0.05, 100.0
_RIDGE = 1e-4


@cache
def look(emotion: str) -> Float[Tensor, " d"]:
    """What a row of ``face-mesh/1`` gains in ``emotion`` (one of EMOTIONS) at strength 1.

    The numbers of the lids are shares of their openness, everything else is in the units of the space.
    """
    if emotion not in EMOTIONS:
        raise ValueError(f"no emotion called {emotion!r}; there are {EMOTIONS}")
    model, mixed = FaceModel.pretrained(), _MIXED[emotion]
    wanted = np.zeros((len(model.mean), 2))
    for action, amount in mixed.items():
        if action != "lids":
            wanted += amount * _action(action, model)
    row = torch.zeros(FACE_MESH.dim)
    row[FACE_MESH.slice("expression")] = torch.from_numpy(_coefficients(wanted, model)).float()
    row[FACE_MESH.slice("eyelids")] = mixed.get("lids", 0.0)
    return row


def felt(mix: Sequence[float]) -> Float[Tensor, " d"]:
    """The looks of a mixture: ``mix`` are shares of EMOTIONS, in their order."""
    shown = [share * look(emotion) for emotion, share in zip(EMOTIONS, mix, strict=True) if share]
    return torch.stack(shown).sum(0) if shown else torch.zeros(FACE_MESH.dim)


def _action(name: str, model: FaceModel) -> Float[np.ndarray, "478 2"]:
    """Displacement of the brows or the corners of the mouth, face widths; x right, y down."""
    moved, brows = np.zeros((len(model.mean), 2)), list(BROWS)
    x = model.mean[brows, 0]
    match name:
        case "brows up":
            moved[brows, 1] = -_BROWS
        case "inner brows up":  # the outer ends a little down, as the inner ones pull
            moved[brows, 1] = -_INNER * (1 - np.abs(x) / 0.28)
        case "brows together":
            moved[brows, 0] = -np.sign(x) * _TOGETHER
        case "corners up":
            moved[[_LEFT, _RIGHT], 1] = -_UP
        case "right corner up":
            moved[_RIGHT] = _OUT, -_UP
        case "corners out":
            moved[[_LEFT, _RIGHT], 0] = -_OUT, _OUT
        case _:
            raise ValueError(f"no action called {name!r}")
    return moved


def _coefficients(wanted: Float[np.ndarray, "478 2"], model: FaceModel) -> Float[np.ndarray, "32"]:
    """Least squares: brows and corners go where they should, the rest stays about where it is, the lips as open."""
    weight = np.full(len(wanted), _WEIGHT_REST)
    weight[list(BROWS)], weight[[_LEFT, _RIGHT]], weight[468:] = _WEIGHT_BROWS, _WEIGHT_CORNERS, 0
    root = np.sqrt(weight)[:, None]
    basis = (model.expression[:, :, :2] * root).reshape(len(model.expression), -1)
    opening = np.sqrt(_WEIGHT_OPENING) * lips.opening(model).numpy()[:, None]
    basis, target = np.hstack([basis, opening]), np.append((wanted * root).reshape(-1), 0)
    return np.linalg.solve(basis @ basis.T + _RIDGE * np.eye(len(basis)), basis @ target)
