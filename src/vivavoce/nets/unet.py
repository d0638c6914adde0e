"""The denoiser of latent diffusion: residual blocks told the time, transformers told the conditions, in a U.

Dhariwal and Nichol 2021, Rombach et al. 2022. The defaults are DiffTalk's (Shen et al. 2023): the noisy latent comes
with the latents of the masked and of the reference picture as further channels, and with one token of audio and
landmarks. What the output means (noise, velocity of a flow, ...) is for the sampler to say; the network is the same.
Tensors are named as in published checkpoints of this family.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.nets.convolution import EnlargedConv
from vivavoce.nets.layers import sinusoid

Maps = Float[Tensor, "b c h w"]
Tokens = Float[Tensor, "b n d"]
_EPS = 1e-5  # of the norms of residual blocks
_EPS_TRANSFORMER = 1e-6


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """Sizes; the defaults are DiffTalk's."""

    latent: int = 3  # channels that are denoised
    given: int = 6  # channels that come beside them: the masked and the reference latent
    context: int = 128  # numbers of a context token
    width: int = 256  # channels of the first level
    multiples: tuple[int, ...] = (1, 2, 3, 4)  # of the width, level by level; every level after the first halves
    blocks: int = 2  # residual blocks per level on the way down; one more on the way up
    attention: tuple[int, ...] = (1, 2, 3)  # levels with transformers, counted from 0, the largest maps
    head: int = 32  # channels of an attention head
    groups: int = 32  # of the norms
    # Squares of patch x patch latent pixels become channels, which makes everything patch^2 times cheaper.
    patch: int = 1
    dropout: float = 0.0

    @property
    def multiple(self) -> int:
        """What sides of latents must be multiples of."""
        return self.patch << (len(self.multiples) - 1)


class ResBlock(nn.Module):
    """Two convolutions behind norms, the time added between them, all added to what came in."""

    def __init__(self, inside: int, outside: int, config: UNetConfig) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(config.groups, inside, _EPS), nn.SiLU(), nn.Conv2d(inside, outside, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * config.width, outside))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(config.groups, outside, _EPS),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            zeroed(nn.Conv2d(outside, outside, 3, padding=1)),
        )
        self.skip_connection = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1)

    def forward(self, x: Float[Tensor, "b i h w"], time: Float[Tensor, "b e"]) -> Float[Tensor, "b o h w"]:
        """Changed maps of the same size; ``time`` as :class:`UNet` embeds it."""
        h = self.in_layers(x) + self.emb_layers(time)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class LookAround(nn.Module):
    """Attention from tokens to ``context`` (themselves, if those are what is given)."""

    def __init__(self, width: int, context: int, head: int) -> None:
        super().__init__()
        self.heads = width // head
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tokens, context: Float[Tensor, "b m k"]) -> Tokens:
        """What every token of ``x`` finds in ``context``."""
        shaped = (self.to_q(x), self.to_k(context), self.to_v(context))
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in shaped)
        return self.to_out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def single(self, context: Float[Tensor, "b 1 k"]) -> Float[Tensor, "b 1 d"]:
        """:meth:`forward` for a context of one token: all look at it alone, so no query or key matters."""
        return self.to_out(self.to_v(context))


class GatedLayer(nn.Module):
    """A linear layer of which one half gates the other (GEGLU, Shazeer 2020)."""

    def __init__(self, width: int, outside: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * outside)

    def forward(self, x: Tokens) -> Float[Tensor, "b n o"]:
        """``value * gelu(gate)``."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * functional.gelu(gate)


class FeedForward(nn.Module):
    """Token by token, with a gated hidden layer four times as wide."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(GatedLayer(width, 4 * width), nn.Dropout(dropout), nn.Linear(4 * width, width))

    def forward(self, x: Tokens) -> Tokens:
        """Changed tokens."""
        return self.net(x)


class Block(nn.Module):
    """Tokens look at each other, then at the context, then change on their own."""

    def __init__(self, width: int, config: UNetConfig) -> None:
        super().__init__()
        self.attn1 = LookAround(width, width, config.head)
        self.ff = FeedForward(width, config.dropout)
        self.attn2 = LookAround(width, config.context, config.head)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tokens, context: Float[Tensor, "b m k"]) -> Tokens:
        """Changed tokens."""
        seen = self.norm1(x)
        x = x + self.attn1(seen, seen)
        told = self.attn2.single(context) if context.shape[1] == 1 else self.attn2(self.norm2(x), context)
        x = x + told
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A transformer block on the pixels of maps."""

    def __init__(self, width: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(config.groups, width, _EPS_TRANSFORMER)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([Block(width, config)])
        self.proj_out = zeroed(nn.Conv2d(width, width, 1))

    def forward(self, x: Maps, context: Float[Tensor, "b m k"]) -> Maps:
        """Changed maps of the same size."""
        tokens = self.proj_in(self.norm(x)).flatten(2).mT
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        return x + self.proj_out(tokens.mT.unflatten(2, x.shape[2:]))


class Downsample(nn.Module):
    """A convolution that halves the maps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Maps) -> Float[Tensor, "b c h2 w2"]:
        """Half as wide."""
        return self.op(x)


