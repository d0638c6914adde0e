"""The texture renderer: a 3D face with the wanted geometry is painted with the portrait's texture by diffusion.

The face is cut out through an upright square. For every frame the portrait is carried to the wanted geometry by the
mesh, the 3D face is drawn, and the painter makes of both what it takes for the truth. Of what a painter of latents
says, the change is laid over the carried portrait, so that details finer than its own pictures stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.face import upright
from vivavoce.face.fitting import fit
from vivavoce.face.mesh import LEFT_EYE, OUTER_LIPS, RIGHT_EYE, Points
from vivavoce.face.model import FaceModel
from vivavoce.face.morphable import Coefficients, Morphable, driven
from vivavoce.face.upright import Square
from vivavoce.motion.space import FACE_MESH, MotionSpace
from vivavoce.motion.track import track
from vivavoce.nets.tgdm import Sight, Tgdm, coefficients, shown, signed, source_of
from vivavoce.render.aligned import found_faces, framed, image, scaled, tensor, warnings
from vivavoce.render.likeness import reference_rows
from vivavoce.render.pivot import Pivot, Rgb, reenacted
from vivavoce.render.surface import smoothstep
from vivavoce.render.textured import render
from vivavoce.sampling.paths import noise
from vivavoce.sampling.texturing import MOST_GUIDANCE, MOST_STEPS, paint
from vivavoce.system import Drive, Frames, Portrait, Source
from vivavoce.threads import side_by_side
from vivavoce.timeline import Span

SQUARE = (2.0, -0.1, False)  # side over the face's extent, shift down the face, turned upright: of what is painted
FINEST = 768  # pixels; largest side at which a portrait is carried
FADE = 0.08  # share of the painted window over which changes fade out at its edges
AROUND = 0.06  # face widths around the face over which the change that painting makes fades out
BOLD = 2.0  # times the nearness of mouth or eyes that shows what is painted; beside those nothing is
LEASH = 0.12  # sides of the square that a face may move away from where it is in the portrait
NOISE = 6, 0  # seed and place of the noise that all pictures start from, so that nothing flickers
_VIDEO = "this portrait is a video; it is painted from the picture in which the face is turned least"


@dataclass(frozen=True)
class TextureRenderer:
    """Draws face-mesh/1 motion of one portrait."""

    networks: Tgdm = field(compare=False)
    steps: int = 1  # calls of the painter a frame
    guidance: float = 1.0  # how far what is told of the face pushes; others than 1 cost twice the time
    size: int | None = None  # side of the head view (``crop``), or largest side of the square that is painted
    crop: bool = False  # the head view itself instead of the whole picture
    face: str | int = "largest"  # or "left", "right", or a number counted from the left, from 0
    longest: int = 1920  # largest side of the output, in pixels

    def __post_init__(self) -> None:
        """Refuse what cannot be painted."""
        if not 1 <= self.steps <= MOST_STEPS:
            raise InputError(f"faces are painted in 1 to {MOST_STEPS} steps, not {self.steps}")
        if not 0 <= self.guidance <= MOST_GUIDANCE:  # also refuses NaN
            raise InputError(f"the guidance of the face must be from 0 to {MOST_GUIDANCE:g}, not {self.guidance:g}")

    @property
    def space(self) -> MotionSpace:
        """The motion this renderer reads."""
        return FACE_MESH

    def portrait(self, source: Source) -> Portrait:
        """Prepare a picture, or the plainest picture of a video.

        The cache holds the ``picture`` that is painted into, the ``square`` [4] in its pixels, the square itself
        (``cut``), and ``landmarks`` [478 3] in its pixels.

        Raises:
            InputError: there is no face, or not the one asked for.
        """
        faces = found_faces(source, self.face)
        model = FaceModel.pretrained()
        rows = [reference_rows(face.landmarks[None].astype(np.float64), model)[0] for face in faces]
        turned = [np.abs(row[FACE_MESH.slice("rotation")]).sum() for row in rows]
        plain = int(np.argmin(turned))
        landmarks = faces[plain].landmarks.astype(np.float64)
        height, width = source.shape[-2:]
        square = upright.within(upright.around(landmarks, *SQUARE), width, height)
        scale = min(1.0, self.longest / max(height, width), (self.size or square.side) / square.side)
        picture = scaled(source[plain], 1.0 if self.crop else scale)
        ratios = picture.shape[2] / width, picture.shape[1] / height
        landmarks, square = landmarks * [*ratios, sum(ratios) / 2], square.scaled(*ratios)
        side = int(np.clip(round(square.side), self.networks.config.side, FINEST))
        places = (landmarks - [square.x, square.y, 0]) * (side / square.side) + [side / 2, side / 2, 0]
        cache = {
            "picture": picture,
            "square": torch.tensor([square.x, square.y, square.side, square.turn], dtype=torch.float64),
            "cut": torch.from_numpy(upright.cut(image(picture), square, side)),
            "landmarks": torch.from_numpy(places),
        }
        told = (*warnings([square]), *((_VIDEO,) if len(source) > 1 else ()))
        return Portrait(source[plain : plain + 1], torch.from_numpy(rows[plain][None]).float(), cache, told)

    def follow(self, pictures: Iterable[UInt8[Tensor, "3 h w"]]) -> Iterator[Float[Tensor, "_t d"]]:
        """See :class:`vivavoce.system.Follower`."""
        return track(image(picture) for picture in pictures)

    def frames(self, portrait: Portrait, drives: Iterable[Drive]) -> Iterator[Frames]:
        """See :class:`vivavoce.system.Renderer`. Frames do not depend on each other."""
        bases, cut = Morphable.pretrained(), portrait.cache["cut"].numpy()
        source = fit(cut, portrait.cache["landmarks"].numpy(), bases)
        brush = Brush(self.networks, cut, source, steps=self.steps, guidance=self.guidance)
        own = portrait.reference[0].double().numpy()
        square = Square(*portrait.cache["square"].tolist())
        under = None if self.crop else portrait.cache["picture"]
        size = self.size or self.networks.config.side

        def draw(part: tuple[int, Float[Tensor, " d"]]) -> Frames:
            n, row = part
            wanted = staying(driven(source, row.double().numpy(), own), source, cut.shape[0])
            return Frames(Span(n, n + 1), framed(tensor(brush.reenacted(wanted)), square, under, size)[None])

        for drive in drives:
            parts = enumerate(drive.motion.rows, drive.motion.span.start)
            yield from side_by_side(draw, parts) if brush.device.type == "cpu" else map(draw, parts)


class Brush:
    """Paints one person, whose texture is read once. Pictures do not depend on each other."""

    def __init__(
        self, networks: Tgdm, picture: Rgb, face: Coefficients, *, steps: int = 1, guidance: float = 1.0
    ) -> None:
        """``picture`` is a square of any size that shows the ``face``, whose coefficients are in its pixels."""
        self.networks, self.picture, self.face = networks, picture, face
        self.steps, self.guidance, self.bases = steps, guidance, Morphable.pretrained()
        self.side = networks.config.side
        small, there = resized(picture, self.side), self.small(face)
        with torch.inference_mode():
            source = source_of(small, render(there, self.bases, self.side))[None].to(self.device)
            self.textures = tuple(networks.painter.textures(self._windowed(source)))

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return next(self.networks.parameters()).device

    def small(self, face: Coefficients, side: int | None = None) -> Coefficients:
        """``face`` in pixels of the networks' own pictures, from a square ``side`` wide (default: the person's)."""
        return face.framed(self.side / (side or self.picture.shape[0]), 0.0, 0.0)

    def reenacted(self, wanted: Coefficients) -> Rgb:
        """The person with the face ``wanted``, in the pixels of their picture and as large as that."""
        return self.painted(reenacted(self.picture, self.face, wanted, self.bases), wanted)

    def painted(self, pivot: Pivot, wanted: Coefficients) -> Rgb:
        """What the painter makes of ``pivot``, whose face is ``wanted``; what is kept stays bit for bit."""
        made = self._made(pivot, wanted)
        share = (1 - pivot.kept)[..., None]
        return np.clip(np.rint(pivot.known + (made - pivot.known) * share), 0, 255).astype(np.uint8)

    def _made(self, pivot: Pivot, wanted: Coefficients) -> Float[np.ndarray, "s s 3"]:
        """The whole picture, of the pivot's size, about [0, 255]: what is known, and the change that painting makes."""
        net, side = self.networks, pivot.known.shape[0]
        there = self.small(wanted, side)
        with torch.inference_mode():
            known, sight = self._sight(pivot, there)
            start = noise(*NOISE, sight.known.shape).to(self.device)
            latent = paint(net, start, sight, steps=self.steps, guidance=self.guidance)
            before = net.before(sight, known)
            found = (127.5 * (net.decode(latent) - before)[0]).permute(1, 2, 0).float().cpu().numpy()
        change = np.zeros((self.side, self.side, 3), np.float32)
        change[net.config.window] = found * edge(found.shape[0], net.config.margins)
        if net.config.predicts == "clean":  # hair and background as carried are better than what is made of them
            change *= near(resized(pivot.drawn.mask.astype(np.float32), self.side), there.scale)
            if net.config.begins == "carried" and not pivot.kept.any():  # so is skin, where it is the same person's
                change *= np.minimum(1, BOLD * features(self.bases.landmarks(there), self.side))[..., None]
        return pivot.known + resized(change, side)

    def _sight(self, pivot: Pivot, there: Coefficients) -> tuple[Float[Tensor, "1 3 w w"], Sight]:
        """What is known of the window that is painted, and what the painter sees of it."""
        side = self.side
        if pivot.known.shape[0] != side:
            drawn = render(there, self.bases, side)
            maps = resized(pivot.kept, side), resized(pivot.stretch, side)
            pivot = Pivot(resized(pivot.known, side), drawn, *maps)
        told = (signed(pivot.known), shown(pivot), coefficients(there, side))
        known, planes, face = (one[None].to(self.device) for one in told)
        known = self._windowed(known)
        return known, self.networks.sight(known, self._windowed(planes), face, self.textures)

    def _windowed(self, maps: Float[Tensor, "b c s s"]) -> Float[Tensor, "b c w w"]:
        rows, columns = self.networks.config.window
        return maps[..., rows, columns]


