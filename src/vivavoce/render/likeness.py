"""One picture of a person as geometry: shape at rest, pose, and where the mesh goes for a motion row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from vivavoce.errors import InputError
from vivavoce.face.mesh import (
    LEFT_LOWER_LID,
    LEFT_UPPER_LID,
    LOWER_INNER,
    RIGHT_LOWER_LID,
    RIGHT_UPPER_LID,
    UPPER_INNER,
    Points,
    Pose,
    head_angles,
    rotation_matrix,
)
from vivavoce.face.model import FaceModel
from vivavoce.motion.space import FACE_MESH
from vivavoce.motion.track import Calibration, calibrate, rows
from vivavoce.render.surface import smoothstep

_SEAM = 0.003  # lip gap in face widths up to which lips count as closed
_CLEARED, _CLEARED_AT_MOST = 0.09, 0.010  # of the lip gap, and in face widths
_LIDS = ((LEFT_UPPER_LID, LEFT_LOWER_LID), (RIGHT_UPPER_LID, RIGHT_LOWER_LID))
_FRONTAL, _HIDDEN = 3.0, 22.0  # degrees of yaw in the picture: up to here all is seen; this much more hides a cheek
_FREE = np.array([22.0, 16.0, 24.0])  # degrees of yaw, pitch, roll about the picture's own pose, for a frontal picture
_FARTHEST = np.array([34.0, 30.0, 60.0])  # degrees from frontal that stay drawable


_MISFIT = 0.05  # fit error in face widths above which the mesh is probably no human face
_REFUSED = 0.12  # and from which it is none
_SMALL = 60  # pixels of face width


@dataclass(frozen=True, slots=True)
class Row:
    """One motion row of face-mesh/1, by name."""

    rotation: Float[np.ndarray, " 3"]  # degrees, absolute
    translation: Float[np.ndarray, " 2"]  # face widths
    scale: float
    expression: Float[np.ndarray, " 32"]
    eyelids: Float[np.ndarray, " 2"]
    gaze: Float[np.ndarray, " 2"]
    interior: Float[np.ndarray, " 6"]


@dataclass(frozen=True, slots=True)
class Likeness:
    """A person in one picture."""

    landmarks: Float[np.ndarray, "478 3"]  # pixels of the region that is redrawn
    shape: Float[np.ndarray, "478 3"]  # canonical units
    pose: Pose  # canonical units to pixels
    reference: Row  # what the person does in the picture
    lips: Float[np.ndarray, "478 9"]  # vertical displacement of every point per widening of each lip column

    @property
    def angles(self) -> Float[np.ndarray, " 3"]:
        """Yaw, pitch and roll in the picture, in degrees."""
        return head_angles(self.pose.rotation)

    def posed(self, model: FaceModel, row: Row, *, lower: bool = False) -> tuple[Points, Pose]:
        """Landmarks in pixels and head pose for a motion row.

        ``lower`` moves only the mouth and jaw and keeps the picture's own pose: for portraits that move themselves.
        """
        change = row.expression - self.reference.expression
        shift = (change @ model.expression.reshape(len(change), -1)).reshape(-1, 3)
        if lower:
            shift = shift * _lower_face(model.mean)[:, None]
        shift = _without_lids(shift)
        shape = self.shape + shift
        shape[:, 1] += self.lips @ self._lip_error(shape, model, row.expression)
        if lower:
            return self.pose.apply(shape), self.pose
        self._widen_eyes(shape, row.eyelids / np.maximum(self.reference.eyelids, 0.3))
        pose = self._turned(row)
        return pose.apply(shape), pose

    def _turned(self, row: Row) -> Pose:
        was = self.reference
        angles = limited_angles(self.angles, self.angles + row.rotation - was.rotation)
        moved = np.clip(row.translation - was.translation, -0.6, 0.6) * self.pose.scale
        scale = self.pose.scale * float(np.clip(row.scale / was.scale, 0.7, 1.4))
        return Pose(scale, rotation_matrix(angles), self.pose.translation + np.array([*moved, 0.0]))

    def _lip_error(self, shape: Points, model: FaceModel, expression: np.ndarray) -> Float[np.ndarray, " 9"]:
        """How much the lip gap must grow to be what the row says: closed when it says closed, never crossed.

        The picture's own gap shrinks in proportion until the row's gap is the picture's, and grows with it beyond.
        """
        wanted, own = (np.maximum(_gaps(model.expression) @ e, 0) for e in (expression, self.reference.expression))
        rest = np.maximum(_gap(self.shape), 0)
        gap = rest * np.minimum((wanted + _SEAM) / (own + _SEAM), 1) + np.maximum(wanted - own, 0)
        return gap - _gap(shape)

    def _widen_eyes(self, shape: Points, eyelids: np.ndarray) -> None:
        """Lids opened wider than in the picture (narrower is painted, see eyes.py); changes ``shape``."""
        for openness, (above, below) in zip(eyelids, _LIDS, strict=True):
            if openness > 1:
                gap = self.shape[list(below), 1] - self.shape[list(above), 1]
                shape[list(above), 1] -= gap * (min(float(openness), 1.35) - 1)


def likeness(
    landmarks: Points, model: FaceModel, reference: Float[np.ndarray, " 48"], neutral: Points | None = None
) -> Likeness:
    """Geometry of a face.

    Args:
        landmarks: in pixels of the region.
        model: the face model.
        reference: the motion row of the picture.
        neutral: the person's canonical resting shape, where more than this picture is known.
    """
    neutral = calibrate(landmarks[None], model).neutral if neutral is None else neutral
    shape, pose = model.canonical(landmarks, neutral)
    _clear_lips(shape)
    return Likeness(pose.apply(shape), shape, pose, named(reference), _lip_reach(shape))


def reference_rows(
    landmarks: Float[np.ndarray, "s 478 3"], model: FaceModel, person: Calibration | None = None
) -> Float[np.ndarray, "s 48"]:
    """Motion rows of the pictures, with expressions whose lip gap is the one seen: the guess alone is shrunk.

    ``person`` is who is in them, where more than these pictures is known.
    """
    person, part = person or calibrate(landmarks, model), FACE_MESH.slice("expression")
    found = rows(landmarks, np.zeros((len(landmarks), 6)), person, model).astype(np.float64)
    for row, points in zip(found, landmarks, strict=True):
        row[part] = _with_gap(model, row[part], np.maximum(_gap(model.canonical(points, person.neutral)[0]), 0))
    return found


def named(row: Float[np.ndarray, " 48"]) -> Row:
    """A motion row by name."""
    parts = {name: part.numpy() for name, part in FACE_MESH.unpack(torch.from_numpy(row)).items()}
    return Row(**{**parts, "scale": float(parts["scale"][0])})


def fit_error(landmarks: Points, model: FaceModel) -> float:
    """How badly the model explains the landmarks, in face widths (root mean square): large for what is not a face."""
    shape, _ = model.canonical(landmarks)
    left = shape - model.mean - np.tensordot(model.guess(shape), model.expression, 1)
    return float(np.sqrt(np.square(left[:468, :2]).sum(1).mean()))


def told(misfit: float, width: float) -> tuple[str, ...]:
    """What the user should know of a face with fit error ``misfit``, ``width`` pixels wide.

    Raises :class:`vivavoce.errors.InputError` when it is no human face.
    """
    if misfit > _REFUSED:
        raise InputError("what was found in the picture does not look like a human face; give a picture of a person")
    found = []
    if misfit > _MISFIT:
        found.append("the face is unusual, hidden or badly lit, so movements may look wrong")
    if width < _SMALL:
        found.append(f"the face is small ({width:.0f} pixels wide), so details will be coarse")
    return tuple(found)


def limited_angles(own: Float[np.ndarray, " 3"], wanted: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 3"]:
    """The wanted head angles, held to what the picture can show.

    Args:
        own: yaw, pitch, roll of the head in the picture, in degrees.
        wanted: those asked for, in degrees.

    A turned head hides half of the face: the more it is turned, the less it may move.
    """
    turned = abs(own[0])
    # Towards the camera an already turned head shows a cheek that the picture does not have; away from it, less.
    reveal = 1 - 0.9 * np.clip((turned - _FRONTAL) / _HIDDEN, 0, 1)
    conceal = np.clip((_FARTHEST[0] + 6 - turned) / _FREE[0], 0.2, 1)
    yaw = reveal if (wanted[0] - own[0]) * own[0] < 0 else conceal
    room = _FREE * np.array([yaw, 0.4 + 0.6 * reveal, 0.5 + 0.5 * reveal])
    reached = own + _soft_limit(wanted - own, room)
    far = np.maximum(_FARTHEST, np.abs(own) + 0.25 * room)
    return np.clip(reached, -far, far)


def _soft_limit(x: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """``x`` up to 0.8 of the limit, then ever slower towards 1.1 of it."""
    knee, rest = 0.8 * limit, 0.3 * limit
    over = np.maximum(np.abs(x) - knee, 0)
    return np.sign(x) * (np.minimum(np.abs(x), knee) + rest * np.tanh(over / rest))


def _gap(shape: Points) -> Float[np.ndarray, " 9"]:
    return shape[list(LOWER_INNER[1:-1]), 1] - shape[list(UPPER_INNER[1:-1]), 1]


def _gaps(expression: Float[np.ndarray, "32 478 3"]) -> Float[np.ndarray, "9 32"]:
    """Change of the lip gap at each column per coefficient."""
    return (expression[:, LOWER_INNER[1:-1], 1] - expression[:, UPPER_INNER[1:-1], 1]).T


def _clear_lips(shape: Points) -> None:
    """Move the inner edges of open lips a little into the lips, so that no teeth stick to lips that close."""
    aside = np.clip(_CLEARED * _gap(shape), 0, _CLEARED_AT_MOST)
    shape[list(UPPER_INNER[1:-1]), 1] -= aside
    shape[list(LOWER_INNER[1:-1]), 1] += aside


def _with_gap(model: FaceModel, coefficients: np.ndarray, gap: Float[np.ndarray, " 9"]) -> Float[np.ndarray, " 32"]:
    """The nearest coefficients whose lip gap is the one seen: the guess is shrunk, the gap is measured."""
    columns = _gaps(model.expression)
    missing = gap - columns @ coefficients
    ridge = columns @ columns.T + 1e-5 * np.eye(len(columns))
    return coefficients + columns.T @ np.linalg.solve(ridge, missing)


def _lip_reach(shape: Points) -> Float[np.ndarray, "478 9"]:
    """Who moves, and how far, when a column of the lip gap widens by 1: the upper lip gives 35 %, the lower 65 %."""
    upper, lower = shape[list(UPPER_INNER)], shape[list(LOWER_INNER)]
    middle = (upper + lower) / 2
    x = shape[:, 0]
    order = np.argsort(middle[:, 0])
    columns = np.stack([np.interp(x, middle[order, 0], np.eye(11)[order, k], left=0, right=0) for k in range(1, 10)], 1)
    above = np.interp(x, middle[order, 0], upper[order, 1]) - shape[:, 1]
    below = shape[:, 1] - np.interp(x, middle[order, 0], lower[order, 1])
    upper_side = shape[:, 1] <= np.interp(x, middle[order, 0], middle[order, 1])
    fall = np.where(
        upper_side,
        -0.35 * np.exp(-np.square(np.maximum(above, 0) / 0.09)),
        0.65 * np.exp(-np.square(np.maximum(below, 0) / 0.16)),
    )
    reach = columns * fall[:, None]
    for k in range(1, 10):
        for point, share in ((UPPER_INNER[k], -0.35), (LOWER_INNER[k], 0.65)):
            reach[point] = 0
            reach[point, k - 1] = share
    reach[468:] = 0
    return reach


def _without_lids(shift: Points) -> Points:
    """Let both lids of a column move together: how far they are apart is the business of the eyelid channels."""
    out = shift.copy()
    for above, below in _LIDS:
        mean = (shift[list(above)] + shift[list(below)]) / 2
        out[list(above)] = out[list(below)] = mean
    return out


def _lower_face(mean: Points) -> Float[np.ndarray, " 478"]:
    """1 at the mouth and jaw, 0 from the lower lids upward."""
    nose, mouth = mean[1, 1], mean[13, 1]
    return smoothstep((mean[:, 1] - (nose - 0.06)) / max(1e-6, 0.6 * (mouth - nose)))
