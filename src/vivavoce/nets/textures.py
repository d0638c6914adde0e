"""The face painter of TGDM: a denoiser told a face, which looks up its texture in a picture (Xu et al. 2023).

Beside the noisy picture (or latent) it sees what the face is to look like, drawn as a 3D face. Every residual block is
told the face's coefficients and the time by adaptive normalisation, which carries what a drawing does not show. A
texture encoder reads the source's picture once; at several scales the denoiser's features look for theirs in it.

No code of the paper is public. The layout is that of its figure; sizes are those of the closest published generator
with the same parts (PIDM, Bhunia et al. 2023). Attention has projections and a norm, which the figure does not draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.nets.convolution import EnlargedConv
from vivavoce.nets.layers import sinusoid
from vivavoce.nets.unet import zeroed

Maps = Float[Tensor, "b c h w"]
_EPS = 1e-5


@dataclass(frozen=True, slots=True)
class PainterConfig:
    """Sizes; the defaults are those inferred for the published one, for pictures of 256 x 256."""

    latent: int = 3  # channels that are denoised
    given: int = 12  # channels that come beside them, see :mod:`vivavoce.nets.tgdm`
    source: int = 6  # channels of the source: its picture, where each pixel lies in the texture, where the face is
    coefficients: int = 151  # numbers of a face
    fold: int = 1  # squares of fold x fold pixels of the source become channels, so that it has the latent's size
    width: int = 128  # channels of the first level
    multiples: tuple[int, ...] = (1, 1, 2, 2, 4, 4)  # of the width, level by level; every level after the first halves
    blocks: int = 2  # residual blocks per level, both ways
    attention: tuple[int, ...] = (3, 4, 5)  # levels that look for textures, counted from 0, the largest maps
    head: int = 512  # channels of an attention head; a level with fewer has one head
    embedding: int = 512  # numbers that coefficients and time become
    groups: int = 32  # of the norms
    # Squares of patch x patch latent pixels become channels, which makes everything patch^2 times cheaper.
    patch: int = 1
    dropout: float = 0.1
    textures: bool = True  # features look for theirs in the source; otherwise it is not seen: to compare with
    told: bool = True  # blocks are told the coefficients; otherwise the time alone: to compare with

    @property
    def multiple(self) -> int:
        """What sides of latents must be multiples of."""
        return self.patch << (len(self.multiples) - 1)

    @property
    def widths(self) -> list[int]:
        """Channels of every level."""
        return [self.width * multiple for multiple in self.multiples]


class Plain(nn.Module):
    """Two convolutions behind norms, added to what came in: a block of the texture encoder."""

    def __init__(self, inside: int, outside: int, config: PainterConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(config.groups, count, _EPS) for count in (inside, outside))
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(outside, outside, 3, padding=1))
        self.skip = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """Changed maps of the same size."""
        h = self.conv1(functional.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(functional.silu(self.norm2(h)))


class Told(nn.Module):
    """The same, whose norms are scaled and shifted by what it is told: a block of the denoiser."""

    def __init__(self, inside: int, outside: int, config: PainterConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(config.groups, count, _EPS, affine=False) for count in (inside, outside))
        self.adapt = nn.Linear(config.embedding, 2 * (inside + outside))
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(outside, outside, 3, padding=1))
        self.drop = nn.Dropout(config.dropout)
        self.skip = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1)
        self.counts = (inside, inside, outside, outside)
        nn.init.zeros_(self.adapt.bias)
        nn.init.normal_(self.adapt.weight, std=0.02)

    def forward(self, x: Float[Tensor, "b i h w"], told: Float[Tensor, "b e"]) -> Float[Tensor, "b o h w"]:
        """Changed maps of the same size."""
        scale1, shift1, scale2, shift2 = (one[..., None, None] for one in self.adapt(told).split(self.counts, 1))
        h = self.conv1(functional.silu(self.norm1(x) * (1 + scale1) + shift1))
        h = self.conv2(self.drop(functional.silu(self.norm2(h) * (1 + scale2) + shift2)))
        return self.skip(x) + h


class TextureAttention(nn.Module):
    """Every place of the denoiser's features looks for its texture among those of the source at the same scale."""

    def __init__(self, width: int, config: PainterConfig) -> None:
        super().__init__()
        self.heads = max(1, width // config.head)
        self.norm, self.norm_source = (nn.GroupNorm(config.groups, width, _EPS) for _ in range(2))
        self.q, self.k, self.v = (nn.Conv2d(width, width, 1) for _ in range(3))
        self.out = zeroed(nn.Conv2d(width, width, 1))

    def forward(self, x: Maps, source: Float[Tensor, "n c h w"]) -> Maps:
        """``x`` and what it finds; ``source`` of one picture (n = 1) serves all of ``x``."""
        seen = self.norm_source(source)
        q, k, v = (
            layer(one).flatten(2).unflatten(1, (self.heads, -1)).mT
            for layer, one in ((self.q, self.norm(x)), (self.k, seen), (self.v, seen))
        )
        k, v = (one.expand(len(x), -1, -1, -1) for one in (k, v))
        found = functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(found.mT.flatten(1, 2).unflatten(2, x.shape[2:]))


class TextureEncoder(nn.Module):
    """A picture of the source -> features of every level. It knows no time, so it runs once for a person."""

    def __init__(self, config: PainterConfig) -> None:
        super().__init__()
        self.config, widths = config, config.widths
        self.first = nn.Conv2d(folded(config), widths[0], 3, padding=1)
        self.levels = nn.ModuleList(
            nn.Sequential(*(Plain(width, width, config) for _ in range(config.blocks))) for width in widths
        )
        self.halves = halving(widths)

    def forward(self, source: Float[Tensor, "b s h w"]) -> list[Tensor]:
        """Features of every level, the largest maps first.

        Args:
            source: channels as :class:`PainterConfig` says, in [-1, 1]; side ``fold`` times that of latents.
        """
        x = functional.pixel_unshuffle(source, self.config.fold * self.config.patch)
        x, found = self.first(x), list[Tensor]()
        for level, layer in enumerate(self.levels):
            x = layer(x)
            found.append(x)
            if level < len(self.halves):
                x = self.halves[level](x)
        return found


def halving(widths: list[int]) -> nn.ModuleList:
    """Convolutions that halve the maps on their way to the next level."""
    return nn.ModuleList(nn.Conv2d(low, high, 3, stride=2, padding=1) for low, high in pairwise(widths))


def listed(modules: nn.Module) -> list[nn.Module]:
    """What is in a list of layers that is itself in one."""
    return list(cast("nn.ModuleList", modules))


def folded(config: PainterConfig) -> int:
    """Channels of the source once its squares are channels."""
    return config.source * (config.fold * config.patch) ** 2


class Painter(nn.Module):
    """Noisy latents, a time, a drawn face and a person's texture to what the noise level's step needs."""

    def __init__(self, config: PainterConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PainterConfig()
        widths, square, wide = config.widths, config.patch**2, config.embedding
        self.time = nn.Sequential(nn.Linear(config.width, wide), nn.SiLU(), nn.Linear(wide, wide))
        self.coefficients = nn.Sequential(nn.Linear(config.coefficients, wide), nn.SiLU(), nn.Linear(wide, wide))
        self.textures = TextureEncoder(config)
        self.first = nn.Conv2d((config.latent + config.given) * square, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for width in widths:
            self.down.append(nn.ModuleList(Told(width, width, config) for _ in range(config.blocks)))
            self.up.insert(0, nn.ModuleList(Told(2 * width, width, config) for _ in range(config.blocks)))
        self.middle = nn.ModuleList(Told(widths[-1], widths[-1], config) for _ in range(2))
        self.halves = halving(widths)
        self.doubles = nn.ModuleList(EnlargedConv(wide, narrow, 2) for narrow, wide in reversed(list(pairwise(widths))))
        self.look_down = nn.ModuleDict({str(n): TextureAttention(widths[n], config) for n in config.attention})
        self.look_up = nn.ModuleDict({str(n): TextureAttention(widths[n], config) for n in config.attention})
        self.look = TextureAttention(widths[-1], config)
        self.norm = nn.GroupNorm(config.groups, widths[0], _EPS)
        self.last = zeroed(nn.Conv2d(widths[0], config.latent * square, 3, padding=1))

    def forward(
        self,
        x: Float[Tensor, "b l h w"],
        t: Float[Tensor, " b"],
        given: Float[Tensor, "b g h w"],
        face: Float[Tensor, "b k"],
        textures: Sequence[Float[Tensor, "n _c _h _w"]],
        shown: Float[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b l h w"]:
        """What is predicted at ``x``.

        Args:
            x: noisy latents; sides are multiples of ``config.multiple``.
            t: time steps in [0, 1000), not necessarily whole.
            given: channels as :mod:`vivavoce.nets.tgdm` lays them.
            face: coefficients of the wanted face.
            textures: of :class:`TextureEncoder`, of one person for all or of one for each.
            shown: 0 where neither coefficients nor textures are told, 1 where they are; ``None``: all are.
        """
        config = self.config
        seen = x.new_ones(len(x)) if shown is None else shown
        told = self.time(sinusoid(t, config.width).to(x.dtype))
        if config.told:
            told = told + self.coefficients(face) * seen[:, None]
        told = functional.silu(told)
        h = torch.cat([x, given], 1)
        h = self.first(functional.pixel_unshuffle(h, config.patch))
        left = list[Tensor]()
        for level, blocks in enumerate(self.down):
            h = self._looked(self.look_down, level, h, textures, seen)
            for block in listed(blocks):
                h = block(h, told)
                left.append(h)
            if level < len(self.halves):
                h = self.halves[level](h)
        h = self.middle[0](h, told)
        h = self._sought(self.look, h, textures[-1], seen)
        h = self.middle[1](h, told)
        for step, blocks in enumerate(self.up):
            level = len(self.up) - 1 - step
            for block in listed(blocks):
                h = block(torch.cat([h, left.pop()], 1), told)
            h = self._looked(self.look_up, level, h, textures, seen)
            if level:
                h = self.doubles[step](h)
        h = self.last(functional.silu(self.norm(h)))
        return functional.pixel_shuffle(h, config.patch)

    def _looked(
        self, layers: nn.ModuleDict, level: int, h: Maps, textures: Sequence[Tensor], seen: Float[Tensor, " b"]
    ) -> Maps:
        return self._sought(layers[str(level)], h, textures[level], seen) if str(level) in layers else h

    def _sought(self, layer: nn.Module, h: Maps, source: Tensor, seen: Float[Tensor, " b"]) -> Maps:
        if not self.config.textures:
            return h
        return h + (layer(h, source) - h) * seen[:, None, None, None]
