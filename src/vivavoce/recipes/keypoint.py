"""Train the keypoint renderer: the first stage of LivePortrait (Guo et al. 2024), at its size or as a toy.

``VIVAVOCE_DATA`` names the recordings and ``VIVAVOCE_MOTION`` the clips prepared from them; the frames to learn from
are cut into ``VIVAVOCE_CROPS`` (default ``runs/crops``) when the run first needs them. ``vivavoce train
liveportrait-paper`` then writes a weight folder that ``--weights`` takes.

One frame of a clip is drawn from another. What is drawn should look like the frame: at several sizes, to a critic that
is trained alongside, and in the critic's inner layers, which stand in for the perceptual and identity networks of the
paper, whose weights would have to be downloaded. The keypoints obey ``motion/priors.py``. Stitching and retargeting,
which the paper trains in a second stage, are written with weights that change nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from vivavoce.data.crops import GUIDES, Crops, cut_all, load
from vivavoce.data.pairs import two_of
from vivavoce.errors import InputError
from vivavoce.motion import keypoints, priors
from vivavoce.motion.space import KEYPOINT
from vivavoce.nets.appearance import AppearanceConfig
from vivavoce.nets.critic import Critic, CriticConfig, deceit, hinge, unlikeness
from vivavoce.nets.liveportrait import DRAWN, Networks, NetworksConfig
from vivavoce.nets.motion_extractor import MotionExtractorConfig
from vivavoce.nets.retargeting import RetargetingConfig
from vivavoce.nets.spade import DecoderConfig
from vivavoce.nets.warping import WarpingConfig
from vivavoce.recipes.interior import filmed
from vivavoce.recipes.moda import JUDGES
from vivavoce.train.loop import Recipe
from vivavoce.train.tasks import Objective

FOLDER = "VIVAVOCE_CROPS"
FRAMES = 32  # of a clip that are kept
JUDGED = 64  # pairs of frames of people kept out of training
NOT_YET = ("stitching", "eyes", "lips")  # networks of the second stage


@dataclass(frozen=True, slots=True)
class Losses:
    """How much each part counts. Those of Wang et al. 2021, whose first stage LivePortrait's is; the last is ours."""

    perceptual: float = 10.0  # unlikeness in the critic's layers
    adversarial: float = 1.0
    reconstruction: float = 10.0  # mean difference of the pictures, at three sizes
    equivariance: float = 20.0
    spread: float = 10.0
    pose: float = 20.0
    deformation: float = 5.0
    guidance: float = 10.0


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two frames of one clip each: the first is the source, the second is to be drawn."""

    pictures: UInt8[Tensor, "b 2 3 s s"]
    pose: Float[Tensor, "b 2 3"]  # pitch, yaw, roll in degrees
    guides: Float[Tensor, "b 2 g 2"]  # where the keypoints of GUIDES should lie, in half widths


class Shown(NamedTuple):
    """What the networks make of pairs."""

    drawn: Float[Tensor, "b 3 s s"]
    rows: Float[Tensor, "b 2 70"]
    canonical: Float[Tensor, "b 21 3"]  # of the source
    points: Float[Tensor, "b 2 21 3"]  # both frames' keypoints, on the source's canonical ones


class RendererTask:
    """Two players: the renderer and its critic."""

    def __init__(self, config: NetworksConfig, critic: CriticConfig, losses: Losses, judged: Callable[[], Pairs]):
        self.networks, self.critic = Networks(config), Critic(critic)
        self.losses, self.judged = losses, judged
        begin(self.networks)

    def players(self) -> Mapping[str, nn.Module]:
        """See :class:`vivavoce.train.tasks.Task`."""
        return {"critic": self.critic, "renderer": self.networks}

    def objectives(self, batch: Pairs, rng: torch.Generator) -> Iterator[Objective]:
        """See :class:`vivavoce.train.tasks.Task`."""
        pictures = batch.pictures.float() / 255
        small = functional.avg_pool2d(pictures.flatten(0, 1), 2).unflatten(0, (-1, 2))
        shown, target = self.shown(small), pictures[:, 1]
        yield Objective("critic", hinge(self.critic(target), self.critic(shown.drawn.detach())))
        opinions = self.critic(shown.drawn)
        parts = {
            "perceptual": unlikeness(self.critic(target), opinions),
            "adversarial": deceit(opinions),
            "reconstruction": difference(shown.drawn.float(), target),
            **self._priors(shown, small, batch, rng),
        }
        loss = torch.stack([getattr(self.losses, name) * value.float() for name, value in parts.items()]).sum()
        yield Objective("renderer", loss, {name: float(value.detach()) for name, value in parts.items()})

    def shown(self, small: Float[Tensor, "b 2 3 h w"]) -> Shown:
        """Draw the second picture of each pair, twice as wide, from the first."""
        rows, canonical = keypoints.decoded(self.networks.motion(small.flatten(0, 1)))
        rows, canonical = rows.unflatten(0, (-1, 2)), canonical.unflatten(0, (-1, 2))[:, 0]
        with torch.autocast(small.device.type, enabled=False):  # places need single precision
            points = keypoints.placed(rows, canonical[:, None])
        volume = self.networks.appearance(small[:, 0])
        features = self.networks.warping(volume, points[:, 1], points[:, 0]).features
        return Shown(self.networks.decoder(features), rows, canonical, points)

    def _priors(self, shown: Shown, small: Tensor, batch: Pairs, rng: torch.Generator) -> dict[str, Tensor]:
        crumple = priors.Crumple.random(len(small), rng)
        rows, _ = keypoints.decoded(self.networks.motion(crumple.picture(small[:, 1])))
        points, guided = shown.points.flatten(0, 1), list(GUIDES)
        with torch.autocast(small.device.type, enabled=False):
            moved = keypoints.placed(rows, shown.canonical)
        return {
            "equivariance": priors.equivariance(shown.points[:, 1], moved, crumple),
            "spread": priors.spread(points),
            "pose": priors.pose(shown.rows[..., KEYPOINT.slice("rotation")].flatten(0, 1), batch.pose.flatten(0, 1)),
            "deformation": priors.deformation(KEYPOINT.unpack(shown.rows)["expression"].flatten(0, 1)),
            "guidance": priors.guidance(points[:, guided, :2], batch.guides.flatten(0, 1)),
        }

    def judge(self) -> Mapping[str, float]:
        """Likeness of what is drawn of people kept out of training, against showing the source unmoved.

        ``psnr`` is in dB; ``gain`` says by how many dB the drawing is nearer than the source itself.
        """
        pairs, device = self.judged(), next(self.networks.parameters()).device
        drawn, still = [], []
        for two in pairs.pictures.split(4):
            pictures = two.to(device).float() / 255
            small = functional.avg_pool2d(pictures.flatten(0, 1), 2).unflatten(0, (-1, 2))
            shown = self.shown(small).drawn
            drawn.append((shown - pictures[:, 1]).square().mean((1, 2, 3)))
            still.append((pictures[:, 0] - pictures[:, 1]).square().mean((1, 2, 3)))
        psnr, before = (-10 * torch.cat(errors).clamp_min(1e-6).log10().mean() for errors in (drawn, still))
        return {"psnr": float(psnr), "gain": float(psnr - before)}

    def export(self, out: Path) -> Mapping[str, Any]:
        """See :class:`vivavoce.train.tasks.Task`."""
        figures = {name: round(value, 3) for name, value in self.judge().items()}
        self.networks.save(out, CARD.format(**figures), sources={}, figures=figures)
        return {"kept_out": figures, "parameters": sum(p.numel() for p in self.networks.parameters())}


CARD = """# A keypoint renderer trained with Vivavoce

