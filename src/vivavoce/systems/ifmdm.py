"""IF-MDM: a short implicit code moves the whole picture; a diffusion transformer speaks it, or a video drives it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.media.film import MAX_SIDE
from vivavoce.media.picture import is_picture
from vivavoce.media.read import read_image, read_video
from vivavoce.motion.chunks import (
    STEPS,
    ChunkGenerator,
    Hush,
    LiveControl,
    MotionControl,
    suited,
    times,
)
from vivavoce.motion.codes import load as load_codes
from vivavoce.motion.edit import Edit
from vivavoce.motion.space import IMPLICIT, Motion, MotionSpace
from vivavoce.nets.lia import Lia
from vivavoce.nets.lia_quick import quicken
from vivavoce.render.footage import mirrored
from vivavoce.render.implicit import ImplicitRenderer
from vivavoce.system import Drive, Features, Portrait, System
from vivavoce.systems.moda import found_device, scales
from vivavoce.systems.reenact import HOP, Deaf
from vivavoce.timeline import Clock
from vivavoce.weights import HERE, metadata

NAME = "if-mdm"
RENDERER = "if-mdm-renderer"
FILES = (f"{RENDERER}.safetensors", "lia.safetensors")  # of networks, in a folder
MOST_GAIN = 2.0  # of lips that are painted too little: what is wrong with them grows, too


@dataclass(frozen=True)
class TrackedCodes:
    """Codes of the largest face of a video or picture, from its start; the last one is held when more are asked for."""

    driving: Path
    renderer: ImplicitRenderer
    relative: bool = True  # the portrait's own code and the change from the first driving frame
    fps: int = 25
    space: MotionSpace = IMPLICIT
    audio_dim: int = 0
    hop: int = HOP
    lookahead: int = 0

    def drives(self, portrait: Portrait, features: Iterable[Features], *, seed: int) -> Iterator[Drive]:
        """See :class:`vivavoce.system.MotionGenerator`. A track has no chance in it, so ``seed`` changes nothing.

        A single picture has no changes, so its code is taken as it is.

        Raises:
            InputError: no face was found in the driving video.
        """
        del seed
        codes, own, first = self._codes(), portrait.reference, None
        for heard in features:
            driver = torch.stack(list(islice(codes, len(heard.span))))
            first = driver[:1] if first is None else first
            if self.relative and not is_picture(self.driving):
                at = [mirrored(n, len(own)) for n in range(heard.span.start, heard.span.stop)]
                driver = own[at] + driver - first
            yield Drive(Motion(heard.span, self.space, driver), heard.rows)

    def _codes(self) -> Iterator[Float[Tensor, " d"]]:
        last: Float[Tensor, " d"] | None = None
        for rows in self.renderer.follow(self._pictures()):
            for last in rows:
                yield last
        assert last is not None  # noqa: S101  (``follow`` has raised when there was no face)
        yield from repeat(last)

    def _pictures(self) -> Iterable[UInt8[Tensor, "3 h w"]]:
        if is_picture(self.driving):
            return iter(read_image(self.driving, long_side=MAX_SIDE))
        return read_video(self.driving, self.fps, long_side=MAX_SIDE)


def assemble(  # noqa: PLR0913  (one for every option of the command line)
    *,
    weights: Path | None = None,
    motion_mean: str = "portrait",
    motion_std: float | None = None,
    control: LiveControl | None = None,
    guidance_audio: float = 1.0,
    steps: int = STEPS,
    size: int | None = None,
    crop: bool = False,
    face: str | int = "largest",
    device: str = "auto",
    batch: int = 1,
    edit: Edit | None = None,
) -> System:
    """The ready system.

    ``weights`` is a folder with ``if-mdm.safetensors`` and ``if-mdm-renderer.safetensors``, as their recipes write
    them; without, those that come with the package. Lips are moved further by what the renderer is known to paint too
    little, and by the gain of ``edit`` for the mouth's movement. ``motion_mean`` and ``motion_std`` are those of
    :class:`vivavoce.motion.chunks.MotionControl`; ``control`` is given instead of them by whoever wants to change them
    while a stream runs. ``guidance_audio``, in [0, 5], says how far the motion is pushed along what the sound adds; 1
    is not at all. ``steps`` counts calls of the network per chunk. The others are those of
    :class:`vivavoce.render.implicit.ImplicitRenderer`.

    Raises:
        InputError: a value that does not exist, or weights that cannot be used.
    """
    from vivavoce.speech.encoder import PhoneEncoder, channel

    where = found_device(device)
    model = load_codes((weights or HERE) / f"{NAME}.safetensors").to(where)
    renderer_file, change = (weights or HERE) / f"{RENDERER}.safetensors", edit or Edit()
    lia = networks(renderer_file, device)
    encoder = PhoneEncoder.pretrained(where)
    if model.audio_dim != encoder.dim or model.space.dim != lia.config.motion:
        raise InputError(
            f"the weights do not fit: the generator hears {model.audio_dim} numbers a frame and speaks "
            f"{model.space.dim}, but the phone encoder gives {encoder.dim} and the renderer is moved by "
            f"{lia.config.motion}"
        )
    scales(audio=guidance_audio)  # refuses what is out of range
    generator = ChunkGenerator(
        model,
        control=control or MotionControl(motion_mean, motion_std),
        times=times(model, steps),
        guidance=guidance_audio,
        quiet=Hush(channel("speech")),
        mouth_gain=change.mouth_gain * _unpainted(renderer_file),
        **suited(model),
    )
    renderer = ImplicitRenderer(lia, size=size, crop=crop, face=face, batch=batch)
    return System(NAME, Clock(), encoder, generator, renderer, dataclasses.replace(change, mouth_gain=1.0))


def _unpainted(renderer: Path) -> float:
    """How much further than heard lips must go for these weights to paint them as far open; 1 where it is not known."""
    painted = metadata(renderer).get("opening", 1.0)
    return float(min(MOST_GAIN, max(1.0, 1 / max(painted, 1e-6))))


def follow(  # noqa: PLR0913  (one for every option of the command line)
    *,
    driving: Path,
    weights: Path | None = None,
    relative: bool = True,
    size: int | None = None,
    crop: bool = False,
    face: str | int = "largest",
    device: str = "auto",
    batch: int = 1,
    edit: Edit | None = None,
) -> System:
    """A system whose motion is that of the face in ``driving`` (a video or a picture).

    ``weights`` is a folder that ``vivavoce import lia`` or the recipe ``if-mdm-renderer`` wrote, or the file in it;
    without, those that come with the package.
    ``relative`` adds the driver's changes to the portrait's own code; otherwise the driver's codes are taken as they
    are. ``size``, ``crop``, ``face`` and ``batch`` are those of :class:`vivavoce.render.implicit.ImplicitRenderer`.

    Raises:
        InputError: a value that does not exist, or weights that cannot be used.
    """
    renderer = ImplicitRenderer(networks(weights or HERE, device), size=size, crop=crop, face=face, batch=batch)
    generator = TrackedCodes(Path(driving), renderer, relative=relative)
    return System(NAME, Clock(), Deaf(), generator, renderer, edit or Edit())


def networks(weights: Path, device: str) -> Lia:
    """The renderer's networks; see :func:`follow`. On a CPU they draw with less work."""
    where, place = found_device(device), Path(weights)
    if place.is_dir():
        place = next((file for name in FILES if (file := place / name).is_file()), place / FILES[0])
    lia = Lia.load(place, where)
    return quicken(lia) if where.type == "cpu" else lia
