"""Train the implicit renderer: stage one of IF-MDM, self-supervised, from pairs of frames of one person.

``VIVAVOCE_DATA`` names the recordings and ``VIVAVOCE_MOTION`` the clips prepared from them; the frames to learn from
are cut into ``VIVAVOCE_FACES`` (default ``runs/faces``) when the run first needs them, together with the folder's
portraits, posed by the mesh renderer like people in the clips.

Each frame of a pair is painted from the other with the code that the network reads from it. What is painted should look
like the frame, most of all where a person is, at the eyes and at the mouth; to a critic that learns alongside, whose
inner layers measure likeness in place of a network that would have to be downloaded. Two additions of ours shorten the
training many times: the flow should carry landmarks to where they are seen, and changes of the code should tell how
landmarks move, by some linear map that is learned alongside and then thrown away.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from vivavoce import weights
from vivavoce.data import crops
from vivavoce.data.pairs import Pairs, beside, held, paired
from vivavoce.data.posed import posed
from vivavoce.errors import InputError
from vivavoce.face.mesh import INNER_LIPS, LEFT_EYE, LOWER_LIP, OUTER_LIPS, RIGHT_EYE, UPPER_LIP
from vivavoce.nets.critic import Critic, CriticConfig, deceit, hinge, unlikeness
from vivavoce.nets.lia import Appearance, Lia, LiaConfig
from vivavoce.nets.lia_start import start_as_source
from vivavoce.recipes.interior import DATA, filmed
from vivavoce.recipes.moda import JUDGES, clips
from vivavoce.render.implicit import SQUARE
from vivavoce.train.loop import Recipe
from vivavoce.train.tasks import Objective

FOLDER = "VIVAVOCE_FACES"
FRAMES = 60  # of a clip that are kept
LANDMARKS = 478
JUDGED = 64  # pairs of frames of people kept out of training
POSED = "posed "  # begins the name of a speaker who is a portrait
SMALL = LiaConfig(size=256, multiplier=0.125, bounded=True, groups=4, normalised=True)


@dataclass(frozen=True, slots=True)
class Losses:
    """How much each part counts."""

    reconstruction: float = 10.0  # weighted mean difference at three sizes
    perceptual: float = 2.0  # unlikeness in the critic's layers
    adversarial: float = 0.02
    guidance: float = 10.0  # landmarks carried astray by the flow, in half widths
    telling: float = 10.0  # and by the linear map of the codes
    range: float = 0.5  # what codes are beyond 1 before they are bounded, squared: at the bounds nothing is learned
    background: float = 0.2  # weight of a place where nobody is; 1 where a person is
    mouth: float = 4.0  # added in the middle of the mouth
    eyes: float = 1.5  # added in the middle of each eye
    shape: float = 10.0  # of both: what lips and eyes do about their own middles, which heads' ways would drown


class ImplicitTask:
    """Two players: the renderer and its critic."""

    def __init__(self, config: LiaConfig, critic: CriticConfig, losses: Losses, judged: Callable[[], Pairs]) -> None:
        self.lia, self.critic = Lia(config), Critic(critic)
        start_as_source(self.lia)
        self.tells = nn.Linear(config.motion, 2 * LANDMARKS, bias=False)  # change of the code -> of the landmarks
        self.losses, self.judged = losses, judged

    def players(self) -> Mapping[str, nn.Module]:
        """See :class:`vivavoce.train.tasks.Task`."""
        return {"critic": self.critic, "renderer": nn.ModuleDict({"lia": self.lia, "tells": self.tells})}

    def objectives(self, batch: Pairs, rng: torch.Generator) -> Iterator[Objective]:  # noqa: ARG002
        """See :class:`vivavoce.train.tasks.Task`."""
        shown = _signed(batch.pictures)
        target, there = _exchanged(shown), _exchanged(batch.landmarks)
        here = batch.landmarks.flatten(0, 1)
        appearance, code = self.lia.seen(shown.flatten(0, 1))
        other = _exchanged(code.unflatten(0, (-1, 2)))
        told = {
            "telling": off(self.tells(other - code).unflatten(1, (-1, 2)) - (there - here), self.losses.shape),
            "range": functional.relu(self.lia.encoder.read(appearance.latent).abs() - 1).square().mean(),
        }
        count = 2 * batch.painted
        if not count:
            yield self._objective(told)
            return
        first = Appearance(appearance.latent[:count], tuple(one[:count] for one in appearance.features))
        painted = self.lia(first, other[:count])
        drawn, real, here, there = painted.picture / 2 + 0.5, target[:count] / 2 + 0.5, here[:count], there[:count]
        yield Objective("critic", hinge(self.critic(real), self.critic(drawn.detach())))
        opinions = self.critic(drawn)
        weight = weighed(there, _exchanged(batch.person[: batch.painted]), self.losses, drawn.shape[-1])
        parts = {
            "reconstruction": difference(drawn, real, weight),
            "perceptual": unlikeness(self.critic(real), opinions),
            "adversarial": deceit(opinions),
            "guidance": astray(painted.flow, there, here, self.losses.shape),
            **told,
        }
        yield self._objective(parts)

    def _objective(self, parts: Mapping[str, Tensor]) -> Objective:
        loss = torch.stack([getattr(self.losses, name) * value for name, value in parts.items()]).sum()
        return Objective("renderer", loss, {name: float(value.detach()) for name, value in parts.items()})

    def judge(self) -> Mapping[str, float]:
        """Likeness of what is painted of people kept out of training.

        ``psnr`` is in dB; ``gain`` says by how many dB that is more than the source picture itself has; ``mouth`` and
        ``mouth_gain`` are the same for the square around the mouth. ``opening`` is the share of changes in how far
        lips are open that flows follow: networks that are not sure move lips too little.
        """
        lia, pairs = self.lia.plain(), self.judged()
        followed: list[Tensor] = []
        errors: dict[str, list[Tensor]] = {"drawn": [], "still": [], "mouth": [], "mouth_still": []}
        for at in range(0, len(pairs.pictures), 8):
            shown = _signed(pairs.pictures[at : at + 8])
            target, there = _exchanged(shown), _exchanged(pairs.landmarks[at : at + 8])
            appearance, code = lia.seen(shown.flatten(0, 1))
            drawn, flow, _ = lia(appearance, _exchanged(code.unflatten(0, (-1, 2))))
            here = pairs.landmarks[at : at + 8].flatten(0, 1)
            followed.append(torch.stack([_opening(there - carried(flow, there)), _opening(there - here)]))
            off = {"drawn": drawn - target, "still": shown.flatten(0, 1) - target}
            mouth = (_bump(there[:, list(OUTER_LIPS)], target.shape[-1]) > 0.5).float()[:, None]
            for name, kind in (("drawn", "mouth"), ("still", "mouth_still")):
                squared = (off[name] / 2).square().mean(1, keepdim=True)
                errors[name].append(squared.mean((1, 2, 3)))
                errors[kind].append((squared * mouth).sum((1, 2, 3)) / mouth.sum((1, 2, 3)))
        by_flow, by_face = torch.cat(followed, 1)
        psnr = {name: float(-10 * torch.cat(found).clamp_min(1e-6).log10().mean()) for name, found in errors.items()}
        return {
            "psnr": psnr["drawn"],
            "gain": psnr["drawn"] - psnr["still"],
            "mouth": psnr["mouth"],
            "mouth_gain": psnr["mouth"] - psnr["mouth_still"],
            "opening": float(by_flow @ by_face / by_face.square().sum().clamp_min(1e-9)),
        }

    def export(self, out: Path) -> Mapping[str, Any]:
        """See :class:`vivavoce.train.tasks.Task`."""
        figures = {name: round(value, 3) for name, value in self.judge().items()}
        lia = self.lia.plain()
        tensors = {name: value.half() for name, value in lia.state_dict().items()}
        facts = {"config": dataclasses.asdict(lia.config), "opening": figures["opening"]}
        weights.write(out / "if-mdm-renderer.safetensors", tensors, **facts)
        return {"kept_out": figures, "parameters": sum(p.numel() for p in self.lia.parameters())}


def _signed(pictures: UInt8[Tensor, "b 2 3 s s"]) -> Float[Tensor, "b 2 3 s s"]:
    return pictures.float() / 127.5 - 1


def _exchanged(pairs: Float[Tensor, "b 2 *s"]) -> Float[Tensor, "n *s"]:
    """Of every pair the second, then the first, in a row."""
    return pairs.flip(1).flatten(0, 1)


def difference(
    drawn: Float[Tensor, "b 3 h w"], real: Float[Tensor, "b 3 h w"], weight: Float[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    """Weighted mean absolute difference at full, half and quarter size: misplaced edges count less than lost ones."""
    off, parts = drawn - real, []
    for _ in range(3):
        parts.append((off.abs().mean(1) * weight).mean())
        off, weight = functional.avg_pool2d(off, 2), functional.avg_pool2d(weight[:, None], 2)[:, 0]
    return torch.stack(parts).mean()


def astray(
    flow: Float[Tensor, "b h w 2"], there: Float[Tensor, "b n 2"], here: Float[Tensor, "b n 2"], shape: float
) -> Float[Tensor, ""]:
    """How far the flow at landmarks ``there`` in the target points from the same landmarks ``here`` in the source.

    Landmarks that one of the pictures does not show count nothing; ``shape`` as in :func:`off`.
    """
    inside = (there.abs().amax(-1) < 1) & (here.abs().amax(-1) < 1)
    return off((carried(flow, there) - here) * inside[..., None], shape)


def carried(flow: Float[Tensor, "b h w 2"], there: Float[Tensor, "b n 2"]) -> Float[Tensor, "b n 2"]:
    """Where in the source the flow takes places ``there`` from."""
    told = functional.grid_sample(flow.movedim(-1, 1), there[:, None], align_corners=False, padding_mode="border")
    return told[:, :, 0].movedim(1, -1)


def _opening(landmarks: Float[Tensor, "b 478 2"]) -> Float[Tensor, " b"]:
    return (landmarks[:, list(LOWER_LIP), 1] - landmarks[:, list(UPPER_LIP), 1]).mean(1)


def off(wrong: Float[Tensor, "b 478 2"], shape: float) -> Float[Tensor, ""]:
    """Mean error of landmarks, and ``shape`` times that of lips and eyes about their own middles.

    Heads move many times further than lips. While a head's place is still wrong, both lips are wrong by the same, and
    nothing in an error landmark by landmark says that they should part.
    """
    features = [wrong[:, list(ring)] for ring in (OUTER_LIPS + INNER_LIPS, LEFT_EYE, RIGHT_EYE)]
    about = torch.cat([one - one.mean(1, keepdim=True) for one in features], 1)
    return wrong.abs().sum(-1).mean() + shape * about.abs().sum(-1).mean()


def weighed(
    landmarks: Float[Tensor, "b 478 2"], person: Float[Tensor, "b m m"], losses: Losses, side: int
) -> Float[Tensor, "b h w"]:
    """How much each place of a picture counts; 1 on average."""
    weight = losses.background + (1 - losses.background) * functional.interpolate(person[:, None], side)[:, 0]
    weight = weight + losses.mouth * _bump(landmarks[:, list(OUTER_LIPS)], side)
    for eye in (LEFT_EYE, RIGHT_EYE):
        weight = weight + losses.eyes * _bump(landmarks[:, list(eye)], side)
    return weight / weight.mean((1, 2), keepdim=True)


def _bump(points: Float[Tensor, "b n 2"], side: int) -> Float[Tensor, "b h w"]:
    """A smooth hill over points, half as high where the widest of them lie."""
    middle = points.mean(1)
    wide = (points[..., 0].amax(1) - points[..., 0].amin(1)).clamp_min(0.02) / 2
    at = (torch.arange(side, device=points.device) + 0.5) / side * 2 - 1
    x, y = at - middle[:, :1], at - middle[:, 1:]
    return torch.exp2(-(x[:, None].square() + y[:, :, None].square()) / wide[:, None, None].square())


def folder() -> Path:
    """Where the frames are."""
    return Path(os.environ.get(FOLDER, "runs/faces"))


@cache
def faces() -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Files to train on and to judge by; frames that are not cut yet are cut first.

    Raises :class:`InputError` where there is nothing to cut them from.
    """
    place = folder()
    if not (place / "complete").exists():
        options: dict[str, Any] = {"side": 256, "frames": FRAMES, "square": SQUARE[:2], "inside": True}
        crops.cut_all(filmed(), place, **options)
        motion = np.concatenate([clip.rows[clip.valid] for clip in clips()])
        crops.cut_all(posed(Path(os.environ.get(DATA, "data")), POSED, motion), place, **options)
        (place / "complete").touch()
    files = sorted(place.glob("*.npz"))
    aside = {file for file in files if held(file).speaker in JUDGES}
    learned = tuple(file for file in files if file not in aside)
    if not learned or not aside:
        raise InputError(f"{place} needs frames of people to learn from and of {', '.join(JUDGES[:3])} ... to judge by")
    return learned, tuple(sorted(aside))


