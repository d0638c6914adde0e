"""The latent image animator: an appearance latent, feature maps and a short motion code that moves them.

Wang et al. 2022 (LIA), and what IF-MDM makes of it: codes bounded by a hyperbolic tangent, several flows blended at
every place (the local flow module) and a block that refines the picture. The defaults are LIA as published.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vivavoce import weights
from vivavoce.errors import InputError

SLOPE = 0.2  # of the activations below zero
_WIDEST = 512  # channels up to pictures 32 wide; beyond that, half as many each time the picture is twice as wide
_BLUR = (1.0, 3.0, 3.0, 1.0)


@dataclass(frozen=True, slots=True)
class LiaConfig:
    """Sizes; the defaults are the published ones."""

    size: int = 256  # side of the pictures, a power of two
    multiplier: float = 1.0  # of all widths, the latent's among them
    motion: int = 20  # numbers in a code
    bounded: bool = False  # codes in (-1, 1), as in IF-MDM
    groups: int = 1  # flows blended at every place; 1 = LIA's single flow
    refine: int = 0  # hidden channels of the refine block; 0 = none
    fold: int = 1  # the refine block sees squares of fold x fold pixels as channels; 1 = as published
    normalised: bool = False  # while training: the encoder's maps are normalised over the batch (see Lia.plain)

    def width(self, side: int) -> int:
        """Channels of maps ``side`` pixels wide."""
        return round(min(_WIDEST, _WIDEST * 32 / side) * self.multiplier)

    @property
    def latent(self) -> int:
        """Numbers in an appearance latent."""
        return round(_WIDEST * self.multiplier)

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of the feature maps that are moved, coarse to fine."""
        return tuple(8 << n for n in range(int(math.log2(self.size)) - 2))


class Appearance(NamedTuple):
    """What a picture looks like."""

    latent: Float[Tensor, "b s"]
    features: tuple[Float[Tensor, "b _c _h _w"], ...]  # coarse to fine, from 8 pixels wide to the picture's own size


class Painted(NamedTuple):
    """A picture, and how its finest features were moved."""

    picture: Float[Tensor, "b 3 h w"]  # RGB, about [-1, 1]
    flow: Float[Tensor, "b h w 2"]  # where each pixel is taken from: x, y in half widths of the picture
    mask: Float[Tensor, "b 1 h w"]  # how much of it is taken; the rest is invented


def activated(x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """A leaky rectifier that keeps the variance of its input."""
    return functional.leaky_relu(x, SLOPE) * math.sqrt(2)


def _fir(channels: int, gain: float) -> Float[Tensor, "c 1 4 4"]:
    row = torch.tensor(_BLUR) / sum(_BLUR)
    return (gain * row[:, None] * row).expand(channels, 1, 4, 4).contiguous()


class Blur(nn.Module):
    """Smooths every channel with the taps 1 3 3 1 (over 8), on maps padded by ``pad`` zeros on every side."""

    def __init__(self, channels: int, pad: int, *, gain: float = 1.0, stride: int = 1) -> None:
        super().__init__()
        self.pad, self.stride = pad, stride
        self.register_buffer("taps", _fir(channels, gain), persistent=False)
        self.taps: Tensor

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c _h _w"]:
        """Smoothed maps."""
        return functional.conv2d(x, self.taps, padding=self.pad, stride=self.stride, groups=x.shape[1])


class Enlarge(nn.Module):
    """Maps twice as wide, smooth."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("taps", _fir(channels, 4.0), persistent=False)
        self.taps: Tensor

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Enlarged maps."""
        return functional.conv_transpose2d(x, self.taps, stride=2, padding=1, groups=x.shape[1])


class HalvingBlock(nn.Module):
    """Residual block; maps half as wide come out."""

    def __init__(self, inside: int, outside: int, normalised: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, inside, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) if normalised else nn.Identity() for n in (inside, outside))
        self.blur = Blur(inside, 2)
        self.halve = nn.Conv2d(inside, outside, 3, stride=2)
        self.thin = Blur(inside, 1, stride=2)
        self.skip = nn.Conv2d(inside, outside, 1, bias=False)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        """Half as wide."""
        first, second = self.norms
        changed = activated(second(self.halve(self.blur(activated(first(self.conv(x)))))))
        return (changed + self.skip(self.thin(x))) / math.sqrt(2)


