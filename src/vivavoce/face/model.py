"""The face model of ``face-mesh/1``: mean shape, expression basis, lids, and what a photo tells of its own expression.

Learned from the training clips by ``recipes/face.py``. All shapes live in the canonical frame of ``face/mesh.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int

from vivavoce import weights
from vivavoce.face.mesh import Points, Pose, align

WEIGHTS = "face-mesh"
COEFFICIENTS = 32


@dataclass(frozen=True)
class FaceModel:
    """Linear model of a face without pose: ``shape = identity + expression . e + lids . (1 - openness)``."""

    mean: Float[np.ndarray, "478 3"]  # average neutral face, lips closed, eyes open
    triangles: Int[np.ndarray, "f 3"]  # of the surface; eyes and mouth are holes
    expression: Float[np.ndarray, "32 478 3"]  # displacement per standard deviation of each coefficient
    lids: Float[np.ndarray, "2 478 3"]  # displacement when the eye on the left / right of the picture closes
    reader: Float[np.ndarray, "32 1434"]  # shape offset from the best-fitting neutral -> coefficients
    guesser: Float[np.ndarray, "32 1434"]  # shape offset from the mean face -> coefficients, identity unknown
    mirror: Float[np.ndarray, "32 32"]  # coefficients of the left-right mirrored expression
    mirrored_points: Int[np.ndarray, " 478"]  # index of each point's mirror image

    @staticmethod
    def pretrained() -> FaceModel:
        """The model that ships with the package."""
        return _pretrained()

    def canonical(self, landmarks: Points, neutral: Points | None = None) -> tuple[Points, Pose]:
        """Landmarks in pixels -> shape without pose, and the pose.

        Aligns to ``neutral``, the person's own resting shape, when it is known: that keeps features of the
        person, such as a long nose, out of the pose.
        """
        pose = align(self.mean if neutral is None else neutral, landmarks)
        return pose.undo(landmarks.astype(np.float64)), pose

    def read(self, shape: Points, neutral: Points) -> Float[np.ndarray, "32"]:
        """Expression coefficients of a canonical ``shape`` of the person whose resting shape is ``neutral``."""
        return self.reader @ (shape - neutral).reshape(-1)

    def guess(self, shape: Points) -> Float[np.ndarray, "32"]:
        """Expression coefficients of a stranger's canonical ``shape``: what is not identity, as well as one can tell.

        Ridge regression over the training speakers, hence shrunk towards 0.
        """
        return self.guesser @ (shape - self.mean).reshape(-1)

    def displacement(
        self, coefficients: Float[np.ndarray, "32"], closing: Float[np.ndarray, "2"]
    ) -> Float[np.ndarray, "478 3"]:
        """Displacement of every point for expression ``coefficients`` and lids ``closing`` (0 open, 1 closed)."""
        return np.tensordot(coefficients, self.expression, 1) + np.tensordot(closing, self.lids, 1)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Named tensors for saving; :func:`from_tensors` is the inverse."""
        return {f.name: torch.from_numpy(np.ascontiguousarray(getattr(self, f.name))) for f in fields(self)}


def from_tensors(tensors: dict[str, torch.Tensor]) -> FaceModel:
    """Inverse of :meth:`FaceModel.tensors`."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    as_float = {name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in arrays.items()}
    return FaceModel(**as_float)


@lru_cache(maxsize=1)
def _pretrained() -> FaceModel:
    tensors, _ = weights.read(WEIGHTS)
    return from_tensors(tensors)
