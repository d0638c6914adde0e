"""Speech to motion codes chunk by chunk, as IF-MDM does it: each goes on from the last code of the one before.

How lively a chunk is and which posture it keeps can be asked for, also while a stream runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.motion.codes import CodeModel, Row, all_present
from vivavoce.motion.generate import hush
from vivavoce.motion.space import Motion, MotionSpace
from vivavoce.motion.windows import faded
from vivavoce.nets.dit import Given, Known
from vivavoce.sampling.guidance import guided
from vivavoce.sampling.paths import noise
from vivavoce.sampling.samplers import Sampler, multistep, uniform
from vivavoce.streams import Window, windows
from vivavoce.system import Drive, Features, Portrait
from vivavoce.threads import alone
from vivavoce.timeline import Span

MEANS = ("none", "portrait", "last")
STD = (0.01, 1.0)  # deviations that can be asked for; 0 would be a face that does not speak
LONGEST_FADE = 4  # frames
STEPS = 5  # calls of the network for a chunk; more give the same lips (bench/results/implicit_motion.md)
FRESH = 7  # frames that a network goes on for at once, if it can; with 3 ahead two hops of the phone encoder
# Good values for networks with a draft; see :class:`ChunkGenerator`.
LIP_NOISE, LIP_TRUST, STD_GUIDANCE = 0.0, 0.25, 2.5


@dataclass(frozen=True, slots=True)
class MotionControl:
    """What a user asks of the motion, as in the paper; what is not asked for is left to the network.

    ``mean`` is the posture around which it moves: "none", that of the "portrait", or "last", that of the last frame
    of the chunk before, which drifts. ``std`` is how far it moves: the standard deviation of every number of the code
    over a chunk for networks in the published form, and in the same range for ours, whose numbers deviate by very
    different amounts: 0.2 is as the clips they learned from, 0.1 half of that, 0.3 half as much again.
    """

    mean: str = "portrait"
    std: float | None = None

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.mean not in MEANS:
            raise InputError(f"the motion mean must be one of {', '.join(MEANS)}, not {self.mean!r}")
        if self.std is not None and not STD[0] <= self.std <= STD[1]:  # also refuses NaN
            raise InputError(f"the motion std must be a number from {STD[0]:g} to {STD[1]:g}, not {self.std:g}")


class LiveControl:
    """A :class:`MotionControl` that may be exchanged while streams run, from any thread.

    A generator looks at it once, when it starts a chunk. With the same sound, seed and value at the start of each
    chunk the motion is the same; at what time a change is made decides only which chunk is the first to see it.
    """

    def __init__(self, control: MotionControl | None = None) -> None:
        self._now = control or MotionControl()

    @property
    def now(self) -> MotionControl:
        """The value that the next chunk sees."""
        return self._now

    def set(self, control: MotionControl) -> None:
        """Exchange the value whole: a reader sees the old one or the new one."""
        self._now = control


@dataclass(frozen=True, slots=True)
class Hush:
    """Gives the mouth back its shape in the portrait while nobody speaks.

    ``speech`` is the column of the audio features that gives the probability of speech. The mouth starts to go back
    ``wait`` frames after the last speech, is there after ``wait + fall``, and is free over the ``rise`` frames before
    the next.
    """

    speech: int
    threshold: float = 0.1
    wait: int = 6
    fall: int = 5
    rise: int = 3


@dataclass(frozen=True, slots=True, eq=False)
class ChunkGenerator:
    """Generates chunks of the network's length; implements MotionGenerator of the system.

    The last ``fade`` frames of a chunk are also the first of the next, and fade into them: the hint makes chunks meet,
    the fade takes away what is left of a step. Published chunks are all new. A network that has learned to go on from
    known frames may give ``fresh`` ones only: its chunks begin with frames that are out already, so that less sound is
    needed at once, for more calls.
    """

    model: CodeModel
    control: MotionControl | LiveControl = field(default_factory=MotionControl)
    fade: int = LONGEST_FADE
    fresh: int | None = None  # frames that go out with every chunk; None = all of it but the fade
    times: tuple[float, ...] | None = None  # of the model calls; None = STEPS of them
    sampler: Sampler = multistep
    guidance: float = 1.0  # how far the motion is pushed along what the sound adds; 1 = not at all
    std_guidance: float = 1.0  # the same for a deviation that is asked for, which small networks follow weakly
    quiet: Hush | None = None
    # Lips are heard, posture is chance. Along the reading of the lips: share of the noise that sampling starts from,
    # and share of what it adds to the draft. Less is surer and smaller; 1 is as published.
    lip_noise: float = 1.0
    lip_trust: float = 1.0
    mouth_gain: float = 1.0  # how far lips move from the portrait's

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if not 0 <= self.fade <= min(LONGEST_FADE, self.model.config.length // 2):
            raise ValueError(f"chunks of {self.model.config.length} frames cannot fade over {self.fade}")
        if self.fresh is not None and not max(1, self.fade) <= self.fresh <= self.model.config.length - self.fade:
            raise ValueError(
                f"chunks of {self.model.config.length} frames that fade over {self.fade} cannot give {self.fresh}"
            )
        if self.kept and not self.model.config.goes_on:
            raise ValueError("this network has not learned to go on from known frames")
        if self.times is not None and len(self.times) < 2:
            raise ValueError(f"sampling needs at least two times, got {self.times}")

    @property
    def space(self) -> MotionSpace:
        """See :class:`vivavoce.system.MotionGenerator`."""
        return self.model.space

    @property
    def audio_dim(self) -> int:
        """See :class:`vivavoce.system.MotionGenerator`."""
        return self.model.audio_dim

    @property
    def hop(self) -> int:
        """See :class:`vivavoce.system.MotionGenerator`."""
        return self.model.config.length - self.fade if self.fresh is None else self.fresh

    @property
    def kept(self) -> int:
        """Frames at the start of a chunk that are out already."""
        return self.model.config.length - self.fade - self.hop

    @property
    def lookahead(self) -> int:
        """See :class:`vivavoce.system.MotionGenerator`."""
        return self.fade + self.after

    @property
    def before(self) -> int:
        """Frames of sound before the new ones of a chunk that are heard."""
        drafted = self.model.around[0]
        return max(self.kept + drafted, self.quiet.wait + self.quiet.fall if self.quiet else 0)

    @property
    def after(self) -> int:
        """Frames of sound after a chunk that are heard."""
        drafted = self.model.around[1]
        return max(drafted, self.quiet.rise) if self.quiet else drafted

    def drives(self, portrait: Portrait, features: Iterable[Features], *, seed: int) -> Iterator[Drive]:
        """See :class:`vivavoce.system.MotionGenerator`; of the portrait only its own code counts."""
        own = portrait.reference[0]
        chunk = partial(alone, self._chunk) if self.model.device.type == "cpu" else self._chunk
        past, out, tail = None, own.expand(self.kept + 1, -1), None
        heard = windows((f.rows for f in features), before=self.before, hop=self.hop, after=self.lookahead)
        for index, window in enumerate(heard):
            start = noise(seed, index, (self.model.config.length, self.space.dim))
            past, rows = chunk(window, own, out, past, start)
            if tail is not None and self.fade:
                rows = torch.cat([faded(tail, rows[: self.fade]), rows[self.fade :]])
            out, tail = torch.cat([out, rows[: self.hop]])[-self.kept - 1 :], rows[self.hop :]
            span = Span(window.start, window.start + window.valid)
            heard_now = window.rows[self.before : self.before + window.valid]
            yield Drive(Motion(span, self.space, rows[: window.valid]), heard_now)

    def _chunk(
        self,
        window: Window,
        own: Row,
        out: Float[Tensor, "k d"],
        past: Float[Tensor, "p d"] | None,
        start: Float[Tensor, "t d"],
    ) -> tuple[Float[Tensor, "p d"], Float[Tensor, "n d"]]:
        """What the next chunk begins with, as the network made it, and the new codes of this one.

        ``out`` are the codes of the last frames; the first of them is the hint. ``past`` is what the chunk before gave.
        """
        model, (before, after), kept = self.model, self.model.around, self.kept
        first = self.before - kept - before
        audio = window.rows[None, first : self.before + self.hop + self.fade + after].to(model.device)
        draft = model.drafted(audio)
        control = self.control.now if isinstance(self.control, LiveControl) else self.control
        scales = {"audio": self.guidance, "std": self.std_guidance if control.std is not None else 1.0}
        pushed = [(name, scale) for name, scale in scales.items() if scale != 1]
        reading, pattern = model.reading * model.std, model.pattern / model.std
        along = reading / reading.norm().clamp(min=1e-12)
        start = scaled(start[None].to(model.device), along, along, self.lip_noise)
        if past is None:  # before the sound there was the portrait, in silence
            past = model.enter(out[1:].to(model.device)) - draft[0, :kept]
        velocity = guided(model.prepared, self._asked(control, audio, own, out, past), pushed)
        made = self.sampler(velocity, start, self._times())
        sure = scaled(made, reading, pattern, self.lip_trust)
        rows = model.leave(sure + draft)[0, kept:].cpu()
        if self.mouth_gain != 1:
            rows = self._mouthed(rows, own, self.mouth_gain).clamp(model.low.cpu(), model.high.cpu())
        rows = rows if self.quiet is None else self._hushed(rows, window, own)
        return torch.cat([past, made[0, kept : kept + self.hop]])[self.hop :], rows

    def _times(self) -> tuple[float, ...]:
        if self.times is not None:
            return self.times
        return times(self.model, STEPS)

    def _asked(
        self,
        control: MotionControl,
        audio: Float[Tensor, "1 s a"],
        own: Row,
        out: Float[Tensor, "k d"],
        past: Float[Tensor, "p d"],
    ) -> Given:
        """The conditions of a chunk that begins with ``past``; the first of ``out`` is the hint."""
        hidden = ("mean",) * (control.mean == "none") + ("std",) * (control.std is None)
        mean = out[-1] if control.mean == "last" else own
        device = self.model.device
        std = (control.std or 0.0) * self.model.spread[None]
        present = all_present(1, hidden=hidden).to(device)
        return self.model.given(audio, out[:1].to(device), mean[None].to(device), std, present, self._known(past))

    def _known(self, past: Float[Tensor, "p d"]) -> Known | None:
        if not self.kept:
            return None
        rows = torch.cat([past, past.new_zeros(self.model.config.length - self.kept, past.shape[1])])
        return Known(rows[None], (torch.arange(len(rows), device=past.device) < self.kept)[None])

    def _hushed(self, rows: Float[Tensor, "t d"], window: Window, own: Row) -> Float[Tensor, "t d"]:
        """``rows`` whose mouth is as in the portrait where nobody speaks."""
        assert self.quiet is not None  # noqa: S101  (asked before)
        speaking = window.rows[:, self.quiet.speech] > self.quiet.threshold
        amount = hush(speaking, self.quiet.wait, self.quiet.fall, self.quiet.rise)
        amount = amount[self.before : self.before + len(rows)]
        return self._mouthed(rows, own, 1 - amount)

    def _mouthed(self, rows: Float[Tensor, "t d"], own: Row, gain: float | Float[Tensor, " t"]) -> Float[Tensor, "t d"]:
        """``rows`` whose lips are ``gain`` times as far from the portrait's; all else is as it was."""
        reading, pattern = self.model.reading.cpu(), self.model.pattern.cpu()
        return rows + ((gain - 1) * ((rows - own) @ reading))[:, None] * pattern