def features(points: Points, side: int) -> Float[np.ndarray, "s s"]:
    """1 in the middle of lips and eyes, half as much half their width away: where a person's picture changes.

    Args:
        points: 478, in pixels.
        side: of the picture, in pixels.
    """
    at, out = np.arange(side) + 0.5, np.zeros((side, side))
    for ring in (OUTER_LIPS, LEFT_EYE, RIGHT_EYE):
        x, y = points[list(ring), :2].mean(0)
        wide = max(2.0, float(np.ptp(points[list(ring), 0])) / 2)
        out += np.exp2(-(np.square(at - x) + np.square(at - y)[:, None]) / wide**2)
    return out


def near(mask: Float32[np.ndarray, "s s"], scale: float) -> Float32[np.ndarray, "s s 1"]:
    """How much of a change shows: all on the face whose ``mask`` it is, less around it, in pixels per face width."""
    reach = max(1, round(AROUND * scale))
    wide = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
    return cv2.GaussianBlur(wide, (2 * reach + 1, 2 * reach + 1), reach / 2)[..., None]


def staying(wanted: Coefficients, own: Coefficients, side: int) -> Coefficients:
    """``wanted`` where it is not further from the portrait's ``own`` face than its square allows; slowing down before.

    Args:
        wanted: of a picture ``side`` wide.
        own: of the same picture.
        side: pixels.
    """
    most = LEASH * side
    return replace(wanted, translation=own.translation + most * np.tanh((wanted.translation - own.translation) / most))


def edge(side: int, margins: tuple[int, int, int, int]) -> Float[np.ndarray, "s s 1"]:
    """How much of a change in a window of ``side`` pixels shows: it fades out where the picture goes on beyond."""
    away = np.arange(side) + 0.5
    top, bottom, left, right = (
        smoothstep(one / (FADE * side)) if margin else np.ones(side)
        for one, margin in zip((away, away[::-1], away, away[::-1]), margins, strict=True)
    )
    return ((top * bottom)[:, None] * (left * right)[None, :])[..., None]


def resized(picture: np.ndarray, side: int) -> np.ndarray:
    """A square made ``side`` pixels wide."""
    if picture.shape[0] == side:
        return picture
    how = cv2.INTER_AREA if side < picture.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(picture, (side, side), interpolation=how)
