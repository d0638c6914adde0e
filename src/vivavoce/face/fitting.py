"""Pictures -> coefficients of the 3D face: least squares on landmarks, then light and texture."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice

import numpy as np
from jaxtyping import Float, UInt8

from vivavoce.errors import InputError
from vivavoce.face.atlas import CORNERS, POINTS, atlas
from vivavoce.face.illumination import WHITE, lit
from vivavoce.face.mesh import LEFT_IRIS, RIGHT_IRIS, Points, align, head_angles
from vivavoce.face.morphable import Coefficients, Morphable, bending
from vivavoce.face.track import Face, FaceTracker
from vivavoce.face.unwrap import sampled, unwrap
from vivavoce.motion.track import NOISE, POSE_TAPS, REACH
from vivavoce.render.surface import normals

Rgb = UInt8[np.ndarray, "h w 3"]
Rgbs = Sequence[UInt8[np.ndarray, "_h _w 3"]]  # of any sizes
CALIBRATION = 50  # frames of a video from which identity and texture are estimated
TEXTURES = 4  # of those, the frames whose texture is read: the ones that show the face best
_TURNED = 15.0  # degrees of yaw or pitch at which a frame counts 1/e for who somebody is
_ROUNDS = 2
_RIDGE = 3e-5  # of expression coefficients, in squared face widths
_DEPTH = 0.3  # weight of the tracker's depth against what it sees in the picture
_TEXTURE_RIDGE = 40.0  # texels that a standard deviation of texture must explain
_NOISE = {"expression": NOISE["expression"], "eyelids": NOISE["eyelids"], "gaze": NOISE["gaze"], "light": 0.05}


@dataclass(frozen=True, slots=True)
class Person:
    """What stays the same through a video."""

    identity: Float[np.ndarray, " i"]
    texture: Float[np.ndarray, " l"]


def fit(picture: Rgb, landmarks: Points, face: Morphable, person: Person | None = None) -> Coefficients:
    """The face with these ``landmarks``, in pixels of ``picture``, alone.

    ``person`` is who it is, where more than this picture is known.
    """
    identity = who(landmarks[None], face) if person is None else person.identity
    found = posed(landmarks, identity, face)
    if person is not None:
        return replace(found, texture=person.texture, light=lighting(picture, found, face, person.texture))
    texture = painted([picture], [found], face)
    return replace(found, texture=texture, light=lighting(picture, found, face, texture))


def follow(pictures: Iterable[Rgb], face: Morphable, tracker: FaceTracker | None = None) -> Iterator[Coefficients]:
    """The largest face of a video, frame by frame, smoothed without lag, lazily but for the first seconds.

    Identity and texture are the same in all frames. Where the face is lost the last one is held. Raises
    :class:`vivavoce.errors.InputError` when the first two seconds show no face.
    """
    tracker = tracker or FaceTracker()
    seen = _seen(pictures, tracker)
    first = list(islice(seen, CALIBRATION))
    known = [(picture, there.landmarks.astype(np.float64)) for picture, there in first if there is not None]
    if not known:
        raise InputError(f"no face was found in the first {len(first)} frames of the video")
    person = recognised([picture for picture, _ in known], np.stack([points for _, points in known]), face)
    return smoothed(_held(chain(first, seen), fit(*known[0], face, person), face, person))


def recognised(pictures: Rgbs, landmarks: Float[np.ndarray, "t 478 3"], face: Morphable) -> Person:
    """Who is in all these pictures."""
    identity = who(landmarks, face)
    found = [posed(points, identity, face) for points in landmarks]
    plain = np.argsort([np.abs(one.rotation[:2]).sum() for one in found], kind="stable")[:TEXTURES]
    return Person(identity, painted([pictures[k] for k in plain], [found[k] for k in plain], face))


def who(landmarks: Float[np.ndarray, "t 478 3"], face: Morphable) -> Float[np.ndarray, " i"]:
    """Identity of the person in all frames; those that face the camera count most.

    A single frame is read for all that it tells, several so that other seconds of the person would tell the same.
    """
    shapes, counts = straightened(landmarks, face)
    reader = face.reader if len(landmarks) == 1 else face.steady
    return np.average((shapes - face.mean).reshape(len(shapes), -1) @ reader.T, axis=0, weights=counts)


def straightened(
    landmarks: Float[np.ndarray, "t 478 3"], face: Morphable
) -> tuple[Float[np.ndarray, "t 478 3"], Float[np.ndarray, " t"]]:
    """Shapes without pose and without what turning does to them, and how much each tells of who somebody is."""
    shapes, counts = [], []
    for points in landmarks:
        pose = align(face.mean, points)
        angles = head_angles(pose.rotation)
        shapes.append(pose.undo(points.astype(np.float64)) - np.tensordot(bending(angles), face.bend, 1))
        counts.append(np.exp(-np.abs(angles[:2]).sum() / _TURNED) + 1e-3)
    return np.stack(shapes), np.array(counts)


def posed(landmarks: Points, identity: Float[np.ndarray, " i"], face: Morphable) -> Coefficients:
    """Pose, expression, lids and gaze of a person, in white light and the mean texture."""
    landmarks, reader = landmarks.astype(np.float64), _reader(face)
    rest = shape = face.rest(identity)
    count = len(face.expression)
    done = np.zeros(count + len(face.lids))
    pose = align(rest, landmarks)
    for _ in range(_ROUNDS):
        bent = np.tensordot(bending(head_angles(pose.rotation)), face.bend, 1)
        pose = align(shape + bent, landmarks)
        offset = pose.undo(landmarks) - rest - np.tensordot(bending(head_angles(pose.rotation)), face.bend, 1)
        done = reader @ offset.reshape(-1)
        shape = rest + np.tensordot(done[:count], face.expression, 1) + np.tensordot(done[count:], face.lids, 1)
    return Coefficients(
        identity=identity,
        expression=done[:count],
        eyelids=np.clip(done[count:], -0.5, 1.3),
        rotation=head_angles(pose.rotation),
        translation=pose.translation[:2],
        scale=pose.scale,
        gaze=_gaze(pose.undo(landmarks)),
        light=WHITE,
        texture=np.zeros(len(face.texture)),
    )


def painted(pictures: Rgbs, found: Sequence[Coefficients], face: Morphable) -> Float[np.ndarray, " l"]:
    """Texture of the person in all pictures: what is left of their colours without the light."""
    looks, gram, wanted = face.texture.reshape(len(face.texture), -1), 0.0, 0.0
    for picture, one in zip(pictures, found, strict=True):
        light = lighting(picture, one, face, np.zeros(len(looks)))
        colours, weight = unwrap(picture, face, one, light)
        counted = np.repeat(weight.reshape(-1), 3)
        gram = gram + (looks * counted) @ looks.T
        wanted = wanted + looks @ (counted * (colours - face.texture_mean).reshape(-1))
    return np.linalg.solve(gram + len(pictures) * _TEXTURE_RIDGE * _size(face) * np.eye(len(looks)), wanted)


def smoothed(found: Iterable[Coefficients]) -> Iterator[Coefficients]:
    """Without tracking noise, as :func:`vivavoce.motion.track.smooth`; the ends are held."""
    held = deque[Coefficients]()
    for one in found:
        held.extend([one] * (1 if held else REACH + 1))
        if len(held) == 2 * REACH + 1:
            yield _middle(held)
            held.popleft()
    for _ in range(min(REACH, len(held))):
        held.append(held[-1])
        if len(held) == 2 * REACH + 1:
            yield _middle(held)
            held.popleft()


def _middle(around: Sequence[Coefficients]) -> Coefficients:
    now, changed = around[REACH], {}
    for name in ("rotation", "translation", "scale"):
        changed[name] = sum(tap * getattr(one, name) for tap, one in zip(POSE_TAPS, around, strict=True))
    changed["scale"] = float(changed["scale"])
    for name, noise in _NOISE.items():
        middle = getattr(now, name)
        total, weight = middle.copy(), np.ones_like(middle)
        for step in (-1, 1):
            other = getattr(around[REACH + step], name)
            near = np.exp(-np.square((other - middle) / noise))
            total, weight = total + near * other, weight + near
        changed[name] = total / weight
    return replace(now, **changed)


def _seen(pictures: Iterable[Rgb], tracker: FaceTracker) -> Iterator[tuple[Rgb, Face | None]]:
    passed = deque[Rgb]()

    def kept() -> Iterator[Rgb]:
        for picture in pictures:
            passed.append(picture)
            yield picture

    for found in tracker.follow(kept()):
        yield passed.popleft(), found


def _held(
    seen: Iterable[tuple[Rgb, Face | None]], last: Coefficients, face: Morphable, person: Person
) -> Iterator[Coefficients]:
    for picture, there in seen:
        if there is not None:
            last = fit(picture, there.landmarks.astype(np.float64), face, person)
        yield last


def lighting(
    picture: Rgb, found: Coefficients, face: Morphable, texture: Float[np.ndarray, " l"]
) -> Float[np.ndarray, "9 3"]:
    """Light by the colours at the mesh's own points."""
    shape, made = face.shape(found), atlas()
    points = found.pose.apply(shape)
    outward = normals(made.triangles[(made.triangles < POINTS).all(1)], points)
    seen = np.clip(-outward[:, 2], 0, 1) * _inside(points, picture)
    colours = sampled(picture, points[:, :2])
    albedo = _albedo(face, tuple(texture.tolist()))
    seen[468:] = 0
    return lit(colours, albedo, outward, seen + 1e-6)