First stage only: stitching and retargeting change nothing. On people kept out of training, pictures of one frame drawn
from another reach {psnr} dB, {gain} dB more than the source picture itself.
"""


def begin(networks: Networks) -> None:
    """Weights to begin with: keypoints apart and in the picture, faces that do not move, no second stage."""
    with torch.no_grad():
        for name in NOT_YET:
            last = getattr(networks, name)[-1]
            last.weight.zero_()
            last.bias.zero_()
        heads = networks.motion.heads
        for name in ("canonical", "scale", "translation", "expression"):
            head = heads[name]
            assert isinstance(head, nn.Linear)  # noqa: S101  (for the type checker)
            head.weight.mul_(0.1)
            head.bias.zero_()
            if name == "scale":
                head.bias.fill_(1.0)
            if name == "canonical":
                head.bias.copy_(torch.rand(head.bias.shape) * 1.2 - 0.6)
    for name in NOT_YET:
        getattr(networks, name).requires_grad_(False)


def difference(drawn: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
    """Mean absolute difference at full, half and quarter size, so that a misplaced edge counts less than a lost one."""
    sizes = [functional.l1_loss(functional.avg_pool2d(drawn, n), functional.avg_pool2d(target, n)) for n in (1, 2, 4)]
    return torch.stack(sizes).mean()


def folder() -> Path:
    """Where the frames are."""
    return Path(os.environ.get(FOLDER, "runs/crops"))


@cache
def clips() -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Files to train on and to judge by; frames that are not cut yet are cut first.

    Raises :class:`InputError` where there is nothing to cut them from.
    """
    if not (folder() / "complete").exists():
        cut_all(filmed(), folder(), side=DRAWN, frames=FRAMES)
        (folder() / "complete").touch()
    files = sorted(folder().glob("*.npz"))
    aside = {file for file in files if load(file).speaker in JUDGES}
    learned = tuple(file for file in files if file not in aside)
    if not learned or not aside:
        raise InputError(
            f"{folder()} needs clips of people to learn from and of {', '.join(JUDGES[:3])} ... to judge by"
        )
    return learned, tuple(sorted(aside))


