"""Audio to motion by flow matching, window by window, each window continuing the last one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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

    def __call__(self, x: Rows, t: Times, conditions: Conditions) -> Rows: ...

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
    threshold: float = 0.5
    wait: int = 5
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
class FlowGenerator:
    """Generates ``hop`` frames at a time after ``past`` shown frames, hearing ``lookahead`` frames ahead.

    The ``lookahead`` rows come out too; the first ``blend`` of them fade into the next window's head.
    """

    flow: Flow
    hop: int = 8
    past: int = 10
    lookahead: int = 3
    blend: int = 3
    times: tuple[float, ...] = tuple(uniform(5))
    sampler: Sampler = euler
    guidance: tuple[tuple[str, float], ...] = ()
    guide: Row | None = None  # weight of the guidance per number, in [0, 1]; None = everywhere
    # What the starting noise is multiplied with: less noise where a sample should stay near the mean.
    spread: Float[Tensor, "d d"] | None = None
    emotion: Float[Tensor, " e"] | None = None  # class probabilities; None = none given
    gate: Gate | None = None
    pull: Row | None = None  # share of the way back to the portrait's own row, per frame and number

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if self.blend > self.lookahead:
            raise ValueError(f"cannot blend {self.blend} rows when only {self.lookahead} are generated ahead")
        if self.gate and (self.gate.wait + self.gate.fall > self.past or self.gate.rise > self.lookahead):
            raise ValueError(f"the gate looks further than {self.past} frames back or {self.lookahead} ahead")
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
        heard = windows((f.rows for f in features), before=self.past, hop=self.hop, after=self.lookahead)
        for index, window in enumerate(heard):
            rows = self._sample(window, past, reference, noise(seed, index, self._shape))
            rows = self._settle(rows, window, reference)
            rows = _faded(tail, rows, self.blend)
            tail = rows[self.hop : self.hop + self.blend]
            rows = rows[: window.valid]
            past = torch.cat([past, rows])[-self.past :]
            span = Span(window.start, window.start + window.valid)
            yield Drive(Motion(span, self.space, rows), window.rows[self.past : self.past + window.valid])

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
        heard, emotion, present = (part.to(device) for part in (window.rows[None], emotion[None], present))
        conditions = Conditions(heard, seen[None, :-1], seen[-1:], emotion, present)
        start = (start if self.spread is None else start @ self.spread).to(device)
        scales = [(name, scale) for name, scale in self.guidance if self._is_given(name)]
        velocity = guided(flow, conditions, scales, None if self.guide is None else self.guide.to(device))
        return flow.leave(self.sampler(velocity, start[None], self.times)[0], near).cpu()

    def _is_given(self, name: str) -> bool:
        return name != "emotion" or self.emotion is not None

    def _settle(self, rows: Float[Tensor, "t d"], window: Window, reference: Row) -> Float[Tensor, "t d"]:
        """Hold the mouth closed in silence, and keep what may drift near the portrait."""
        if self.pull is not None:
            rows = torch.lerp(rows, reference.expand_as(rows), self.pull)
        if self.gate is not None:
            amount = self.gate.amount(window.rows, self.past, len(rows))
            rows = torch.lerp(rows, rows @ self.gate.closed, amount[:, None])
        return rows


def _faded(tail: Tensor | None, rows: Float[Tensor, "t d"], blend: int) -> Float[Tensor, "t d"]:
    """``rows`` whose first ``blend`` come in gradually over ``tail``, the same frames as the last window saw them."""
    if tail is None or not blend:
        return rows
    ramp = torch.arange(1, blend + 1)[:, None] / (blend + 1)
    return torch.cat([torch.lerp(tail, rows[:blend], ramp), rows[blend:]])