def scaled(rows: Float[Tensor, "b t d"], reading: Row, pattern: Row, share: float) -> Float[Tensor, "b t d"]:
    """``rows`` of whose ``reading`` that ``share`` is left, the rest taken away along ``pattern``."""
    return rows if share == 1 else rows - (1 - share) * (rows @ reading)[..., None] * pattern


def suited(model: CodeModel) -> dict[str, Any]:
    """Settings of a :class:`ChunkGenerator` that suit what ``model`` has learned; none for the published form."""
    settings: dict[str, Any] = {}
    if model.config.goes_on:
        settings |= {"fresh": min(FRESH, model.config.length), "fade": 0}
    if model.draft:
        settings |= {"lip_noise": LIP_NOISE, "lip_trust": LIP_TRUST, "std_guidance": STD_GUIDANCE}
    return settings


def times(model: CodeModel, steps: int) -> tuple[float, ...]:
    """Times of ``steps`` model calls that suit what the network predicts.

    Raises:
        InputError: less than one step, or more than the diffusion has.
    """
    most = len(model.diffusion.betas)
    if not 1 <= steps <= most:
        raise InputError(f"sampling takes 1 to {most} steps, not {steps}")
    return tuple(uniform(steps)) if model.config.prediction == "flow" else model.diffusion.times(steps)