def renderer(
    name: str = "if-mdm-renderer",
    config: LiaConfig = SMALL,
    *,
    codes: int = 3000,
    steps: int = 7000,
    batch: int = 3,
    told: int = 4,
) -> Recipe:
    """The small renderer that ships with the package: 256 pixels, codes of 20 numbers, local flows.

    In the first ``codes`` of ``steps`` nothing is painted. ``told`` pairs of a batch only teach what codes tell; each
    of their frames is seen in a view of its own, so that codes tell where a face is, while what is painted keeps still
    what stands still.
    """

    @cache
    def judged() -> Pairs:
        return paired(faces()[1], JUDGED, np.random.default_rng(0))

    def data(seed: int) -> Callable[[int], Pairs]:
        learned = faces()[0]

        def batch_at(step: int) -> Pairs:
            rng = np.random.default_rng((seed, step))
            others = dataclasses.replace(paired(learned, told, rng, views=2), painted=0)
            return others if step < codes else beside(paired(learned, batch, rng, views=1), others)

        return batch_at

    return Recipe(
        name=name,
        task=lambda: ImplicitTask(config, CriticConfig(scales=1, first=16), Losses(), judged),
        data=data,
        steps=steps,
        lr={"renderer": 1.2e-3, "critic": 2e-4},
        betas=(0.8, 0.99),
        weight_decay=0.0,
        warm_up=100,
        clip_norm=2.0,
        ema=0.995,
        judge_every=300,
        save_minutes=3.0,
        facts={"frames": FRAMES, "kept_out": JUDGES},
    )


