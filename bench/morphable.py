"""How well the 3D face fits people it has never seen: `python bench/morphable.py PREPARED DATA`.

PREPARED holds clips written by `vivavoce prepare`, DATA the recordings they come from.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from vivavoce.data.clips import recordings
from vivavoce.data.prepare import load
from vivavoce.face.fitting import fit, lighting, posed, recognised, who
from vivavoce.face.mesh import LEFT_EYE, RIGHT_EYE
from vivavoce.face.morphable import Coefficients, Morphable
from vivavoce.media.read import read_video
from vivavoce.render.textured import Rendered, render
from vivavoce.timeline import Clock

RESULT = Path(__file__).parent / "results" / "morphable.md"
SHAPES, PICTURES = 12, 3  # frames of a clip that are fitted, and those whose pictures are looked at


def main(prepared: Path, data: Path) -> None:
    """Measure and write the table."""
    face = Morphable.pretrained()
    lines, spans, people = list[str](), list[np.ndarray](), defaultdict[str, list[np.ndarray]](list)
    for one in recordings(data, split="heldout"):
        file = prepared / f"{one.name}.npz"
        if not file.is_file():
            continue
        clip = load(file)
        seen = clip.landmarks[clip.valid].astype(np.float64)
        seen = seen[np.linspace(0, len(seen) - 1, min(SHAPES, len(seen))).astype(int)]
        identity = who(seen, face)
        alone = np.stack([who(points[None], face) for points in seen])
        spans.append(alone.std(0))
        people[one.speaker].append(identity)
        error = np.mean([_error(points, identity, face) for points in seen])
        lines.append(f"| {one.name} | {100 * error:.2f} | {_spread(alone.std(0)[None], face):.2f} |")
    halves = _spread(np.stack(spans), face)
    between = np.std([np.mean(each, axis=0) for each in people.values()], axis=0)
    ms, looks = _pictures(prepared, data, face)
    total = np.mean([float(line.split("|")[2]) for line in lines])
    text = f"""# The 3D face on people it has never seen

`python bench/morphable.py PREPARED DATA`, {len(lines)} clips of {len(people)} people; {SHAPES} frames of each.
The error is the mean distance of the 478 landmarks in the picture; expression is fitted to each frame, identity to the
clip.

| clip | error, % of iris distance | std of single-frame identity / spread of people |
|---|---|---|
{chr(10).join(lines)}
| **mean** | **{total:.2f}** | **{halves:.2f}** |

Identity is one for a whole video, so within a video it does not change at all; the last column fits each frame alone.
It is in face widths, root mean square over all coefficients and clips, over that of the training people (over that of
the held-out people: {_spread(np.stack(spans), face) / _spread(between[None], face):.2f}).

| a picture | |
|---|---|
| first frame, with identity and texture | {ms["first"]:.0f} ms |
| every further frame: geometry and light | {ms["next"]:.1f} ms |
| drawing at 256, with mask and depth | {ms["draw"]:.1f} ms |
| pixels beside the eyes' rings that a gaze edit of 0.15 eye widths changes | {looks["beside"]} |
| mean error of colours, of 255: mean texture and even light | {looks["plain"]:.1f} |
| the same with fitted light | {looks["lit"]:.1f} |
| the same with fitted light and texture | {looks["all"]:.1f} |

Times are CPU times of one thread, medians; the tracker's own time is not in them.
"""
    RESULT.write_text(text)
    print(text)


def _error(points: np.ndarray, identity: np.ndarray, face: Morphable) -> float:
    """Mean distance of the landmarks in the picture, over that of the irises' centres."""
    away = face.landmarks(posed(points, identity, face)) - points
    return float(np.linalg.norm(away[:, :2], axis=1).mean() / np.linalg.norm(points[468] - points[473]))


def _spread(std: np.ndarray, face: Morphable) -> float:
    """Standard deviations of coefficients as a share of the spread over people, in face widths."""
    size = np.square(face.identity).sum((1, 2))
    return float(np.sqrt((np.square(std).mean(0) * size).sum() / size.sum()))


def _pictures(prepared: Path, data: Path, face: Morphable) -> tuple[dict[str, float], dict[str, float]]:
    times, errors, beside = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list), 0
    for one in recordings(data, split="heldout"):
        file = prepared / f"{one.name}.npz"
        if not file.is_file():
            continue
        clip, pictures = load(file), []
        for picture in read_video(one.path, Clock().fps):
            pictures.append(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()))
            if len(pictures) == PICTURES:
                break
        points = clip.landmarks[:PICTURES].astype(np.float64)
        with _timed(times["first"]):
            person = recognised(pictures[:1], points[:1], face)
        found = fit(pictures[0], points[0], face, person)
        for picture, seen in zip(pictures[1:], points[1:], strict=True):
            with _timed(times["next"]):
                found = fit(picture, seen, face, person)
        picture = pictures[-1]
        near, scale = _framed(found)
        with _timed(times["draw"]):
            drawn = render(near, face)
        beside += _beside(near, drawn, face)
        none = np.zeros_like(person.texture)
        plain = replace(found, texture=none)
        for name, made in (
            ("plain", replace(plain, light=np.eye(9)[:, :1].repeat(3, 1))),
            ("lit", replace(plain, light=lighting(picture, plain, face, none))),
            ("all", found),
        ):
            errors[name].append(_colour_error(made, scale, picture, face))
    looks = {name: float(np.mean(each)) for name, each in errors.items()} | {"beside": beside}
    return {name: 1000 * float(np.median(each)) for name, each in times.items()}, looks


def _framed(found: Coefficients) -> tuple[Coefficients, float]:
    scale = 128 / found.scale
    x, y = found.translation - 128 / scale
    return found.framed(scale, float(x), float(y)), scale


def _colour_error(found: Coefficients, scale: float, picture: np.ndarray, face: Morphable) -> float:
    import cv2

    near, _ = _framed(found)
    x, y = found.translation - 128 / scale
    matrix = np.array([[scale, 0, -scale * x], [0, scale, -scale * y]])
    wanted = cv2.warpAffine(picture, matrix, (256, 256), flags=cv2.INTER_AREA)
    drawn = render(near, face)
    return float(np.abs(255 * drawn.picture - wanted)[drawn.mask].mean())


def _beside(near: Coefficients, drawn: Rendered, face: Morphable) -> int:
    aside = render(replace(near, gaze=near.gaze + np.array([0.15, 0.0])), face)
    changed = np.abs(aside.picture - drawn.picture).max(2) > 0
    points = near.pose.apply(face.shape(near))[:, :2]
    for ring in (LEFT_EYE, RIGHT_EYE):
        (x0, y0), (x1, y1) = np.floor(points[list(ring)].min(0)), np.ceil(points[list(ring)].max(0))
        changed[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1] = False
    return int(changed.sum())


@contextmanager
def _timed(into: list[float]) -> Iterator[None]:
    """CPU time, which does not count what else the machine does."""
    start = time.process_time()
    yield
    into.append(time.process_time() - start)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
