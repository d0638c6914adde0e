"""The bases of the 3D face in closed form: who differs from whom in shape and skin.

``vivavoce train morphable --out DIR`` reads the prepared clips of the training split (``VIVAVOCE_MOTION``) for shapes,
and the pictures they were prepared from, in the data folder named by ``VIVAVOCE_DATA``, for textures.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from vivavoce.data.clips import recordings
from vivavoce.data.prepare import Prepared
from vivavoce.errors import InputError
from vivavoce.face.atlas import atlas
from vivavoce.face.fitting import lighting, posed, straightened, who
from vivavoce.face.mesh import LEFT_IRIS, RIGHT_IRIS, Points, align, head_angles
from vivavoce.face.model import FaceModel
from vivavoce.face.morphable import WEIGHTS, Morphable, bending, save
from vivavoce.face.unwrap import unwrap
from vivavoce.media.read import read_video
from vivavoce.recipes.face import FLIP, neutral
from vivavoce.recipes.moda import clips
from vivavoce.timeline import Clock
from vivavoce.train.loop import ClosedForm

DATA = "VIVAVOCE_DATA"
IDENTITIES, TEXTURES, SIDE = 32, 48, 96
FRAMES = 10  # of a clip whose shapes take part
CLIPS = 4  # of a person that take part, so that who was filmed often does not own the bases
LOOKS = 1  # frames of a person whose texture takes part, of different clips where there are several
BEND_RIDGE = 5.0
EXPRESSION_RIDGE = 3e-4
# What seconds of one person differ by: of them frames are read, and each counts alike up to SECONDS of a person.
SECOND, EVERY, LONGEST, SECONDS = 25, 2, 600, 12
NOISE, STEADY_NOISE = 0.001, 0.006  # of points beyond what frames of one person tell, or seconds, face widths
# Times the variance within people. More than 1, as people never seen vary less along axes that others were learned
# from. Of readers that know training people again in another clip no worse than one learned from frames does, each
# learned from the other half of the people, these numbers make the one that wanders least within a clip.
DOUBT = 10.0
IRISES = [*LEFT_IRIS, *RIGHT_IRIS]
LEAST_SEEN = 0.05  # share of the pictures in which a texel must be seen
REACH = 16  # frames of a clip among which pictures for textures are looked for


def morphable() -> ClosedForm:
    """The recipe."""
    return ClosedForm(name="morphable", solve=_solve)


def _solve(out: Path) -> dict[str, Any]:
    folder = os.environ.get(DATA)
    if folder is None:
        raise InputError(f"textures are learned from pictures: name the data folder in {DATA}")
    prepared = _few(clips())
    shots = [Shot(clip.speaker, clip.landmarks[clip.valid].astype(np.float64)) for clip in prepared]
    face = shaped([shot for shot in shots if len(shot.landmarks) >= 10], FaceModel.pretrained())
    places = {one.name: one.path for one in recordings(Path(folder), split="train")}
    pictures = _pictures(
        [(clip.speaker, places[clip.name], clip.landmarks) for clip in prepared if clip.name in places]
    )
    face = textured(pictures, face)
    save(face, out / f"{WEIGHTS}.safetensors")
    return {"clips": len(shots), "people": len({shot.speaker for shot in shots}), "pictures": len(pictures)}


@dataclass(frozen=True, slots=True)
class Shot:
    """Landmarks of one training clip, in pixels; frames without a face removed."""

    speaker: str
    landmarks: Float[np.ndarray, "t 478 3"]


@dataclass(frozen=True, slots=True)
class Look:
    """A picture of a person of the training split."""

    speaker: str
    picture: UInt8[np.ndarray, "h w 3"]
    landmarks: Points


def _few(prepared: Sequence[Prepared]) -> list[Prepared]:
    """The first clips of every person."""
    taken, out = Counter[str](), list[Prepared]()
    for clip in prepared:
        taken[clip.speaker] += 1
        if taken[clip.speaker] <= CLIPS:
            out.append(clip)
    return out


def shaped(shots: Sequence[Shot], model: FaceModel, identities: int = IDENTITIES) -> Morphable:
    """Identity, what turning does, and the reader of strangers; without textures yet."""
    shapes, angles = zip(*(_still(shot.landmarks, model) for shot in shots), strict=True)
    bend = _bend(shapes, angles)
    straight = [s - np.tensordot(a, bend, 1) for s, a in zip(shapes, angles, strict=True)]
    calm = [_calmed(one, model) for one in straight]
    people = defaultdict[str, list[np.ndarray]](list)
    for shot, one, turned in zip(shots, calm, angles, strict=True):
        people[shot.speaker].append(np.average(one, axis=0, weights=np.exp(-np.square(turned[:, :2]).sum(1)) + 0.02))
    average = np.stack([np.mean(each, axis=0) for each in people.values()])
    swap = model.mirrored_points
    mean = average.mean(0)
    mean = (mean + mean[swap] * FLIP) / 2
    offsets = np.concatenate([average - mean, average[:, swap] * FLIP - mean])
    offsets[:, IRISES] = 0
    _, size, axes = np.linalg.svd(offsets.reshape(len(offsets), -1), full_matrices=False)
    basis = axes[:identities] * size[:identities, None] / np.sqrt(len(offsets))
    within = np.concatenate([(one - one.mean(0)).reshape(len(one), -1) for one in straight])
    empty = np.zeros((SIDE, SIDE, 3))
    face = Morphable(
        mean=mean,
        identity=basis.reshape(-1, 478, 3),
        expression=model.expression,
        lids=model.lids,
        bend=bend,
        reader=np.zeros_like(basis),
        steady=np.zeros_like(basis),
        texture_mean=empty,
        texture=np.zeros((1, *empty.shape)),
    )
    return replace(face, reader=_reader(face, within, model, NOISE), steady=steady(shots, face, model))


def steady(shots: Sequence[Shot], face: Morphable, model: FaceModel) -> Float[np.ndarray, "i 1434"]:
    """The reader of films: what it tells of a person's seconds differs little.

    Raises:
        InputError: nobody is seen for longer than a second.
    """
    return _reader(face, np.sqrt(DOUBT) * _within(shots, face, model), model, STEADY_NOISE)


def _within(shots: Sequence[Shot], face: Morphable, model: FaceModel) -> Float[np.ndarray, "w 1434"]:
    """What shapes of one person, each the mean of a second, are away from each other: within clips and between them.

    Faces are told from seconds, and what differs between frames only is gone by then. Seen in a mirror as well.
    """
    people, rows = defaultdict[str, list[np.ndarray]](list), list[np.ndarray]()
    for shot in shots:
        shapes, counts = straightened(shot.landmarks[:LONGEST:EVERY], face)
        size = min(len(shapes), -(-SECOND // EVERY))
        for at in range(0, len(shapes) - size + 1, size):
            chosen = slice(at, at + size)
            people[shot.speaker].append(np.average(shapes[chosen], axis=0, weights=counts[chosen]))
    for each in people.values():
        if (count := len(each)) > 1:
            unbiased = count / (count - 1) / max(1.0, count / SECONDS)
            away = (np.stack(each) - np.mean(each, axis=0)) * np.sqrt(unbiased)
            rows += [away, away[:, model.mirrored_points] * FLIP]
    if not rows:
        raise InputError("no clip of a person is longer than a second: nothing tells what stays the same of a face")
    return np.concatenate(rows).reshape(-1, face.mean.size)


def _still(landmarks: Float[np.ndarray, "t 478 3"], model: FaceModel) -> tuple[np.ndarray, np.ndarray]:
    """Shapes of some frames without pose, and the bending terms of their angles."""
    chosen = landmarks[np.linspace(0, len(landmarks) - 1, min(FRAMES, len(landmarks))).astype(int)]
    rest = neutral(np.stack([align(model.mean, frame).undo(frame) for frame in chosen]))
    poses = [align(rest, frame) for frame in chosen]
    shapes = np.stack([pose.undo(frame) for pose, frame in zip(poses, chosen, strict=True)])
    return shapes, np.stack([bending(head_angles(pose.rotation)) for pose in poses])


def _bend(shapes: Sequence[np.ndarray], angles: Sequence[np.ndarray]) -> Float[np.ndarray, "5 478 3"]:
    """What the tracker's shapes do as heads turn, by ridge regression within clips."""
    given = np.concatenate([a - a.mean(0) for a in angles])
    wanted = np.concatenate([(s - s.mean(0)).reshape(len(s), -1) for s in shapes])
    gram = given.T @ given + BEND_RIDGE * np.eye(given.shape[1])
    found = np.linalg.solve(gram, given.T @ wanted).reshape(-1, 478, 3)
    found[:, IRISES] = 0
    return found


