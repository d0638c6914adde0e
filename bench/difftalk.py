"""How well lower faces of people never seen in training are painted, against simple rivals; and what it costs.

    VIVAVOCE_DATA=DATA VIVAVOCE_MOTION=CLIPS python bench/difftalk.py WEIGHTS [--frames 60] [--every 4] [--clips 19]

Of every clip's first frames (short clips: of fewer, so that some are left) every fourth is painted with its own speech,
seeing it without its lower half. References are chosen as those of a film, but from frames that lie a second or more
after the last one painted. The mouth is a square of 0.52 face widths of the upright 256 x 256 crop. Landmarks are
tracked on what is painted and, alike, on the truth.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vivavoce.data.clips import recordings
from vivavoce.data.prepare import Prepared, load
from vivavoce.evaluate.metrics import closeness, regions
from vivavoce.face import lower, upright
from vivavoce.face.mesh import INNER_LIPS, OUTER_LIPS, lip_opening
from vivavoce.face.model import FaceModel
from vivavoce.face.track import FaceTracker
from vivavoce.media.read import read_video
from vivavoce.motion.surrounded import Heard
from vivavoce.nets.difftalk import DiffTalk, DiffTalkConfig
from vivavoce.nets.talk_conditions import reach
from vivavoce.nets.unet import UNet
from vivavoce.nets.vae import FirstStage
from vivavoce.registry import load as load_system
from vivavoce.render.aligned import image, tensor
from vivavoce.render.latent import SOUGHT, LatentRenderer, Painter, shows
from vivavoce.render.mesh import MeshRenderer
from vivavoce.render.references import Held, tensors
from vivavoce.render.repaint import softened
from vivavoce.sampling.painting import paint
from vivavoce.speech.encoder import PhoneEncoder
from vivavoce.system import Features, Portrait
from vivavoce.systems import moda
from vivavoce.timeline import Clock, Span

Rgb = np.ndarray
SIDE = 256
APART = 25  # frames between those painted and the first that may be a reference
LIPS = [*OUTER_LIPS, *INNER_LIPS]


@dataclass(frozen=True)
class Take:
    """The first frames of a clip."""

    clip: Prepared
    pictures: list[Rgb]
    at: np.ndarray  # which frames of the clip they are
    judged: range  # which of them are painted
    references: list[Held]
    plain: tuple[Rgb, np.ndarray]  # the picture of the first one, and the landmarks in it
    speech: Tensor  # features of every frame of the clip
    motion: Tensor  # what the generator of moda makes of them

    def square(self, picture: Rgb, n: int) -> Rgb:
        """The upright crop of frame ``n``."""
        return upright.cut(picture, self.place(n).square, SIDE)

    def place(self, n: int) -> lower.Place:
        """Where the face of frame ``n`` is."""
        return lower.place(self.clip.landmarks[self.at[n]].astype(np.float64), FaceModel.pretrained())


@dataclass
class Figures:
    """Of one way of painting, clip by clip."""

    psnr: list[float]
    ssim: list[float]
    distance: list[float]  # of lip landmarks, percent of a face width
    correlation: list[float]  # of the lip opening
    amplitude: list[float]
    change: list[float]  # of the mouth from one painted frame to the next, grey levels
    sharp: list[float]  # differences between neighbouring pixels of the mouth, as a share of the truth's

    def row(self) -> str:
        """Means over clips."""
        values = [np.nanmean(one) for one in vars(self).values()]
        return " | ".join(f"{v:.{d}f}" for v, d in zip(values, (2, 3, 2, 2, 2, 2, 2), strict=True))


def takes(net: DiffTalk, given: argparse.Namespace) -> Iterator[Take]:
    """Talking clips of the split."""
    split, clock, generator = given.split, Clock(), moda.assemble().generator
    files = {one.name: one.path for one in recordings(Path(os.environ["VIVAVOCE_DATA"]), split=split)}
    encoder, renderer = PhoneEncoder.pretrained(), LatentRenderer(MeshRenderer(), net, lambda audio: Heard(audio, 0))
    found = (load(file) for file in sorted(Path(os.environ["VIVAVOCE_MOTION"]).glob("*.npz")))
    chosen = (one for one in found if one.split == split and one.kind == "talking" and one.name in files)
    for clip in islice(chosen, given.clips):
        seen = np.flatnonzero(clip.valid)
        count = min(given.frames, (len(seen) - APART) * 2 // 3)
        later = seen[count + APART :][:SOUGHT]
        worth = [shows(clip.landmarks[n].astype(np.float64)) for n in later]
        best, pictures, faces, plain = int(later[np.argmax(worth)]), [], [], None
        for n, picture in enumerate(islice(read_video(files[clip.name], clock.fps), int(later[-1]) + 1)):
            if n in seen[:count]:
                pictures.append(image(picture))
            if n in later:
                points = clip.landmarks[n].astype(np.float64)
                faces.append(renderer.held(image(picture), points, torch.from_numpy(clip.rows[n])))
                plain = (image(picture), points) if n == best else plain
        assert plain is not None  # noqa: S101
        with torch.inference_mode():
            heard = torch.cat([f.rows for f in encoder.features(clock, [torch.from_numpy(clip.audio)])])
            still = Portrait(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.from_numpy(clip.rows[best])[None], {})
            spoken = generator.drives(still, [Features(Span(0, len(heard)), heard)], seed=0)
            moving = torch.cat([drive.motion.rows for drive in spoken])
        shown, references = range(0, count, given.every), renderer.chosen(faces, worth)
        yield Take(clip, pictures, seen[:count], shown, references, plain, heard, moving)


def around(speech: Tensor, frame: int, net: DiffTalk) -> Tensor:
    """Features around a frame, as the system hears them; silence outside the clip."""
    before, after = reach(net.config.conditions)
    ahead = min(after, waited())
    at = torch.arange(frame - before, frame + after + 1).clamp(max=frame + ahead)
    there = (at >= 0) & (at < len(speech))
    return speech[torch.where(there, at, 0)] * there[:, None]


@cache
def waited() -> int:
    """Frames that the system hears ahead."""
    return moda.assemble().generator.lookahead


def painted(
    take: Take,
    net: DiffTalk,
    heard: Take | None = None,
    *,
    true: bool = False,
    count: int | None = None,
    **options: Any,
) -> list[Rgb]:
    """Frames with what is painted of what another take says (or its own), or with the true lips.

    The first ``count`` references are those there are; all, if not said.
    """
    renderer = LatentRenderer(MeshRenderer(), net, lambda audio: Heard(audio, 0), **options)
    said = heard or take
    rows = torch.from_numpy(take.clip.rows) if true else said.motion
    with torch.inference_mode():
        cache = tensors(take.references[:count], "reference.")
        painter = Painter(renderer, Portrait(tensor(take.plain[0])[None], torch.zeros(1, 48), cache))
        made = []
        for n in take.judged:
            frame, picture = int(take.at[n]), take.pictures[n]
            row, points = rows[min(frame, len(rows) - 1)], take.clip.landmarks[frame]
            made.append(painter.painted(picture, points, n, row, around(said.speech, frame, net), 7))
    return made


def filled(take: Take) -> list[Rgb]:
    """Squares whose lower face is the first reference's."""
    at = lower.place(take.plain[1], FaceModel.pretrained())
    return _mixed(take, repeat(upright.cut(take.plain[0], at.square, SIDE)))