class Upsample(nn.Module):
    """Every pixel doubled both ways, then a convolution; computed at the small size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = EnlargedConv(width, width, 2)

    def forward(self, x: Maps) -> Float[Tensor, "b c h2 w2"]:
        """Twice as wide."""
        return self.conv(x)


class Stage(nn.ModuleList):
    """Layers in a row, each given what it needs."""

    def forward(self, x: Maps, time: Float[Tensor, "b e"], context: Float[Tensor, "b m k"]) -> Float[Tensor, "b o _ _"]:
        """Through all layers."""
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, time)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context)
            else:
                x = layer(x)
        return x


class UNet(nn.Module):
    """Noisy latents, a time and conditions to what the noise level's step needs."""

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or UNetConfig()
        width, square = config.width, config.patch**2
        self.time_embed = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        widths = [width * m for m in config.multiples]
        self.input_blocks = nn.ModuleList(_down(config, widths))
        self.middle_block = Stage(
            [
                ResBlock(widths[-1], widths[-1], config),
                SpatialTransformer(widths[-1], config),
                ResBlock(widths[-1], widths[-1], config),
            ]
        )
        self.output_blocks = nn.ModuleList(_up(config, widths))
        last = zeroed(nn.Conv2d(widths[0], config.latent * square, 3, padding=1))
        self.out = nn.Sequential(nn.GroupNorm(config.groups, widths[0], _EPS), nn.SiLU(), last)

    def forward(
        self,
        x: Float[Tensor, "b l h w"],
        t: Float[Tensor, " b"],
        given: Float[Tensor, "b g h w"],
        context: Float[Tensor, "b m k"],
    ) -> Float[Tensor, "b l h w"]:
        """What is predicted at ``x``.

        Args:
            x: noisy latents; sides are multiples of ``config.multiple``.
            t: time steps in [0, 1000), not necessarily whole.
            given: latents of the masked picture, then of the reference, in the channels' order.
            context: tokens of audio and landmarks; DiffTalk has one.
        """
        time = self.time_embed(sinusoid(t, self.config.width).to(x.dtype))
        h = torch.cat([x, given], dim=1)
        if self.config.patch > 1:
            h = functional.pixel_unshuffle(h, self.config.patch)
        left: list[Tensor] = []
        for stage in self.input_blocks:
            h = stage(h, time, context)
            left.append(h)
        h = self.middle_block(h, time, context)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, left.pop()], dim=1), time, context)
        h = self.out(h)
        return functional.pixel_shuffle(h, self.config.patch) if self.config.patch > 1 else h


def _down(config: UNetConfig, widths: list[int]) -> Iterator[Stage]:
    into = (config.latent + config.given) * config.patch**2
    yield Stage([nn.Conv2d(into, config.width, 3, padding=1)])
    now = config.width
    for level, width in enumerate(widths):
        for _ in range(config.blocks):
            yield Stage(_layers(now, width, level, config))
            now = width
        if level < len(widths) - 1:
            yield Stage([Downsample(width)])


def _up(config: UNetConfig, widths: list[int]) -> Iterator[Stage]:
    left = _left(config, widths)
    now = widths[-1]
    for level, width in reversed(list(enumerate(widths))):
        for n in range(config.blocks + 1):
            layers = _layers(now + left.pop(), width, level, config)
            if level and n == config.blocks:
                layers.append(Upsample(width))
            yield Stage(layers)
            now = width


def _left(config: UNetConfig, widths: list[int]) -> list[int]:
    """Channels of every map that the way down leaves for the way up."""
    left = [config.width]
    for level, width in enumerate(widths):
        left += [width] * (config.blocks + (level < len(widths) - 1))
    return left


def _layers(inside: int, outside: int, level: int, config: UNetConfig) -> list[nn.Module]:
    block = ResBlock(inside, outside, config)
    return [block, SpatialTransformer(outside, config)] if level in config.attention else [block]


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The same layer with all weights 0, so that what it ends starts as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