class Encoder(nn.Module):
    """Picture -> appearance, and the code of its motion."""

    def __init__(self, config: LiaConfig) -> None:
        super().__init__()
        self.bounded = config.bounded
        self.enter = nn.Conv2d(3, config.width(config.size), 1)
        sides = [4, *config.sides]
        pairs = [(config.width(fine), config.width(coarse)) for coarse, fine in pairwise(sides)]
        self.blocks = nn.ModuleList(HalvingBlock(*pair, config.normalised) for pair in reversed(pairs))
        self.leave = nn.Conv2d(config.width(4), config.latent, 4, bias=False)
        widths = [config.latent] * 5 + [config.motion]
        self.read = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))

    def forward(self, picture: Float[Tensor, "b 3 h w"]) -> Appearance:
        """RGB in [-1, 1] -> appearance."""
        maps = [activated(self.enter(picture))]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return Appearance(self.leave(maps.pop()).flatten(1), tuple(reversed(maps)))

    def code(self, latent: Float[Tensor, "b s"]) -> Float[Tensor, "b d"]:
        """The motion in a picture whose latent this is."""
        code = self.read(latent)
        return code.tanh() if self.bounded else code


class Directions(nn.Module):
    """Orthogonal directions in the latent space: a code says how far along each to go."""

    def __init__(self, latent: int, motion: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(latent, motion))
        self.register_buffer("stored", self._orthogonal().detach(), persistent=False)
        self.stored: Tensor

    def _orthogonal(self) -> Float[Tensor, "s d"]:
        return torch.linalg.qr(self.weight + 1e-8).Q

    def train(self, mode: bool = True) -> Directions:
        """Outside training the directions are computed once, here, in double precision."""
        if not mode:
            exact = torch.linalg.qr(self.weight.detach().cpu().double() + 1e-8).Q
            self.stored = exact.to(self.weight)
        return super().train(mode)

    @property
    def basis(self) -> Float[Tensor, "s d"]:
        """Its columns are the directions."""
        return self._orthogonal() if self.training else self.stored

    def forward(self, code: Float[Tensor, "b d"]) -> Float[Tensor, "b s"]:
        """The displacement of a latent."""
        return code @ self.basis.T


class ModulatedConv(nn.Module):
    """A convolution whose input channels a latent scales, and whose output is brought back to unit scale.

    Equal to scaling the kernel for each picture (Karras et al. 2020), but one kernel serves a whole batch.
    """

    def __init__(self, inside: int, outside: int, latent: int, *, enlarge: bool = False) -> None:
        super().__init__()
        self.enlarge = enlarge
        self.style = nn.Linear(latent, inside)
        self.weight = nn.Parameter(torch.randn(outside, inside, 3, 3) / math.sqrt(9 * inside))
        self.bias = nn.Parameter(torch.zeros(outside))
        self.blur = Blur(outside, 1, gain=4.0) if enlarge else nn.Identity()

    def forward(self, x: Float[Tensor, "b i h w"], latent: Float[Tensor, "b s"]) -> Float[Tensor, "b o _h _w"]:
        """Activated maps, twice as wide if ``enlarge``."""
        style = self.style(latent)
        power = style.square() @ self.weight.square().sum((2, 3)).T
        x = x * style[..., None, None]
        if self.enlarge:
            x = functional.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
        else:
            x = functional.conv2d(x, self.weight, padding=1)
        x = self.blur(x * (power + 1e-8).rsqrt()[..., None, None])
        return activated(x + self.bias[:, None, None])


