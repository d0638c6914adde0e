"""Lower faces cut out of clips: each where it stands, in order, with what was said around it."""

from __future__ import annotations

from dataclasses import fields

import cv2
import numpy as np
import pytest
import torch

from vivavoce.data import lowered
from vivavoce.data.lowered import Lowered
from vivavoce.data.prepare import Prepared
from vivavoce.errors import InputError
from vivavoce.face import lower
from vivavoce.face.mesh import Pose, rotation_matrix
from vivavoce.face.model import FaceModel
from vivavoce.recipes.first_stage import framed
from vivavoce.recipes.lowered import SIDE, Chosen, another, chances, some

COUNT, HEARD = 5, 3


def clip(name: str = "clip", speaker: str = "somebody") -> Prepared:
    """A head that drifts to the right and down; the second frame does not show it."""
    model = FaceModel.pretrained()
    points = [
        Pose(
            120.0, rotation_matrix(np.array([5.0 * n, 0.0, 3.0])), np.array([140.0 + 6 * n, 150.0 + 3 * n, 0.0])
        ).apply(model.mean)
        for n in range(COUNT)
    ]
    return Prepared(
        name=name,
        speaker=speaker,
        split="train",
        kind="talking",
        emotion="none",
        landmarks=np.stack(points).astype(np.float32),
        rows=np.arange(COUNT * 48, dtype=np.float32).reshape(COUNT, 48),
        valid=np.array([True, False, True, True, True]),
        audio=np.zeros(640 * COUNT, np.float32),
    )


def filmed(one: Prepared):
    for index in np.flatnonzero(one.valid):
        picture = np.zeros((320, 320, 3), np.uint8)
        for x, y in one.landmarks[index, lower.STEADY, :2]:
            cv2.circle(picture, (round(float(x)), round(float(y))), 4, (255, 120, 40), -1)
        yield picture, one.landmarks[index]


def hear(one: Prepared) -> np.ndarray:
    return (1.0 + np.arange(COUNT))[:, None] * np.ones((1, HEARD))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Lowered:
    out = tmp_path_factory.mktemp("lowered")
    one = clip()
    lowered.cut_all([(one, filmed(one))], hear, out, side=128, frames=3)
    return lowered.load(out / "clip.npz")


def test_the_first_frames_seen_are_kept_in_order(made):
    assert made.frames.tolist() == [0, 2, 3]
    assert made.landmarks.shape == (3, 68, 2)
    assert made.rows.shape == (COUNT, 48)
    assert made.picture(1).shape == (128, 128, 3)


def test_faces_lie_on_each_other_and_places_are_kept(made):
    model, one = FaceModel.pretrained(), clip()
    for n, frame in enumerate(made.frames):
        at, found = lower.place(one.landmarks[frame].astype(np.float64), model), made.place(n)
        assert np.allclose(found.pose.rotation, at.pose.rotation, atol=1e-5)
        assert found.square.side == pytest.approx(at.square.side, rel=1e-5)
        assert (lower.region(found, 64, model) ^ lower.region(at, 64, model)).mean() < 0.002
        assert np.allclose(made.landmarks[n], lower.places68(one.landmarks[frame].astype(np.float64), at), atol=1e-3)
    nose = made.landmarks[:, 27]  # between the eyes
    assert np.ptp(nose, axis=0).max() < 12  # pixels of 256, where the head turned by 15 degrees
    x, y = np.round(nose[2] / 2).astype(int)
    assert made.picture(2)[y - 2 : y + 3, x - 2 : x + 3].max() > 150  # what is drawn on the face is there


def test_speech_around_a_frame_is_silent_outside_the_clip(made):
    assert made.around(0, 2, 1)[:, 0].tolist() == [0, 0, 1, 2]
    assert made.around(2, 1, 3)[:, 0].tolist() == [3, 4, 5, 0, 0]
    assert made.around(1, 0, 0).shape == (1, HEARD)


