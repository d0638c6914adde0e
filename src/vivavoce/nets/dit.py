"""Diffusion transformer on short motion codes, steered by speech and by the statistics of the motion.

The second stage of IF-MDM (arXiv 2412.04000): one token for every frame of a chunk, one for the frame before it (the
hint) and, if wanted, one each for mean and standard deviation of the codes. Speech comes in twice, both times frame by
frame: added to the frame's token (framewise guidance) and as the frame's own AdaLN condition.

Where this differs from the released code, and why:

* A condition that is not given is replaced by a learned vector, which training sees as often as the condition is
  dropped. The release puts zeros in its place, so "no standard deviation" would be "no motion", and its guidance hides
  the sound by zeros before the embedders although training zeroed the joined vector after them: a case that the
  network never saw. Here hiding is one flag, the same in training and in guidance.
* Tokens of hint, mean and deviation get the zero vector for an AdaLN condition, as released: not even the time.
* Frames at the start of a chunk may be known: they are shown as they are, at the time of clean data, and the others go
  on from them. A long chunk then needs only as much new sound as it has new frames.
* Variances are split off along the last axis, which is where the numbers of a code are. They are learned as
  published, but the samplers here add no noise on the way and have no use for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.nets.layers import mlp, sinusoid
from vivavoce.nets.mmdit import TIME_SCALE, modulate, zeroed
from vivavoce.sampling.paths import Rows, Times

TIME_WIDTH = 256
EPS = 1e-6  # of the layer norms
NAMES = ("heard", "said", "hint", "mean", "std")  # what can be hidden
AUDIO = ("heard", "said")  # the two ways of the sound: frame tokens, AdaLN


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything needed to rebuild a network; the defaults are the published DiT-A0 (about 31.8 M parameters)."""

    motion: int = 20  # numbers per code
    audio: int = 768  # features per audio token
    tokens: int = 2  # audio tokens per frame
    length: int = 64  # frames per chunk
    width: int = 512
    heads: int = 8
    depth: int = 6
    mlp_ratio: float = 4.0
    statistics: bool = True  # tokens for mean and standard deviation
    framewise: bool = True  # the sound of a frame also joins its token
    # "epsilon": the noise, and a share between the smallest and largest sensible variance; "flow": a velocity.
    prediction: Literal["epsilon", "flow"] = "epsilon"
    dropout: float = 0.0
    goes_on: bool = False  # it has learned to go on from frames of the chunk that are known

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built."""
        if self.width % (2 * self.heads) or self.width % (2 * self.tokens):
            raise ValueError(f"a width of {self.width} does not split into {self.heads} heads, {self.tokens} tokens")

    @property
    def outputs(self) -> int:
        """Numbers per frame that come out: as many variances as numbers of a code, if they are learned."""
        return 2 * self.motion if self.prediction == "epsilon" else self.motion

    @property
    def extra(self) -> int:
        """Tokens beside those of the frames."""
        return 3 if self.statistics else 1


def compact(*, audio: int, length: int = 32) -> Config:
    """About 3 M parameters hearing one token per frame: a CPU core trains it in minutes and runs it with ease."""
    return Config(audio=audio, tokens=1, length=length, width=192, heads=4, depth=4, dropout=0.1, goes_on=True)


@dataclass(frozen=True, slots=True)
class Known:
    """Frames of a chunk that are not to be found any more; the others go on from them."""

    rows: Float[Tensor, "b t d"]  # codes, in the network's coordinates; of any value where they are not known
    there: Bool[Tensor, "b t"]  # whether a frame is known


@dataclass(frozen=True, slots=True)
class Given:
    """Conditions of a batch of chunks, in the network's coordinates. What is hidden keeps its shape."""

    audio: Float[Tensor, "b t a"]  # the tokens of a frame end to end
    hint: Float[Tensor, "b d"]  # the code of the frame before the chunk
    mean: Float[Tensor, "b d"]
    std: Float[Tensor, "b d"]  # unbiased, over the chunk
    present: Bool[Tensor, "b 5"]  # in the order of NAMES
    known: Known | None = None

    def hide(self, *names: str) -> Given:
        """The same tensors, ``names`` marked absent. "audio" is both ways of the sound."""
        gone = {part for name in names for part in (AUDIO if name == "audio" else (name,))}
        if unknown := gone - set(NAMES):
            raise ValueError(f"no condition called {sorted(unknown)}; there are audio and {NAMES}")
        keep = torch.tensor([name not in gone for name in NAMES], device=self.present.device)
        return replace(self, present=self.present & keep)

    @staticmethod
    def cat(items: list[Given]) -> Given:
        """Stack along the batch."""
        names = ("audio", "hint", "mean", "std", "present")
        known = [item.known for item in items if item.known is not None]
        return Given(
            *(torch.cat([getattr(item, name) for item in items]) for name in names),
            known=Known(torch.cat([k.rows for k in known]), torch.cat([k.there for k in known])) if known else None,
        )


@dataclass(frozen=True, slots=True)
class Embedded:
    """Conditions as the blocks see them; the same at every step of sampling."""

    frames: Float[Tensor, "b t w"]  # AdaLN condition of every frame, time still to be added
    heard: Float[Tensor, "b t h"] | None  # half of what joins a frame's token; None without framewise guidance
    joins: Bool[Tensor, " b"]  # whether the sound joins the frames' tokens at all
    extra: Float[Tensor, "b n w"]  # tokens of hint, mean and deviation
    known: Known | None