class FlowHead(nn.Module):
    """Where to take features from, and how much of them: refines what the coarser level said.

    With one group this is LIA's: one flow from all channels. With more, each group of channels tells a flow of its own
    and how much it counts here; a soft-max over the groups blends them, so that neighbouring places can follow
    different motions (IF-MDM's local flow module; its layers are not published, these are ours).
    """

    def __init__(self, channels: int, latent: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.style = nn.Linear(latent, channels)
        if groups == 1:
            self.local: nn.Conv2d | None = None
            self.tell = nn.Conv2d(channels, 3, 1)
            self.enlarge = Enlarge(3)
        else:
            self.local = nn.Conv2d(channels, 3 * groups, 3, padding=1, groups=groups)
            self.tell = nn.Conv2d(channels, 1, 1)
            self.enlarge = Enlarge(3 * groups + 1)

    def forward(
        self, x: Float[Tensor, "b c h w"], latent: Float[Tensor, "b s"], coarser: Float[Tensor, "b k _h _w"] | None
    ) -> tuple[Float[Tensor, "b h w 2"], Float[Tensor, "b 1 h w"], Float[Tensor, "b k h w"]]:
        """Flow (places in half widths), mask in (0, 1), and what a finer level refines."""
        x = x * self.style(latent)[..., None, None]
        told = self.tell(x)
        if self.local is not None:
            told = torch.cat([self.local(x), told], 1)
        if coarser is not None:
            told = told + self.enlarge(coarser)
        return self.blended(told[:, :-1]).movedim(1, -1) + grid(told), told[:, -1:].sigmoid(), told

    def blended(self, told: Float[Tensor, "b k h w"]) -> Float[Tensor, "b 2 h w"]:
        """How far from its own place everything comes, in half widths, from all that was told but the mask."""
        if self.groups == 1:
            return told.tanh()
        parts = told.unflatten(1, (self.groups, 3))
        share = (parts[:, :, 2:] - parts[:, :, 2:].amax(1, keepdim=True)).exp()  # a soft-max, divided last
        return (parts[:, :, :2].tanh() * share).sum(1) / share.sum(1)


def grid(like: Float[Tensor, "b c h w"]) -> Float[Tensor, "h w 2"]:
    """Places of the pixels, from -1 to 1 at the centres of the outermost ones, as LIA counts them."""
    rows, columns = (torch.linspace(-1, 1, n, device=like.device, dtype=like.dtype) for n in like.shape[-2:])
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)


class Level(nn.Module):
    """Twice as wide: features of the source are moved, gaps are filled, and the picture gains detail."""

    def __init__(self, inside: int, outside: int, latent: int, groups: int) -> None:
        super().__init__()
        self.enlarge = ModulatedConv(inside, outside, latent, enlarge=True)
        self.conv = ModulatedConv(outside, outside, latent)
        self.flow = FlowHead(outside, latent, groups)
        self.paint = nn.Conv2d(outside, 3, 1)
        self.bias = nn.Parameter(torch.zeros(3))
        self.grow = Enlarge(3)


class Synthesis(nn.Module):
    """Latent and the source's features -> picture."""

    def __init__(self, config: LiaConfig) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(config.width(4), 4, 4))
        self.first = ModulatedConv(config.width(4), config.width(4), config.latent)
        sides = [4, *config.sides]
        self.levels = nn.ModuleList(
            Level(config.width(a), config.width(b), config.latent, config.groups) for a, b in pairwise(sides)
        )

    def forward(self, latent: Float[Tensor, "b s"], features: tuple[Float[Tensor, "b _c _h _w"], ...]) -> Painted:
        """``features`` as in :class:`Appearance`."""
        x = self.first(self.start.expand(len(latent), -1, -1, -1), latent)
        told, picture = None, None
        flow = mask = x  # there is at least one level
        for level, feature in zip(self.levels, features, strict=True):
            assert isinstance(level, Level)  # noqa: S101  (for the type checker)
            x = level.conv(level.enlarge(x, latent), latent)
            flow, mask, told = level.flow(x, latent, told)
            moved = functional.grid_sample(feature, flow, align_corners=False) * mask
            painted = activated(level.paint(moved)) + level.bias[:, None, None]
            picture = painted if picture is None else painted + level.grow(picture)
            x = moved + x * (1 - mask)
        assert picture is not None  # noqa: S101  (for the type checker)
        return Painted(picture, flow, mask)


