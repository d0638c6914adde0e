"""The face tracker behind one small adapter: 478 landmarks per face, from pictures or videos, and a person matte.

Uses MediaPipe. Release 0.10.21 carries its models; newer ones need a model file, named by ``VIVAVOCE_FACE_MODEL``.
Nothing outside this file knows about MediaPipe.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from vivavoce.errors import InputError

Rgb = UInt8[np.ndarray, "h w 3"]
POINTS = 478
MODEL_VARIABLE = "VIVAVOCE_FACE_MODEL"
_CROP = 2.0  # side of the square handed to the landmark network, in detected face widths
_DETECTION = 1024  # largest side of the square in which faces are searched, in pixels
_SAME_FACE = 0.35  # overlap (intersection over union) above which two detections are one face
_REFIND = 5  # frames between two searches for a face that was lost in a video


@dataclass(frozen=True, slots=True)
class Face:
    """One face: 478 points of the attention mesh (468 surface, 2 x 5 iris)."""

    landmarks: Float32[np.ndarray, "478 3"]  # x right, y down, in pixels of the picture; z in pixels, away from camera

    @property
    def width(self) -> float:
        """Distance between the points in front of the ears, in pixels, in space (so that turning keeps it)."""
        return float(np.linalg.norm(self.landmarks[234] - self.landmarks[454]))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the points, in pixels."""
        low, high = self.landmarks[:, :2].min(0), self.landmarks[:, :2].max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


class FaceTracker:
    """Detects and follows faces. Costs nothing to make: all share the tracker's graphs and take turns with them."""

    def __init__(self) -> None:
        self._mediapipe = _bundled() if _has_bundled_models() else _tasks(_model_file())

    def faces(self, rgb: Rgb) -> list[Face]:
        """Every face of one picture, largest first; empty if there is none."""
        found: list[Face] = []
        for box in self._mediapipe.boxes(rgb):
            face = self._mediapipe.landmarks(rgb, box)
            if face is not None and all(_overlap(face.box, other.box) < _SAME_FACE for other in found):
                found.append(face)
        return sorted(found, key=lambda face: -face.width)

    def follow(self, frames: Iterable[Rgb], first: Face | None = None) -> Iterator[Face | None]:
        """One face through a video, ``None`` where it is lost; starts from ``first`` or the largest face."""
        face, waiting = first, 0
        for rgb in frames:
            if face is not None:
                face = self._mediapipe.landmarks(rgb, face.box)
            if face is None and waiting == 0:
                face = next(iter(self.faces(rgb)), None)
                waiting = _REFIND
            waiting = 0 if face is not None else waiting - 1
            yield face

    def person(self, rgb: Rgb) -> Float32[np.ndarray, "h w"] | None:
        """How much each pixel belongs to a person, in [0, 1]; ``None`` when this tracker has no such model."""
        return self._mediapipe.person(rgb)


class _Bundled:
    """MediaPipe 0.10.21 and its ``solutions``, whose models travel in the package."""

    def __init__(self) -> None:
        with _quiet():
            from mediapipe.python.solutions.face_detection import FaceDetection
            from mediapipe.python.solutions.face_mesh import FaceMesh
            from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

            # Two detectors: one made for faces that fill the picture, one for faces further away.
            self._detectors = [FaceDetection(min_detection_confidence=0.4, model_selection=kind) for kind in (0, 1)]
            self._mesh = FaceMesh(static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.2)
            self._matte = SelfieSegmentation(model_selection=0)
            self._turn = threading.Lock()
            for graph in (*self._detectors, self._mesh):  # the first picture is when native code logs most
                self._process(graph, np.zeros((64, 64, 3), np.uint8))
        self._warm = False  # has a face been found yet

    def _process(self, graph: Any, rgb: Rgb) -> Any:
        with self._turn:
            return graph.process(np.ascontiguousarray(rgb))

    def boxes(self, rgb: Rgb) -> list[tuple[float, float, float, float]]:
        square, scale, (x, y) = _square(rgb, _whole(rgb), margin=1.0, side=_DETECTION)
        size, boxes = square.shape[0] * scale, []
        for detector in self._detectors:
            for found in self._process(detector, square).detections or []:
                box = found.location_data.relative_bounding_box
                left, top = box.xmin * size + x, box.ymin * size + y
                boxes.append((left, top, left + box.width * size, top + box.height * size))
        return boxes

    def landmarks(self, rgb: Rgb, box: tuple[float, float, float, float]) -> Face | None:
        crop, scale, corner = _square(rgb, box)
        with contextlib.nullcontext() if self._warm else _quiet():  # the first face is when the rest is logged
            found = self._process(self._mesh, crop).multi_face_landmarks
        self._warm = self._warm or bool(found)
        return _to_picture(found[0].landmark, crop.shape[0], scale, corner) if found else None

    def person(self, rgb: Rgb) -> Float32[np.ndarray, "h w"]:
        with _quiet():
            mask = self._process(self._matte, rgb).segmentation_mask
        return np.clip(np.asarray(mask, np.float32), 0, 1)


