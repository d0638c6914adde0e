"""Speech-driven figures: what the generator makes of a stranger's voice, against what that person's face did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from vivavoce.data.prepare import Prepared
from vivavoce.evaluate import lipsync
from vivavoce.evaluate.lipsync import Lips, Rows, Track
from vivavoce.motion.space import FACE_MESH, MotionSpace
from vivavoce.motion.track import track
from vivavoce.system import Drive, Frames, Portrait, Renderer, Source, System

RATE = 16_000
SILENCE = 75  # frames of digital silence after the speech, in which the mouth must be closed
UNTIL_CLOSED = 12  # frames after the last speech before silence counts
SAID = "closed"  # group of phones (m, p, b) of the phone encoder


@dataclass(frozen=True, slots=True)
class Watched:
    """A renderer that keeps the motion it is given; without ``drawing`` it draws nothing, for figures of motion alone.

    Stands in a :class:`System`, so motion comes from ``System.stream``, edits included, and from nowhere else.
    """

    space: MotionSpace
    rows: list[Float[Tensor, "t d"]] = field(default_factory=list)
    drawing: Renderer | None = None

    def portrait(self, source: Source) -> Portrait:
        """See :class:`vivavoce.system.Renderer`."""
        if self.drawing is None:
            raise ValueError("motion alone needs a portrait that was prepared before")
        return self.drawing.portrait(source)

    def frames(self, portrait: Portrait, drives: Iterable[Drive]) -> Iterator[Frames]:
        """See :class:`vivavoce.system.Renderer`."""
        if self.drawing is not None:
            yield from self.drawing.frames(portrait, self._kept(drives))
            return
        for drive in self._kept(drives):
            yield Frames(drive.motion.span, torch.zeros(len(drive.motion.span), 3, 2, 2, dtype=torch.uint8))

    def _kept(self, drives: Iterable[Drive]) -> Iterator[Drive]:
        for drive in drives:
            self.rows.append(drive.motion.rows.clone())
            yield drive


def motion(
    system: System, portrait: Portrait, sound: Float32[np.ndarray, " samples"], *, seed: int
) -> Float[np.ndarray, "t 48"]:
    """The rows of face-mesh/1 that the renderer would get for ``sound``, one per frame.

    Of a system that moves in another space: the rows that are tracked in the pictures it draws.
    """
    if system.renderer.space != FACE_MESH:
        clips = system.stream(portrait, [torch.from_numpy(sound)], seed=seed)
        pictures = (np.ascontiguousarray(one.permute(1, 2, 0).numpy()) for clip in clips for one in clip.rgb)
        return torch.cat(list(track(pictures))).double().numpy()
    watched = Watched(system.renderer.space)
    for clip in replace(system, renderer=watched).stream(portrait, [torch.from_numpy(sound)], seed=seed):
        del clip
    return torch.cat(watched.rows).double().numpy()


@dataclass(frozen=True, slots=True)
class Truth:
    """One recording of a real person, and what in it generated motion is held against."""

    clip: Prepared
    lips: Lips
    speaking: Bool[np.ndarray, " t"]
    closures: tuple[tuple[int, int], ...]  # seen, and an m, b or p heard
    seen_closures: tuple[tuple[int, int], ...]  # seen, whatever is heard

    @property
    def rows(self) -> Rows:
        """The person's motion."""
        return self.clip.rows.astype(np.float64)


def truth(clip: Prepared, bilabial: Track | None) -> Truth:
    """What to hold motion against; ``bilabial`` is the probability of m, b or p in the sound, frame by frame."""
    lips = lipsync.lips(clip.rows.astype(np.float64))
    speech = lipsync.speaking(lipsync.loudness(clip.audio.astype(np.float64), len(clip.rows)))
    seen = tuple(lipsync.closures(lips.opening, speech))
    heard = tuple(lipsync.closures(lips.opening, speech, bilabial)) if bilabial is not None else seen
    return Truth(clip, lips, speech, heard, seen)


def bilabials(sound: Float32[np.ndarray, " samples"], frames: int) -> Track:
    """Probability of m, b or p in each frame of ``sound``, by the packaged phone encoder."""
    from vivavoce.speech.encoder import CLOCK, PhoneEncoder, channel

    columns = [channel(f"{SAID} first"), channel(f"{SAID} second")]
    with torch.inference_mode():
        heard = torch.cat([f.rows for f in PhoneEncoder.pretrained().features(CLOCK, [torch.from_numpy(sound)])])
    likely = heard[:, columns].amax(1).double().cpu().numpy()
    return np.pad(likely, (0, max(0, frames - len(likely))))[:frames]


