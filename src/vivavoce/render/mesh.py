"""The mesh renderer: one portrait, warped as a textured head over its own background, in real time on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.face.crop import Framing, choose_face, head_view, whole_picture
from vivavoce.face.model import FaceModel
from vivavoce.face.track import Face, FaceTracker
from vivavoce.motion.space import FACE_MESH, MotionSpace
from vivavoce.motion.track import calibrate, smooth, track
from vivavoce.render import dubbed
from vivavoce.render.footage import Footage, mirrored
from vivavoce.render.layers import Layers, split_layers
from vivavoce.render.likeness import Likeness, Row, fit_error, likeness, named, reference_rows, told
from vivavoce.render.mouth import paint_mouth, prepare_mouth
from vivavoce.render.photo import Photo
from vivavoce.render.raster import paste
from vivavoce.render.surface import smoothstep
from vivavoce.system import Drive, Film, Frames, Portrait, Source
from vivavoce.timeline import Span

_MOUTH = "mouth."  # what names of the mouth's tensors in the cache begin with
_CLIP_BYTES = 48 << 20  # of pictures handed out at once
_TURNED = 16.0  # degrees of yaw above which the user is told
_SEARCHED = 50  # first frames of a video in which a face must be seen

Paint = Callable[..., None]  # paint_mouth with the person's mouth filled in
Draw = Callable[[int, Row, Paint | None, np.ndarray], None]  # frame index, motion, mouth, uint8 [3 H W] to write


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture of a portrait as it is put out before anything moves."""

    picture: UInt8[np.ndarray, "h w 3"]
    landmarks: Float[np.ndarray, "478 3"]  # in its pixels
    corner: tuple[int, int]  # left, top of the region that is redrawn


def shown(portrait: Portrait, n: int) -> Shown:
    """Picture ``n`` of a portrait that the mesh renderer prepared."""
    framing = _framing_of(portrait)
    left, top, _, _ = framing.region
    points = portrait.cache["landmarks"][n].numpy() + np.array([left, top, 0.0])
    if len(portrait.source) == 1:
        return Shown(portrait.cache["picture"].numpy(), points, (left, top))
    return Shown(framing.picture(_image(portrait.source[n])), points, (left, top))