def plain() -> Recipe:
    """The same without the local flow module: LIA's single flow, to compare with."""
    return renderer("if-mdm-renderer-plain", dataclasses.replace(SMALL, groups=1))


def paper() -> Recipe:
    """The published size with the refine block, for pictures 512 wide. Where no GPU is, a step takes minutes."""
    config = LiaConfig(size=512, bounded=True, groups=4, refine=512, fold=8, normalised=True)
    recipe = renderer("if-mdm-renderer-paper", config, codes=20_000, steps=1_500_000, batch=8)
    return dataclasses.replace(
        recipe, lr={"renderer": 1e-4, "critic": 1e-4}, warm_up=1000, ema=0.999, bf16=True, judge_every=5000
    )


def toy() -> Recipe:
    """A renderer of drawn faces 32 pixels wide: seconds long, no data."""
    config = LiaConfig(size=32, multiplier=0.0625, bounded=True, groups=2, refine=8, fold=2, normalised=True)

    @cache
    def judged() -> Pairs:
        return pretend(8, np.random.default_rng(7))

    return Recipe(
        name="toy-if-mdm-renderer",
        # Lips 4 pixels wide cannot have ten times a head's say: what is painted would never settle.
        task=lambda: ImplicitTask(config, CriticConfig(scales=1, first=8, halvings=2), Losses(shape=2.0), judged),
        data=lambda seed: lambda step: pretend(4, np.random.default_rng((seed, step))),
        steps=300,
        lr={"renderer": 3e-3, "critic": 5e-4},
        betas=(0.5, 0.99),
        weight_decay=0.0,
        warm_up=20,
        ema=0.98,
        judge_every=100,
        keep="psnr",
        facts={"data": "faces drawn from ellipses"},
    )


def pretend(count: int, rng: np.random.Generator, side: int = 32) -> Pairs:
    """Pairs of drawn faces; every landmark lies on one of the drawn features."""
    from vivavoce.data.crops import GUIDES
    from vivavoce.recipes import keypoint

    drawn = keypoint.pretend(count, rng, side)
    nearest = np.array([n % len(GUIDES) for n in range(478)])
    for place, landmark in enumerate(GUIDES.values()):
        nearest[landmark] = place
    return Pairs(drawn.pictures, drawn.guides[:, :, nearest], torch.ones(count, 2, 32, 32), painted=count)
