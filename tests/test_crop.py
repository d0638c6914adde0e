"""Choosing a face, and how the picture reaches the output."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.errors import InputError
from vivavoce.face.crop import choose_face, head_view, whole_picture
from vivavoce.face.mesh import align
from vivavoce.face.model import FaceModel
from vivavoce.face.track import Face


def face(x: float, y: float, width: float) -> Face:
    return Face((FaceModel.pretrained().mean * width + np.array([x, y, 0])).astype(np.float32))


THREE = [face(500, 200, 100), face(100, 200, 60), face(300, 200, 80)]


@pytest.mark.parametrize(
    ("which", "index"), [("largest", 0), ("left", 1), ("right", 0), ("0", 1), (1, 2), (2, 0), ("2", 0)]
)
def test_faces_are_chosen_by_size_side_or_number(which, index):
    assert choose_face(THREE, which) == index


@pytest.mark.parametrize("which", [3, -1, "7"])
def test_a_face_that_is_not_there_says_how_many_are(which):
    with pytest.raises(InputError, match="3 faces"):
        choose_face(THREE, which)


def test_wrong_words_and_no_face_are_the_users_mistakes():
    with pytest.raises(InputError, match="largest, left, right"):
        choose_face(THREE, "biggest")
    with pytest.raises(InputError, match="no face"):
        choose_face([], "largest")


@given(st.integers(300, 3000), st.integers(300, 3000), st.floats(0, 1), st.floats(0, 1), st.floats(30, 900))
def test_whole_picture_keeps_the_framing(width, height, x, y, size):
    framing = whole_picture(width, height, [face(x * width, y * height, size)], 512, 1920)
    left, top, right, bottom = framing.region
    assert framing.size[0] % 2 == framing.size[1] % 2 == 0
    assert 0 <= left < right <= framing.size[0]
    assert 0 <= top < bottom <= framing.size[1]
    assert max(right - left, bottom - top) <= 514
    assert max(framing.size) <= 1920
    assert framing.size[0] / framing.size[1] == pytest.approx(width / height, rel=0.02)


def test_pixels_are_the_inputs_when_nothing_is_scaled():
    rgb = np.random.default_rng(0).integers(0, 256, (401, 603, 3), np.uint8)
    framing = whole_picture(603, 401, [face(300, 200, 100)], 512, 1920)
    assert framing.scale == (1.0, 1.0)
    assert (framing.picture(rgb) == rgb[:400, :602]).all()


def test_points_follow_the_picture():
    rgb = np.zeros((1600, 1200, 3), np.uint8)
    rgb[700:720, 500:520] = 255
    framing = whole_picture(1200, 1600, [face(600, 800, 400)], 512, 1920)
    left, top, _, _ = framing.region
    out = framing.picture(rgb)[..., 0]
    rows, columns = np.nonzero(out > 128)
    x, y, _ = framing.points(np.array([[510.0, 710.0, 0.0]]))[0] + [left, top, 0]
    assert (x, y) == pytest.approx((columns.mean() + 0.5, rows.mean() + 0.5), abs=1)


def test_a_face_that_moves_stays_in_the_region():
    moving = [face(300, 300, 80), face(700, 340, 80)]
    left, top, right, bottom = whole_picture(1000, 800, moving, 512, 1920).region
    alone = [whole_picture(1000, 800, [one], 512, 1920) for one in moving]
    ratio = whole_picture(1000, 800, moving, 512, 1920).scale[0]
    assert left <= alone[0].region[0] * ratio + 1
    assert right >= alone[1].region[2] * ratio - 1
    assert bottom > top


@pytest.mark.parametrize("x", [20, 200, 390])
def test_head_view_is_square_and_centred_even_beyond_the_picture(x):
    rgb = np.random.default_rng(1).integers(0, 256, (300, 400, 3), np.uint8)
    someone = face(x, 150, 60)
    framing = head_view([someone], 256)
    assert framing.picture(rgb).shape == (256, 256, 3)
    points = framing.points(someone.landmarks)
    assert points[:, 0].mean() == pytest.approx(128, abs=12)
    assert align(FaceModel.pretrained().mean, points).scale == pytest.approx(256 / 2.5, rel=0.1)
