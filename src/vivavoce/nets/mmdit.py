"""Multi-modal diffusion transformer, coarse to fine: streams with their own weights first, one shared stream last.

The architecture of MoDA (arXiv 2507.03256): ``four`` blocks in which motion, audio, emotion and identity each keep
their own weights and meet in one attention, then ``two`` blocks of two streams (motion | all the rest), then ``one``
parallel blocks that treat all tokens alike. AdaLN-zero on time + emotion, rotary positions, QK normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.motion.conditions import NAMES, Conditions
from vivavoce.nets.layers import RmsNorm, Turn, mlp, rms_scaled, rotary, sinusoid, turn
from vivavoce.sampling.paths import Rows, Times

TIME_WIDTH = 256
TIME_SCALE = 1000.0  # t in [0, 1] is spread over this range before the sinusoids
STREAMS = ("motion", "audio", "emotion", "identity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything needed to rebuild a network; numbers of the shapes that come in, and of the blocks."""

    motion: int  # numbers per motion row
    audio: int  # features per frame
    identity: int
    emotions: int  # classes; the table has one row more for "none given"
    width: int
    heads: int
    four: int  # blocks of four streams
    two: int  # blocks of two streams
    one: int  # blocks of one stream
    cross: int = 0  # blocks in which motion looks at the rest, which stays as it is (for comparison)
    mlp_ratio: float = 4.0
    rope_theta: float = 256.0
    # "tokens": shown rows are clean tokens before the noisy ones; "channels": the last one joins every noisy row.
    past: Literal["tokens", "channels"] = "tokens"
    # "one": a single emotion and a single identity token; "frame": both repeated for every frame.
    repeat: Literal["one", "frame"] = "one"
    heard: bool = False  # the audio of a frame is also added to its motion token: alignment need not be learned
    audio_hidden: int = 1  # hidden layers of the audio embedder
    dropout: float = 0.0


def compact(*, motion: int, audio: int, identity: int, emotions: int) -> Config:
    """About 1.9 M parameters, cheap enough for one CPU core to keep up with speech."""
    return Config(
        motion=motion,
        audio=audio,
        identity=identity,
        emotions=emotions,
        width=128,
        heads=4,
        four=1,
        two=1,
        one=2,
        mlp_ratio=2.0,
        heard=True,
        dropout=0.1,
    )


def full(*, motion: int = 70, audio: int = 9216, identity: int = 63, emotions: int = 8) -> Config:
    """The published size: 3 / 6 / 12 blocks of width 768."""
    return Config(
        motion=motion,
        audio=audio,
        identity=identity,
        emotions=emotions,
        width=768,
        heads=12,
        four=3,
        two=6,
        one=12,
        past="channels",
        repeat="frame",
        audio_hidden=2,
    )


class HeadNorm(nn.Module):
    """Splits joined queries, keys and values into heads; normalises queries and keys with a gain each."""

    def __init__(self, head: int) -> None:
        super().__init__()
        self.q, self.k = nn.Parameter(torch.ones(head)), nn.Parameter(torch.ones(head))

    def forward(self, qkv: Float[Tensor, "b t w3"], heads: int) -> tuple[Tensor, Tensor]:
        """Queries and keys ``[b 2 t heads head]`` and values ``[b t heads head]``."""
        parts = qkv.unflatten(-1, (3, heads, -1)).transpose(1, 2)
        gain = torch.stack([self.q, self.k])[:, None, None]
        return rms_scaled(parts[:, :2], 1e-5) * gain, parts[:, 2]


class Stream(nn.Module):
    """One modality's own weights in a block where several meet: before and after the joint attention."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        self.heads = config.heads
        self.norm = RmsNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.qk_norm = HeadNorm(width // config.heads)
        self.proj = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU("tanh"), nn.Linear(hidden, width))
        self.modulation = zeroed(nn.Linear(width, 6 * width))
        self.dropout = nn.Dropout(config.dropout)

    def queries(self, x: Tensor, change: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Queries and keys ``[b 2 t heads head]``, normalised, and values ``[b t heads head]``."""
        return self.qk_norm(self.qkv(modulate(self.norm(x), change[0], change[1])), self.heads)

    def update(self, x: Tensor, attended: Tensor, change: Sequence[Tensor]) -> Tensor:
        """Residual updates by what was attended to and by the stream's own MLP."""
        x = x + change[2] * self.dropout(self.proj(attended))
        return x + change[5] * self.dropout(self.mlp(modulate(self.norm(x), change[3], change[4])))