def recoded(take: Take, net: DiffTalk) -> list[Rgb]:
    """Squares whose lower face is their own after the first stage."""
    renderer = LatentRenderer(MeshRenderer(), net, lambda audio: Heard(audio, 0))

    def through() -> Iterator[Rgb]:
        for n in take.judged:
            square = take.square(take.pictures[n], n).copy()
            with torch.inference_mode():
                drawn = net.first_stage.decode(renderer.latents(square[net.config.pixels])[0])[0].clamp(-1, 1)
            square[net.config.pixels] = image(((drawn + 1) * 127.5).round().to(torch.uint8))
            yield square

    return _mixed(take, through())


def _mixed(take: Take, made: Iterator[Rgb]) -> list[Rgb]:
    found = []
    for n, over in zip(take.judged, made, strict=False):
        square, whole = take.square(take.pictures[n], n), slice(0, SIDE)
        inside = lower.region(take.place(n), SIDE, FaceModel.pretrained())
        weight = softened(inside, (whole, whole))[..., None]
        found.append(np.rint(square + (over.astype(np.float32) - square) * weight).astype(np.uint8))
    return found


def meshed(take: Take) -> list[Rgb]:
    """Frames dubbed by the mesh renderer, driven by the same speech."""

    class Strip:
        def pictures(self) -> Iterator[Tensor]:
            while True:
                yield from (tensor(one) for one in take.pictures)

    sound = torch.from_numpy(take.clip.audio[: Clock().sample(len(take.pictures))])
    clips = load_system("moda").stream(Strip(), [sound])
    drawn = [image(one) for clip in clips for one in clip.rgb]
    return [drawn[n] for n in take.judged]


