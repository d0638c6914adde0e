"""The latent renderer: pixels that are not painted stay, each frame leads to the next, and no lip shape leaks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from difftalk_weights import made

from vivavoce.errors import InputError
from vivavoce.face import lower
from vivavoce.face.mesh import Pose, rotation_matrix
from vivavoce.face.model import FaceModel
from vivavoce.face.track import FaceTracker
from vivavoce.media.read import read_image
from vivavoce.motion import lips
from vivavoce.motion.space import FACE_MESH, Motion
from vivavoce.motion.surrounded import Heard
from vivavoce.nets.talk_conditions import reach
from vivavoce.render import latent
from vivavoce.render.aligned import image
from vivavoce.render.latent import LatentRenderer, Painter, shows
from vivavoce.render.mesh import MeshRenderer
from vivavoce.render.repaint import softened
from vivavoce.render.shots import Shot
from vivavoce.system import Drive, FilmRenderer, Portrait
from vivavoce.timeline import Span

DEMO = Path(__file__).parents[1] / "assets" / "demo_portrait.jpg"
COUNT = 6
ROWS = sum(reach(made().config.conditions)) + 1
FEATURES = made().config.conditions.features


@pytest.fixture(autouse=True, scope="module")
def few() -> Iterator[None]:
    """References are sought among few pictures: the film below goes back and forth."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent, "SOUGHT", 12)
        yield


def hear(audio: torch.Tensor) -> Heard:
    return Heard(audio[:, :-1].unflatten(1, (ROWS, -1)), int(audio[0, -1]))


def renderer(**options) -> LatentRenderer:
    return LatentRenderer(MeshRenderer(size=256), made(), hear, **{"steps": 2, "lips": "heard", **options})


class Swaying:
    """The demo's portrait moved two pixels to the side every picture."""

    def pictures(self) -> Iterator[torch.Tensor]:
        n = 0
        while True:
            yield still().roll(2 * (n % 6), -1)
            n += 1


@cache
def still() -> torch.Tensor:
    return read_image(DEMO, long_side=420)[0]


@cache
def prepared() -> Portrait:
    return renderer().filmed(Swaying())


def drive(start: int, stop: int, key: int = 5, loud: float = 1.0) -> Drive:
    rng = torch.Generator().manual_seed(0)
    rows = loud * torch.randn(COUNT, ROWS * FEATURES, generator=rng)
    audio = torch.cat([rows, torch.full((COUNT, 1), float(key))], 1)[start:stop]
    motion = prepared().reference[:1].expand(stop - start, -1).clone()
    return Drive(Motion(Span(start, stop), FACE_MESH, motion), audio)


@torch.inference_mode()
def drawn(*drives: Drive, **options) -> torch.Tensor:
    return torch.cat([frames.rgb for frames in renderer(**options).frames(prepared(), drives)])


@cache
def dubbed() -> torch.Tensor:
    return drawn(drive(0, COUNT))


def places(picture: torch.Tensor) -> lower.Place:
    points = FaceTracker().faces(image(picture))[0].landmarks
    return lower.place(points.astype(np.float64), FaceModel.pretrained())


def test_it_can_dub_and_holds_one_picture():
    assert isinstance(renderer(), FilmRenderer)
    assert len(prepared().source) == 1


def test_outside_the_painted_region_every_pixel_stays():
    films = torch.stack(list(islice(Swaying().pictures(), COUNT)))
    assert dubbed().shape == films.shape
    for was, now in zip(films, dubbed(), strict=True):
        changed = (was != now).any(0).numpy()
        at = places(was)
        region = lower.region(at, 256, FaceModel.pretrained())
        rows, columns = np.nonzero(changed)
        there = np.stack([columns + 0.5, rows + 0.5, np.zeros(len(rows))], 1)
        x, y = np.clip(np.round(at.into(there, 256)).astype(int), 0, 255).T
        # the tracker, which follows the film, and a look at a single picture differ by a pixel or two
        near = np.zeros_like(region)
        near[lower.band(at, 256, FaceModel.pretrained())] = True
        assert changed.any()
        assert region[y, x].mean() > 0.97
        assert near[y, x].mean() > 0.99


def test_sound_chance_and_steps_change_what_is_painted():
    assert not torch.equal(dubbed(), drawn(drive(0, COUNT, loud=3.0)))
    assert not torch.equal(dubbed(), drawn(drive(0, COUNT, key=6)))
    assert not torch.equal(dubbed(), drawn(drive(0, COUNT), steps=3))
    assert torch.equal(dubbed(), drawn(drive(0, COUNT)))


@pytest.mark.parametrize("cuts", [(1, 3), (5,)])
def test_frames_are_the_same_however_they_are_cut(cuts):
    edges = [0, *cuts, COUNT]
    assert torch.equal(dubbed(), drawn(*(drive(a, b) for a, b in pairwise(edges))))


def test_each_frame_is_the_reference_of_the_next_until_the_anchor():
    apart, follows = dubbed(), drawn(drive(0, COUNT), progressive=True)
    assert torch.equal(apart[0], follows[0])
    assert not torch.equal(apart[1], follows[1])
    assert torch.equal(apart, drawn(drive(0, COUNT), progressive=True, anchor=1))
    third = drawn(drive(0, COUNT), progressive=True, anchor=3)
    assert torch.equal(third[:3], follows[:3])
    assert torch.equal(third[3], apart[3])
    assert not torch.equal(third[4], apart[4])