class JointBlock(nn.Module):
    """Streams with their own weights and one attention over all their tokens."""

    def __init__(self, config: Config, streams: int) -> None:
        super().__init__()
        self.streams = nn.ModuleList(Stream(config) for _ in range(streams))

    def forward(self, xs: Sequence[Tensor], c: Tensor, at: Turn, often: Tensor | None = None) -> list[Tensor]:
        """``xs`` are the tokens of each stream ``[b t w]``, ``c`` the activated condition ``[b 1 w]``.

        ``often`` is for every token the logarithm of how many equal ones it stands for; ``None`` = 1 each.
        """
        streams = list(cast("Iterable[Stream]", self.streams))
        changes = [stream.modulation(c).chunk(6, dim=-1) for stream in streams]
        parts = [stream.queries(x, change) for stream, x, change in zip(streams, xs, changes, strict=True)]
        qk = torch.cat([part[0] for part in parts], dim=2)
        attended = attend(qk, torch.cat([part[1] for part in parts], dim=1), at, often)
        attended = attended.split([x.shape[1] for x in xs], dim=1)
        return [s.update(x, a, m) for s, x, a, m in zip(streams, xs, attended, changes, strict=True)]


class SingleBlock(nn.Module):
    """One stream; attention and MLP side by side behind one input and one output layer (Dehghani et al. 2023)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        self.width, self.heads = width, config.heads
        self.norm = RmsNorm(width)
        self.qk_norm = HeadNorm(width // config.heads)
        self.enter = nn.Linear(width, 3 * width + hidden)
        self.leave = nn.Linear(width + hidden, width)
        self.modulation = zeroed(nn.Linear(width, 3 * width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, c: Tensor, at: Turn) -> Tensor:
        """``x`` are all tokens ``[b t w]``."""
        shift, scale, gate = self.modulation(c).chunk(3, dim=-1)
        both = self.enter(modulate(self.norm(x), shift, scale))
        qk, v = self.qk_norm(both[..., : 3 * self.width], self.heads)
        attended = attend(qk, v, at)
        hidden = functional.gelu(both[..., 3 * self.width :], approximate="tanh")
        return x + gate * self.dropout(self.leave(torch.cat([attended, hidden], dim=-1)))


class CrossBlock(nn.Module):
    """Motion attends to itself, then to conditions that no block changes: the usual way, to compare with."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        self.heads = config.heads
        self.norm = RmsNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.qk_norm = HeadNorm(width // config.heads)
        self.proj = nn.Linear(width, width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.query_norm, self.key_norm = (RmsNorm(width // config.heads, eps=1e-5, gain=True) for _ in range(2))
        self.cross_proj = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU("tanh"), nn.Linear(hidden, width))
        self.modulation = zeroed(nn.Linear(width, 9 * width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, given: Tensor, c: Tensor, at: Turn, there: Turn) -> Tensor:
        """``x`` are the motion tokens ``[b t w]`` at ``at``, ``given`` the conditions ``[b s w]`` at ``there``."""
        change = self.modulation(c).chunk(9, dim=-1)
        qk, v = self.qk_norm(self.qkv(modulate(self.norm(x), change[0], change[1])), self.heads)
        x = x + change[2] * self.dropout(self.proj(attend(qk, v, at)))
        seen = modulate(self.norm(x), change[3], change[4])
        q = turn(self.query_norm(self.query(seen).unflatten(-1, (self.heads, -1))), at).transpose(1, 2)
        k = turn(self.key_norm(self.key(given).unflatten(-1, (self.heads, -1))), there).transpose(1, 2)
        v = self.value(given).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        looked = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + change[5] * self.dropout(self.cross_proj(looked))
        return x + change[8] * self.dropout(self.mlp(modulate(self.norm(x), change[6], change[7])))


@dataclass(frozen=True, slots=True)
class Embedded:
    """Conditions as the blocks see them; the same at every step of sampling."""

    last: Float[Tensor, "b _t _d"]  # past as channels: the row to join with every noisy one; else the shown tokens
    heard: Float[Tensor, "b t w"]
    emotion: Float[Tensor, "b w"]
    identity: Float[Tensor, "b w"]


class MMDiT(nn.Module):
    """Velocity of normalised motion rows, given conditions any of which may be absent."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.width
        joined = 2 * config.motion if config.past == "channels" else config.motion
        self.motion_in = mlp(joined, width, width)
        self.audio_in = nn.Sequential(
            mlp(config.audio, *[width] * (1 + config.audio_hidden), act=nn.ReLU), RmsNorm(width, gain=True)
        )
        self.identity_in = mlp(config.identity, width, width)
        self.emotion_in = nn.Embedding(config.emotions + 1, width)  # the last row stands for "none given"
        self.time_in = mlp(TIME_WIDTH, width, width)
        self.no_audio = nn.Parameter(0.02 * torch.randn(width))
        self.no_identity = nn.Parameter(0.02 * torch.randn(width))
        self.no_past = nn.Parameter(0.02 * torch.randn(width if config.past == "tokens" else config.motion))
        self.shown = nn.Parameter(0.02 * torch.randn(width)) if config.past == "tokens" else None
        self.four = nn.ModuleList(JointBlock(config, len(STREAMS)) for _ in range(config.four))
        self.two = nn.ModuleList(JointBlock(config, 2) for _ in range(config.two))
        self.cross = nn.ModuleList(CrossBlock(config) for _ in range(config.cross))
        self.one = nn.ModuleList(SingleBlock(config) for _ in range(config.one))
        self.norm = RmsNorm(width)
        self.modulation = zeroed(nn.Linear(width, 2 * width))
        self.out = zeroed(nn.Linear(width, config.motion))

    def forward(self, x: Rows, t: Times, conditions: Conditions) -> Rows:
        """Velocity at ``x`` and time ``t`` (0 noise, 1 data).

        ``conditions.audio`` covers the rows of ``x``; with past as tokens, also the past rows before them. Features of
        several layers per frame come flattened. ``conditions.past`` may be longer than used with past as channels.
        """
        return self.velocity(x, t, self.embed(conditions))

    def embed(self, given: Conditions) -> Embedded:
        """What of a forward pass depends on the conditions alone."""

        def or_null(name: str, value: Tensor, null: Tensor) -> Tensor:
            there = given.present[:, NAMES.index(name)]
            return torch.where(there.view(-1, *[1] * (value.ndim - 1)), value, null.to(value.dtype))

        table = self.emotion_in.weight
        past = given.past[:, -1:] if self.shown is None else self.motion_in(given.past) + self.shown
        return Embedded(
            or_null("past", past, self.no_past),
            or_null("audio", self.audio_in(given.audio), self.no_audio),
            or_null("emotion", given.emotion.to(table.dtype) @ table[:-1], table[-1]),
            or_null("identity", self.identity_in(given.identity), self.no_identity),
        )

    def velocity(self, x: Rows, t: Times, given: Embedded) -> Rows:
        """:meth:`forward` for conditions that were embedded before."""
        if self.shown is None:
            motion = self.motion_in(torch.cat([given.last.expand_as(x), x], dim=-1))
        else:
            motion = torch.cat([given.last, self.motion_in(x)], dim=1)
        if self.config.heard:
            motion = motion + given.heard
        c = functional.silu(self.time_in(sinusoid(TIME_SCALE * t, TIME_WIDTH).to(motion.dtype)) + given.emotion)
        c = c[:, None]
        motion = self._blocks(motion, given, c)[:, -x.shape[1] :]
        shift, scale = self.modulation(c).chunk(2, dim=-1)
        return self.out(modulate(self.norm(motion), shift, scale)).to(x.dtype)

    def _blocks(self, motion: Tensor, given: Embedded, c: Tensor) -> Tensor:
        frames, heard, config = motion.shape[1], given.heard.shape[1], self.config
        repeats = frames if config.repeat == "frame" else 1
        places = torch.arange(max(frames, heard), device=motion.device)

        def at(*positions: Tensor) -> Turn:
            return rotary(torch.cat(positions), config.width // config.heads, config.rope_theta)

        # Motion and audio count their frames from 0; what has no place in time sits at 0. Tokens that are repeated
        # without a place stay equal to each other, so one is computed for all and attended to as often as there are.
        xs = [motion, given.heard, given.emotion[:, None], given.identity[:, None]]
        here = at(places[:frames], places[:heard], places.new_zeros(2))
        often = None
        if repeats > 1:
            often = motion.new_zeros(frames + heard + 2)
            often[-2:] = math.log(repeats)
        for block in self.four:
            xs = block(xs, c, here, often)
        constant = [x.expand(-1, repeats, -1) for x in xs[2:]]
        xs = [xs[0], torch.cat([xs[1], *constant], dim=1)]
        if repeats > 1:  # the later blocks place repeated tokens in time, as the published model does
            here = at(places[:frames], places[:heard], places[:repeats], places[:repeats])
        for block in self.two:
            xs = block(xs, c, here)
        for block in self.cross:
            own, there = (tuple(part[span] for part in here) for span in (slice(frames), slice(frames, None)))
            xs = [block(xs[0], xs[1], c, own, there), xs[1]]
        both = torch.cat(xs, dim=1)
        for block in self.one:
            both = block(both, c, here)
        return both[:, :frames]


def zeroed(layer: nn.Linear) -> nn.Linear:
    """The same layer with all weights 0, so that what it gates starts as the identity."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """``x (1 + scale) + shift``."""
    return torch.addcmul(shift, x, 1 + scale)


def attend(
    qk: Float[Tensor, "b 2 t n h"], v: Float[Tensor, "b t n h"], at: Turn, often: Float[Tensor, " t"] | None = None
) -> Float[Tensor, "b t w"]:
    """Attention of all tokens to all tokens, queries and keys turned to their positions.

    A token that stands for n equal ones has ``log n`` in ``often``: n equal keys get n times the weight of one.
    """
    q, k = turn(qk, at).to(v.dtype).transpose(2, 3).unbind(1)
    extra = None if often is None else often.to(v.dtype).expand(len(v), 1, 1, -1)
    return functional.scaled_dot_product_attention(q, k, v.transpose(1, 2), extra).transpose(1, 2).flatten(2)
