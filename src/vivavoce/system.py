"""The pipeline: three stages, one clock, one generator. Files, live sessions and batches all call ``stream``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.motion.edit import Edit
from vivavoce.motion.space import Motion, MotionSpace
from vivavoce.streams import inferring
from vivavoce.timeline import AudioTrack, Clock, Pcm, Span

Source = UInt8[Tensor, "s 3 h w"]  # sRGB; a photo is a video of one frame


@dataclass(frozen=True, slots=True)
class Features:
    """Audio features of consecutive frames."""

    span: Span
    rows: Float[Tensor, "t a"]


@dataclass(frozen=True, slots=True)
class Drive:
    """All a renderer may use to draw ``motion.span``. Most need ``motion`` only; some also hear."""

    motion: Motion
    audio: Float[Tensor, "t a"]


@dataclass(frozen=True, slots=True)
class Frames:
    """Pictures of consecutive frames, sRGB."""

    span: Span
    rgb: UInt8[Tensor, "t 3 h w"]


@dataclass(frozen=True, slots=True)
class Clip:
    """Finished pictures with exactly their own sound: nothing downstream ever has to synchronise."""

    span: Span
    rgb: UInt8[Tensor, "t 3 h w"]
    pcm: Pcm


@runtime_checkable
class Film(Protocol):
    """A moving picture too long to hold, which is given new lips while it runs."""

    def pictures(self) -> Iterator[UInt8[Tensor, "3 h w"]]:
        """Its pictures on the clock, from the first, without end; may be asked for as often as needed."""
        ...


@dataclass(frozen=True, slots=True)
class Portrait:
    """One person, prepared once: plain named tensors, so it can be saved, inspected and moved."""

    source: Source
    reference: Float[Tensor, "s d"]  # the person's own motion in the source, in the renderer's space
    cache: Mapping[str, Tensor]  # appearance, crop, masks: the renderer's business
    warnings: tuple[str, ...] = ()  # what the user should know about this picture, in their words
    film: Film | None = None  # what the frames are drawn into, when it is not ``source`` that moves


@runtime_checkable
class AudioEncoder(Protocol):
    """Sound -> one feature row per frame, ``hop`` frames at a time."""

    @property
    def dim(self) -> int: ...

    @property
    def hop(self) -> int: ...

    @property
    def lookahead(self) -> int:
        """Frames of future sound needed. A whole-file encoder is one with a huge lookahead, not a mode."""
        ...

    def features(self, clock: Clock, sound: Iterable[Pcm]) -> Iterator[Features]: ...


@runtime_checkable
class MotionGenerator(Protocol):
    """Features -> motion in ``space``: a flow, a diffusion model, or motion tracked from a video."""

    @property
    def space(self) -> MotionSpace: ...

    @property
    def audio_dim(self) -> int: ...

    @property
    def hop(self) -> int: ...

    @property
    def lookahead(self) -> int: ...

    def drives(self, portrait: Portrait, features: Iterable[Features], *, seed: int) -> Iterator[Drive]: ...


@runtime_checkable
class Renderer(Protocol):
    """Motion -> pictures of one person. Recurrent renderers keep their state in the generator's locals."""

    @property
    def space(self) -> MotionSpace: ...

    def portrait(self, source: Source) -> Portrait: ...

    def frames(self, portrait: Portrait, drives: Iterable[Drive]) -> Iterator[Frames]: ...


@runtime_checkable
class FilmRenderer(Renderer, Protocol):
    """A renderer that can also keep a film as it is and draw new lips into it."""

    def filmed(self, film: Film) -> Portrait:
        """Prepare the person in ``film``; :meth:`Renderer.frames` then draws into its pictures as they come.

        Of the motion only the mouth counts: see :func:`vivavoce.motion.parts.share`.
        """
        ...


@runtime_checkable
class Follower(Protocol):
    """A renderer that can tell the motion of a face in pictures, in its own space."""

    def follow(self, pictures: Iterable[UInt8[Tensor, "3 h w"]]) -> Iterator[Float[Tensor, "_t d"]]:
        """Motion of the largest face, lazily, some frames at a time."""
        ...


@dataclass(frozen=True, slots=True)
class System:
    """A talking head: who listens, who moves, who draws, and what the user wants changed in between."""

    name: str
    clock: Clock
    audio_encoder: AudioEncoder
    generator: MotionGenerator
    renderer: Renderer
    edit: Edit = Edit()

    def __post_init__(self) -> None:
        """Refuse parts that do not speak the same language."""
        if self.generator.space != self.renderer.space:
            raise ValueError(
                f"{self.name}: the generator writes {self.generator.space.name!r} "
                f"but the renderer reads {self.renderer.space.name!r}"
            )
        if self.generator.audio_dim != self.audio_encoder.dim:
            raise ValueError(
                f"{self.name}: the generator expects {self.generator.audio_dim} audio features "
                f"but the audio encoder gives {self.audio_encoder.dim}"
            )

    @property
    def latency(self) -> int:
        """Frames of sound that must be in before the first frame can be out (compute not counted)."""
        features = self.generator.hop + self.generator.lookahead
        return -(-features // self.audio_encoder.hop) * self.audio_encoder.hop + self.audio_encoder.lookahead

    def stream(self, source: Source | Film | Portrait, sound: Iterable[Pcm], *, seed: int = 0) -> Iterator[Clip]:
        """Talk. Lazy: pulls sound as needed and never holds more than the latency plus one clip.

        ``source`` is a picture or video ``[s 3 h w]``, a film that is to be dubbed, or a portrait prepared before by
        the same renderer.
        """
        return inferring(self._clips(source, sound, seed))

    def portrait(self, source: Source | Film) -> Portrait:
        """The person in a picture or video, or in a film that is to be dubbed, prepared for :meth:`stream`.

        Raises :class:`vivavoce.errors.InputError` when there is no face, or when this system cannot dub.
        """
        if isinstance(source, Tensor):
            return self.renderer.portrait(source)
        if not isinstance(self.renderer, FilmRenderer):
            raise InputError(f"the system {self.name!r} draws portraits only; it cannot give a film new lips")
        return self.renderer.filmed(source)

    def _clips(self, source: Source | Film | Portrait, sound: Iterable[Pcm], seed: int) -> Iterator[Clip]:
        track = AudioTrack(self.clock)
        portrait = source if isinstance(source, Portrait) else self.portrait(source)
        features = self.audio_encoder.features(self.clock, track.tap(sound))
        drives = self.generator.drives(portrait, features, seed=seed)
        for frames in self.renderer.frames(portrait, self._edited(portrait, drives, seed)):
            yield Clip(frames.span, frames.rgb, track.take(frames.span))

    def _edited(self, portrait: Portrait, drives: Iterable[Drive], seed: int) -> Iterator[Drive]:
        change = self.edit.starting(portrait.reference, seed)
        for drive in drives:
            yield Drive(change(drive.motion), drive.audio)