def judged(take: Take, squares: list[Rgb], figures: Figures) -> None:
    """Add a clip's figures."""
    true, real = truth(take)
    seen = _tracked(squares)
    psnr, ssim, change, sharp, last = [], [], [], [], None
    for n, made, was in zip(take.judged, squares, true, strict=True):
        points = np.column_stack([take.place(n).into(take.clip.landmarks[take.at[n]], SIDE), np.zeros(478)])
        box = regions(points, SIDE, SIDE)["mouth"]
        close = closeness(made, was, {"mouth": box})["mouth"]
        psnr.append(close[0])
        ssim.append(close[1])
        now, then = (box.cut(one).astype(np.float64) for one in (made, was))
        sharp.append(_edges(now) / max(_edges(then), 1e-3))
        if last is not None:
            change.append(np.abs(now - box.cut(last)).mean())
        last = made
    wide = np.linalg.norm(real[:, 234] - real[:, 454], axis=-1).mean()
    away = np.linalg.norm((seen - real)[:, LIPS, :2], axis=-1).mean() / wide
    model = FaceModel.pretrained()
    opening = np.array([[lip_opening(model.canonical(one)[0]) for one in points] for points in (seen, real)])
    figures.psnr.append(float(np.mean(psnr)))
    figures.ssim.append(float(np.mean(ssim)))
    figures.distance.append(100 * float(away))
    figures.change.append(float(np.mean(change)))
    figures.sharp.append(float(np.mean(sharp)))
    figures.correlation.append(float(np.corrcoef(opening)[0, 1]) if opening.std(1).min() > 1e-5 else 0.0)
    figures.amplitude.append(float(opening[0].std() / max(opening[1].std(), 1e-5)))


def truth(take: Take) -> tuple[list[Rgb], np.ndarray]:
    """The squares as they were filmed, and the landmarks tracked in them."""
    if take.clip.name not in _TRUTH:
        squares = [take.square(take.pictures[n], n) for n in take.judged]
        _TRUTH[take.clip.name] = squares, _tracked(squares)
    return _TRUTH[take.clip.name]


_TRUTH: dict[str, tuple[list[Rgb], np.ndarray]] = {}  # by clip: tracking takes its time


def _edges(picture: np.ndarray) -> float:
    return float(np.abs(np.diff(picture, axis=1)).mean() + np.abs(np.diff(picture, axis=0)).mean())


def _tracked(squares: list[Rgb]) -> np.ndarray:
    last, found = None, []
    for face in FaceTracker().follow(iter(squares)):
        last = face or last
        found.append(np.full((478, 3), np.nan) if last is None else last.landmarks.astype(np.float64))
    return np.stack(found)


def qualities(net: DiffTalk, given: argparse.Namespace) -> list[str]:
    """Rows of the table."""
    some = list(takes(net, given))
    steps = given.steps[0]
    own = partial(painted, net=net, steps=steps)
    ways: dict[str, Callable[[int], list[Rgb]]] = {
        "truth": lambda n: truth(some[n])[0],
        "(a) the reference's lower face": lambda n: filled(some[n]),
        "(b) the mesh renderer": lambda n: meshed(some[n]),
        "(c) the first stage alone": lambda n: recoded(some[n], net),
        **{f"painted, {k} steps": lambda n, k=k: painted(some[n], net, steps=k) for k in given.steps},
        "painted, one reference": lambda n: own(some[n], count=1),
        "painted, another's speech": lambda n: own(some[n], heard=some[n - 1]),
        "painted, lips as heard": lambda n: own(some[n], lips="heard"),
        "painted, lips as heard, another's speech": lambda n: own(some[n], heard=some[n - 1], lips="heard"),
        "painted, progressive": lambda n: own(some[n], progressive=True),
        "painted, true lips": lambda n: own(some[n], true=True),
    }
    rows = []
    for name, way in ((name, way) for name, way in ways.items() if re.search(given.ways or "", name)):
        figures = Figures([], [], [], [], [], [], [])
        for n, take in enumerate(some):
            made = way(n)
            if name.startswith(("painted", "(b)")):
                made = [take.square(one, k) for k, one in zip(take.judged, made, strict=True)]
            judged(take, made, figures)
        rows.append(f"| {name} | {figures.row()} |")
        print(rows[-1], flush=True)
    return rows


