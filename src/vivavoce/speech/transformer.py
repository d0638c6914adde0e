"""Sound to the hidden layers of a wav2vec2 or HuBERT model, one row per video frame, streaming in bounded memory.

MoDA (arXiv 2507.03256) hears a clip in one piece: sound scaled to unit variance over the clip, convolutions (50 rows
a second), those rows interpolated to 25 a second, then the transformer, every layer of which is kept. Here a clip is
a window that moves: the convolutions see every sample once and measure loudness over what was heard so far; the
transformer sees ``before`` frames of the past and ``after`` frames of the future around the ``hop`` it is asked for.
A sound that fits the first window is heard exactly as MoDA hears it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.errors import InputError
from vivavoce.streams import windows
from vivavoce.system import Features
from vivavoce.timeline import Clock, Pcm, Span

CLOCK = Clock()  # 25 frames per second, 16 kHz
PER_FRAME = 640  # samples of one frame
STRIDE, FIELD = 320, 400  # samples from one row of the convolutions to the next, and under one row
EDGE = (FIELD - STRIDE) // 2  # samples needed on either side of a block, so that it gives two rows a frame
SHARED = (FIELD - STRIDE - 10) // 5 + 1  # outputs of the first convolution that two neighbouring blocks both compute
FIRST_KERNEL, FIRST_STRIDE = 10, 5
MEMORY = 60  # seconds over which loudness is measured: the longest clip that MoDA hears in one piece
QUIETEST = 10 ** (-50 / 20)  # root mean square below which sound is not made louder: a still room stays still
VARIANCE_FLOOR = 1e-7  # added to the variance of the sound, as published feature extractors do


@dataclass(frozen=True, slots=True)
class Loudness:
    """Count, sum and sum of squares: of the samples, and of each channel of the first convolution."""

    sound: Float64[Tensor, "3"]
    channels: Float64[Tensor, "3 c"]

    @staticmethod
    def start(channels: int) -> Loudness:
        """Before any sound."""
        return Loudness(torch.zeros(3, dtype=torch.float64), torch.zeros(3, channels, dtype=torch.float64))


def added(moments: Float64[Tensor, "3 *c"], new: Float[Tensor, "*c n"], most: int) -> Float64[Tensor, "3 *c"]:
    """``moments`` after the values ``new`` (last axis: time); of ``most`` values, the older ones fade."""
    variance, mean = (part.cpu().double() for part in torch.var_mean(new, -1, correction=0))
    count = new.shape[-1]
    fresh = torch.stack([torch.full_like(mean, count), count * mean, count * (variance + mean.square())])
    room = max(most - count, 0)
    return moments * (room / moments[0].clamp(min=room)).nan_to_num(0.0) + fresh


def spread(moments: Float64[Tensor, "3 *c"]) -> tuple[Float64[Tensor, "*c"], Float64[Tensor, "*c"]]:
    """Mean and variance."""
    mean = moments[1] / moments[0]
    return mean, (moments[2] / moments[0] - mean.square()).clamp(min=0.0)


class SpeechTransformer(nn.Module):
    """A ``HubertModel`` or ``Wav2Vec2Model`` of ``transformers``, taken apart where streaming needs it."""

    def __init__(self, model: nn.Module, *, normalised: bool = True) -> None:
        """``normalised``: the model was trained on sound of zero mean and unit variance.

        Raises :class:`vivavoce.errors.InputError` when its convolutions are not the published ones.
        """
        super().__init__()
        self.model: Any = model
        self.normalised = normalised
        config = self.model.config
        field, stride = 1, 1
        for kernel, step in zip(config.conv_kernel, config.conv_stride, strict=True):
            field, stride = field + (kernel - 1) * stride, stride * step
        first = (config.conv_kernel[0], config.conv_stride[0])
        if (stride, field, first) != (STRIDE, FIELD, (FIRST_KERNEL, FIRST_STRIDE)):
            raise InputError(
                f"the speech model makes a row of {field} samples every {stride}, where wav2vec2 and HuBERT models "
                f"make one of {FIELD} every {STRIDE}"
            )

    @property
    def layers(self) -> int:
        """Hidden layers of the transformer."""
        return len(self.model.encoder.layers)

    @property
    def dim(self) -> int:
        """Numbers per frame: all layers, the first one first."""
        return self.layers * self.model.config.hidden_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def grouped(self) -> bool:
        """Whether the first convolution is normalised over time (base models) and not over channels (large ones)."""
        return self.model.config.feat_extract_norm == "group"

    def start(self) -> Loudness:
        """Before any sound."""
        return Loudness.start(self.model.config.conv_dim[0] if self.grouped else 0)

    def nothing(self) -> Float[Tensor, "0 c"]:
        """No rows of the convolutions yet."""
        return torch.zeros(0, self.model.config.conv_dim[-1], device=self.device)

    def convolved(
        self, sound: Float[Tensor, " s"], loudness: Loudness, *, first: bool
    ) -> tuple[Float[Tensor, "r c"], Loudness]:
        """Two rows a frame of a block of whole frames with ``EDGE`` samples on both sides, and loudness after it.

        ``first``: the block begins the sound. Loudness is that of everything up to the end of this block.
        """
        own = sound[EDGE : len(sound) - EDGE]
        measured = added(loudness.sound, own, MEMORY * CLOCK.sample_rate)
        mean, variance = spread(measured)
        scale = float(variance) + VARIANCE_FLOOR if self.normalised else 1.0
        faded = min(1.0, float(variance) ** 0.5 / QUIETEST) if self.normalised else 1.0
        layers = self.model.feature_extractor.conv_layers
        if not self.grouped:
            gain = faded / scale**0.5
            rows = ((sound - float(mean)) * gain if self.normalised else sound)[None, None]
            for layer in layers:
                rows = layer(rows)
            return rows[0].T, Loudness(measured, loudness.channels)
        # Scaling the sound scales these channels, which the normalisation below undoes: only its epsilon notices.
        rows = layers[0].conv(sound[None, None])
        fresh = rows[0] if first else rows[0, :, SHARED:]
        channels = added(loudness.channels, fresh, MEMORY * CLOCK.sample_rate // FIRST_STRIDE)
        middle, power = spread(channels)
        norm = layers[0].layer_norm
        gain = faded * norm.weight / (power + norm.eps * scale).sqrt().to(rows)
        rows = layers[0].activation((rows - middle.to(rows)[:, None]) * gain[:, None] + norm.bias[:, None])
        for layer in layers[1:]:
            rows = layer(rows)
        return rows[0].T, Loudness(measured, channels)

    def hidden(self, rows: Float[Tensor, "t c"]) -> Float[Tensor, "t a"]:
        """Every layer of the transformer side by side, for one row of the convolutions a frame."""
        encoder = self.model.encoder
        state = self.model.feature_projection(rows[None])
        state = state[0] if isinstance(state, tuple) else state  # wav2vec2 also gives what it projected
        state = state + encoder.pos_conv_embed(state)
        last = self.model.config.do_stable_layer_norm  # large models normalise last instead of first
        state = state if last else encoder.layer_norm(state)
        out: list[Tensor] = []
        for layer in encoder.layers:
            given = layer(state)
            state = given[0] if isinstance(given, tuple) else given  # a tuple in releases of transformers before 5
            out.append(state[0])
        if last:
            out[-1] = encoder.layer_norm(state)[0]
        return torch.cat(out, 1)


@dataclass(frozen=True, slots=True)
class TransformerEncoder:
    """:class:`vivavoce.system.AudioEncoder` made of the hidden layers of a wav2vec2 or HuBERT model.

    ``hop`` frames are computed at a time from ``before`` frames of the past and ``after`` of the future. Sound that
    ends within ``hop + after`` frames is heard in one piece. Memory does not grow with the length of the sound.
    ``emphasis`` is the share of the sample before that is taken off every sample (MoDA: 0.97).
    """

    network: SpeechTransformer
    hop: int = 16
    before: int = 64
    after: int = 32
    emphasis: float = 0.0

    def __post_init__(self) -> None:
        """Refuse lengths that are none."""
        if self.hop < 1 or self.before < 0 or self.after < 0:
            raise InputError(
                f"the speech window is {self.before} frames before, {self.hop} at a time and {self.after} after; "
                "it must have at least 1 at a time and none below 0"
            )
        if not 0 <= self.emphasis < 1:
            raise InputError(f"emphasis is {self.emphasis} but must be from 0 to less than 1")

    @property
    def dim(self) -> int:
        """Layers times width of the model."""
        return self.network.dim

    @property
    def lookahead(self) -> int:
        """The future the transformer sees, and the samples under the edge of its last row."""
        return self.after + 1

    def features(self, clock: Clock, sound: Iterable[Pcm]) -> Iterator[Features]:
        """See :class:`vivavoce.system.AudioEncoder`.

        Samples that are not finite count as silence and those beyond [-1, 1] as clipped. The last, partial frame
        gets a row too. Raises :class:`vivavoce.errors.InputError` for another clock than 25 frames per second at
        16 kHz.
        """
        if clock != CLOCK:
            raise InputError(
                f"the speech model hears 16000 Hz at 25 frames per second, not {clock.sample_rate} Hz at {clock.fps}"
            )
        loudness, net = self.network.start(), self.network
        held, low = net.nothing(), 0  # rows of the convolutions, two a frame, from frame ``low`` on
        marked = (torch.stack([clean, torch.ones_like(clean)], 1) for clean in map(_clean, sound))
        for cut in windows(marked, before=EDGE + 1, hop=self.hop * PER_FRAME, after=self.lookahead * PER_FRAME):
            start = cut.start // PER_FRAME
            there = -(-int(cut.rows[EDGE + 1 :, 1].sum()) // PER_FRAME)
            whole = there <= self.hop + self.after and not bool(cut.rows[-1, 1])  # the sound ends within reach
            count = min(there, self.hop + self.after)  # frames of this window
            known = low + len(held) // 2 - start
            if count > known:
                block = self._block(cut.rows[:, 0].to(net.device), known, count, (start + known == 0, whole))
                rows, loudness = net.convolved(block, loudness, first=start + known == 0)
                held = torch.cat([held, rows])
            if start == 0 and whole:
                yield from _pieces(net.hidden(_even(held, count)).cpu(), self.hop)
                return
            encoded = net.hidden(held.unflatten(0, (-1, 2)).mean(1))[start - low :]
            valid = min(self.hop, count)
            yield Features(Span(start, start + valid), encoded[:valid].cpu())
            gone = max(0, start + self.hop - self.before - low)
            held, low = held[2 * gone :].clone(), low + gone

    def _block(self, heard: Tensor, known: int, count: int, outer: tuple[bool, bool]) -> Float[Tensor, " s"]:
        """Frames ``[known, count)`` of a window that begins ``EDGE + 1`` samples early, with an edge on both sides.

        Where the sound begins or ends (``outer``), the edge is mirrored twice, as MoDA does.
        """
        sound = heard[1:] - self.emphasis * heard[:-1]
        begins, ends = (EDGE * outside for outside in outer)
        sound = sound[known * PER_FRAME + begins : count * PER_FRAME + 2 * EDGE - ends]
        for _ in range(2):
            sound = functional.pad(sound[None], (begins // 2, ends // 2), mode="reflect")[0]
        return sound


def _clean(pcm: Pcm) -> Tensor:
    return torch.nan_to_num(pcm.float(), 0.0, 0.0, 0.0).clamp(-1, 1)


def _even(rows: Float[Tensor, "r c"], count: int) -> Float[Tensor, "t c"]:
    """``count`` rows from the first to the last, as MoDA takes them from a whole clip."""
    return functional.interpolate(rows.T[None], size=count, mode="linear", align_corners=True)[0].T


def _pieces(rows: Float[Tensor, "t a"], hop: int) -> Iterator[Features]:
    for start in range(0, len(rows), hop):
        yield Features(Span(start, min(start + hop, len(rows))), rows[start : start + hop])