@lru_cache(maxsize=8)
def _albedo(face: Morphable, texture: tuple[float, ...]) -> Float[np.ndarray, "478 3"]:
    """Colour of the skin at the mesh's own points."""
    return sampled(face.colours(np.array(texture)), atlas().at[:POINTS] * len(face.texture_mean) - 0.5)


def _inside(points: Points, picture: Rgb) -> Float[np.ndarray, " 478"]:
    height, width = picture.shape[:2]
    x, y = points[:, 0], points[:, 1]
    return ((x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)).astype(np.float64)


def _gaze(shape: Points) -> Float[np.ndarray, "2 2"]:
    out = []
    for iris, (a, b) in zip((LEFT_IRIS, RIGHT_IRIS), CORNERS, strict=True):
        width = max(1e-6, float(np.linalg.norm(shape[a, :2] - shape[b, :2])))
        out.append((shape[iris[0], :2] - shape[[a, b], :2].mean(0)) / width)
    return np.array(out)


@lru_cache(maxsize=4)
def _reader(face: Morphable) -> Float[np.ndarray, "34 1434"]:
    """Offset from a person's shape at rest -> expression and lids, by weighted ridge regression."""
    basis = np.concatenate([face.expression, face.lids])
    weight = np.tile([1.0, 1.0, _DEPTH], (POINTS, 1))
    weight[468:] = 0
    rows, weight = basis.reshape(len(basis), -1), weight.reshape(-1)
    return np.linalg.solve((rows * weight) @ rows.T + _RIDGE * np.eye(len(rows)), rows * weight)


@lru_cache(maxsize=4)
def _size(face: Morphable) -> float:
    """Mean square of a texel's change per standard deviation of texture, all three colours together."""
    return 3 * float(np.square(face.texture).mean())