@dataclass(frozen=True, slots=True)
class Score:
    """Figures of one stretch of motion against one truth. Counts and sums, so that scores can be pooled."""

    frames: int
    opening: float  # correlation
    width: float  # correlation
    curve: Float[np.ndarray, " lags"]  # correlation of the opening at every lag
    lip_error: float  # face widths
    amplitude: float  # standard deviation of the opening over the truth's
    closed: tuple[int, int]  # m, b, p closures made, of how many
    closed_seen: tuple[int, int]  # the same for closures whatever is heard
    wrongly_closed: tuple[int, int]  # frames closed, of how many where the truth is wide open
    blinks: int
    turning: float  # degrees per second
    moving: float  # face widths per second
    lip_speed: float  # face widths per second
    pause: Track  # opening in pauses of the recording over the truth's wide opening


def score(made: Rows, true: Truth) -> Score:
    """Compare as many frames as both have."""
    count = min(len(made), len(true.clip.rows))
    made, own, real = made[:count], lipsync.lips(made[:count]), true.lips
    opening, width = real.opening[:count], real.width[:count]
    curve = lipsync.lag_curve(own.opening, opening)
    unit = lipsync.wide(opening)
    wide, wrong = lipsync.wrongly_closed(own.opening, opening)
    within = [[s for s in stretches if s[1] < count] for stretches in (true.closures, true.seen_closures)]
    hits = [lipsync.closed_in(own.opening, stretches, unit) for stretches in within]
    return Score(
        frames=count,
        opening=lipsync.correlation(own.opening, opening),
        width=lipsync.correlation(own.width, width),
        curve=curve,
        lip_error=lipsync.lip_error(own, Lips(opening, width, real.ring[:count])),
        amplitude=float(own.opening.std() / max(opening.std(), 1e-9)),
        closed=(hits[0], len(within[0])),
        closed_seen=(hits[1], len(within[1])),
        wrongly_closed=(wrong, wide),
        blinks=lipsync.blinks(made),
        turning=float(lipsync.turning(made).mean()),
        moving=float(lipsync.moving(made).mean()),
        lip_speed=float(lipsync.lip_speed(own.ring).mean()),
        pause=own.opening[lipsync.quiet(true.speaking[:count])] / unit,
    )


def pooled(scores: Sequence[Score]) -> dict[str, float]:
    """Figures over all clips; every frame counts the same. ``nan`` where there was nothing to count."""
    frames = np.array([s.frames for s in scores], float)

    def mean(name: str) -> float:
        return float(np.average([getattr(s, name) for s in scores], weights=frames))

    def share(name: str) -> float:
        hits, of = np.sum([getattr(s, name) for s in scores], axis=0)
        return float(hits / of) if of else float("nan")

    pauses = np.concatenate([s.pause for s in scores])
    curve = np.average([s.curve for s in scores], axis=0, weights=frames)
    means = ("opening", "width", "lip_error", "amplitude", "turning", "moving", "lip_speed")
    return {
        **{name: mean(name) for name in means},
        "lag": float(lipsync.lag(curve)),
        "best_lag_correlation": float(curve.max()),
        "closure": share("closed"),
        "closures": float(sum(s.closed[1] for s in scores)),
        "closure_seen": share("closed_seen"),
        "closures_seen": float(sum(s.closed_seen[1] for s in scores)),
        "wrongly_closed": share("wrongly_closed"),
        "blinks_per_minute": float(sum(s.blinks for s in scores) / frames.sum() * lipsync.FPS * 60),
        "opening_in_pauses": float(np.median(pauses)) if len(pauses) else float("nan"),
        "pause_frames": float(len(pauses)),
    }


def after_speech(made: Rows, speech_frames: int) -> Float[np.ndarray, " _t"]:
    """Opening in the silence that follows ``speech_frames`` frames of speech, over the wide opening in that speech."""
    opening = lipsync.lips(made).opening
    return opening[speech_frames + UNTIL_CLOSED :] / lipsync.wide(opening[:speech_frames])


def with_silence(sound: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, " longer"]:
    """``sound`` and :data:`SILENCE` frames of nothing."""
    return np.concatenate([sound, np.zeros(SILENCE * RATE // lipsync.FPS, np.float32)])


def another_voice(clips: Sequence[Prepared], index: int) -> Float32[np.ndarray, " samples"]:
    """The sound of the next clip of another speaker, repeated to the length of clip ``index``."""
    own = clips[index]
    others = [clips[(index + step) % len(clips)] for step in range(1, len(clips))]
    other = next((clip for clip in others if clip.speaker != own.speaker), None)
    if other is None:
        raise ValueError("shuffled audio needs clips of two speakers")
    return np.resize(other.audio, len(own.audio))


def compared(figures: Mapping[str, float], real: Mapping[str, float]) -> dict[str, float]:
    """Speeds of generated motion over those of real people."""
    return {f"{name}_ratio": figures[name] / max(real[name], 1e-9) for name in ("turning", "moving", "lip_speed")}