def test_cutting_goes_on_where_it_stopped(tmp_path):
    one = clip()
    lowered.cut_all([(one, filmed(one))], hear, tmp_path, side=64, frames=2)
    before = (tmp_path / "clip.npz").read_bytes()
    other = clip("other")

    def never(_):
        raise AssertionError("a clip that is there was heard again")

    lowered.cut_all([(one, iter(()))], never, tmp_path, side=64, frames=2)
    lowered.cut_all([(one, iter(())), (other, filmed(other))], hear, tmp_path, side=64, frames=2)
    assert (tmp_path / "clip.npz").read_bytes() == before
    assert lowered.load(tmp_path / "other.npz").name == "other"


def test_files_of_another_kind_are_refused(tmp_path, made):
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(InputError, match="no faces to learn"):
        lowered.load(tmp_path / "text.npz")
    damaged = {one.name: getattr(made, one.name) for one in fields(made)} | {"jpeg": np.zeros_like(made.jpeg)}
    with pytest.raises(InputError, match="picture 0 of 'clip' is damaged"):
        Lowered(**damaged).picture(0)


def test_a_mirror_turns_pictures_regions_and_landmarks_alike(tmp_path):
    one = clip()
    lowered.cut_all([(one, filmed(one))], hear, tmp_path, side=SIDE, frames=3)
    found = lowered.load(tmp_path / "clip.npz")
    plain, turned = Chosen(found, 1), Chosen(found, 1, mirrored=True)
    assert np.array_equal(turned.picture, plain.picture[:, ::-1])
    assert np.array_equal(turned.hidden(FaceModel.pretrained()), plain.hidden(FaceModel.pretrained())[:, ::-1])
    points, seen = plain.landmarks, turned.landmarks
    assert np.allclose(seen[36], [SIDE - points[45, 0], points[45, 1]])  # outer corners of the eyes
    assert np.allclose(seen[48], [SIDE - points[54, 0], points[54, 1]])  # corners of the mouth
    assert np.allclose(seen[8], [SIDE - points[8, 0], points[8, 1]])  # the chin
    pictures = framed([plain, turned])
    middle = pictures.lips.mean(1)[:, 0]
    assert float(middle.sum()) == pytest.approx(
        pictures.pictures.shape[2], abs=1e-3
    )  # the window's middle is the face's


def test_the_reference_is_another_frame_with_the_head_turned_alike(made):
    values = {one.name: getattr(made, one.name) for one in fields(made)}
    count = 40
    places = np.repeat(made.places[:1], count, 0)
    for n in range(count):
        places[n, 1:10] = rotation_matrix(np.array([float(abs(n - 30)), 0.0, 0.0])).ravel()
    more = {"ends": np.arange(count), "frames": np.arange(count), "places": places}
    clip = Lowered(**(values | more | {"landmarks": np.repeat(made.landmarks[:1], count, 0)}))
    found = [another(Chosen(clip, 20, mirrored=True), np.random.default_rng(n)) for n in range(20)]
    assert all(abs(one.index - 20) >= 8 and one.mirrored for one in found)
    away = [abs(abs(one.index - 30) - 10) for one in found]  # frame 20 is turned by 10 degrees
    assert np.mean(away) < 6  # 10 by chance
    assert another(Chosen(made, 1), np.random.default_rng(0)).index == 1  # nothing is further away


def test_people_with_many_frames_are_met_less_often_than_they_have_frames(made):
    values = {one.name: getattr(made, one.name) for one in fields(made)}
    crowd = tuple(Lowered(**(values | {"speaker": who})) for who in ("a", "a", "a", "a", "b"))
    assert chances(crowd).tolist() == pytest.approx([1 / 6] * 4 + [1 / 3])
    drawn = some(crowd, 600, np.random.default_rng(0))
    assert 0.25 < np.mean([one.clip.speaker == "b" for one in drawn]) < 0.42
    assert 0.4 < np.mean([one.mirrored for one in drawn]) < 0.6
    assert {one.index for one in drawn} == {0, 1, 2}
    assert torch.is_tensor(framed(drawn[:2]).pictures)
