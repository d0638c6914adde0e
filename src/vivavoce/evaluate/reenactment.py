"""Self-reenactment: a person's first frame is moved like the rest of the video, and compared with the rest."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vivavoce.data.clips import Recording
from vivavoce.data.prepare import Prepared
from vivavoce.evaluate import metrics
from vivavoce.evaluate.metrics import Landmarks, Mouth, Rgb
from vivavoce.evaluate.seen import Follower
from vivavoce.evaluate.talking import Watched
from vivavoce.face.mesh import OVAL
from vivavoce.media.read import read_video
from vivavoce.motion.space import Motion
from vivavoce.system import Drive, Portrait, Renderer, System
from vivavoce.timeline import Clock, Span

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


def first_seen(recording: Recording, clip: Prepared, size: int) -> tuple[UInt8[Tensor, "1 3 s s"], View]:
    """The first frame that shows the face, as a portrait of ``size`` pixels, and the square it was cut from."""
    index = int(clip.valid.argmax())
    frame = next(islice(read_video(recording.path, Clock().fps), index, None))
    place = view(clip.landmarks[index].astype(np.float64), frame.shape[2], frame.shape[1], size)
    return torch.from_numpy(place.picture(frame)).permute(2, 0, 1)[None].contiguous(), place


def compare(
    recording: Recording, clip: Prepared, whole: System, plain: Renderer | None, *, size: int, tracker: Follower
) -> Tally:
    """Figures of one recording: ``whole`` is the system driven by it, ``plain`` may draw the same motion otherwise."""
    source, place = first_seen(recording, clip, size)
    true = (place.picture(picture) for picture in read_video(recording.path, Clock().fps))
    return _tally(true, _drawn(whole, plain, source, len(clip.rows)), place, clip, tracker)


@dataclass(frozen=True, slots=True)
class Drawn:
    """One frame by the system and, where pictures are compared, by the plain warp if there is one."""

    whole: Rgb
    plain: Rgb | None
    compared: bool


def _drawn(whole: System, plain: Renderer | None, source: UInt8[Tensor, "1 3 s s"], frames: int) -> Iterator[Drawn]:
    """Frames of a driven system, one by one; silence of the right length says how many."""
    with torch.inference_mode():
        portrait = whole.renderer.portrait(source)
    watched = Watched(whole.renderer.space, drawing=whole.renderer)
    pieces = (torch.zeros(whole.clock.sample(n + 1) - whole.clock.sample(n)) for n in range(frames))
    index, rows = 0, deque[Tensor]()
    for clip in replace(whole, renderer=watched).stream(portrait, pieces):
        rows.extend(torch.cat(watched.rows) if watched.rows else ())  # motion of more frames may come than are drawn
        watched.rows.clear()
        for picture in clip.rgb:
            compared, row = index % EVERY == 0, rows.popleft()
            other = _redrawn(plain, portrait, row) if compared and plain is not None else None
            yield Drawn(_upright(picture), other, compared)
            index += 1


def _redrawn(plain: Renderer, portrait: Portrait, row: Float[Tensor, " d"]) -> Rgb:
    """One row drawn by another renderer of the same kind."""
    drive = Drive(Motion(Span(0, 1), plain.space, row[None]), row.new_zeros(1, 0))
    with torch.inference_mode():
        return _upright(next(iter(plain.frames(portrait, [drive]))).rgb[0])


def _upright(picture: UInt8[Tensor, "3 h w"]) -> Rgb:
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())


def _tally(true: Iterator[Rgb], shown: Iterator[Drawn], place: View, clip: Prepared, tracker: Follower) -> Tally:
    out, still, before = Tally(), None, (None, None)
    pair: list[tuple[Rgb, Drawn]] = []

    def drawn() -> Iterator[Rgb]:
        for real, made in zip(true, shown, strict=False):  # the true video may end a frame early or late
            pair[:] = [(real, made)]
            yield made.whole

    for index, face in enumerate(tracker.follow(drawn())):
        real, made = pair[0]
        if index >= len(clip.valid) or not clip.valid[index]:
            continue
        if still is None:
            still = real
            continue
        landmarks = place.points(clip.landmarks[index].astype(np.float64))
        if made.compared:
            shown_now = dict(zip(NAMES, (made.whole, made.plain, still), strict=True))
            there = {name: rgb for name, rgb in shown_now.items() if rgb is not None}
            _add_closeness(out, real, there, landmarks)
        out.add("face found", float(face is not None))
        seen = face.landmarks.astype(np.float64) if face else None
        before = _add_mouth(out, (real, landmarks), (made.whole, seen), before)
    return out


def _add_closeness(out: Tally, real: Rgb, pictures: Mapping[str, Rgb], landmarks: Landmarks) -> None:
    boxes = metrics.regions(landmarks, real.shape[1], real.shape[0])
    for name, picture in pictures.items():
        for region, (psnr, ssim) in metrics.closeness(picture, real, boxes).items():
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
