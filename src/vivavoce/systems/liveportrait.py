"""LivePortrait: a portrait moves like the face of a driving video or picture, drawn by the keypoint networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, tee
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.face import upright
from vivavoce.face.track import FaceTracker
from vivavoce.face.upright import Square
from vivavoce.media.picture import is_picture
from vivavoce.media.read import read_image, read_video
from vivavoce.motion import keypoints
from vivavoce.motion.edit import Edit
from vivavoce.motion.keypoints import REGIONS, Region
from vivavoce.motion.space import KEYPOINT, Motion, MotionSpace
from vivavoce.nets.liveportrait import DRAWN, PICTURE, Networks
from vivavoce.render.footage import mirrored
from vivavoce.render.keypoint import KeypointRenderer, Precision
from vivavoce.system import Drive, Features, Portrait, System
from vivavoce.systems.moda import found_device
from vivavoce.systems.reenact import HOP, Deaf
from vivavoce.timeline import Clock

RETARGETS = ("eyes", "lips")
LONG_SIDE = 1280  # px; of a driving video
FRAMED = 100  # first frames of a driving video, by which it is framed


@dataclass(frozen=True)
class Follow:
    """How a driver's motion is put on the portrait."""

    relative: bool = True  # changes from the first driving frame, added to the portrait's own motion
    region: Region = "all"
    retarget: tuple[str, ...] = ()  # of RETARGETS: those open as far as the driver's, and then nothing else moves
    even: bool = True  # with relative motion: move as far as the portrait's size asks, beginning at its own pose
    gaze: tuple[float, float] = (0.0, 0.0)  # added to where the eyes look: right, up; 15 is far aside

    def __post_init__(self) -> None:
        """Refuse what does not exist."""
        if self.region not in REGIONS:
            raise InputError(f"there is no region {self.region!r}; there are {', '.join(REGIONS)}")
        if unknown := [name for name in self.retarget if name not in RETARGETS]:
            raise InputError(f"{unknown[0]!r} cannot be retargeted; {' and '.join(RETARGETS)} can")