@dataclass(frozen=True)
class MeshRenderer:
    """Draws face-mesh/1 motion of one portrait."""

    size: int = 512  # largest side of the redrawn region, in pixels; with ``crop`` the side of the output
    crop: bool = False  # a square view of the head instead of the whole picture
    face: str | int = "largest"  # or "left", "right", or a number counted from the left, from 0
    longest: int = 1920  # largest side of the output, in pixels
    teeth: UInt8[np.ndarray, "h w 3"] | None = field(default=None, compare=False)  # a picture that shows the teeth
    paints_mouth: bool = True  # otherwise what the picture shows between the lips is stretched: to compare with

    @property
    def space(self) -> MotionSpace:
        """The motion this renderer reads."""
        return FACE_MESH

    def portrait(self, source: Source) -> Portrait:
        """Prepare a picture, or a video that will speak with its own head movements.

        Raises:
            InputError: there is no face, or not the one asked for, or it is no human face.
        """
        tracker = FaceTracker()
        portrait = self._still(source, tracker) if len(source) == 1 else self._moving(source, tracker)
        return replace(portrait, cache={**portrait.cache, **_held_mouth(portrait, _shown(self.teeth, tracker))})

    def filmed(self, film: Film) -> Portrait:
        """See :class:`vivavoce.system.FilmRenderer`. A film keeps its own size and framing.

        Raises:
            InputError: as :meth:`portrait`, and for a renderer that shows the head only.
        """
        if self.crop:
            raise InputError("a film that is dubbed keeps its framing; showing the head only is for portraits")
        return dubbed.filmed(film, self.face, _shown(self.teeth, FaceTracker()))

    def follow(self, pictures: Iterable[UInt8[Tensor, "3 h w"]]) -> Iterator[Float[Tensor, "_t d"]]:
        """See :class:`vivavoce.system.Follower`."""
        return track(_image(picture) for picture in pictures)

    def frames(self, portrait: Portrait, drives: Iterable[Drive]) -> Iterator[Frames]:
        """See :class:`vivavoce.system.Renderer`. Spans longer than fit in memory leave in several clips."""
        mouth = {n.removeprefix(_MOUTH): value for n, value in portrait.cache.items() if n.startswith(_MOUTH)}
        paint = partial(paint_mouth, mouth=mouth) if self.paints_mouth else None
        if portrait.film is not None:
            return dubbed.frames(portrait, portrait.film, drives, paint)
        return self._own_frames(portrait, drives, paint)

    def _own_frames(self, portrait: Portrait, drives: Iterable[Drive], paint: Paint | None) -> Iterator[Frames]:
        draw = _still_frame(portrait) if len(portrait.source) == 1 else _moving_frame(portrait, self.paints_mouth)
        width, height = _framing_of(portrait).size
        at_once = max(1, _CLIP_BYTES // (3 * height * width))
        for drive in drives:
            first = drive.motion.span.start
            for part in drive.motion.rows.split(at_once):
                rgb = torch.empty(len(part), 3, height, width, dtype=torch.uint8)
                for n, row in enumerate(part):
                    draw(first + n, named(row.double().numpy()), paint, rgb[n].numpy())
                yield Frames(Span(first, first + len(part)), rgb)
                first += len(part)

    def _still(self, source: Source, tracker: FaceTracker) -> Portrait:
        """Cut the person out of the photo and fill in what is behind."""
        model, rgb = FaceModel.pretrained(), _image(source[0])
        faces = tracker.faces(rgb)
        chosen = choose_face(faces, self.face)
        framing = self._framing(rgb, [faces[chosen]])
        picture = framing.picture(rgb)
        region = _region(picture, framing)
        points = [framing.points(face.landmarks) for face in faces]
        others = [p for n, p in enumerate(points) if n != chosen]
        layers = split_layers(region, tracker.person(region), points[chosen], others)
        reference = reference_rows(points[chosen][None], model)
        sitter = likeness(points[chosen], model, reference[0])
        cache = {
            "picture": torch.from_numpy(picture),
            "landmarks": torch.from_numpy(points[chosen][None]),
            "foreground": torch.from_numpy(layers.foreground),
            "plate": torch.from_numpy(layers.plate),
            "separate": torch.tensor(layers.separate),
            **_saved(framing),
        }
        warnings = _warnings(sitter, fit_error(points[chosen], model), framing, still=True)
        return Portrait(source, torch.from_numpy(reference).float(), cache, warnings)

    def _moving(self, source: Source, tracker: FaceTracker) -> Portrait:
        """Follow the face through the video."""
        model = FaceModel.pretrained()
        faces = _followed(source, self.face, tracker)
        framing = self._framing(_image(source[0]), faces)
        points = np.stack([framing.points(face.landmarks) for face in faces])
        reference = smooth(reference_rows(points, model).astype(np.float32))
        frontal = _most_frontal(reference)
        sitter = likeness(points[frontal], model, reference[frontal].astype(np.float64))
        cache = {"landmarks": torch.from_numpy(points), **_saved(framing)}
        warnings = _warnings(sitter, fit_error(points[frontal], model), framing, still=False)
        return Portrait(source, torch.from_numpy(reference), cache, warnings)

    def _framing(self, rgb: np.ndarray, faces: Sequence[Face]) -> Framing:
        if self.crop:
            return head_view(faces, self.size)
        return whole_picture(rgb.shape[1], rgb.shape[0], faces, self.size, self.longest)


def _followed(source: Source, which: str | int, tracker: FaceTracker) -> list[Face]:
    """The chosen face in every frame; where it is lost, where it was before."""
    found: list[Face] = []
    for start in range(min(len(source), _SEARCHED)):
        found = tracker.faces(_image(source[start]))
        if found:
            break
    first = found[choose_face(found, which)]
    faces, last = [], first
    for face in tracker.follow((_image(frame) for frame in source), first):
        last = face or last
        faces.append(last)
    return faces


def _image(frame: Tensor) -> np.ndarray:
    return np.ascontiguousarray(frame.permute(1, 2, 0).numpy())


def _region(picture: np.ndarray, framing: Framing) -> np.ndarray:
    left, top, right, bottom = framing.region
    return np.ascontiguousarray(picture[top:bottom, left:right])


def _saved(framing: Framing) -> dict[str, Tensor]:
    whole = torch.tensor([*framing.offset, *framing.size, *framing.region])
    return {"framing.scale": torch.tensor(framing.scale, dtype=torch.float64), "framing.pixels": whole}


def _framing_of(portrait: Portrait) -> Framing:
    x, y, width, height, *region = portrait.cache["framing.pixels"].tolist()
    sx, sy = portrait.cache["framing.scale"].tolist()
    left, top, right, bottom = region
    return Framing((sx, sy), (x, y), (width, height), (left, top, right, bottom))


def _most_frontal(reference: np.ndarray) -> int:
    return int(np.abs(reference[:, FACE_MESH.slice("rotation")]).sum(1).argmin())


def _held_mouth(portrait: Portrait, teeth: tuple[np.ndarray, np.ndarray] | None) -> dict[str, Tensor]:
    """The mouth's layers, as tensors of the cache, prepared from the most frontal picture."""
    framing, frontal = _framing_of(portrait), _most_frontal(portrait.reference.numpy())
    region = _region(framing.picture(_image(portrait.source[frontal])), framing)
    points = portrait.cache["landmarks"][frontal].numpy()
    sitter = likeness(points, FaceModel.pretrained(), portrait.reference[frontal].double().numpy())
    mouth = prepare_mouth(region, sitter.landmarks, sitter.shape, sitter.pose, teeth)
    return {f"{_MOUTH}{name}": value for name, value in mouth.items()}


def _shown(teeth: np.ndarray | None, tracker: FaceTracker) -> tuple[np.ndarray, np.ndarray] | None:
    """The picture with the teeth and the landmarks in it."""
    if teeth is None:
        return None
    faces = tracker.faces(teeth)
    if not faces:
        raise InputError("no face was found in the picture given for the teeth; give a frontal photo of a wide smile")
    return teeth, faces[0].landmarks.astype(np.float64)


def _still_frame(portrait: Portrait) -> Draw:
    """How to draw a frame of a photo."""
    cache, model, framing = portrait.cache, FaceModel.pretrained(), _framing_of(portrait)
    layers = Layers(cache["foreground"].numpy(), cache["plate"].numpy(), bool(cache["separate"]))
    sitter = likeness(cache["landmarks"][0].numpy(), model, portrait.reference[0].double().numpy())
    region = _region(cache["picture"].numpy(), framing)
    photo = Photo(model, sitter, region, layers, _free_borders(framing))
    still = np.ascontiguousarray(cache["picture"].permute(2, 0, 1).numpy())
    blend = _blend(photo.sampling.shape[:2], _free_borders(framing))
    left, top, _, _ = framing.region

    def draw(_: int, row: Row, paint: Paint | None, frame: np.ndarray) -> None:
        frame[:] = still
        drawn, landmarks, pose = photo.draw(row)
        if paint is not None:
            paint(drawn, landmarks=landmarks, pose=pose, interior=row.interior)
        paste(drawn, blend, left, top, frame)

    return draw


def _moving_frame(portrait: Portrait, empties: bool) -> Draw:
    """How to draw a frame of a video."""
    model, framing = FaceModel.pretrained(), _framing_of(portrait)
    points, reference = portrait.cache["landmarks"].numpy(), portrait.reference.double().numpy()
    neutral = calibrate(points, model).neutral
    footage = Footage(model, empties=empties)
    left, top, right, bottom = framing.region
    whole = np.full((bottom - top, right - left), 255, np.uint8)

    def draw(at: int, row: Row, paint: Paint | None, frame: np.ndarray) -> None:
        n = mirrored(at, len(points))
        picture = framing.picture(_image(portrait.source[n]))
        frame[:] = picture.transpose(2, 0, 1)
        sitter = likeness(points[n], model, reference[n], neutral)
        drawn, landmarks, pose = footage.draw(_region(picture, framing), sitter, row)
        if paint is not None:
            paint(drawn, landmarks=landmarks, pose=pose, interior=row.interior, emptied=True)
        paste(drawn, whole, left, top, frame)

    return draw


def _free_borders(framing: Framing) -> tuple[bool, bool, bool, bool]:
    """Which borders of the region (left, top, right, bottom) lie inside the output, where motion must end."""
    left, top, right, bottom = framing.region
    return left > 0, top > 0, right < framing.size[0], bottom < framing.size[1]


def _blend(shape: tuple[int, int], free: tuple[bool, bool, bool, bool]) -> np.ndarray:
    """Weight of the redrawn region over the frame, 0 to 255."""
    height, width = shape
    rows, columns = np.mgrid[:height, :width]
    weight = np.ones(shape)
    distances = (columns, rows, width - 1 - columns, height - 1 - rows)
    for distance, cuts in zip(distances, free, strict=True):
        if cuts:
            weight = weight * smoothstep(distance / (0.04 * max(shape)))
    return np.round(255 * weight).astype(np.uint8)


def _warnings(sitter: Likeness, misfit: float, framing: Framing, *, still: bool) -> tuple[str, ...]:
    found = list(told(misfit, sitter.pose.scale if framing.scale[0] <= 1 else np.inf))
    if still and abs(sitter.angles[0]) > _TURNED:
        found.append(
            f"the head is turned {abs(sitter.angles[0]):.0f} degrees to the side, so it will move less; "
            "a picture taken from the front looks better"
        )
    return tuple(found)