def paired(files: tuple[Path, ...], count: int, rng: np.random.Generator) -> Pairs:
    """``count`` clips by chance, two frames of each."""
    return stacked(
        [(crops := load(files[rng.integers(len(files))]), two_of(len(crops.ends), rng)) for _ in range(count)]
    )


def stacked(chosen: list[tuple[Crops, tuple[int, int]]]) -> Pairs:
    """Pairs of these frames."""
    pictures = np.stack([[crops.picture(n) for n in two] for crops, two in chosen])
    pose = np.stack([crops.pose[list(two)] for crops, two in chosen])
    guides = np.stack([crops.guides[list(two)] for crops, two in chosen])
    return Pairs(torch.from_numpy(pictures), torch.from_numpy(pose), torch.from_numpy(guides))


def paper() -> Recipe:
    """The published size. Where no GPU is, a step takes minutes."""

    @cache
    def judged() -> Pairs:
        return paired(clips()[1], JUDGED, np.random.default_rng(0))

    def data(seed: int) -> Callable[[int], Pairs]:
        learned = clips()[0]
        return lambda step: paired(learned, 4, np.random.default_rng((seed, step)))

    return Recipe(
        name="liveportrait-paper",
        task=lambda: RendererTask(NetworksConfig(), CriticConfig(), Losses(), judged),
        data=data,
        steps=400_000,
        lr={"renderer": 2e-4, "critic": 2e-4},
        betas=(0.5, 0.999),
        weight_decay=0.0,
        warm_up=1000,
        clip_norm=10.0,
        ema=0.999,
        bf16=True,
        judge_every=5000,
        keep="psnr",
        save_minutes=15.0,
        facts={"frames": FRAMES, "kept_out": JUDGES},
    )