@dataclass(frozen=True)
class TrackedKeypoints:
    """Motion of the largest face of a video or picture, from its start; the last row is held when more is asked for."""

    driving: Path
    renderer: KeypointRenderer
    follow: Follow = Follow()
    fps: int = 25
    space: MotionSpace = KEYPOINT
    audio_dim: int = 0
    hop: int = HOP
    lookahead: int = 0

    def drives(self, portrait: Portrait, features: Iterable[Features], *, seed: int) -> Iterator[Drive]:
        """See :class:`vivavoce.system.MotionGenerator`. A track has no chance in it, so ``seed`` changes nothing.

        Raises:
            InputError: no face was found in the driving video.
        """
        del seed
        watched = self._watched()
        move: _Move | None = None
        for heard in features:
            rows, openings = zip(*(next(watched) for _ in range(len(heard.span))), strict=True)
            driver, opened = torch.stack(rows), torch.stack(openings)
            if move is None:
                still = is_picture(self.driving)
                begin = keypoints.at_rest(driver[0]) if still else driver[0]
                move = _Move(self.renderer.networks, self.follow, portrait, begin, still)
            yield Drive(Motion(heard.span, self.space, move(heard.span.start, driver, opened)), heard.rows)

    def _watched(self) -> Iterator[tuple[Float[Tensor, "70"], Float[Tensor, "3"]]]:
        """Row and openings of every frame, without end; where the face is lost, as before."""
        square, opened = _framed(self._pictures())
        last: tuple[Tensor, Tensor] | None = None
        pictures, tracked = tee(self._pictures())
        for face, picture in zip(FaceTracker().follow(tracked), pictures, strict=True):
            opened = opened if face is None else torch.from_numpy(upright.openings(face.landmarks)).float()
            if face is not None or last is None:
                last = self.renderer.watched(_crop(picture, square))[0][0], opened
            yield last
        while last is not None:
            yield last

    def _pictures(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        if is_picture(self.driving):
            frames: Iterable[Tensor] = read_image(self.driving, long_side=LONG_SIDE)
        else:
            frames = read_video(self.driving, self.fps, long_side=LONG_SIDE)
        for frame in frames:
            yield np.ascontiguousarray(frame.permute(1, 2, 0).numpy())


class _Move:
    """A driver's motion on one portrait, as rows that draw it."""

    def __init__(self, networks: Networks, follow: Follow, portrait: Portrait, begin: Tensor, still: bool) -> None:
        self.networks, self.follow, self.portrait, self.begin, self.still = networks, follow, portrait, begin, still
        self.device = next(networks.parameters()).device
        self.start: Tensor | None = None  # keypoints at the first frame, and how far to move from there
        self.reach = 1.0

    def __call__(self, first: int, driver: Float[Tensor, "t 70"], opened: Float[Tensor, "t 3"]) -> Tensor:
        """Rows ``[t 70]`` of the frames from ``first`` on."""
        follow, cache = self.follow, self.portrait.cache
        shown = [mirrored(first + n, len(self.portrait.source)) for n in range(len(driver))]
        own, canonical = self.portrait.reference[shown], cache["canonical"][shown]
        source = keypoints.placed(own, canonical)
        rows = keypoints.transferred(driver, self.begin, own, relative=follow.relative, region=follow.region)
        points = keypoints.placed(rows, canonical)
        if follow.retarget:
            points = (source if follow.relative else points) + self._opened(source, cache["openings"][shown], opened)
        elif follow.relative and follow.even and not self.still and len(self.portrait.source) == 1:
            if self.start is None:
                self.start, self.reach = points[:1].clone(), keypoints.reach(source[0], points[0])
            points = source + (points - self.start) * self.reach
        return keypoints.looking(keypoints.explained(points, rows, canonical), *follow.gaze)

    def _opened(self, source: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
        """Change of the keypoints that opens eyes and lips as far as the driver's."""
        flat, own, wanted = (part.to(self.device) for part in (source.flatten(1), own, wanted))
        change = torch.zeros_like(flat)
        if "eyes" in self.follow.retarget:
            change = change + self.networks.eyes(torch.cat([flat, own[:, :2], wanted[:, :2].mean(1, True)], 1))
        if "lips" in self.follow.retarget:
            change = change + self.networks.lips(torch.cat([flat, own[:, 2:], wanted[:, 2:]], 1))
        return change.unflatten(1, (-1, 3)).cpu()


def _framed(pictures: Iterable[np.ndarray]) -> tuple[Square, Float[Tensor, "3"]]:
    """The mean square around the largest face as a film begins, still so that movements are seen; how open it is."""
    seen = [face.landmarks for face in FaceTracker().follow(islice(pictures, FRAMED)) if face is not None]
    if not seen:
        raise InputError(f"no face was found in the driving picture, or in the first {FRAMED} frames of the video")
    squares = [upright.around(landmarks, *upright.DRIVING) for landmarks in seen]
    x, y, side = np.mean([(square.x, square.y, square.side) for square in squares], axis=0)
    return Square(float(x), float(y), float(side), 0.0), torch.from_numpy(upright.openings(seen[0])).float()


def _crop(picture: UInt8[np.ndarray, "h w 3"], square: Square) -> UInt8[Tensor, "1 3 256 256"]:
    crop = cv2.resize(upright.cut(picture, square, DRAWN), (PICTURE, PICTURE), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))[None]


def assemble(  # noqa: PLR0913  (one for every option of the command line)
    *,
    driving: Path,
    weights: Path,
    relative: bool = True,
    region: Region = "all",
    retarget: Sequence[str] = (),
    stitch: bool = True,
    close_lips: bool = False,
    gaze: tuple[float, float] = (0.0, 0.0),
    multiplier: float = 1.0,
    size: int | None = None,
    crop: bool = False,
    face: str | int = "largest",
    device: str = "auto",
    precision: Precision = "fp32",
    batch: int = 1,
    edit: Edit | None = None,
) -> System:
    """A system whose motion is that of the face in ``driving`` (a video or a picture).

    ``weights`` is a folder that ``vivavoce import liveportrait`` wrote. ``relative``, ``region``, ``retarget`` and
    ``gaze`` are those of :class:`Follow`; ``stitch``, ``close_lips``, ``multiplier``, ``size``, ``crop``, ``face``,
    ``precision`` and ``batch`` those of :class:`vivavoce.render.keypoint.KeypointRenderer`.

    Raises:
        InputError: a value that does not exist, or weights that cannot be used.
    """
    follow = Follow(relative=relative, region=region, retarget=tuple(retarget), gaze=gaze)
    renderer = KeypointRenderer(
        Networks.load(weights, found_device(device), quick=precision == "fp32"),
        size=size,
        crop=crop,
        face=face,
        stitch=stitch,
        close_lips=close_lips,
        multiplier=multiplier,
        precision=precision,
        batch=batch,
    )
    generator = TrackedKeypoints(Path(driving), renderer, follow)
    return System("liveportrait", Clock(), Deaf(), generator, renderer, edit or Edit())
