"""Audio to keypoint motion as MoDA publishes it: long overlapping windows, each continuing the last one.

Windows of 80 frames begin every 64; the 16 they share are faded. Everything is exact under any chunking of the sound
and needs memory for one window, however long the sound is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivavoce import weights
from vivavoce.errors import InputError
from vivavoce.motion import keypoints
from vivavoce.motion.conditions import Conditions
from vivavoce.motion.space import KEYPOINT, Motion, MotionSpace
from vivavoce.nets.mmdit import Config, MMDiT
from vivavoce.sampling.guidance import guided
from vivavoce.sampling.paths import Rows, Times, noise
from vivavoce.sampling.samplers import Sampler, euler
from vivavoce.streams import Window, windows
from vivavoce.system import Drive, Features, Portrait
from vivavoce.timeline import Span

NAME = "moda"  # of the weight file in its folder
SYSTEM = "moda-liveportrait"  # what its header says it belongs to
WINDOW, OVERLAP = 80, 16  # frames
LAST_SIGMA = 0.001  # the noise left before the last step of the published schedule
TINY = 1e-5  # added to deviations and scales before dividing, as published
EXPRESSION, SCALE = KEYPOINT.slice("expression"), KEYPOINT.slice("scale")
TRANSLATION = KEYPOINT.slice("translation")
DEPTH = TRANSLATION.stop - 1
LIP_NUMBERS = [3 * point + axis for point in keypoints.LIPS for axis in range(3)]

Row = Float[Tensor, " d"]


def published_times(steps: int) -> tuple[float, ...]:
    """Times of ``steps`` model calls: equal steps from pure noise to 0.001 of it, and a last one over that."""
    ramp = torch.linspace(1.0, LAST_SIGMA, steps, dtype=torch.float64)
    return (*(1 - ramp).tolist(), 1.0)


class KeypointFlow(nn.Module):
    """The network with its coordinates: motion normalised, and scaled as if every head were of average size.

    That last is MoDA's reference-scale trick: scale and translation are divided by how much larger than the average
    the portrait's head is, and what is generated is multiplied back. Depth is not seen and comes out 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.motion != KEYPOINT.dim or config.identity != 3 * keypoints.POINTS:
            raise ValueError(f"{KEYPOINT.name} has {KEYPOINT.dim} numbers and 21 keypoints, got {config}")
        self.net = MMDiT(config)
        self.register_buffer("mean", torch.zeros(KEYPOINT.dim))
        self.register_buffer("std", torch.ones(KEYPOINT.dim))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    def prepared(self, conditions: Conditions) -> Callable[[Rows, Times], Rows]:
        """Velocity of normalised rows at times under ``conditions``, what depends on them alone computed once."""
        given = self.net.embed(conditions)
        return lambda x, t: self.net.velocity(x, t, given)

    def enter(self, rows: Float[Tensor, "*t d"], reference: Row) -> Float[Tensor, "*t d"]:
        """Rows of the space -> normalised, for the portrait whose own row is ``reference``."""
        shrunk = rows.clone()
        shrunk[..., SCALE.start : TRANSLATION.stop] /= self._size(reference)
        shrunk[..., DEPTH] = 0
        return (shrunk - self.mean) / (self.std + TINY)

    def leave(self, rows: Float[Tensor, "*t d"], reference: Row) -> Float[Tensor, "*t d"]:
        """Inverse of :meth:`enter`, depth aside."""
        out = rows * (self.std + TINY) + self.mean
        out[..., SCALE.start : TRANSLATION.stop] *= self._size(reference)
        out[..., DEPTH] = 0
        return out

    def _size(self, reference: Row) -> Tensor:
        return (reference[SCALE] + TINY) / (self.mean[SCALE] + TINY)


