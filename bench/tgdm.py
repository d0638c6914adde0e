"""What TGDM paints of people it has never seen: `python bench/tgdm.py WEIGHTS DATA [--clips 8] [--steps 1 4]`.

DATA is a folder of recordings with a manifest; clips are of its split ``heldout``, one of each speaker. Every clip
lends one picture; its own later frames, the next clip's movements, and the next clip's pictures for swapping are what
is asked for. Also writes a contact sheet beside the table if ``--sheet`` names one.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from vivavoce.data.clips import Recording, recordings
from vivavoce.evaluate.lipsync import correlation, seen_opening
from vivavoce.evaluate.metrics import ssim_map
from vivavoce.evaluate.speed import machine
from vivavoce.face import upright
from vivavoce.face.fitting import fit, recognised, who
from vivavoce.face.mesh import align, head_angles
from vivavoce.face.morphable import Coefficients, Morphable, recombine, thorough
from vivavoce.face.track import FaceTracker
from vivavoce.media.read import read_video
from vivavoce.motion.space import FACE_MESH, Motion
from vivavoce.nets.tgdm import Tgdm
from vivavoce.render.aligned import tensor
from vivavoce.render.mesh import MeshRenderer
from vivavoce.render.pivot import reenacted
from vivavoce.render.swap import Swapper
from vivavoce.render.texture import SQUARE, Brush, staying
from vivavoce.render.textured import render
from vivavoce.system import Drive, Portrait
from vivavoce.timeline import Span

RESULT = Path(__file__).parent / "results" / "tgdm.md"
SIDE, SEEN, TARGETS, DRIVEN = 256, 75, 5, 16  # pixels; frames of a clip read, of those reenacted, and that drive
SWAPPED = 6  # frames of every pair of people
KNOWN = 50  # frames from which identity is told
Rgb = UInt8[np.ndarray, "s s 3"]
PARTS = ("expression", "eyelids", "rotation", "gaze")


@dataclass(frozen=True)
class Take:
    """The first frames of a clip through a square that stands still."""

    name: str
    pictures: list[Rgb]
    landmarks: Float[np.ndarray, "t 478 3"]
    faces: list[Coefficients]

    @cached_property
    def identity(self) -> Float[np.ndarray, " i"]:
        """Who is in all frames."""
        return who(self.landmarks[:KNOWN], _bases())

    @property
    def source(self) -> int:
        """The picture that faces the camera most."""
        return int(np.argmin([np.abs(face.rotation[:2]).sum() for face in self.faces]))


def _bases() -> Morphable:
    """Bases by which films are read for all that they tell, as the picture is whose face is put in."""
    return thorough(Morphable.pretrained())


def taken(one: Recording, tracker: FaceTracker) -> Take | None:
    """A clip; ``None`` where its face is not seen throughout."""
    frames = [np.ascontiguousarray(p.permute(1, 2, 0).numpy()) for p in islice(read_video(one.path, 25), SEEN)]
    found = [face for face in tracker.follow(frames) if face is not None]
    if len(found) < len(frames) or len(frames) < 2 * DRIVEN:
        return None
    squares = [upright.around(face.landmarks, *SQUARE) for face in found]
    x, y, wide = np.mean([(s.x, s.y, s.side) for s in squares], axis=0)
    still = upright.within(upright.Square(float(x), float(y), float(wide), 0.0), *frames[0].shape[1::-1])
    cuts = [upright.cut(frame, still, SIDE) for frame in frames]
    scale = SIDE / still.side
    points = np.stack([(f.landmarks - [still.x, still.y, 0]) * scale + [SIDE / 2, SIDE / 2, 0] for f in found])
    bases = _bases()
    person = recognised(cuts[:KNOWN], points[:KNOWN], bases)
    return Take(one.name, cuts, points, [fit(c, p, bases, person) for c, p in zip(cuts, points, strict=True)])


def meshed(take: Take, wanted: list[int]) -> list[Rgb]:
    """The same by the mesh renderer."""
    renderer, n = MeshRenderer(), take.source
    with torch.inference_mode():
        portrait: Portrait = renderer.portrait(tensor(take.pictures[n])[None])
        rows = torch.stack([_row(portrait, take.faces[n], take.faces[k]) for k in wanted])
        drive = Drive(Motion(Span(0, len(rows)), FACE_MESH, rows), torch.zeros(len(rows), 0))
        drawn = torch.cat([frames.rgb for frames in renderer.frames(portrait, [drive])])
    return [np.ascontiguousarray(one.permute(1, 2, 0).numpy()) for one in drawn]


def _row(portrait: Portrait, was: Coefficients, now: Coefficients) -> torch.Tensor:
    row = portrait.reference[0].clone().double()
    for name, sign in (("expression", 1), ("rotation", 1), ("gaze", 1), ("eyelids", -1)):
        change = sign * (getattr(now, name) - getattr(was, name))
        row[FACE_MESH.slice(name)] += torch.from_numpy(change.mean(0) if name == "gaze" else change)
    row[FACE_MESH.slice("translation")] += torch.from_numpy((now.translation - was.translation) / was.scale)
    row[FACE_MESH.slice("scale")] *= now.scale / was.scale
    return row.float()


def same(take: Take, net: Tgdm, steps: list[int], scores: dict[str, list[list[float]]]) -> list[Rgb]:
    """Reenact a clip by itself; figures are added to ``scores``. Returns a row of a contact sheet."""
    bases, n = Morphable.pretrained(), take.source
    wanted = [k for k in np.linspace(0, len(take.faces) - 1, TARGETS + 1).astype(int).tolist() if k != n][:TARGETS]
    picture, face = take.pictures[n], take.faces[n]
    goals = [recombine(face, take.faces[k]) for k in wanted]
    pivots = [reenacted(picture, face, goal, bases) for goal in goals]
    drawn = [
        np.where(pivot.drawn.mask[..., None], 255 * pivot.drawn.picture, picture).astype(np.uint8) for pivot in pivots
    ]
    ways = {
        "the source's picture": [picture] * len(wanted),
        "the drawn face over it": drawn,
        "carried by the mesh, not painted": [pivot.known for pivot in pivots],
        "mesh renderer": meshed(take, wanted),
    }
    for count in steps:
        brush = Brush(net, picture, face, steps=count)
        ways[f"painted, {count} step{'s' * (count > 1)}"] = [brush.reenacted(goal) for goal in goals]
    for name, made in ways.items():
        scores.setdefault(name, []).append(
            np.mean(
                [_alike(one, take.pictures[k], take.faces[k]) for one, k in zip(made, wanted, strict=True)], axis=0
            ).tolist()
        )
    last = wanted[-1]
    return [picture, take.pictures[last], *(made[-1] for made in ways.values())][: 2 + len(ways)]


def _alike(made: Rgb, true: Rgb, face: Coefficients) -> tuple[float, float, float, float, float]:
    """PSNR and SSIM on the face, of its mouth PSNR, and of the whole square."""
    bases = Morphable.pretrained()
    mask = render(face, bases, SIDE).mask
    lips = bases.landmarks(face)[[61, 291, 0, 17], :2]
    low, high = np.clip(np.array([lips.min(0) - 6, lips.max(0) + 6]).astype(int), 0, SIDE)
    mouth = np.zeros_like(mask)
    mouth[low[1] : high[1], low[0] : high[0]] = True
    off, alike = np.square(made.astype(float) - true).mean(2), ssim_map(made, true)

    def psnr(where: np.ndarray) -> float:
        return 10 * np.log10(255**2 / max(1e-3, off[where].mean()))

    everywhere = np.ones_like(mask)
    return psnr(mask), alike[mask].mean(), psnr(mouth), psnr(everywhere), alike.mean()


@dataclass
class Crossed:
    """What became of one person under another's movements."""

    opening: float
    yaw: float
    own: float  # distance of identity to the source
    other: float  # and to the driver

    @staticmethod
    def of(made: list[Rgb], source: Take, driver: Take, frames: list[int], tracker: FaceTracker) -> Crossed | None:
        """``None`` where no face is seen in what was made."""
        found = list(tracker.follow(made))
        there = [k for k, face in enumerate(found) if face is not None]
        if len(there) < len(made) // 2:
            return None
        points = np.stack([face.landmarks.astype(np.float64) for face in found if face is not None])
        theirs = driver.landmarks[[frames[k] for k in there]]
        identity = who(points, _bases())
        return Crossed(
            correlation(seen_opening(points), seen_opening(theirs)),
            correlation(_yaws(points), _yaws(theirs)),
            float(np.linalg.norm(identity - source.identity)),
            float(np.linalg.norm(identity - driver.identity)),
        )


