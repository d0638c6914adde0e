"""New lips for a film on the face mesh: the person is learned from its first seconds, every picture is redrawn alone.

What of the motion is taken: the mouth's share of the difference to what the person does in the picture. Head, eyes,
brows, hair and background are the film's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce.errors import InputError
from vivavoce.face.mesh import Points, head_angles, lip_opening
from vivavoce.face.model import FaceModel
from vivavoce.face.track import Face, FaceTracker
from vivavoce.motion.parts import share
from vivavoce.motion.space import FACE_MESH
from vivavoce.motion.track import CALIBRATION, REACH, Calibration, calibrate, smooth
from vivavoce.render.footage import Footage
from vivavoce.render.likeness import fit_error, likeness, named, reference_rows, told
from vivavoce.render.mouth import prepare_mouth
from vivavoce.render.shots import Rgb, Shot, first_face, redrawn, shots
from vivavoce.system import Drive, Film, Frames, Portrait

_TURNED, _OPEN = 60.0, 0.1  # degrees of head turn and lip opening in face widths that spoil a picture alike

Paint = Callable[..., None]  # paint_mouth with the person's mouth filled in


def filmed(film: Film, which: str | int, teeth: tuple[Rgb, Points] | None) -> Portrait:
    """The person in ``film``.

    Args:
        film: with a face in its first two seconds.
        which: face, see :func:`vivavoce.face.crop.choose_face`.
        teeth: a picture of the person that shows teeth, and the landmarks in it; without, teeth are modelled.

    Raises:
        InputError: there is no face, or not the one asked for, or it is no human face.
    """
    tracker, model = FaceTracker(), FaceModel.pretrained()
    first = first_face(film.pictures(), which, tracker)
    plain, points = _known(islice(shots(film, first, tracker), CALIBRATION), model)
    person = calibrate(points, model)
    row = reference_rows(plain.landmarks[None], model, person)[0]
    sitter = likeness(plain.landmarks, model, row, person.neutral)
    # Pictures of a film are too coarse to cut teeth from: modelled ones look better.
    mouth = prepare_mouth(plain.picture, sitter.landmarks, sitter.shape, sitter.pose, teeth, look_for_teeth=False)
    cache = {
        "first": torch.from_numpy(first.landmarks),
        "plain": torch.from_numpy(plain.landmarks),
        **{f"person.{field.name}": torch.as_tensor(getattr(person, field.name)) for field in fields(person)},
        **{f"mouth.{name}": value for name, value in mouth.items()},
    }
    source = torch.from_numpy(np.ascontiguousarray(plain.picture.transpose(2, 0, 1)))[None]
    warnings = told(fit_error(plain.landmarks, model), sitter.pose.scale)
    return Portrait(source, torch.from_numpy(row[None]).float(), cache, warnings, film)


def frames(portrait: Portrait, film: Film, drives: Iterable[Drive], paint: Paint | None) -> Iterator[Frames]:
    """See :class:`vivavoce.system.Renderer`; ``portrait`` is what :func:`filmed` made of ``film``."""
    model, person = FaceModel.pretrained(), known(portrait)
    footage, mouth = Footage(model, empties=paint is not None), share(FACE_MESH, "lips").double().numpy()
    seen = shots(film, Face(portrait.cache["first"].numpy()), FaceTracker())

    def draw(shot: Shot, doing: Float[np.ndarray, " 48"], asked: Float[Tensor, " d"]) -> Rgb:
        wanted = doing + (asked.double().numpy() - doing) @ mouth
        sitter = likeness(shot.landmarks, model, doing, person.neutral)
        row = named(wanted)
        drawn, landmarks, pose = footage.draw(shot.picture, sitter, row)
        if paint is not None:
            paint(drawn, landmarks=landmarks, pose=pose, interior=row.interior, emptied=True)
        return drawn

    return redrawn(_with_rows(seen, person, model), drives, draw)


def _with_rows(
    seen: Iterator[Shot], person: Calibration, model: FaceModel
) -> Iterator[tuple[Shot, Float[np.ndarray, " 48"]]]:
    """Every shot with the smoothed motion row of the face in it."""
    held: deque[tuple[Shot, np.ndarray]] = deque()
    for shot in seen:
        row = reference_rows(shot.landmarks[None], model, person)[0].astype(np.float32)
        held.extend([(shot, row)] * (1 if held else REACH + 1))  # the first row is held beyond the start
        if len(held) == 2 * REACH + 1:
            around = np.stack([row for _, row in held])
            yield held[REACH][0], smooth(around)[REACH].astype(np.float64)
            held.popleft()


def _known(seen: Iterable[Shot], model: FaceModel) -> tuple[Shot, Float[np.ndarray, "t 478 3"]]:
    """The shot with the plainest face, from the front and with closed lips, and all landmarks that are sure."""
    plain: Shot | None = None
    best, points = -np.inf, list[Points]()
    for shot in seen:
        if shot.seen < 1 and points:
            continue
        points.append(shot.landmarks)
        shape, pose = model.canonical(shot.landmarks)
        worth = -float(np.abs(head_angles(pose.rotation)).sum()) / _TURNED - lip_opening(shape) / _OPEN
        if plain is None or worth > best:
            plain, best = shot, worth
    if plain is None:
        raise InputError("the film has no picture in it")
    return plain, np.stack(points)


def known(portrait: Portrait) -> Calibration:
    """The person in a film, as :func:`filmed` learned to know them."""
    neutral, eyes, gaze, origin, width = (portrait.cache[f"person.{field.name}"] for field in fields(Calibration))
    return Calibration(neutral.numpy(), eyes.numpy(), gaze.numpy(), origin.numpy(), float(width))