def costs(net: DiffTalk) -> list[str]:
    """Processor seconds of one frame, one thread: denoising alone, and what comes before and after it."""
    top, bottom, left, right = net.config.painting.window
    maps, factor = (bottom - top, right - left), net.config.first_stage.factor
    x, told = torch.zeros(1, 3, *maps), torch.zeros(1, 1, net.config.unet.context)
    picture = torch.zeros(1, 3, factor * maps[0], factor * maps[1])
    around_it = 2 * _cpu(lambda: net.first_stage.encode(picture)) + _cpu(lambda: net.first_stage.decode(x))
    rows = [
        f"| ours, {n} steps | {_cpu(lambda n=n: paint(net, x, x, x, told, steps=n), 1 if n > 8 else 5):.3f} |"
        for n in (200, 50, 8, 4, 2, 1)
    ]
    return [*rows, f"| ours, two pictures to latents and one back | {around_it:.3f} |"]


def published_steps() -> list[str]:
    """Denoising at the published size, for pictures of 256 and of 512; hundreds of steps are as many times one."""
    published, rows = DiffTalkConfig(), list[str]()
    large = UNet(published.unet).eval()
    token = torch.zeros(1, 1, published.unet.context)
    for side, config in ((256, published.first_stage), (512, published.first_stage.large())):
        x = torch.zeros(1, config.latent, side // config.factor, side // config.factor)
        given = torch.zeros(1, 2 * config.latent, *x.shape[2:])
        step = _cpu(lambda x=x, g=given: large(x, torch.zeros(1), g, token), 1)
        size = " x ".join(str(n) for n in (*x.shape[2:], x.shape[1]))
        counts = ", ".join(f"{n}: {n * step:.0f}" for n in (200, 50, 8))
        rows.append(f"| published size, {side}: a step on latents of {size} ({counts}) | {step:.2f} |")
    return rows


def published_stages() -> list[str]:
    """The same of the published first stages."""
    published, rows = DiffTalkConfig(), list[str]()
    for side, config in ((256, published.first_stage), (512, published.first_stage.large())):
        stage = FirstStage(replace(config, attention=False)).eval()
        seconds = _cpu(lambda s=stage, p=side: s.decode(s.encode(torch.zeros(1, 3, p, p))), 0)
        rows.append(f"| published first stage, {side}: there and back | {seconds:.1f} |")
    return rows


def _cpu(work: Callable[[], object], rounds: int = 5) -> float:
    with torch.inference_mode():
        found = []
        for _ in range(rounds + 1):
            began = time.process_time()
            work()
            found.append(time.process_time() - began)
    return float(np.median(found[min(1, rounds) :]))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--every", type=int, default=4, help="paint every n-th of them")
    parser.add_argument("--clips", type=int, default=19)
    parser.add_argument("--split", default="heldout")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--only", choices=("quality", "cost"))
    parser.add_argument("--ways", help="only rows whose names have this (a pattern)")
    parser.add_argument("--published", action="store_true", help="also what the published sizes cost")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "difftalk.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    net = DiffTalk.load(given.weights)
    text = ["# DiffTalk: lower faces of people never seen in training", ""]
    if given.only != "cost":
        about = (
            f"First {given.frames} frames, every {given.every}., of {given.clips} clips of the split `{given.split}`;"
        )
        head = "| | PSNR, dB | SSIM | lip distance, % | opening: correlation | amplitude | change, 0-255 | sharpness |"
        text += [f"{about} mean over clips.", "", head, f"|{8 * '---|'}", *qualities(net, given), ""]
    if given.only != "quality":
        text += ["Processor time of a frame, one thread.", "", "| | seconds |", "|---|---|", *costs(net)]
        text += [*([*published_steps(), *published_stages()] if given.published else []), ""]
    text += ["`python bench/difftalk.py WEIGHTS` makes this file.", ""]
    print("\n".join(text))
    given.out.write_text("\n".join(text))


if __name__ == "__main__":
    main()