def _yaws(points: Float[np.ndarray, "t 478 3"]) -> Float[np.ndarray, " t"]:
    mean = Morphable.pretrained().mean
    return np.array([head_angles(align(mean, one).rotation)[0] for one in points])


def crossed(
    source: Take, driver: Take, net: Tgdm, steps: int, tracker: FaceTracker
) -> tuple[Crossed | None, list[Rgb]]:
    """The source's picture under the driver's movements."""
    frames = np.linspace(0, len(driver.faces) - 1, DRIVEN).astype(int).tolist()
    own, first = source.faces[source.source], driver.faces[0]
    brush, made = Brush(net, source.pictures[source.source], own, steps=steps), list[Rgb]()
    for k in frames:
        now = driver.faces[k]
        goal = recombine(own, now, PARTS)
        place = own.translation + (now.translation - first.translation) * own.scale / first.scale
        goal = replace(goal, translation=place, scale=own.scale * now.scale / first.scale)
        made.append(brush.reenacted(staying(goal, own, SIDE)))
    return Crossed.of(made, source, driver, frames, tracker), made


def swaps(source: Take, target: Take, net: Tgdm, steps: int, tracker: FaceTracker) -> tuple[Crossed | None, list[Rgb]]:
    """The source's face in the target's pictures."""
    frames = np.linspace(0, len(target.faces) - 1, SWAPPED).astype(int).tolist()
    swapper = Swapper(net, source.pictures[source.source], steps=steps)
    made = [swapper.picture(target.pictures[k]) for k in frames]
    return Crossed.of(made, source, target, frames, tracker), made


