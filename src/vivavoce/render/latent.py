"""The latent renderer: everything but the lower face is a film's or the mesh renderer's; that is painted by diffusion.

Of every picture the face is cut out upright, its lower half hidden and painted anew by DiffTalk's networks, which see
the rest, a reference of the same person and what is said. What is painted is laid back with a soft edge; pixels outside
the painted region stay bit for bit what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.face import bend, lower, upright
from vivavoce.face.lower import Place
from vivavoce.face.mesh import Points
from vivavoce.face.model import FaceModel
from vivavoce.face.track import Face, FaceTracker
from vivavoce.motion import lips
from vivavoce.motion.space import FACE_MESH, MotionSpace
from vivavoce.motion.surrounded import Heard
from vivavoce.nets.difftalk import DiffTalk
from vivavoce.nets.talk_conditions import windowed
from vivavoce.render.aligned import image, tensor
from vivavoce.render.footage import mirrored
from vivavoce.render.likeness import likeness, named
from vivavoce.render.mesh import MeshRenderer, shown
from vivavoce.render.shots import AHEAD, CLIP_BYTES, Rgb, Shot, shots
from vivavoce.sampling.ddim import Kept
from vivavoce.sampling.painting import MOST_STEPS, paint
from vivavoce.sampling.paths import noise
from vivavoce.streams import Background
from vivavoce.system import Drive, Film, Frames, Portrait, Source
from vivavoce.timeline import Span

FEATHER = 0.014  # standard deviation of the soft edge, in sides of the square
LIPS_FROM = ("heard", "motion")
_REFERENCE = "reference."  # what names of the reference's tensors in the cache begin with

Hear = Callable[[Float[Tensor, "t a"]], Heard]


@dataclass(frozen=True)
class LatentRenderer:
    """Paints the lower face into what ``mesh`` draws of a portrait, or into a film."""

    mesh: MeshRenderer
    networks: DiffTalk = field(compare=False)
    hear: Hear = field(compare=False)  # what the audio of drives says; see vivavoce.motion.surrounded
    steps: int = 4  # calls of the denoiser a frame
    progressive: bool = False  # the frame before is the reference of the next
    anchor: int = 50  # frames after which the reference is the first one again; 0: never
    lips: str = "heard"  # readings of the lips that are painted: foretold from what is heard, or those of the motion
    gain: float = 1.0  # of the readings that are foretold
    reference: UInt8[np.ndarray, "h w 3"] | None = field(default=None, compare=False)  # a picture of the same person

    def __post_init__(self) -> None:
        """Refuse what cannot be painted."""
        if not 1 <= self.steps <= MOST_STEPS:
            raise InputError(f"mouths are painted in 1 to {MOST_STEPS} steps, not {self.steps}")
        if self.anchor < 0:
            raise InputError(f"the reference is the first one again after 0 frames (never) or more, not {self.anchor}")
        if self.lips not in LIPS_FROM:
            raise InputError(f"lips are {' or '.join(LIPS_FROM)}, not {self.lips!r}")
        if not self.networks.config.conditions.lips and (self.lips == "motion" or self.gain != 1):
            raise InputError("these weights know no readings of the lips, so lips cannot be scaled or follow a motion")

    @property
    def space(self) -> MotionSpace:
        """The motion this renderer reads."""
        return FACE_MESH

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return next(self.networks.parameters()).device

    def portrait(self, source: Source) -> Portrait:
        """See :meth:`vivavoce.render.mesh.MeshRenderer.portrait`; the cache also holds the latent of the reference.

        Raises:
            InputError: as there, and when the picture given as the reference shows no face.
        """
        portrait = self.mesh.portrait(source)
        at = int(portrait.reference[:, FACE_MESH.slice("rotation")].abs().sum(1).argmin())
        plain = shown(portrait, at)
        return self._with_reference(portrait, plain.picture, plain.landmarks, portrait.reference[at])

    def filmed(self, film: Film) -> Portrait:
        """See :class:`vivavoce.system.FilmRenderer`.

        Raises:
            InputError: as :meth:`portrait`.
        """
        portrait = self.mesh.filmed(film)
        points = portrait.cache["plain"].numpy()
        return self._with_reference(portrait, image(portrait.source[0]), points, portrait.reference[0])

    def follow(self, pictures: Iterable[UInt8[Tensor, "3 h w"]]) -> Iterator[Float[Tensor, "_t d"]]:
        """See :class:`vivavoce.system.Follower`."""
        return self.mesh.follow(pictures)

    def frames(self, portrait: Portrait, drives: Iterable[Drive]) -> Iterator[Frames]:
        """See :class:`vivavoce.system.Renderer`. Frames are painted one by one: each may be the next reference."""
        if portrait.film is None:
            return self._over_mesh(portrait, drives)
        return self._into_film(portrait, portrait.film, drives)

    def _over_mesh(self, portrait: Portrait, drives: Iterable[Drive]) -> Iterator[Frames]:
        painter, landmarks = Painter(self, portrait), _landmarks(portrait)
        coming = list[tuple[Tensor, Tensor, Heard]]()  # motion row and what is heard, of frames not yet drawn

        def noted() -> Iterator[Drive]:
            for drive in drives:
                heard = self.hear(drive.audio)
                coming.extend((row, rows, heard) for row, rows in zip(drive.motion.rows, heard.rows, strict=True))
                yield drive

        for drawn in self.mesh.frames(portrait, noted()):
            painted = []
            for n, rgb in zip(range(drawn.span.start, drawn.span.stop), drawn.rgb, strict=True):
                row, rows, heard = coming.pop(0)
                points = landmarks(n, row)
                painted.append(tensor(painter.painted(image(rgb), points, n, row, rows, heard.key)))
            yield Frames(drawn.span, torch.stack(painted))

    def _into_film(self, portrait: Portrait, film: Film, drives: Iterable[Drive]) -> Iterator[Frames]:
        painter, at = Painter(self, portrait), 0
        seen = shots(film, Face(portrait.cache["first"].numpy()), FaceTracker())
        with closing(Background(seen, AHEAD)) as ahead:
            coming = iter(ahead)
            for drive in drives:
                heard, made = self.hear(drive.audio), list[Tensor]()
                for row, rows in zip(drive.motion.rows, heard.rows, strict=True):
                    made.append(tensor(_in_shot(painter, next(coming), at + len(made), row, rows, heard.key)))
                    if made[0].numel() * (len(made) + 1) > CLIP_BYTES:
                        yield Frames(Span(at, at + len(made)), torch.stack(made))
                        at, made = at + len(made), []
                if made:
                    yield Frames(Span(at, at + len(made)), torch.stack(made))
                    at += len(made)

    def _with_reference(
        self, portrait: Portrait, picture: Rgb, points: Points, row: Float[Tensor, " d"]
    ) -> Portrait:
        if self.reference is not None:
            faces = FaceTracker().faces(self.reference)
            if not faces:
                raise InputError("no face was found in the picture given as the reference")
            picture, points = self.reference, faces[0].landmarks
            row = torch.from_numpy(reference_rows(points[None], FaceModel.pretrained())[0]).float()
        held = self.held(picture, points, row).tensors()
        return replace(portrait, cache={**portrait.cache, **{_REFERENCE + name: one for name, one in held.items()}})

    def held(self, picture: Rgb, points: Points, row: Float[Tensor, " d"]) -> Held:
        """A picture with these landmarks, in which the face does what the motion row says, as a reference."""
        at = lower.place(points.astype(np.float64), FaceModel.pretrained())
        shape = bend.solid(lower.places68(points.astype(np.float64), at), bend.camera(at))
        return Held(self.cut(picture, at), bend.camera(at), shape, self.readings(row).double().numpy())

    def readings(self, row: Float[Tensor, " d"]) -> Float[Tensor, " k"]:
        """Readings of the lips of a motion row; none for weights that know none."""
        count = self.networks.config.conditions.lips
        known = _readings(count) if count else torch.zeros(FACE_MESH.slice("expression").stop, 0)
        return row[FACE_MESH.slice("expression")].float() @ known[-32:]

    def cut(self, picture: Rgb, at: Place) -> UInt8[np.ndarray, "s s 3"]:
        """The face as networks see it."""
        return upright.cut(picture, at.square, self.networks.config.side)

    def encoded(self, square: UInt8[np.ndarray, "s s 3"]) -> Float[Tensor, "1 c y x"]:
        """The latent of the window of a square."""
        return self.latent(square[self.networks.config.pixels])

    def latent(self, part: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "1 c y x"]:
        """The latent of pixels."""
        shown = tensor(np.ascontiguousarray(part))[None].to(self.device).float() / 127.5 - 1
        return self.networks.first_stage.encode(shown)


class Painter:
    """Paints the frames of one stream in order; holds the latest as the reference of the next."""

    def __init__(self, renderer: LatentRenderer, portrait: Portrait) -> None:
        self.renderer, self.model = renderer, FaceModel.pretrained()
        self.first = self.last = portrait.cache[_REFERENCE].to(renderer.device)
        conditions = renderer.networks.config.conditions
        self.readings = lips.readings(self.model, conditions.lips) if conditions.lips else torch.zeros(32, 0)

    def painted(
        self,
        picture: Rgb,
        landmarks: Points,
        n: int,
        row: Float[Tensor, " d"],
        rows: Float[Tensor, "r f"],
        key: int,
        share: float = 1.0,
    ) -> Rgb:
        """``picture`` with the lower face of frame ``n`` of the stream.

        Args:
            picture: with the face in it.
            landmarks: of the face, in its pixels; only those above the mouth matter.
            n: which frame of the stream it is.
            row: its motion.
            rows: features around it.
            key: of the stream.
            share: how much of what is painted is laid over the picture, in [0, 1].
        """
        renderer = self.renderer
        net, side = renderer.networks, renderer.networks.config.side
        at = lower.place(landmarks.astype(np.float64), self.model)
        square, inside = renderer.cut(picture, at), lower.region(at, side, self.model)
        hidden = inside if net.config.painting.hidden == "region" else lower.band(at, side, self.model)
        context = self._context(landmarks, at, row, rows)
        masked = renderer.encoded(lower.masked(square, hidden))
        start = noise(key, 0, masked.shape).to(masked.device)
        reference = self._reference(n)
        kept = self._kept(square, inside, start)
        latent = paint(net, start, masked, reference, context, steps=renderer.steps, kept=kept)
        drawn = image(((net.first_stage.decode(latent)[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu())
        weight = softened(inside, renderer.window)
        made = square.copy()
        made[renderer.window] = drawn
        if renderer.progressive:
            mixed = square + (made.astype(np.float32) - square) * weight[..., None]
            self.last = renderer.encoded(np.rint(mixed).astype(np.uint8))
        return laid(made, weight * np.float32(share), at, picture)

    def _reference(self, n: int) -> Float[Tensor, "1 c y x"]:
        anchored = self.renderer.anchor and n % self.renderer.anchor == 0
        return self.last if self.renderer.progressive and n and not anchored else self.first

    def _kept(self, square: UInt8[np.ndarray, "s s 3"], inside: np.ndarray, start: Tensor) -> Kept | None:
        net = self.renderer.networks
        if net.config.painting.predicts == "clean":  # it sees what surrounds the region, and is laid over it
            return None
        where = torch.from_numpy(lower.stays(inside[self.renderer.window], net.config.first_stage.factor)).float()
        return Kept(self.renderer.encoded(square), where[None, None].to(start.device), lambda _: start)

    def _context(self, landmarks: Points, at: Place, row: Tensor, rows: Tensor) -> Float[Tensor, "1 1 c"]:
        renderer, net = self.renderer, self.renderer.networks
        conditions, told = net.config.conditions, net.config.painting.landmarks
        heard = net.conditions.heard(windowed(rows[None].to(renderer.device).float(), conditions))
        if number := conditions.lips:
            readings = renderer.gain * heard[:, :number]
            if renderer.lips == "motion":
                expression = row[FACE_MESH.slice("expression")].float()
                readings = (expression @ self.readings)[None].to(heard.device)
            heard = torch.cat([readings, heard[:, number:]], 1)
        places = None
        if told:
            places = torch.from_numpy(lower.places68(landmarks, at)[list(told)])[None].float().to(heard.device)
        return net.conditions.token(heard, places)


def _in_shot(painter: Painter, shot: Shot, n: int, row: Tensor, rows: Tensor, key: int) -> Rgb:
    if shot.seen <= 0:
        return shot.picture
    return painter.painted(shot.picture, shot.landmarks, n, row, rows, key, shot.seen)


def _landmarks(portrait: Portrait) -> Callable[[int, Tensor], Points]:
    """Landmarks of frame n of the stream, whose motion is a row, in pixels of what is shown."""
    if len(portrait.source) > 1:  # above the mouth its own
        return lambda n, _: shown(portrait, mirrored(n, len(portrait.source))).landmarks
    model, (left, top) = FaceModel.pretrained(), shown(portrait, 0).corner
    sitter = likeness(portrait.cache["landmarks"][0].numpy(), model, portrait.reference[0].double().numpy())

    def posed(_n: int, row: Tensor) -> Points:
        points, _pose = sitter.posed(model, named(row.double().numpy()))
        return points + np.array([left, top, 0.0])

    return posed


def softened(inside: np.ndarray, window: tuple[slice, slice]) -> Float32[np.ndarray, "s s"]:
    """Weight of what is painted: 1 well inside the region and the window, falling to 0 at their edges."""
    side = inside.shape[0]
    sigma = FEATHER * side
    reach = int(3 * sigma)
    there = np.zeros((side, side), np.float32)
    there[window] = inside[window]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    core = cv2.erode(there, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.minimum(cv2.GaussianBlur(core, (2 * reach + 1, 2 * reach + 1), sigma), 1) * there


def laid(made: UInt8[np.ndarray, "s s 3"], weight: Float32[np.ndarray, "s s"], at: Place, picture: Rgb) -> Rgb:
    """``picture`` with the square ``made`` laid over it where ``weight`` says; elsewhere the same bit for bit."""
    side = made.shape[0]
    rows, columns = np.nonzero(weight)
    if not len(rows):
        return picture
    matrix = at.square.to_picture(side)
    ends = np.array([[x, y, 1] for x in (columns.min(), columns.max() + 1) for y in (rows.min(), rows.max() + 1)])
    corners = ends @ matrix.T
    low = np.clip(np.floor(corners.min(0)).astype(int) - 1, 0, picture.shape[1::-1])
    high = np.clip(np.ceil(corners.max(0)).astype(int) + 2, 0, picture.shape[1::-1])
    if np.any(high <= low):
        return picture
    matrix[:, 2] -= low
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    over = cv2.warpAffine(made, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(weight, matrix, size, flags=cv2.INTER_LINEAR)[..., None]
    out = picture.copy()
    box = (slice(low[1], high[1]), slice(low[0], high[0]))
    was = picture[box]
    out[box] = np.rint(was + (over.astype(np.float32) - was) * share).astype(np.uint8)
    return out
