"""First stage of latent diffusion: pictures to small latents and back, by a codebook (VQ) or a Gaussian (KL).

Esser et al. 2021, Rombach et al. 2022. The defaults are the VQ-f4 model that DiffTalk denoises in; one level more gives
latents of the same size for pictures twice as wide (f = 8). Tensors are named as in published checkpoints of this
family, so that those load without a table of names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.nets.convolution import EnlargedConv

Picture = Float[Tensor, "b c h w"]  # in [-1, 1]
Latent = Float[Tensor, "b z y x"]
_EPS = 1e-6  # of the norms
_LOG_VARIANCE = (-30.0, 20.0)  # of the Gaussian, clamped
_QUIET = -7.0  # logarithm of the variance of latents in the beginning
_ROWS = 1 << 14  # latent pixels compared with the codebook at a time, which bounds memory


@dataclass(frozen=True, slots=True)
class FirstStageConfig:
    """Sizes; the defaults are the published ones for pictures of 256 x 256."""

    kind: Literal["vq", "kl"] = "vq"
    codes: int = 8192  # in the codebook; of no meaning for "kl"
    latent: int = 3  # channels
    picture: int = 3  # channels
    width: int = 128  # channels at full size
    multiples: tuple[int, ...] = (1, 2, 4)  # of the width, level by level; every level after the first halves the maps
    blocks: int = 2  # residual blocks per level; the decoder has one more
    attention: bool = True  # in the middle, over all latent pixels
    groups: int = 32  # of the norms
    # Squares of fold x fold pixels become channels on the way in and pixels again on the way out, so that nothing runs
    # at full size.
    fold: int = 1
    # Latents begin as the small picture and pictures as latents made large; layers learn what is to be added. For KL
    # latents with as many channels as the picture.
    direct: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.direct and (self.kind != "kl" or self.latent != self.picture):
            raise ValueError("latents that begin as the small picture are Gaussian and have its channels")

    @property
    def factor(self) -> int:
        """Pixels of the picture along one side of a latent pixel."""
        return self.fold << (len(self.multiples) - 1)

    def large(self) -> FirstStageConfig:
        """The same latents for pictures twice as wide: one level more of the second width."""
        first, second, *rest = self.multiples
        return replace(self, multiples=(first, second, second, *rest))


class Snapped(NamedTuple):
    """Latents moved to the nearest entries of the codebook."""

    latent: Float[Tensor, "b z y x"]
    codes: Int[Tensor, "b y x"]


class Gaussian(NamedTuple):
    """What the KL first stage says of a picture: independent normal distributions, one per latent number."""

    mean: Float[Tensor, "b z y x"]
    log_variance: Float[Tensor, "b z y x"]

    def sample(self, noise: Latent) -> Latent:
        """The draw that standard normal ``noise`` stands for."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def divergence(self) -> Float[Tensor, " b"]:
        """Kullback-Leibler divergence from the standard normal distribution, summed over the latent, in nats."""
        each = self.mean.square() + self.log_variance.exp() - 1 - self.log_variance
        return 0.5 * each.flatten(1).sum(1)


class Residual(nn.Module):
    """Two convolutions behind norms, added to what came in."""

    def __init__(self, inside: int, outside: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inside, _EPS)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, outside, _EPS)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        if inside != outside:
            self.nin_shortcut = nn.Conv2d(inside, outside, 1)
        self.same = inside == outside

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """Changed maps of the same size."""
        h = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(functional.silu(self.norm2(h)))
        return h + (x if self.same else self.nin_shortcut(x))


class Attention(nn.Module):
    """Every latent pixel looks at all others, with a single head."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, _EPS)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Changed maps of the same size."""
        seen = self.norm(x)
        q, k, v = (layer(seen).flatten(2).mT[:, None] for layer in (self.q, self.k, self.v))
        looked = functional.scaled_dot_product_attention(q, k, v)[:, 0]
        return x + self.proj_out(looked.mT.unflatten(2, x.shape[2:]))


