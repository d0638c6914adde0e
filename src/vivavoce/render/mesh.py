"""The mesh renderer: one portrait, warped as a textured head over its own background, in real time on a CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import UInt8

from vivavoce.errors import InputError
from vivavoce.face.crop import Framing, choose_face, head_view, whole_picture
from vivavoce.face.model import FaceModel
from vivavoce.face.track import Face, FaceTracker
from vivavoce.motion.space import FACE_MESH, MotionSpace
from vivavoce.render.layers import Layers, split_layers
from vivavoce.render.likeness import Likeness, fit_error, likeness, named, reference_row
from vivavoce.render.mouth import paint_mouth, prepare_mouth
from vivavoce.render.photo import Photo
from vivavoce.render.raster import paste
from vivavoce.render.surface import smoothstep
from vivavoce.system import Drive, Frames, Portrait, Source
from vivavoce.timeline import Span

_MOUTH = "mouth."  # what names of the mouth's tensors in the cache begin with
_CLIP_BYTES = 48 << 20  # of pictures handed out at once
_MISFIT = 0.045  # fit error in face widths above which the mesh is probably no human face
_REFUSED = 0.09
_TURNED = 20.0  # degrees of yaw above which the user is told


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
        """Prepare a picture: find the face, cut the person out, fill in what is behind.

        Raises:
            InputError: there is no face, or not the one asked for, or it is no human face.
        """
        model = FaceModel.pretrained()
        rgb = np.ascontiguousarray(source[0].permute(1, 2, 0).numpy())
        tracker = FaceTracker()
        faces = tracker.faces(rgb)
        chosen = choose_face(faces, self.face)
        framing = self._framing(rgb, faces[chosen])
        picture = framing.picture(rgb)
        left, top, right, bottom = framing.region
        region = np.ascontiguousarray(picture[top:bottom, left:right])
        points = [framing.points(face.landmarks) for face in faces]
        reference = reference_row(points[chosen], model)
        sitter = likeness(points[chosen], model, reference)
        others = [p for n, p in enumerate(points) if n != chosen]
        layers = split_layers(region, tracker.person(region), points[chosen], others)
        warnings = _warnings(sitter, fit_error(points[chosen], model), framing)
        mouth = prepare_mouth(region, sitter.landmarks, sitter.shape, sitter.pose, _shown(self.teeth, tracker))
        cache = {
            "picture": torch.from_numpy(picture),
            "region": torch.tensor(framing.region),
            "free": torch.tensor(_free_borders(framing)),
            "landmarks": torch.from_numpy(sitter.landmarks),
            "foreground": torch.from_numpy(layers.foreground),
            "plate": torch.from_numpy(layers.plate),
            "separate": torch.tensor(layers.separate),
            **{f"{_MOUTH}{name}": value for name, value in mouth.items()},
        }
        return Portrait(source, torch.from_numpy(reference).float()[None], cache, warnings)

    def frames(self, portrait: Portrait, drives: Iterable[Drive]) -> Iterator[Frames]:
        """See :class:`vivavoce.system.Renderer`. Spans longer than fit in memory leave in several clips."""
        cache = portrait.cache
        photo = _photo(portrait)
        mouth = {name.removeprefix(_MOUTH): value for name, value in cache.items() if name.startswith(_MOUTH)}
        still = cache["picture"].permute(2, 0, 1).contiguous()
        left, top, _, _ = cache["region"].tolist()
        blend = _blend(photo.sampling.shape[:2], tuple(cache["free"].tolist()))
        at_once = max(1, _CLIP_BYTES // still.numel())
        for drive in drives:
            rows = drive.motion.rows
            for first in range(0, len(rows), at_once):
                part = rows[first : first + at_once]
                rgb = still.expand(len(part), *still.shape).clone()
                for frame, row in zip(rgb, part, strict=True):
                    motion = named(row.double().numpy())
                    drawn, landmarks, pose = photo.draw(motion)
                    if self.paints_mouth:
                        paint_mouth(drawn, mouth, landmarks, pose, motion.interior)
                    paste(drawn, blend, left, top, frame.numpy())
                start = drive.motion.span.start + first
                yield Frames(Span(start, start + len(part)), rgb)

    def _framing(self, rgb: np.ndarray, face: Face) -> Framing:
        if self.crop:
            return head_view(face, self.size)
        return whole_picture(rgb.shape[1], rgb.shape[0], face, self.size, self.longest)


def _shown(teeth: np.ndarray | None, tracker: FaceTracker) -> tuple[np.ndarray, np.ndarray] | None:
    """The picture with the teeth and the landmarks in it."""
    if teeth is None:
        return None
    faces = tracker.faces(teeth)
    if not faces:
        raise InputError("no face was found in the picture given for the teeth; give a frontal photo of a wide smile")
    return teeth, faces[0].landmarks.astype(np.float64)


def _photo(portrait: Portrait) -> Photo:
    cache, model = portrait.cache, FaceModel.pretrained()
    layers = Layers(cache["foreground"].numpy(), cache["plate"].numpy(), bool(cache["separate"]))
    sitter = likeness(cache["landmarks"].numpy(), model, portrait.reference[0].double().numpy())
    return Photo(model, sitter, layers, tuple(cache["free"].tolist()))


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


def _warnings(sitter: Likeness, misfit: float, framing: Framing) -> tuple[str, ...]:
    if misfit > _REFUSED:
        raise InputError("what was found in the picture does not look like a human face; give a picture of a person")
    found = []
    if misfit > _MISFIT:
        found.append("the face is unusual, hidden or badly lit, so movements may look wrong")
    if abs(sitter.angles[0]) > _TURNED:
        found.append(
            f"the head is turned {abs(sitter.angles[0]):.0f} degrees to the side, so it will move less; "
            "a picture taken from the front looks better"
        )
    if sitter.pose.scale < 60 and framing.scale[0] <= 1:
        found.append(f"the face is small ({sitter.pose.scale:.0f} pixels wide), so details will be coarse")
    return tuple(found)
