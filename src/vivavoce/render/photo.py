"""Draw a still portrait in any pose: eyes painted, mesh warped, person laid over the background."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from vivavoce.face.mesh import OVAL, Points, Pose
from vivavoce.face.model import FaceModel
from vivavoce.render.eyes import paint_eye, prepare_eyes
from vivavoce.render.layers import Layers, fill_smoothly
from vivavoce.render.likeness import Likeness, Row
from vivavoce.render.raster import ALL, BACK, FRONT, compose, draw_triangles, soften_tears
from vivavoce.render.surface import FACE, face_triangles, normals, smoothstep, surround

_FAR_SIDE = 7.0  # degrees of yaw from which the far cheek of a picture shows hair and wall instead of skin
_TEAR = 5.0  # pixels between the sources of neighbouring pixels that make an edge


class Photo:
    """Buffers and precomputed parts for drawing one portrait; one per stream, frames do not depend on each other."""

    def __init__(
        self,
        model: FaceModel,
        sitter: Likeness,
        picture: UInt8[np.ndarray, "h w 3"],
        layers: Layers,
        free: tuple[bool, bool, bool, bool],
    ) -> None:
        height, width = layers.plate.shape[:2]
        self.model, self.sitter, self.layers = model, sitter, layers
        self.foreground = layers.foreground.copy()
        self.plate = layers.plate.copy()
        self.margin = np.flatnonzero((layers.foreground[..., 3] == 0) & (layers.plate != picture).any(-1))
        self.rest = picture.reshape(-1, 3)[self.margin].astype(np.float32)
        self.guess = layers.plate.reshape(-1, 3)[self.margin].astype(np.float32)
        self.settled = 1.0  # how much of the guess the plate holds now
        self.packed = self.foreground.view("<u4")[..., 0]
        self.eyes = prepare_eyes(layers.foreground, sitter.landmarks)
        self.face = face_triangles(model.triangles, model.mean)
        self.surround = surround(sitter.landmarks, sitter.pose, (width, height), free, separate=layers.separate)
        self.texture = np.zeros((FACE + len(self.surround.points), 3), np.float32)
        self.texture[:, :2] = np.vstack([sitter.landmarks[:, :2], self.surround.points])
        self.normals = normals(self.face, sitter.shape)
        self.facing = -(self.normals @ sitter.pose.rotation[2])
        self.hidden = _hidden(self.facing, sitter)
        self.bare = _bare_skin(layers.foreground, self.face, sitter.landmarks, self.facing)
        self.sampling = np.zeros((height, width, 3), np.float32)
        self.nearest = np.empty((height, width), np.float32)
        self.drawn = np.empty((height, width, 3), np.uint8)

    def draw(self, row: Row) -> tuple[UInt8[np.ndarray, "h w 3"], Points, Pose]:
        """The region for one motion row (overwritten by the next), the landmarks it shows and the head pose."""
        target, pose = self.sitter.posed(self.model, row)
        was = self.sitter.reference
        self._paint_eyes(row.eyelids / np.maximum(was.eyelids, 0.3), row.gaze - was.gaze)
        self._warp(target, pose)
        self._settle(target)
        compose(self.packed, self.bare, self.plate, self.sampling, self.drawn)
        # Only the face hides parts of itself and of what is behind.
        corner, end = np.maximum(target[:, :2].min(0) - 3, 0).astype(int), target[:, :2].max(0).astype(int) + 4
        box = (slice(corner[1], max(end[1], 0)), slice(corner[0], max(end[0], 0)))
        soften_tears(self.sampling[box], np.float32(_TEAR), self.drawn[box].copy(), self.drawn[box])
        return self.drawn, target, pose

    def _settle(self, target: Points) -> None:
        """Beside the person the plate is a guess, lest edges that the matte missed stay behind when the head moves.

        While it is still where it was, the picture itself is better.
        """
        oval = list(OVAL)
        moved = np.abs(target[oval, :2] - self.sitter.landmarks[oval, :2]).max() / self.sitter.pose.scale
        share = float(smoothstep((moved - 0.005) / 0.03))
        if share == self.settled:
            return
        self.settled = share
        self.plate.reshape(-1, 3)[self.margin] = self.rest + (self.guess - self.rest) * share + 0.5

    def _paint_eyes(self, eyelids: Float[np.ndarray, " 2"], gaze: Float[np.ndarray, " 2"]) -> None:
        for eye, openness in zip(self.eyes, eyelids, strict=True):
            if eye is not None:
                paint_eye(eye, float(openness), gaze, self.foreground)

    def _warp(self, target: Points, pose: Pose) -> None:
        oval = list(OVAL)
        pulled = target[oval, :2] - pose.apply(self.sitter.shape[oval])[:, :2]
        around, depth = self.surround.moved(pose, pulled)
        vertices = np.vstack([target[:, :2], around]).astype(np.float32)
        depths = np.concatenate([target[:, 2], depth]).astype(np.float32)
        self.nearest.fill(np.inf)
        self.texture[:FACE, 2] = self._revealed(pose)
        # The surroundings first, then what of the face is seen from behind, then its front: the nearest wins.
        draw_triangles(self.surround.triangles, vertices, depths, self.texture, ALL, self.nearest, self.sampling)
        draw_triangles(self.face, vertices, depths, self.texture, BACK, self.nearest, self.sampling)
        draw_triangles(self.face, vertices, depths, self.texture, FRONT, self.nearest, self.sampling)

    def _revealed(self, pose: Pose) -> Float[np.ndarray, " 478"]:
        """How much each point shows what the picture hides, in [-1, 1].

        Positive where the picture shows something else there, negative where it shows the face edge-on.
        """
        grown = smoothstep((-(self.normals @ pose.rotation[2]) - self.facing - 0.03) / 0.10)
        return self.hidden * grown


def _hidden(facing: Float[np.ndarray, " 478"], sitter: Likeness) -> Float[np.ndarray, " 478"]:
    """Where the picture sees the face edge-on: negative, but positive on the far side of a turned head."""
    yaw = sitter.angles[0]
    far = (np.sign(yaw) * sitter.shape[:, 0] > 0) & (abs(yaw) > _FAR_SIDE)
    return np.where(far, 1 - smoothstep((facing - 0.1) / 0.25), -(1 - smoothstep((facing - 0.1) / 0.3)))


def _bare_skin(
    foreground: UInt8[np.ndarray, "h w 4"], face: np.ndarray, landmarks: Points, facing: Float[np.ndarray, " 478"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The visible part of the face, continued smoothly to everywhere."""
    seen = np.zeros(foreground.shape[:2], np.uint8)
    corners = np.round(landmarks[:, :2]).astype(np.int32)
    for triangle in face[facing[face].min(1) > 0.3]:
        cv2.fillConvexPoly(seen, corners[triangle], 1)
    known = cv2.erode(seen, np.ones((3, 3), np.uint8)).astype(np.float32)
    return np.clip(fill_smoothly(foreground[..., :3].astype(np.float32), known) + 0.5, 0, 255).astype(np.uint8)
