"""Self-reenactment: a person's first frame is moved like the rest of the video, and compared with the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vivavoce.data.clips import Recording
from vivavoce.data.prepare import Prepared
from vivavoce.evaluate import metrics
from vivavoce.evaluate.metrics import Landmarks, Mouth, Rgb
from vivavoce.face.mesh import OVAL
from vivavoce.face.track import FaceTracker
from vivavoce.media.read import read_video
from vivavoce.system import Portrait, System
from vivavoce.timeline import Clock

EVERY = 8  # frames between two that are compared pixel by pixel
HEAD = 2.5  # side of the compared square over the face's width in the first frame
SKY = 0.52  # part of the square above the middle of the face
NAMES = ("vivavoce", "plain warp", "first frame")


@dataclass(frozen=True, slots=True)
class View:
    """A fixed square of a video, inside the picture, scaled to ``size`` pixels."""

    left: int
    top: int
    side: int
    size: int

    def picture(self, rgb: UInt8[Tensor, "3 h w"]) -> UInt8[np.ndarray, "s s 3"]:
        """Cut and scale one frame."""
        cut = rgb[:, self.top : self.top + self.side, self.left : self.left + self.side]
        how = cv2.INTER_AREA if self.side > self.size else cv2.INTER_CUBIC
        picture = np.ascontiguousarray(cut.permute(1, 2, 0).numpy())
        return np.asarray(cv2.resize(picture, (self.size, self.size), interpolation=how), np.uint8)

    def points(self, landmarks: Float[np.ndarray, "478 3"]) -> Float[np.ndarray, "478 3"]:
        """Landmarks of the video in pixels of the square."""
        moved = landmarks - np.array([self.left, self.top, 0], landmarks.dtype)
        return moved * np.float64(self.size / self.side)


def view(landmarks: Landmarks, width: int, height: int, size: int) -> View:
    """The square around the head of the first frame, moved and shrunk so that it does not leave the picture."""
    oval = landmarks[list(OVAL), :2]
    unit = max(float(np.linalg.norm(landmarks[234] - landmarks[454])), 0.72 * float(np.ptp(oval[:, 1])))
    side = int(min(HEAD * unit, width, height))
    middle = (oval.min(0) + oval.max(0)) / 2
    left = int(np.clip(middle[0] - side / 2, 0, width - side))
    top = int(np.clip(middle[1] - SKY * side, 0, height - side))
    return View(left, top, side, size)


@dataclass(slots=True)
class Tally:
    """Sums over the frames of a clip, by name."""

    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, name: str, value: float | None) -> None:
        """Count ``value`` unless it is ``None``."""
        if value is not None:
            self.sums[name] += value
            self.counts[name] += 1

    def merge(self, other: Tally) -> None:
        """Add all of ``other``'s frames."""
        for name, count in other.counts.items():
            self.sums[name] += other.sums[name]
            self.counts[name] += count

    def means(self) -> dict[str, float]:
        """Mean of everything added, by name."""
        return {name: self.sums[name] / count for name, count in self.counts.items()}


def compare(
    recording: Recording, clip: Prepared, whole: System, plain: System, *, size: int, tracker: FaceTracker
) -> Tally:
    """Figures of one recording; ``whole`` and ``plain`` are systems driven by it, with and without painted mouths."""
    first = next(read_video(recording.path, Clock().fps))
    place = view(clip.landmarks[0].astype(np.float64), first.shape[2], first.shape[1], size)
    source = torch.from_numpy(place.picture(first)).permute(2, 0, 1)[None].contiguous()
    shown = [_drawn(system, source, len(clip.rows)) for system in (whole, plain)]
    true = (place.picture(picture) for picture in read_video(recording.path, Clock().fps))
    return _tally(true, shown, place, clip, tracker)


def _drawn(system: System, source: UInt8[Tensor, "1 3 s s"], frames: int) -> Iterator[Rgb]:
    """Frames of a driven system, one by one; silence of the right length says how many."""
    with torch.inference_mode():
        portrait: Portrait = system.renderer.portrait(source)
    pieces = (torch.zeros(system.clock.sample(n + 1) - system.clock.sample(n)) for n in range(frames))
    for piece in system.stream(portrait, pieces):
        yield from piece.rgb.permute(0, 2, 3, 1).numpy()


def _tally(
    true: Iterator[Rgb], shown: Sequence[Iterator[Rgb]], place: View, clip: Prepared, tracker: FaceTracker
) -> Tally:
    out, still, before = Tally(), None, (None, None)
    frames = zip(true, *shown, strict=False)  # the true video may end a frame early or late
    followed: list[np.ndarray] = []

    def drawn() -> Iterator[Rgb]:
        for pictures in frames:
            followed[:] = pictures
            yield np.ascontiguousarray(pictures[1])

    for index, face in enumerate(tracker.follow(drawn())):
        real, pictures = followed[0], followed[1:]
        still = real if still is None else still
        if index >= len(clip.valid) or not clip.valid[index] or not index:
            continue
        landmarks = place.points(clip.landmarks[index].astype(np.float64))
        if index % EVERY == 0:
            _add_closeness(out, real, dict(zip(NAMES, (*pictures, still), strict=True)), landmarks)
        out.add("face found", float(face is not None))
        before = _add_mouth(out, (real, landmarks), (pictures[0], face and face.landmarks.astype(np.float64)), before)
    return out


def _add_closeness(out: Tally, real: Rgb, pictures: Mapping[str, Rgb], landmarks: Landmarks) -> None:
    boxes = metrics.regions(landmarks, real.shape[1], real.shape[0])
    for name, picture in pictures.items():
        for region, (psnr, ssim) in metrics.closeness(np.ascontiguousarray(picture), real, boxes).items():
            out.add(f"{name}/{region}/psnr", psnr)
            out.add(f"{name}/{region}/ssim", ssim)


Looked = tuple[Rgb, Landmarks | None]
Before = tuple[Mouth | None, Mouth | None]


def _add_mouth(out: Tally, real: Looked, made: Looked, before: Before) -> Before:
    """Sharpness and change between the lips, each picture by its own landmarks, in frames where both are open."""
    mouths: list[Mouth | None] = []
    sharp: list[float | None] = []
    for picture, landmarks in (real, made):
        mouths.append(None if landmarks is None else metrics.stabilised(picture, landmarks))
        sharp.append(None if landmarks is None else _sharp(picture, landmarks))
    if sharp[0] is not None and sharp[1] is not None:
        out.add("truth/sharpness", sharp[0])
        out.add("vivavoce/sharpness", sharp[1])
    moved = [metrics.change(a, b) for a, b in zip(before, mouths, strict=True)]
    if moved[0] is not None and moved[1] is not None:
        out.add("truth/change", moved[0])
        out.add("vivavoce/change", moved[1])
    return mouths[0], mouths[1]


def _sharp(picture: Rgb, landmarks: Landmarks) -> float | None:
    mask = metrics.inside_lips(landmarks, picture.shape[1], picture.shape[0])
    if mask is None:
        return None
    rows, columns = np.nonzero(mask)
    top, bottom = max(0, rows.min() - 2), rows.max() + 3
    left, right = max(0, columns.min() - 2), columns.max() + 3
    return metrics.sharpness(np.ascontiguousarray(picture[top:bottom, left:right]), mask[top:bottom, left:right])