@cache
def _bundled() -> _Bundled:
    """One for the process: MediaPipe does not give back all memory of a graph that is no longer used."""
    return _Bundled()


class _Tasks:
    """Newer MediaPipe: the face landmarker task with a model file of the user's."""

    def __init__(self, model: Path) -> None:
        with _quiet():
            import mediapipe as mp
            from mediapipe.tasks.python import BaseOptions, vision

            self._turn = threading.Lock()
            self._image = lambda rgb: mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(rgb))
            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=str(model)), num_faces=8, min_face_detection_confidence=0.2
            )
            try:
                self._landmarker = vision.FaceLandmarker.create_from_options(options)
            except (RuntimeError, ValueError) as error:
                raise InputError(f"{model} is not a face landmarker model that MediaPipe can read") from error

    def boxes(self, rgb: Rgb) -> list[tuple[float, float, float, float]]:
        crop, scale, corner = _square(rgb, _whole(rgb), margin=1.0, side=_DETECTION)
        found = self._detect(crop)
        return [_to_picture(points, crop.shape[0], scale, corner).box for points in found]

    def landmarks(self, rgb: Rgb, box: tuple[float, float, float, float]) -> Face | None:
        crop, scale, corner = _square(rgb, box)
        found = self._detect(crop)
        return _to_picture(found[0], crop.shape[0], scale, corner) if found else None

    def _detect(self, rgb: Rgb) -> Any:
        with self._turn:
            return self._landmarker.detect(self._image(rgb)).face_landmarks

    def person(self, rgb: Rgb) -> None:  # noqa: ARG002  the task's model file has no matte
        return None


def _whole(rgb: Rgb) -> tuple[float, float, float, float]:
    return 0.0, 0.0, float(rgb.shape[1]), float(rgb.shape[0])


@cache
def _tasks(model: Path) -> _Tasks:
    return _Tasks(model)


def _square(
    rgb: Rgb, box: tuple[float, float, float, float], margin: float = _CROP, side: int = 512
) -> tuple[UInt8[np.ndarray, "s s 3"], float, tuple[float, float]]:
    """Square around ``box``, ``margin`` times as large, at most ``side`` pixels; black outside the picture."""
    left, top, right, bottom = box
    size = max(right - left, bottom - top, 8.0) * margin
    corner = ((left + right - size) / 2, (top + bottom - size) / 2)
    pixels = max(32, min(side, round(size)))
    scale = size / pixels
    matrix = np.array([[1 / scale, 0, -corner[0] / scale], [0, 1 / scale, -corner[1] / scale]])
    how = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    return cv2.warpAffine(rgb, matrix, (pixels, pixels), flags=how), scale, corner


def _to_picture(points: Any, side: int, scale: float, corner: tuple[float, float]) -> Face:
    unit = np.array([(p.x, p.y, p.z) for p in points], np.float32) * np.float32(side * scale)
    return Face(unit + np.array([*corner, 0], np.float32))


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(area) - width * height)


def _has_bundled_models() -> bool:
    try:
        with _quiet():
            import mediapipe
    except ImportError as error:
        raise InputError(
            "no face tracker is installed: run `make` in a checkout, or `pip install vivavoce[face]` and give it "
            f"a model file through {MODEL_VARIABLE}"
        ) from error
    folder = Path(mediapipe.__path__[0]) / "modules"
    return (folder / "face_landmark" / "face_landmark_with_attention.tflite").is_file()


def _model_file() -> Path:
    name = os.environ.get(MODEL_VARIABLE)
    if not name or not Path(name).is_file():
        raise InputError(
            f"the installed MediaPipe carries no models: set {MODEL_VARIABLE} to a face_landmarker.task file "
            f"(got {name!r}), or install release 0.10.21"
        )
    return Path(name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the tracker's native code writes to the error stream; real failures still raise."""
    os.environ.setdefault("GLOG_minloglevel", "3")
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # which need not be file 2: in a notebook it is not
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