TOY = NetworksConfig(
    AppearanceConfig(first=8, channels=8, depth=4, blocks=1),
    MotionExtractorConfig(depths=(1, 1, 1, 1), widths=(8, 16, 32, 64)),
    WarpingConfig(channels=8, depth=4, compressed=1, first=8, halvings=2, most=32, outside=32),
    DecoderConfig(inside=32, wide=48, last=8, hidden=8, blocks=1),
    RetargetingConfig(stitching=(8,), eyes=(8,), lips=(8,)),
)


def toy() -> Recipe:
    """A renderer of drawn faces 64 pixels wide: a minute long, no data."""

    @cache
    def judged() -> Pairs:
        return pretend(16, np.random.default_rng(7))

    return Recipe(
        name="toy-liveportrait",
        task=lambda: RendererTask(TOY, CriticConfig(first=8, halvings=3), Losses(), judged),
        data=lambda seed: lambda step: pretend(4, np.random.default_rng((seed, step))),
        steps=400,
        lr={"renderer": 2e-3, "critic": 5e-4},
        betas=(0.5, 0.999),
        weight_decay=0.0,
        warm_up=20,
        clip_norm=10.0,
        ema=0.99,
        judge_every=100,
        keep="psnr",
        facts={"data": "faces drawn from ellipses"},
    )


def pretend(count: int, rng: np.random.Generator, side: int = 64) -> Pairs:
    """Pairs of drawn faces that turn, lean, move about and speak."""
    pictures, poses, guides = [], [], []
    for _ in range(count):
        looks = rng.uniform(60, 255, (4, 3))  # background, skin, eyes, lips
        frames = [_face(looks, rng, side) for _ in range(2)]
        pictures.append([frame[0] for frame in frames])
        poses.append([frame[1] for frame in frames])
        guides.append([frame[2] for frame in frames])
    arrays = (np.array(pictures), np.array(poses, np.float32), np.array(guides, np.float32))
    return Pairs(*(torch.from_numpy(array) for array in arrays))


def _face(looks: np.ndarray, rng: np.random.Generator, side: int) -> tuple[np.ndarray, list[float], np.ndarray]:
    """One picture, its pose and the places of the keypoints of GUIDES."""
    (yaw, roll), opening = rng.uniform(-20, 20, 2), rng.uniform(0.02, 0.12)
    c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    middle = rng.uniform(-0.1, 0.1, 2)
    aside = -0.5 * np.sin(np.radians(yaw))

    def at(x: float, y: float) -> np.ndarray:
        return middle + np.array([[c, -s], [s, c]]) @ [x, y]

    def ellipse(where: np.ndarray, axes: tuple[float, float], colour: np.ndarray) -> None:
        pixels = tuple(round(float(v)) for v in (where + 1) * side / 2 * 16)
        sizes = tuple(round(v * side / 2 * 16) for v in axes)
        cv2.ellipse(picture, pixels, sizes, roll, 0, 360, colour.tolist(), -1, cv2.LINE_AA, 4)

    picture = np.full((side, side, 3), looks[0]).astype(np.uint8)
    ellipse(at(0.0, 0.0), (0.5, 0.65), looks[1])
    eyes, lips = [at(aside + x, -0.2) for x in (-0.2, 0.2)], at(aside, 0.3)
    for eye in eyes:
        ellipse(eye, (0.09, 0.06), looks[2])
    ellipse(lips, (0.2, opening + 0.04), looks[3])
    ellipse(lips, (0.15, opening), 0.2 * looks[3])
    places = {11: eyes[0], 15: eyes[1], 13: at(aside - 0.2, -0.26), 16: at(aside + 0.2, -0.26), 18: at(aside, -0.2)}
    places |= {6: at(aside - 0.2, 0.3), 12: at(aside + 0.2, 0.3)}
    for above, below, far in ((14, 17, opening + 0.04), (19, 20, opening)):
        places |= {above: at(aside, 0.3 - far), below: at(aside, 0.3 + far)}
    return picture.transpose(2, 0, 1).copy(), [0.0, yaw, roll], np.stack([places[k] for k in GUIDES])
