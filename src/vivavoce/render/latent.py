"""The latent renderer: everything but the lower face is a film's or the mesh renderer's; that is painted by diffusion.

Of every picture the face is cut out upright, its lower half hidden and painted anew by DiffTalk's networks, which see
the rest, a reference of the same person and what is said. What is painted is laid back with a soft edge; pixels outside
the painted region stay bit for bit what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.face import bend, lower, upright
from vivavoce.face.lower import Place
from vivavoce.face.mesh import Points, head_angles, lip_opening
from vivavoce.face.model import FaceModel
from vivavoce.face.track import Face, FaceTracker
from vivavoce.motion import lips
from vivavoce.motion.space import FACE_MESH, MotionSpace
from vivavoce.motion.surrounded import Heard
from vivavoce.nets.difftalk import DiffTalk
from vivavoce.nets.talk_conditions import windowed
from vivavoce.render import dubbed
from vivavoce.render.aligned import image, tensor
from vivavoce.render.footage import mirrored
from vivavoce.render.likeness import likeness, named, reference_rows
from vivavoce.render.mesh import MeshRenderer, shown
from vivavoce.render.references import Held, Mixed, mixed, restored, spread, tensors
from vivavoce.render.repaint import laid, softened
from vivavoce.render.shots import AHEAD, CLIP_BYTES, Rgb, Shot, shots
from vivavoce.sampling.ddim import Kept
from vivavoce.sampling.painting import MOST_STEPS, paint
from vivavoce.sampling.paths import noise
from vivavoce.streams import Background
from vivavoce.system import Drive, Film, Frames, Portrait, Source
from vivavoce.timeline import Span

LIPS_FROM = ("heard", "motion")
SOUGHT = 200  # first frames of a film that its references are chosen from
_WIDE, _TURNED = 0.07, 60.0  # lip opening in face widths that shows teeth; degrees of head turn that spoil as much
_REFERENCE = "reference."  # what names of the reference's tensors in the cache begin with

Hear = Callable[[Float[Tensor, "t a"]], Heard]


@dataclass(frozen=True)
class LatentRenderer:
    """Paints the lower face into what ``mesh`` draws of a portrait, or into a film."""

    mesh: MeshRenderer
    networks: DiffTalk = field(compare=False)
    hear: Hear = field(compare=False)  # what the audio of drives says; see vivavoce.motion.surrounded
    steps: int = 1  # calls of the denoiser a frame
    progressive: bool = False  # the frame before is the reference of the next
    anchor: int = 50  # frames after which the reference is the first one again; 0: never
    lips: str = "motion"  # readings of the lips that are painted: those of the motion, or foretold from what is heard
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
        if self.reference is not None:
            return self._with_references(portrait, [self._photo(self.reference)])
        return self._with_references(portrait, [self.held(plain.picture, plain.landmarks, portrait.reference[at])])

    def filmed(self, film: Film) -> Portrait:
        """See :class:`vivavoce.system.FilmRenderer`.

        Raises:
            InputError: as :meth:`portrait`.
        """
        portrait = self.mesh.filmed(film)
        if self.reference is not None:
            return self._with_references(portrait, [self._photo(self.reference)])
        person, model, found, worth = dubbed.known(portrait), FaceModel.pretrained(), list[Held](), list[float]()
        for shot in islice(shots(film, Face(portrait.cache["first"].numpy()), FaceTracker()), SOUGHT):
            if shot.seen == 1 or not found:
                row = reference_rows(shot.landmarks[None], model, person)[0]
                found.append(self.held(shot.picture, shot.landmarks, torch.from_numpy(row).float()))
                worth.append(shows(shot.landmarks))
        return self._with_references(portrait, self.chosen(found, worth))

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

    def _photo(self, picture: Rgb) -> Held:
        faces = FaceTracker().faces(picture)
        if not faces:
            raise InputError("no face was found in the picture given as the reference")
        row = reference_rows(faces[0].landmarks[None], FaceModel.pretrained())[0]
        return self.held(picture, faces[0].landmarks, torch.from_numpy(row).float())

    def _with_references(self, portrait: Portrait, references: list[Held]) -> Portrait:
        return replace(portrait, cache={**portrait.cache, **tensors(references, _REFERENCE)})

    def chosen(self, found: list[Held], worth: list[float]) -> list[Held]:
        """The references among some faces that show the mouth so well (:func:`shows`), the best first.

        Those who do not bend references have that one only: others would show other lips than are told.
        """
        best = int(np.argmax(worth))
        return spread(found, best) if self.networks.config.painting.bends else [found[best]]

    def held(self, picture: Rgb, points: Points, row: Float[Tensor, " d"]) -> Held:
        """A picture with these landmarks, in which the face does what the motion row says, as a reference."""
        at = lower.place(points.astype(np.float64), FaceModel.pretrained())
        shape = bend.solid(lower.places68(points.astype(np.float64), at), bend.camera(at))
        return Held(self.cut(picture, at), bend.camera(at), shape, self.readings(row).double().numpy())

    def readings(self, row: Float[Tensor, " d"]) -> Float[Tensor, " k"]:
        """Readings of the lips of a motion row; none for weights that know none."""
        count, expression = self.networks.config.conditions.lips, row[FACE_MESH.slice("expression")].float()
        return expression @ lips.readings(FaceModel.pretrained(), count) if count else expression[:0]

    def cut(self, picture: Rgb, at: Place) -> UInt8[np.ndarray, "s s 3"]:
        """The face as networks see it."""
        return upright.cut(picture, at.square, self.networks.config.side)

    def latents(self, *parts: UInt8[np.ndarray, "h w 3"]) -> list[Float[Tensor, "1 c y x"]]:
        """The latents of pixels."""
        shown = torch.stack([tensor(np.ascontiguousarray(part)) for part in parts])
        return list(self.networks.first_stage.encode(shown.to(self.device).float() / 127.5 - 1).split(1))


class Painter:
    """Paints the frames of one stream in order; may hold the latest as the reference of the next."""

    def __init__(self, renderer: LatentRenderer, portrait: Portrait) -> None:
        self.renderer, self.model = renderer, FaceModel.pretrained()
        self.references = restored(portrait.cache, _REFERENCE)
        self.last = self.references[0]

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
        net, window = self.renderer.networks, self.renderer.networks.config.pixels
        at = lower.place(landmarks.astype(np.float64), self.model)
        square, inside = self.renderer.cut(picture, at), lower.region(at, net.config.side, self.model)
        heard = self._heard(row, rows)
        readings = heard[0, : net.config.conditions.lips].double().cpu().numpy()
        reference = self._reference(n, readings, at)
        wanted = reference.bent(square, at, readings)
        masked, other = self.renderer.latents(*self._given(wanted, inside, at, reference))
        start = noise(key, 0, masked.shape).to(masked.device)
        context = net.conditions.token(heard, self._places(landmarks, at))
        kept = self._kept(square, inside, start)
        latent = paint(net, start, masked, other, context, steps=self.renderer.steps, kept=kept)
        drawn = image(((net.first_stage.decode(latent)[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu())
        outlines = [where[: len(lower.JAW)] for where in (wanted.places, lower.places68(landmarks, at))]
        weight, made = softened(inside & lower.within(outlines, net.config.side), window), square.copy()
        made[window] = drawn
        if self.renderer.progressive:
            mixed = np.rint(square + (made.astype(np.float32) - square) * weight[..., None]).astype(np.uint8)
            self.last = replace(wanted, square=mixed)
        return laid(made, weight * np.float32(share), at, picture)

    def _reference(self, n: int, readings: Float[np.ndarray, " k"], at: Place) -> Mixed:
        anchored = self.renderer.anchor and n % self.renderer.anchor == 0
        if self.renderer.progressive and n and not anchored:
            return Mixed(((1.0, self.last),))
        return mixed(self.references, readings, bend.camera(at))

    def _given(self, wanted: Held, inside: np.ndarray, at: lower.Place, reference: Mixed) -> tuple[Rgb, Rgb]:
        """What the denoiser sees of the frame, and of the reference."""
        config = self.renderer.networks.config
        window, (rows, columns) = config.pixels, config.pixels
        hidden = inside if config.painting.hidden == "region" else lower.band(at, config.side, self.model)
        masked = lower.masked(wanted.square, hidden)[window].copy()
        if not config.painting.bends:
            return masked, reference.parts[0][1].square[window]
        bend.sketched(masked, wanted.places, config.side, (columns.start, rows.start))
        return masked, reference.like(wanted, window)

    def _kept(self, square: UInt8[np.ndarray, "s s 3"], inside: np.ndarray, start: Tensor) -> Kept | None:
        net = self.renderer.networks
        if net.config.painting.predicts == "clean":  # it sees what surrounds the region, and is laid over it
            return None
        window = net.config.pixels
        where = torch.from_numpy(lower.stays(inside[window], net.config.first_stage.factor)).float()
        return Kept(self.renderer.latents(square[window])[0], where[None, None].to(start.device), lambda _: start)

    def _heard(self, row: Tensor, rows: Tensor) -> Float[Tensor, "1 w"]:
        """What is made of the sound, with the readings of the lips that are to be painted."""
        renderer, conditions = self.renderer, self.renderer.networks.conditions
        heard = conditions.heard(windowed(rows[None].to(renderer.device).float(), conditions.config))
        number = conditions.config.lips
        if not number:
            return heard
        told = renderer.gain * heard[:, :number]
        if renderer.lips == "motion":
            told = renderer.readings(row)[None].to(heard.device)
        return torch.cat([told, heard[:, number:]], 1)

    def _places(self, landmarks: Points, at: lower.Place) -> Float[Tensor, "1 p 2"] | None:
        told = self.renderer.networks.config.painting.landmarks
        if not told:
            return None
        return torch.from_numpy(lower.places68(landmarks, at)[list(told)])[None].float().to(self.renderer.device)


def shows(landmarks: Points) -> float:
    """How well a face shows what its mouth looks like, up to 1: from the front, lips parted.

    Parted lips can be closed by bending; what closed lips hide cannot be shown.
    """
    shape, pose = FaceModel.pretrained().canonical(landmarks)
    return min(lip_opening(shape), _WIDE) / _WIDE - float(np.abs(head_angles(pose.rotation)).sum()) / _TURNED


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