class Middle(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, width: int, config: FirstStageConfig) -> None:
        super().__init__()
        self.block_1 = Residual(width, width, config.groups)
        self.attn_1 = Attention(width, config.groups) if config.attention else nn.Identity()
        self.block_2 = Residual(width, width, config.groups)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Changed maps of the same size."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Halving(nn.Module):
    """A convolution that halves the maps, padded at the right and at the bottom only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Half as wide."""
        return self.conv(functional.pad(x, (0, 1, 0, 1)))


class Doubling(nn.Module):
    """Every pixel doubled both ways, then a convolution; computed at the small size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = EnlargedConv(width, width, 2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Twice as wide."""
        return self.conv(x)


class Level(nn.Module):
    """Residual blocks of one size of maps, and the way to the next size, if there is one."""

    def __init__(self, inside: int, outside: int, blocks: int, groups: int, way: type[nn.Module] | None) -> None:
        super().__init__()
        self.block = nn.ModuleList(Residual(inside if n == 0 else outside, outside, groups) for n in range(blocks))
        if way is Halving:
            self.downsample = way(outside)
        elif way is Doubling:
            self.upsample = way(outside)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o _h _w"]:
        """Through the blocks and on to the next size."""
        for module in [*self.block, *(m for name, m in self.named_children() if name != "block")]:
            x = module(x)
        return x


class Encoder(nn.Module):
    """Pictures to ``outside`` channels of latent size."""

    def __init__(self, config: FirstStageConfig, outside: int) -> None:
        super().__init__()
        widths = [config.width * m for m in config.multiples]
        self.fold, self.factor, self.direct = config.fold, config.factor, config.direct
        self.conv_in = nn.Conv2d(config.picture * config.fold**2, config.width, 3, padding=1)
        before = [config.width, *widths]
        last = len(widths) - 1
        self.down = nn.ModuleList(
            Level(before[n], width, config.blocks, config.groups, Halving if n < last else None)
            for n, width in enumerate(widths)
        )
        self.mid = Middle(widths[-1], config)
        self.norm_out = nn.GroupNorm(config.groups, widths[-1], _EPS)
        self.conv_out = nn.Conv2d(widths[-1], outside, 3, padding=1)

    def forward(self, x: Picture) -> Float[Tensor, "b o y x"]:
        """``[b c h w]`` to maps ``factor`` times smaller."""
        h = self.conv_in(functional.pixel_unshuffle(x, self.fold))
        for level in self.down:
            h = level(h)
        out = self.conv_out(functional.silu(self.norm_out(self.mid(h))))
        if not self.direct:
            return out
        small = functional.avg_pool2d(x, self.factor)
        return out + functional.pad(small, (0, 0, 0, 0, 0, out.shape[1] - small.shape[1]))


class Decoder(nn.Module):
    """Latents to pictures."""

    def __init__(self, config: FirstStageConfig) -> None:
        super().__init__()
        widths = [config.width * m for m in config.multiples]
        self.conv_in = nn.Conv2d(config.latent, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], config)
        after = [*widths[1:], widths[-1]]
        self.up = nn.ModuleList(
            Level(after[n], width, config.blocks + 1, config.groups, Doubling if n else None)
            for n, width in enumerate(widths)
        )
        self.norm_out = nn.GroupNorm(config.groups, widths[0], _EPS)
        self.fold, self.factor, self.direct = config.fold, config.factor, config.direct
        self.conv_out = nn.Conv2d(widths[0], config.picture * config.fold**2, 3, padding=1)

    def forward(self, z: Latent) -> Picture:
        """Maps ``factor`` times larger."""
        h = self.mid(self.conv_in(z))
        for level in reversed(cast("list[nn.Module]", list(self.up))):
            h = level(h)
        out = functional.pixel_shuffle(self.conv_out(functional.silu(self.norm_out(h))), self.fold)
        return out + enlarged(z, self.factor) if self.direct else out


def enlarged(z: Latent, factor: int) -> Picture:
    """Maps ``factor`` times larger, smoothly."""
    return functional.interpolate(z, scale_factor=float(factor), mode="bicubic", align_corners=False)


