"""What keypoints that nobody labelled must obey to mean something: losses of training the keypoint networks.

Equivariance, spread, pose and deformation are those of Wang et al. 2021 (one-shot free-view talking heads), guidance by
landmarks that of Guo et al. 2024 (LivePortrait).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

APART = 0.1  # squared distance that two keypoints should keep
DEPTH = 0.33  # mean depth of the keypoints, half widths into the picture
WING, CURVE = 10 / 128, 2 / 128  # the wing loss's bend and roundness: 10 and 2 pixels of a picture 256 wide
_CONTROLS = 5  # of a crumpling, along each side


@dataclass(frozen=True, slots=True)
class Crumple:
    """A smooth random map of the picture's plane, in half widths: an affine part and bending plates around a grid."""

    affine: Float[Tensor, "b 2 3"]
    bends: Float[Tensor, "b n"]

    @classmethod
    def random(cls, count: int, rng: torch.Generator, *, affine: float = 0.05, bends: float = 0.005) -> Crumple:
        """Deviations from the identity are normal, with these standard deviations."""
        moved = affine * torch.randn(count, 2, 3, generator=rng, device=rng.device)
        moved = moved + torch.eye(2, 3, device=rng.device)
        return cls(moved, bends * torch.randn(count, _CONTROLS**2, generator=rng, device=rng.device))

    def points(self, points: Float[Tensor, "b n 2"]) -> Float[Tensor, "b n 2"]:
        """Where these points of the crumpled picture come from in the picture."""
        matrix, offset = self.affine[..., :2], self.affine[..., 2]
        straight = points @ matrix.mT + offset[:, None]
        sides = torch.linspace(-1, 1, _CONTROLS, device=points.device, dtype=points.dtype)
        controls = torch.cartesian_prod(sides, sides)
        far = (points[:, :, None] - controls).abs().sum(-1)
        plates = far.square() * torch.log(far + 1e-6)
        return straight + torch.einsum("bnk,bk->bn", plates, self.bends)[..., None]

    def picture(self, picture: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The crumpled picture; edges repeat."""
        height, width = picture.shape[-2:]
        across, down = (
            torch.linspace(-1 + 1 / n, 1 - 1 / n, n, device=picture.device, dtype=picture.dtype)
            for n in (width, height)
        )
        grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1)
        where = self.points(grid.flatten(0, 1).expand(len(picture), -1, -1)).unflatten(1, (height, width))
        return functional.grid_sample(picture, where, padding_mode="reflection", align_corners=False)


def equivariance(
    points: Float[Tensor, "b k 3"], crumpled: Float[Tensor, "b k 3"], crumple: Crumple
) -> Float[Tensor, ""]:
    """Keypoints of a crumpled picture, smoothed out again, are those of the picture. Depth does not take part."""
    return (points[..., :2] - crumple.points(crumpled[..., :2])).abs().mean()


def spread(points: Float[Tensor, "b k 3"]) -> Float[Tensor, ""]:
    """Keypoints keep apart and at their mean depth: sum over pairs of what they lack, plus the depth's error."""
    first, second = torch.triu_indices(points.shape[1], points.shape[1], 1, device=points.device)
    apart = (points[:, first] - points[:, second]).square().sum(-1)
    return functional.relu(APART - apart).sum(1).mean() + (points[..., 2].mean(1) - DEPTH).abs().mean()


def pose(found: Float[Tensor, "b 3"], measured: Float[Tensor, "b 3"]) -> Float[Tensor, ""]:
    """Mean error of the head's angles in radians; both are given in degrees."""
    return torch.deg2rad((found - measured).abs()).mean()


def deformation(expression: Float[Tensor, "b k 3"]) -> Float[Tensor, ""]:
    """Expressions are small: what the face's own shape and its pose can say, they must say."""
    return expression.abs().mean()


def guidance(points: Float[Tensor, "b n 2"], landmarks: Float[Tensor, "b n 2"]) -> Float[Tensor, ""]:
    """Wing loss (Feng et al. 2018) between keypoints and the landmarks they should lie on, in half widths."""
    off = (points - landmarks).abs()
    near = WING * torch.log1p(off / CURVE)
    bend = WING - WING * torch.log1p(torch.tensor(WING / CURVE))
    return torch.where(off < WING, near, off - bend.to(off.device)).mean()