def test_what_the_mouth_does_in_the_picture_cannot_be_seen():
    points = FaceTracker().faces(image(still()))[0].landmarks.astype(np.float64)
    at, model = lower.place(points, FaceModel.pretrained()), FaceModel.pretrained()
    picture = image(still())
    outline = lower.places68(points, at)[:17]  # beyond it the picture stays, wherever the jaw is
    near = lower.region(at, 256, model) & lower.within([outline], 256)
    inside = softened(near, made().config.pixels) == 1
    other, moved = picture.copy(), points.copy()
    ys, xs = np.mgrid[: picture.shape[0], : picture.shape[1]]
    there = np.stack([xs.ravel() + 0.5, ys.ravel() + 0.5, np.zeros(xs.size)], 1)
    x, y = np.floor(at.into(there, 256)).astype(int).T
    ok = (x > 3) & (y > 3) & (x < 252) & (y < 252)
    deep = np.zeros(xs.size, bool)
    for dx in (-3, 0, 3):  # well inside, so that no pixel of the cut that stays has a share of it
        for dy in (-3, 0, 3):
            deep[ok] |= ~inside[y[ok] + dy, x[ok] + dx]
    hole = (ok & ~deep).reshape(picture.shape[:2])
    other[hole] = np.random.default_rng(0).integers(0, 255, (int(hole.sum()), 3))
    moved[list(lower.JAW[4:13]), 1] += 20.0
    moved[[*lower.OUTER, *lower.INNER]] += 12.0
    one = drive(0, 1)
    heard = hear(one.audio)
    painted = []
    with torch.inference_mode():
        for shown, landmarks in ((picture, points), (other, moved)):
            painter = Painter(renderer(), prepared())
            painted.append(painter.painted(shown, landmarks, 0, one.motion.rows[0], heard.rows[0], heard.key))
    assert hole.sum() > 500
    assert (picture != other).any()
    assert np.array_equal(*(one[hole] for one in painted))


def test_a_picture_of_the_person_can_be_the_reference():
    other = image(still())[:, ::-1].copy()
    assert not torch.equal(
        renderer().filmed(Swaying()).cache["reference.square"],
        renderer(reference=other).filmed(Swaying()).cache["reference.square"],
    )
    with pytest.raises(InputError, match="picture given as the reference"):
        renderer(reference=np.zeros((64, 64, 3), np.uint8)).filmed(Swaying())


def test_the_first_reference_of_a_film_is_seen_from_the_front_with_parted_lips():
    model, picture = FaceModel.pretrained(), image(still())
    parted = np.tensordot(lips.opening(model).numpy(), model.expression, 1)
    parted *= 0.06 / (parted[14, 1] - parted[13, 1])  # face widths

    def face(parts: float, turned: float) -> np.ndarray:
        pose = Pose(150.0, rotation_matrix(np.array([turned, 0.0, 0.0])), np.array([200.0, 200.0, 0.0]))
        return pose.apply(model.mean + parts * parted)

    faces = [face(0, 0), face(1, 30), face(1, 2), face(0.2, 0)]
    rows = [parts * lips.opening(model) for parts in (0.0, 1.0, 1.0, 0.2)]
    found = [
        renderer().held(picture, points, torch.cat([torch.zeros(6), row, torch.zeros(10)]))
        for points, row in zip(faces, rows, strict=True)
    ]
    chosen = renderer().chosen(found, [shows(points) for points in faces])
    assert chosen[0] is found[2]
    assert {id(one) for one in chosen} == {id(one) for one in found}


def test_a_film_is_painted_after_several_of_its_pictures_and_a_portrait_after_itself():
    assert len(prepared().cache["reference.square"]) > 1  # it sways
    assert len(renderer().portrait(still()[None]).cache["reference.square"]) == 1


def test_faces_whose_lips_are_lost_from_sight_are_no_references(monkeypatch):
    seen = FaceTracker().faces(image(still()))[0].landmarks.astype(np.float64)
    there = [Shot(image(still().roll(n, -1)), seen + np.array([n, 0, 0]), share) for n, share in ((0, 1.0), (9, 0.4))]
    monkeypatch.setattr(latent, "shots", lambda *_: iter(there))
    assert len(renderer().filmed(Swaying()).cache["reference.square"]) == 1


def test_lips_can_follow_the_motion():
    rows = drive(0, 2)
    open_ = rows.motion.rows.clone()
    open_[:, FACE_MESH.slice("expression")] += 2.0
    wide = Drive(Motion(rows.motion.span, FACE_MESH, open_), rows.audio)
    assert torch.equal(drawn(rows), drawn(wide))  # what is heard decides
    assert not torch.equal(drawn(rows, lips="motion"), drawn(wide, lips="motion"))
    assert not torch.equal(drawn(rows), drawn(rows, gain=2.0))


@pytest.mark.parametrize(
    ("options", "said"), [({"steps": 0}, "1 to 500"), ({"anchor": -1}, "0 frames"), ({"lips": "x"}, "heard or motion")]
)
def test_what_cannot_be_painted_is_refused(options, said):
    with pytest.raises(InputError, match=said):
        renderer(**options)