class Refine(nn.Module):
    """Adds detail to a finished picture."""

    def __init__(self, hidden: int, fold: int) -> None:
        super().__init__()
        self.fold = fold
        channels = 3 * fold * fold
        widths = [channels, hidden, hidden, hidden]
        convs = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)]
        self.convs = nn.ModuleList(convs)
        self.leave = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, picture: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Same size."""
        x = functional.pixel_unshuffle(picture, self.fold)
        for conv in self.convs:
            x = functional.relu(conv(x))
        return picture + functional.pixel_shuffle(self.leave(x), self.fold)


class Lia(nn.Module):
    """All of stage one."""

    def __init__(self, config: LiaConfig) -> None:
        super().__init__()
        if config.size < 8 or config.size & (config.size - 1):
            raise ValueError(f"pictures must be a power of two wide, from 8 pixels, not {config.size}")
        if config.latent < config.motion:
            raise ValueError(f"a latent of {config.latent} numbers has no {config.motion} orthogonal directions")
        self.config = config
        self.encoder = Encoder(config)
        self.directions = Directions(config.latent, config.motion)
        self.synthesis = Synthesis(config)
        self.refine = Refine(config.refine, config.fold) if config.refine else nn.Identity()
        self.apply(_begin)

    @classmethod
    def load(cls, name: str | Path, device: str | torch.device = "cpu") -> Lia:
        """Networks from a file of weights, frozen.

        Raises:
            InputError: there are no such weights, they are damaged, or do not fit.
        """
        header = weights.metadata(name)
        try:
            made = cls(LiaConfig(**header["config"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{weights.path(name)} holds no networks of this kind: {error}") from error
        weights.load_into(made, name)
        return made.to(device)

    def plain(self) -> Lia:
        """The same networks without norms: what those do after training goes into the convolutions before them.

        Published networks have none; training from nothing is stable with them, and soon gets somewhere.
        """
        made = Lia(dataclasses.replace(self.config, normalised=False))
        state = {name: value for name, value in self.state_dict().items() if ".norms." not in name}
        made.load_state_dict(state)
        if self.config.normalised:
            for ours, theirs in zip(self.encoder.blocks, made.encoder.blocks, strict=True):
                assert isinstance(ours, HalvingBlock)  # noqa: S101  (for the type checker)
                assert isinstance(theirs, HalvingBlock)  # noqa: S101
                for name, norm in zip(("conv", "halve"), ours.norms, strict=True):
                    assert isinstance(norm, nn.BatchNorm2d)  # noqa: S101
                    setattr(theirs, name, fuse_conv_bn_eval(getattr(ours, name).eval(), copy.deepcopy(norm).eval()))
        return made.eval().requires_grad_(False)

    def seen(self, picture: Float[Tensor, "b 3 h w"]) -> tuple[Appearance, Float[Tensor, "b d"]]:
        """Appearance and motion code of pictures, RGB in [-1, 1]."""
        appearance = self.encoder(picture)
        return appearance, self.encoder.code(appearance.latent)

    def forward(self, appearance: Appearance, code: Float[Tensor, "b d"]) -> Painted:
        """The person of ``appearance`` moving as ``code`` says.

        For relative transfer give ``driving - first + own``: directions add up.
        """
        painted = self.synthesis(appearance.latent + self.directions(code), appearance.features)
        return painted._replace(picture=self.refine(painted.picture))


def _begin(module: nn.Module) -> None:
    """Weights to begin with: maps keep their variance, flows are small, and the refine block changes nothing yet."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, ModulatedConv):
        nn.init.ones_(module.style.bias)
    elif isinstance(module, FlowHead):
        nn.init.ones_(module.style.bias)
        for conv in (module.local, module.tell):
            if conv is not None:
                conv.weight.data.mul_(0.1)
    elif isinstance(module, Refine):
        nn.init.zeros_(module.leave.weight)