class Block(nn.Module):
    """Attention and MLP, shifted, scaled and gated by a condition of every token's own (AdaLN-zero)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        self.width, self.heads = width, config.heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU("tanh"), nn.Linear(hidden, width))
        self.modulation = zeroed(nn.Linear(width, 6 * width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "b n w"], c: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """``c`` are the activated conditions."""
        change = self.modulation(c).chunk(6, dim=-1)
        qkv = self.qkv(modulate(self._normed(x), change[0], change[1])).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + change[2] * self.dropout(self.proj(attended))
        return x + change[5] * self.dropout(self.mlp(modulate(self._normed(x), change[3], change[4])))

    def _normed(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, (self.width,), eps=EPS)


class DiT(nn.Module):
    """What moves a noisy chunk of codes towards speech: noise with variances, or a velocity."""

    positions: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, half = config.width, config.width // 2
        self.motion_in = mlp(config.motion, width, width)
        self.hint_in = mlp(config.motion, width, width)
        self.statistics_in = nn.ModuleDict(
            {name: mlp(config.motion, width, width) for name in ("mean", "std") if config.statistics}
        )
        self.time_in = mlp(TIME_WIDTH, width, width)
        self.audio_in = mlp(config.audio, width, width)
        each = half // config.tokens
        self.own = mlp(config.motion, half, half) if config.framewise else None
        self.heard = mlp(config.audio, each, each) if config.framewise else None
        self.joined = mlp(width, width, width) if config.framewise else None
        nulls = [name for name in NAMES if config.framewise or name != "heard"]
        nulls = [name for name in nulls if config.statistics or name not in ("mean", "std")]
        self.nulls = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(width)) for name in nulls})
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.modulation = zeroed(nn.Linear(width, 2 * width))
        self.out = zeroed(nn.Linear(width, config.outputs))
        places = torch.arange(config.length + config.extra)
        self.register_buffer("positions", sinusoid(places.float(), width), persistent=False)

    def forward(self, x: Rows, at: Times, given: Given) -> Float[Tensor, "b t o"]:
        """What is predicted at noisy ``x``: noise and variance shares ``[-1, 1]`` end to end, or the velocity.

        ``at`` is the step of the diffusion (0 nearly clean ... 999 noise); for a flow 1000 t, 0 being noise.
        """
        return self.predicted(x, at, self.embed(given))

    def embed(self, given: Given) -> Embedded:
        """What of a forward pass depends on the conditions alone."""
        present: dict[str, Tensor] = dict(zip(NAMES, given.present.unbind(1), strict=True))
        tokens = given.audio.unflatten(-1, (self.config.tokens, -1))
        frames = self._or_null("said", present, self.audio_in(tokens).mean(2))
        heard = None if self.heard is None else self.heard(tokens).flatten(2)
        extra = [self._or_null("hint", present, self.hint_in(given.hint))]
        for name, embedder in self.statistics_in.items():
            extra.append(self._or_null(name, present, embedder(getattr(given, name))))
        return Embedded(frames, heard, present["heard"], torch.stack(extra, dim=1), given.known)

    def _or_null(self, name: str, present: Mapping[str, Tensor], value: Tensor) -> Tensor:
        there = present[name].view(-1, *[1] * (value.ndim - 1))
        return torch.where(there, value, self.nulls[name].to(value.dtype))

    def predicted(self, x: Rows, at: Times, given: Embedded) -> Float[Tensor, "b t o"]:
        """:meth:`forward` for conditions that were embedded before."""
        time = self._time(at, x)[:, None]
        if given.known is not None:  # seen as they are, at the time when nothing is left to do
            there = given.known.there[..., None]
            x = torch.where(there, given.known.rows, x)
            done = TIME_SCALE if self.config.prediction == "flow" else 0.0
            time = torch.where(there, self._time(at.new_full((1,), done), x), time)
        frames = self.motion_in(x)
        if self.own is not None and self.joined is not None and given.heard is not None:
            both = self.joined(torch.cat([self.own(x), given.heard], dim=-1))
            frames = frames + torch.where(given.joins[:, None, None], both, self.nulls["heard"].to(both.dtype))
        tokens = torch.cat([frames, given.extra], dim=1) + self._places(x.shape[1])
        c = functional.silu(given.frames + time)
        c = torch.cat([c, torch.zeros_like(given.extra)], dim=1)
        for block in self.blocks:
            tokens = block(tokens, c)
        shift, scale = self.modulation(c[:, : x.shape[1]]).chunk(2, dim=-1)
        tokens = functional.layer_norm(tokens[:, : x.shape[1]], (self.config.width,), eps=EPS)
        return self.out(modulate(tokens, shift, scale)).to(x.dtype)

    def _time(self, at: Times, like: Tensor) -> Float[Tensor, "b w"]:
        return self.time_in(sinusoid(at, TIME_WIDTH).to(like.dtype))

    def _places(self, frames: int) -> Tensor:
        if frames > self.config.length:
            raise ValueError(f"a chunk has {self.config.length} frames at most, got {frames}")
        return torch.cat([self.positions[:frames], self.positions[self.config.length :]])
