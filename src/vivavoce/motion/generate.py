"""Audio to motion by flow matching, window by window, each window continuing the last one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vivavoce.motion.conditions import Conditions
from vivavoce.motion.space import Motion, MotionSpace
from vivavoce.sampling.guidance import guided
from vivavoce.sampling.paths import Rows, Times, noise
from vivavoce.sampling.samplers import Sampler, euler, uniform
from vivavoce.streams import Window, windows
from vivavoce.system import Drive, Features, Portrait
from vivavoce.timeline import Span

Row = Float[Tensor, " d"]


@runtime_checkable
class Flow(Protocol):
    """The network: velocity of motion rows in its own coordinates, relative to the portrait and normalised."""

    @property
    def space(self) -> MotionSpace: ...

    @property
    def audio_dim(self) -> int: ...

    @property
    def emotions(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def prepared(self, conditions: Conditions) -> Callable[[Rows, Times], Rows]:
        """The velocity of a window's rows at a time, under ``conditions``."""
        ...

    def centre(self, conditions: Conditions, count: int) -> Rows:
        """Where the noise of the last ``count`` rows is centred, in the flow's coordinates."""
        ...

    def enter(self, rows: Float[Tensor, "t d"], reference: Row) -> Float[Tensor, "t d"]:
        """Rows in units of ``space`` -> the flow's coordinates, seen from the portrait's ``reference`` row."""
        ...

    def leave(self, rows: Float[Tensor, "t d"], reference: Row) -> Float[Tensor, "t d"]:
        """Inverse of :meth:`enter`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """Closes the mouth while nobody speaks.

    ``speech`` is the column of the audio features that gives the probability of speech. The mouth starts to close
    ``wait`` frames after the last speech, is closed after ``wait + fall``, and opens over the ``rise`` frames
    before the next, so no onset is cut.
    """

    speech: int
    closed: Float[Tensor, "d d"]  # rows @ closed = the same rows with the mouth closed, in units of the space
    threshold: float = 0.1
    wait: int = 6
    fall: int = 5
    rise: int = 3

    def amount(self, audio: Float[Tensor, "w a"], before: int, count: int) -> Float[Tensor, " count"]:
        """How closed the mouth is held at rows ``before ... before + count`` of ``audio``: 0 free, 1 closed."""
        return hush(audio[:, self.speech] > self.threshold, self.wait, self.fall, self.rise)[before : before + count]


def hush(speaking: Bool[Tensor, " w"], wait: int, fall: int, rise: int) -> Float[Tensor, " w"]:
    """0 where speech is, was within ``wait`` frames or is about to be; 1 in silence; straight ramps between.

    What lies outside counts as silence, so look at least ``wait + fall`` frames back and ``rise`` ahead.
    """
    at = torch.arange(len(speaking), device=speaking.device)
    far = len(speaking) + wait + fall + rise
    gap = torch.where(speaking[None], at[:, None] - at[None], far)  # [now, then]: frames from then to now
    since = torch.where(gap >= 0, gap, far).amin(1)
    until = torch.where(speaking[None] & (gap <= 0), -gap, far).amin(1)
    return ((since - wait) / fall).clamp(0, 1) * (until / rise).clamp(0, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Lips:
    """What lips cannot help doing: they meet on m, b and p, and they do not pass through each other."""

    opening: Row  # rows @ opening = how far the lips are apart
    said: tuple[int, ...] = ()  # columns of the audio features: probabilities that a sound with closed lips is heard
    sure: tuple[float, float] = (0.2, 0.6)  # probabilities from which the lips are drawn together, and are together
    beside: float = 0.6  # how much of a neighbouring frame's probability counts
    give: float = 0.15  # share that is left of an opening below 0
    parted: float = 0.05  # share that is left of the opening of lips that meet

    def settled(self, rows: Float[Tensor, "t d"], audio: Float[Tensor, "t a"]) -> Float[Tensor, "t d"]:
        """``rows`` whose opening agrees with what is heard, by the smallest change that does it."""
        opening = rows @ self.opening
        wanted = opening * (1 - (1 - self.parted) * self.meeting(audio))
        wanted = torch.where(wanted < 0, self.give * wanted, wanted)
        return rows + (wanted - opening)[:, None] * self.opening / self.opening.square().sum()

    def meeting(self, audio: Float[Tensor, "t a"]) -> Float[Tensor, " t"]:
        """How far the lips are drawn together, 0 to 1."""
        if not self.said:
            return audio.new_zeros(len(audio))
        likely = audio[:, list(self.said)].amax(1)
        around = torch.nn.functional.pad(likely, (1, 1))
        likely = torch.maximum(likely, self.beside * torch.maximum(around[:-2], around[2:]))
        low, high = self.sure
        return ((likely - low) / (high - low)).clamp(0, 1)


@dataclass(frozen=True, slots=True, eq=False)
class FlowGenerator:
    """Generates ``hop`` frames at a time after ``past`` shown frames, hearing ``lookahead`` frames ahead.

    The ``lookahead`` rows come out too; the first ``blend`` of them fade into the next window's head.
    """

    flow: Flow
    hop: int = 7
    past: int = 10
    lookahead: int = 3
    blend: int = 3
    times: tuple[float, ...] = tuple(uniform(5))
    sampler: Sampler = euler
    guidance: tuple[tuple[str, float], ...] = ()
    guide: Row | None = None  # weight of the guidance per number, in [0, 1]; None = everywhere
    # What the starting noise is multiplied with: less noise where a sample should stay near the mean.
    spread: Float[Tensor, "d d"] | None = None
    # What a sample's difference from the centre is multiplied with: less than 1 where the centre is the better guess.
    trust: Float[Tensor, "d d"] | None = None
    # What the finished rows are multiplied with, in the flow's coordinates: a mean moves less than a person does.
    emphasis: Float[Tensor, "d d"] | None = None
    emotion: Float[Tensor, " e"] | None = None  # class probabilities; None = none given
    gate: Gate | None = None
    lips: Lips | None = None
    pull: Row | None = None  # share of the way back to the portrait's own row, per frame and number

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if self.blend > self.lookahead:
            raise ValueError(f"cannot blend {self.blend} rows when only {self.lookahead} are generated ahead")
        if self.gate and self.gate.rise > self.lookahead:
            raise ValueError(f"the gate looks {self.gate.rise} frames ahead, but only {self.lookahead} are heard")
        if len(self.times) < 2:
            raise ValueError(f"sampling needs at least two times, got {self.times}")

    @property
    def space(self) -> MotionSpace:
        """See :class:`vivavoce.system.MotionGenerator`."""
        return self.flow.space

    @property
    def audio_dim(self) -> int:
        """See :class:`vivavoce.system.MotionGenerator`."""
        return self.flow.audio_dim

    def drives(self, portrait: Portrait, features: Iterable[Features], *, seed: int) -> Iterator[Drive]:
        """See :class:`vivavoce.system.MotionGenerator`."""
        reference = portrait.reference[0]
        past, tail = reference.expand(self.past, -1), None
        heard = windows((f.rows for f in features), before=self.before, hop=self.hop, after=self.lookahead)
        for index, window in enumerate(heard):
            rows = self._sample(window, past, reference, noise(seed, index, self._shape))
            rows = self._settle(rows, window, reference)
            rows = _faded(tail, rows, self.blend)
            tail = rows[self.hop : self.hop + self.blend]
            rows = rows[: window.valid]
            past = torch.cat([past, rows])[-self.past :]
            span = Span(window.start, window.start + window.valid)
            yield Drive(Motion(span, self.space, rows), window.rows[self.before : self.before + window.valid])

    @property
    def before(self) -> int:
        """Frames of sound before a window that are looked at: for the flow as many as of motion, or the gate's."""
        return max(self.past, self.gate.wait + self.gate.fall) if self.gate else self.past

    @property
    def _shape(self) -> tuple[int, int]:
        return self.hop + self.lookahead, self.space.dim

    def _sample(self, window: Window, past: Tensor, reference: Row, start: Tensor) -> Float[Tensor, "t d"]:
        """Rows of one window in units of the space."""
        flow, device, asked = self.flow, self.flow.device, self.emotion
        emotion = torch.zeros(flow.emotions) if asked is None else asked
        present = torch.tensor([[True, True, True, asked is not None]])
        near = reference.to(device)
        seen = flow.enter(torch.cat([past.to(device), near[None]]), near)
        heard, emotion, present = (
            part.to(device) for part in (window.rows[None, self.before - self.past :], emotion[None], present)
        )
        conditions = Conditions(heard, seen[None, :-1], seen[-1:], emotion, present)
        spread = (start if self.spread is None else start @ self.spread).to(device)
        centre = flow.centre(conditions, len(start))
        scales = [(name, scale) for name, scale in self.guidance if self._is_given(name)]
        velocity = guided(flow.prepared, conditions, scales, None if self.guide is None else self.guide.to(device))
        made = self.sampler(velocity, centre + spread, self.times)
        if self.trust is not None:
            made = centre + (made - centre) @ self.trust.to(device)
        made = made if self.emphasis is None else made @ self.emphasis.to(device)
        return flow.leave(made[0], near).cpu()

    def _is_given(self, name: str) -> bool:
        return name != "emotion" or self.emotion is not None

    def _settle(self, rows: Float[Tensor, "t d"], window: Window, reference: Row) -> Float[Tensor, "t d"]:
        """Close the mouth in silence, keep what may drift near the portrait, shut lids no further than shut."""
        for part in self.space.parts:
            if part.kind == "openness":
                at = self.space.slice(part.name)
                rows = torch.cat([rows[:, : at.start], rows[:, at].clamp(min=0), rows[:, at.stop :]], dim=1)
        if self.pull is not None:
            rows = torch.lerp(rows, reference.expand_as(rows), self.pull)
        if self.lips is not None:
            rows = self.lips.settled(rows, window.rows[self.before : self.before + len(rows)])
        if self.gate is not None:
            amount = self.gate.amount(window.rows, self.before, len(rows))
            rows = torch.lerp(rows, rows @ self.gate.closed, amount[:, None])
        return rows


def _faded(tail: Tensor | None, rows: Float[Tensor, "t d"], blend: int) -> Float[Tensor, "t d"]:
    """``rows`` whose first ``blend`` come in gradually over ``tail``, the same frames as the last window saw them."""
    if tail is None or not blend:
        return rows
    ramp = torch.arange(1, blend + 1)[:, None] / (blend + 1)
    return torch.cat([torch.lerp(tail, rows[:blend], ramp), rows[blend:]])
