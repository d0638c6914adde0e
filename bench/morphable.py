"""How well the 3D face fits people it has never seen: `python bench/morphable.py PREPARED DATA`.

PREPARED holds clips written by `vivavoce prepare`, DATA the recordings they come from.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
WINDOWS = 25, 50  # frames from which identity is told, as `follow` would if it began there


def main(prepared: Path, data: Path) -> None:
    """Measure and write the table."""
    face = Morphable.pretrained()
    lines, spans, people = list[str](), defaultdict[int, list[np.ndarray]](list), defaultdict[str, list[Clip]](list)
    for one in recordings(data, split="heldout"):
        file = prepared / f"{one.name}.npz"
        if not file.is_file():
            continue
        prepared_clip = load(file)
        clip = looked(prepared_clip.landmarks[prepared_clip.valid].astype(np.float64), face)
        people[one.speaker].append(clip)
        cells = []
        for length, found in clip.told.items():
            if len(found) > 1:
                spans[length].append(found.std(0, ddof=0 if length == 1 else 1))
            cells.append(f"{_spread(spans[length][-1][None], face):.2f}" if len(found) > 1 else "")
        lines.append(f"| {one.name} | {100 * clip.error:.2f} | {' | '.join(cells)} |")
    ratios = [_spread(np.stack(each), face) for each in spans.values()]
    apart = [_spread(_between(people, length), face) for length in spans]
    theirs = [f"{ratio / one:.2f}" for ratio, one in zip(ratios, apart, strict=True)]
    again, seconds = recognised_again(people, face)
    ms, looks = _pictures(prepared, data, face)
    total = np.mean([float(line.split("|")[2]) for line in lines])
    text = f"""# The 3D face on people it has never seen

`python bench/morphable.py PREPARED DATA`, {len(lines)} clips of {len(people)} people; {SHAPES} frames of each.
The error is the mean distance of the 478 landmarks in the picture; expression is fitted to each frame, identity to the
clip. Identity is one for a whole video, so within a video it does not change at all. Here it is told from single
frames, and from every second and every two seconds of a clip, as `follow` would if it began there: standard deviation
over those, as a share of the spread over people.

| clip | error, % of iris distance | single frames | seconds | two seconds |
|---|---|---|---|---|
{chr(10).join(lines)}
| **mean** | **{total:.2f}** | {" | ".join(f"**{ratio:.3f}**" for ratio in ratios)} |
| clips | {len(lines)} | {" | ".join(str(len(each)) for each in spans.values())} |

Deviations are in face widths, root mean square over all coefficients and clips, over the spread of the training people
(over that of the {len(people)} held-out people, as told in the same way: {", ".join(theirs)}).
Films are read by a more cautious reader than single pictures. It tells people apart no worse: of {seconds} seconds of
held-out people with several clips {100 * again:.0f} % are nearest to the mean of their own other clips.

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


@dataclass(frozen=True)
class Clip:
    """What is told of a clip."""

    error: float
    told: dict[int, np.ndarray]  # number of frames that identity is told from -> identities, one a row


def looked(points: np.ndarray, face: Morphable) -> Clip:
    """Landmarks of a clip to identities."""
    few = points[np.linspace(0, len(points) - 1, min(SHAPES, len(points))).astype(int)]
    told = {1: np.stack([who(one[None], face) for one in few])}
    for length in WINDOWS:
        starts = range(0, len(points) - length + 1, length)
        found = [who(points[at : at + length], face) for at in starts]
        told[length] = np.stack(found) if found else np.zeros((0, len(face.identity)))
    identity = who(few, face)
    return Clip(float(np.mean([_error(one, identity, face) for one in few])), told)


def _between(people: Mapping[str, list[Clip]], length: int) -> np.ndarray:
    """Standard deviations over people of what is told from so many frames, or from the fewest more than one."""
    taken = min(length, WINDOWS[0])
    return np.std([np.mean([clip.told[taken].mean(0) for clip in each], axis=0) for each in people.values()], axis=0)[
        None
    ]


def recognised_again(people: Mapping[str, list[Clip]], face: Morphable) -> tuple[float, int]:
    """Share of seconds nearer to the other clips of their person than to anybody else, and of how many."""
    size = np.sqrt(np.square(face.identity).sum((1, 2)))
    means = {name: [size * clip.told[WINDOWS[0]].mean(0) for clip in each] for name, each in people.items()}
    found = list[bool]()
    for name, each in people.items():
        for n, clip in enumerate(each if len(each) > 1 else []):
            own = np.mean([one for k, one in enumerate(means[name]) if k != n], axis=0)
            others = [np.mean(there, axis=0) for other, there in means.items() if other != name]
            for row in clip.told[WINDOWS[0]] * size:
                nearest = min(np.linalg.norm(row - one) for one in others)
                found.append(bool(np.linalg.norm(row - own) < nearest))
    return float(np.mean(found)), len(found)


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