def _calmed(shapes: Float[np.ndarray, "t 478 3"], model: FaceModel) -> Float[np.ndarray, "t 478 3"]:
    """Shapes of one clip without the expression they have relative to its resting shape."""
    basis = np.concatenate([model.expression, model.lids]).reshape(34, -1)
    offset = (shapes - neutral(shapes)).reshape(len(shapes), -1)
    gram = basis @ basis.T + EXPRESSION_RIDGE * np.eye(len(basis))
    return shapes - (np.linalg.solve(gram, basis @ offset.T).T @ basis).reshape(shapes.shape)


def _reader(
    face: Morphable, within: Float[np.ndarray, "t n"], model: FaceModel, noise: float
) -> Float[np.ndarray, "i n"]:
    """The most probable identity of a shape, given how one person's vary (two normal distributions)."""
    used = np.ones((478, 3), bool)
    used[IRISES] = False
    kept = used.reshape(-1)
    basis, within = face.identity.reshape(len(face.identity), -1), within[:, kept]
    varies = within.T @ within / len(within)
    varies[np.diag_indices_from(varies)] += noise * noise
    movable = np.concatenate([model.expression, model.lids]).reshape(34, -1)[:, kept]
    both = np.concatenate([basis[:, kept], movable])
    solved = np.linalg.solve(varies, both.T)
    out = np.zeros_like(basis)
    out[:, kept] = np.linalg.solve(both @ solved + np.eye(len(both)), solved.T)[: len(basis)]
    return out