def load(file: Path) -> KeypointFlow:
    """A flow as ``vivavoce import moda`` wrote it.

    Raises:
        InputError: ``file`` is not there or holds something else.
    """
    if not file.is_file():
        raise InputError(
            f"there are no {NAME} weights in {file.parent}: it needs {file.name}, "
            f"which `vivavoce import {NAME} DIR --out WEIGHTS` makes from the published file"
        )
    header = weights.metadata(file)
    if header.get("system") != SYSTEM:
        raise InputError(f"{file} holds weights of {header.get('system', 'something unknown')!r}, not of {SYSTEM!r}")
    try:
        with torch.device("meta"):
            flow = KeypointFlow(Config(**header["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} does not say what its network looks like: {error}") from error
    return weights.load_into(flow.to_empty(device="cpu"), file)


@dataclass(frozen=True, slots=True, eq=False)
class Emphasis:
    """Lips that part far from rest part a little further: ``d -> d (1 + w)`` with d the way from the mouth at rest.

    ``w = (sigmoid(5 |d|^2) - 1/2) / (max |d|^2 / 10 + 1/20)`` over normalised lip numbers. The release takes the
    maximum over the whole clip and its mouth at rest from a silent tail; here it is the maximum so far, and rest is
    what the network makes of ``silence``, features of a window without sound.
    """

    silence: Float[Tensor, "w a"]
    at_rest: int = 53  # frame of that window: the release looks 13 frames into 2 s of silence, we past the middle

    def enlarged(self, rows: Float[Tensor, "t d"], rest: Row, most: Tensor) -> tuple[Float[Tensor, "t d"], Tensor]:
        """``rows`` with livelier lips, and the largest ``|d|^2`` so far."""
        away = rows[:, LIP_NUMBERS] - rest[LIP_NUMBERS]
        far = away.square().sum(1, keepdim=True)
        reached = torch.maximum(most, far.cummax(0).values)
        weight = (torch.sigmoid(5 * far) - 0.5) / (0.1 * reached + 0.05)
        out = rows.clone()
        out[:, LIP_NUMBERS] = rest[LIP_NUMBERS] + away * (1 + weight)
        return out, reached[-1]


@dataclass(frozen=True, slots=True, eq=False)
class WindowGenerator:
    """Generates ``hop`` frames at a time and hears ``overlap`` more; implements MotionGenerator of the system."""

    flow: KeypointFlow
    hop: int = WINDOW - OVERLAP
    overlap: int = OVERLAP
    times: tuple[float, ...] = published_times(10)
    sampler: Sampler = euler
    guidance: tuple[tuple[str, float], ...] = (("audio", 1.2), ("emotion", 1.2))
    emotion: Float[Tensor, " e"] | None = None  # class probabilities; None = none given
    emphasis: Emphasis | None = None
    gaze: tuple[float, float] = (0.0, -5.0)  # right, up: the release lets all eyes look a little down

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if not 0 < self.overlap <= self.hop:
            raise ValueError(f"windows of {self.hop} frames cannot share {self.overlap}")
        if len(self.times) < 2:
            raise ValueError(f"sampling needs at least two times, got {self.times}")

    @property
    def space(self) -> MotionSpace:
        """See :class:`vivavoce.system.MotionGenerator`."""
        return KEYPOINT

    @property
    def audio_dim(self) -> int:
        """See :class:`vivavoce.system.MotionGenerator`."""
        return self.flow.net.config.audio

    @property
    def lookahead(self) -> int:
        """See :class:`vivavoce.system.MotionGenerator`."""
        return self.overlap

    def drives(self, portrait: Portrait, features: Iterable[Features], *, seed: int) -> Iterator[Drive]:
        """See :class:`vivavoce.system.MotionGenerator`; the portrait is one of the keypoint renderer."""
        reference = portrait.reference[0].to(self.flow.device)
        rest, most = self._rest(portrait, reference, seed), torch.zeros(1, device=self.flow.device)
        for window, rows in self._rows(portrait, reference, features, seed):
            if self.emphasis is not None and rest is not None:
                rows, most = self.emphasis.enlarged(rows, rest, most)
            made = self.flow.leave(rows, reference)
            own = reference.expand_as(made)
            made = keypoints.transferred(made, reference, own, relative=False)
            made = keypoints.looking(made, *self.gaze).cpu()
            span = Span(window.start, window.start + window.valid)
            yield Drive(Motion(span, self.space, made), window.rows[: window.valid])

    def _rows(
        self, portrait: Portrait, reference: Row, features: Iterable[Features], seed: int
    ) -> Iterator[tuple[Window, Float[Tensor, "t d"]]]:
        """Normalised rows of every hop: windows smoothed, faded into each other, and smoothed once more."""
        last, tail, before = self.flow.enter(reference, reference), None, None
        for index, window in enumerate(windows((f.rows for f in features), before=0, hop=self.hop, after=self.overlap)):
            if tail is not None and window.valid <= self.overlap:
                rows, ahead = tail, tail[window.valid :]  # these few frames were all made with the window before
            else:
                made = smoothed(self._sample(portrait, window.rows, last, noise(seed, index, self._shape)))
                last, ahead = made[self.hop - 1], made[self.hop :]
                rows = made if tail is None else torch.cat([faded(tail, made[: self.overlap]), made[self.overlap :]])
                tail = ahead
            rows, ahead = rows[: window.valid], ahead[: window.ahead]
            around = [part for part in (before, rows, ahead[:1]) if part is not None]
            first = 0 if before is None else 1
            twice = smoothed(torch.cat(around))[first : first + len(rows)]
            before = rows[-1:]
            yield window, twice

    @property
    def _shape(self) -> tuple[int, int]:
        return self.hop + self.overlap, KEYPOINT.dim

    def _sample(self, portrait: Portrait, heard: Float[Tensor, "w a"], last: Row, start: Tensor) -> Tensor:
        """Normalised rows of one window that continues ``last``."""
        flow, asked = self.flow, self.emotion
        emotion = torch.zeros(flow.net.config.emotions) if asked is None else asked
        identity = portrait.cache["canonical"][0].flatten()
        heard, last, identity, emotion = (part[None].to(flow.device) for part in (heard, last[None], identity, emotion))
        present = torch.tensor([[True, True, True, asked is not None]], device=flow.device)
        conditions = Conditions(heard, last, identity, emotion, present)
        scales = [(name, s) for name, s in self.guidance if s != 1 and (name != "emotion" or asked is not None)]
        velocity = guided(flow.prepared, conditions, scales)
        return self.sampler(velocity, start[None].to(flow.device), self.times)[0]

    def _rest(self, portrait: Portrait, reference: Row, seed: int) -> Row | None:
        """The mouth that silence makes, normalised."""
        if self.emphasis is None:
            return None
        start = noise(seed, -1 % (1 << 31), self._shape)
        last = self.flow.enter(reference, reference)
        return self._sample(portrait, self.emphasis.silence, last, start)[self.emphasis.at_rest]


def smoothed(rows: Float[Tensor, "t d"]) -> Float[Tensor, "t d"]:
    """Mean over three frames of everything but the expression; at either end over two."""
    out = rows.clone()
    pose = rows[:, EXPRESSION.stop :]
    padded = torch.cat([torch.zeros_like(pose[:1]), pose, torch.zeros_like(pose[:1])])
    count = torch.full((len(rows), 1), 3.0, device=rows.device)
    count[0] -= 1
    count[-1] -= 1
    out[:, EXPRESSION.stop :] = (padded[:-2] + padded[1:-1] + padded[2:]) / count
    return out


def faded(old: Float[Tensor, "o d"], new: Float[Tensor, "o d"]) -> Float[Tensor, "o d"]:
    """From ``old`` to ``new``: the first row is all old."""
    share = torch.arange(len(old), device=old.device)[:, None] / len(old)
    return old * (1 - share) + new * share