def _row_of(found: list[Crossed]) -> str:
    closer = np.mean([one.own < one.other for one in found])
    opening, yaw = (np.mean([getattr(one, name) for one in found]) for name in ("opening", "yaw"))
    own, other = (np.mean([getattr(one, name) for one in found]) for name in ("own", "other"))
    return f"{opening:.2f} | {yaw:.2f} | {own:.2f} | {other:.2f} | {100 * closer:.0f} % of {len(found)}"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    net, tracker, found = Tgdm.load(given.weights), FaceTracker(), dict[str, Take]()
    for one in recordings(given.data, kinds=("talking",), split="heldout"):
        if one.speaker not in found and len(found) < given.clips and (take := taken(one, tracker)) is not None:
            found[one.speaker] = take
    takes, scores, sheet = list(found.values()), dict[str, list[list[float]]](), list[list[Rgb]]()
    cross, swapped_ = list[Crossed](), list[Crossed]()
    for take, after in pairwise([*takes, takes[0]]):
        row = same(take, net, given.steps, scores)
        there, made = crossed(take, after, net, given.steps[0], tracker)
        cross += [there] if there else []
        into = list[Rgb]()
        for target in takes:
            put, faces = (None, []) if target is take else swaps(take, target, net, given.steps[0], tracker)
            swapped_ += [put] if put else []
            into.append(faces[SWAPPED // 2] if faces else take.pictures[take.source])
        sheet.append([*row, after.pictures[len(after.pictures) // 2], made[DRIVEN // 2], *into])
        print(take.name, there, swapped_[1 - len(takes) :], flush=True)
    text = _report(scores, cross, swapped_, _timed(net, takes[0]), len(takes), given.steps[0])
    print(text)
    given.out.write_text(text)
    if given.sheet:
        cv2.imwrite(str(given.sheet), np.vstack([np.hstack(row) for row in sheet])[..., ::-1])


def _timed(net: Tgdm, take: Take) -> list[str]:
    rows, n = [], take.source
    for steps in (1, 2, 4, 8):
        took = list[str]()
        for times in (1, 2):
            large = cv2.resize(take.pictures[n], (times * SIDE, times * SIDE), interpolation=cv2.INTER_CUBIC)
            own, *faces = (face.framed(times, 0, 0) for face in (take.faces[n], *take.faces[:4]))
            brush = Brush(net, large, own, steps=steps)
            brush.reenacted(faces[0])
            began = time.process_time()
            for face in faces[1:]:
                brush.reenacted(face)
            took.append(f"{(time.process_time() - began) / 3:.2f}")
        rows.append(f"| {steps} | {' | '.join(took)} |")
    return rows


def _report(
    scores: dict[str, list[list[float]]],
    cross: list[Crossed],
    swapped_: list[Crossed],
    timed: list[str],
    clips: int,
    steps: int,
) -> str:
    rows = []
    for name, values in scores.items():
        face, alike, mouth, whole, square = np.mean(values, axis=0)
        rows.append(f"| {name} | {face:.2f} | {alike:.3f} | {mouth:.2f} | {whole:.2f} | {square:.3f} |")
    return f"""# TGDM on people it has never seen

`python bench/tgdm.py WEIGHTS DATA --clips {clips}`, {clips} clips of as many people; {TARGETS} frames of each from the
one that faces the camera most. PSNR in dB; SSIM; on the face, in a box around the mouth, and on the whole square of
{SIDE} pixels.

| same person | face | SSIM | mouth | square | SSIM |
|---|---|---|---|---|---|
{chr(10).join(rows)}

Another person's movements ({DRIVEN} frames), and every other person's pictures with the face put in ({SWAPPED} frames);
steps: {steps}. What was made is tracked again: correlation of lip opening and yaw with the driver's, distance of
refitted identities in standard deviations over people.

| | lip opening | yaw | to the source | to the driver | closer to the source |
|---|---|---|---|---|---|
| reenacted | {_row_of(cross)} |
| swapped | {_row_of(swapped_)} |

| steps | seconds of one core a frame, 256 x 256 | 512 x 512 |
|---|---|---|
{chr(10).join(timed)}

{machine()["cpu"]}, {torch.get_num_threads()} thread(s), the machine shared with other work. On the face, "painted"
shows around mouth and eyes only.
"""


if __name__ == "__main__":
    main()