def _with_mean(
    looks: Sequence[Look], face: Morphable, flip: tuple[np.ndarray, ...]
) -> tuple[Morphable, np.ndarray, np.ndarray]:
    """``face`` with the looks' mean texture, the colours seen through it, and how well each was seen."""
    seen = [_seen(look, face) for look in looks]
    colours, weights = (np.stack(part) for part in zip(*seen, strict=True))
    total = weights.sum(0)
    mean = (colours * weights[..., None]).sum(0) / np.maximum(total, 1e-6)[..., None]
    even = (mean * total[..., None]).sum((0, 1)) / total.sum()
    mean = np.where(total[..., None] > LEAST_SEEN * len(looks), mean, even)
    return replace(face, texture_mean=(mean + mean[flip]) / 2), colours, weights


def textured(looks: Sequence[Look], face: Morphable, textures: int = TEXTURES) -> Morphable:
    """Mean and principal axes of the textures; the second round knows what skin is usually like."""
    face = replace(face, texture_mean=np.full((SIDE, SIDE, 3), 0.5), texture=np.zeros((1, SIDE, SIDE, 3)))
    flip = _mirrored_texels()
    face, _, _ = _with_mean(looks, face, flip)
    face, colours, weights = _with_mean(looks, face, flip)
    offsets = _completed(colours - face.texture_mean, weights, flip)
    offsets = np.concatenate([offsets, offsets[:, flip[0], flip[1]]]).reshape(2 * len(offsets), -1)
    kernel = offsets @ offsets.T
    values, left = np.linalg.eigh(kernel)
    order = np.argsort(values)[::-1][:textures]
    axes = (left[:, order].T @ offsets) / np.sqrt(len(offsets))
    return replace(face, texture=axes.reshape(-1, SIDE, SIDE, 3))


def _seen(look: Look, face: Morphable) -> tuple[np.ndarray, np.ndarray]:
    found = posed(look.landmarks, who(look.landmarks[None], face), face)
    light = lighting(look.picture, found, face, np.zeros(len(face.texture)))
    return unwrap(look.picture, face, found, light)


def _completed(offsets: np.ndarray, weights: np.ndarray, flip: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Unseen texels as on the other side of the face, or as the person's skin differs from the mean on average."""
    other, there = offsets[:, flip[0], flip[1]], weights[:, flip[0], flip[1]]
    total = (weights + 0.3 * there)[..., None]
    even = (offsets * weights[..., None]).sum((1, 2)) / np.maximum(weights.sum((1, 2)), 1e-6)[:, None]
    mixed = offsets * weights[..., None] + other * 0.3 * there[..., None] + 0.1 * even[:, None, None]
    return mixed / (total + 0.1)


def _mirrored_texels() -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of each texel's mirror image: the eyes' tiles change places, everything else turns over."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    turned = SIDE - 1 - columns
    below = rows >= int(0.84 * SIDE)
    middle = (atlas().at[478:494, 0].mean() + atlas().at[494:510, 0].mean()) / 2
    eyes = below & (columns < int(0.665 * SIDE))
    mouth = below & ~eyes
    about = np.clip(np.rint(2 * middle * SIDE - 1 - columns), 0, SIDE - 1).astype(int)
    lips = np.clip(np.rint(2 * 0.83 * SIDE - 1 - columns), 0, SIDE - 1).astype(int)
    return rows, np.where(eyes, about, np.where(mouth, lips, turned))


def _pictures(clips: Sequence[tuple[str, Path, np.ndarray]]) -> list[Look]:
    """Some frames of every person: the ones that face the camera, of different clips first."""
    people: Mapping[str, list[tuple[Path, np.ndarray]]] = defaultdict(list)
    for speaker, path, landmarks in clips:
        people[speaker].append((path, landmarks))
    out = list[Look]()
    for speaker, films in people.items():
        each = -(-LOOKS // min(LOOKS, len(films)))
        for path, landmarks in films[:LOOKS]:
            for at in _plainest(landmarks, each):
                picture = _frame(path, at)
                if picture is not None:
                    out.append(Look(speaker, picture, landmarks[at].astype(np.float64)))
    return out


def _plainest(landmarks: np.ndarray, count: int) -> list[int]:
    """Frames that face the camera most, one of each stretch of the clip."""
    model, chosen = FaceModel.pretrained(), list[int]()
    for part in np.array_split(np.arange(0, min(len(landmarks), REACH), 4), count):
        turned = [np.abs(head_angles(align(model.mean, landmarks[k]).rotation)[:2]).sum() for k in part]
        if turned:
            chosen.append(int(part[int(np.argmin(turned))]))
    return chosen


def _frame(path: Path, at: int) -> UInt8[np.ndarray, "h w 3"] | None:
    for index, picture in enumerate(read_video(path, Clock().fps)):
        if index == at:
            return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
    return None