class Codebook(nn.Module):
    """Entries that latents are moved to."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, width)
        nn.init.uniform_(self.embedding.weight, -1 / codes, 1 / codes)

    def forward(self, z: Latent) -> Snapped:
        """The nearest entries by Euclidean distance. Gradients pass as if nothing had been moved."""
        rows = z.detach().movedim(1, -1).reshape(-1, z.shape[1])
        table = self.embedding.weight
        # |z - e|^2 without |z|^2, which is the same for all entries
        length = table.detach().square().sum(1)
        found = [torch.addmm(length, part, table.detach().T, alpha=-2).argmin(1) for part in rows.split(_ROWS)]
        codes = torch.cat(found).view(len(z), *z.shape[2:])
        near = self.embedding(codes).movedim(-1, 1)
        return Snapped(z + (near - z).detach() if z.requires_grad else near, codes)


class FirstStage(nn.Module):
    """Pictures in [-1, 1] to latents and back. Sides of pictures must be multiples of ``config.factor``."""

    def __init__(self, config: FirstStageConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FirstStageConfig()
        often = 2 if config.kind == "kl" else 1  # a mean and a variance
        self.encoder = Encoder(config, often * config.latent)
        self.decoder = Decoder(config)
        if config.kind == "vq":
            self.quantize = Codebook(config.codes, config.latent)
        self.quant_conv = nn.Conv2d(often * config.latent, often * config.latent, 1)
        self.post_quant_conv = nn.Conv2d(config.latent, config.latent, 1)
        if config.direct:
            self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        """Nothing is added yet, and the noise of latents is small."""
        for last in (self.encoder.conv_out, self.decoder.conv_out):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(cast("Tensor", last.bias))
        for same in (self.quant_conv, self.post_quant_conv):
            nn.init.dirac_(same.weight)
            nn.init.zeros_(cast("Tensor", same.bias))
        cast("Tensor", self.quant_conv.bias)[self.config.latent :] = _QUIET

    @torch.no_grad()
    def normalise(self, mean: Float[Tensor, " z"], std: Float[Tensor, " z"]) -> None:
        """Make latents that have this mean and deviation standard; pictures stay what they are.

        Raises:
            TypeError: of a first stage with a codebook, whose entries would have to move too.
        """
        if self.config.kind != "kl":
            raise TypeError("latents of a codebook cannot be normalised")
        into, out = self.quant_conv, self.post_quant_conv
        number = self.config.latent
        bias = cast("Tensor", into.bias)
        into.weight[:number] /= std[:, None, None, None]
        bias[:number] = (bias[:number] - mean) / std
        bias[number:] -= 2 * std.log()
        cast("Tensor", out.bias).add_(out.weight[:, :, 0, 0] @ mean)
        out.weight *= std[None, :, None, None]

    def encode(self, picture: Picture) -> Latent:
        """The latent that diffusion works on: before the codebook (VQ), or the mean (KL)."""
        return self.quant_conv(self.encoder(picture))[:, : self.config.latent]

    def distribution(self, picture: Picture) -> Gaussian:
        """What the KL first stage is trained on.

        Raises:
            TypeError: of a first stage with a codebook.
        """
        if self.config.kind != "kl":
            raise TypeError("a first stage with a codebook gives one latent, not a distribution of them")
        mean, log_variance = self.quant_conv(self.encoder(picture)).chunk(2, dim=1)
        return Gaussian(mean, log_variance.clamp(*_LOG_VARIANCE))

    def snap(self, latent: Latent) -> Snapped:
        """Latents moved to the codebook.

        Raises:
            TypeError: of a first stage without one.
        """
        if self.config.kind != "vq":
            raise TypeError("a KL first stage has no codebook")
        return self.quantize(latent)

    def decode(self, latent: Latent) -> Picture:
        """Pictures, about [-1, 1], of latents as diffusion leaves them: a codebook is applied first."""
        return self.draw(self.snap(latent).latent if self.config.kind == "vq" else latent)

    def draw(self, latent: Latent) -> Picture:
        """Pictures, about [-1, 1], of exactly these latents."""
        return self.decoder(self.post_quant_conv(latent))
