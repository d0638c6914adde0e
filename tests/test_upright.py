import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.face import upright
from vivavoce.face.model import FaceModel
from vivavoce.face.upright import Square


def face(angle=0.0, scale=200.0, middle=(300.0, 260.0)):
    """Landmarks of the mean face, leaning clockwise by ``angle`` degrees."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    points = scale * FaceModel.pretrained().mean @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    return (points + np.array([*middle, 0.0])).astype(np.float32)


@given(st.floats(-60, 60), st.floats(80, 400))
@settings(deadline=None, max_examples=20)
def test_the_square_turns_grows_and_moves_with_the_face(angle, scale):
    still = upright.around(face(0, 200.0), *upright.SOURCE)
    moved = upright.around(face(angle, scale, (310.0, 200.0)), *upright.SOURCE)
    assert np.degrees(moved.turn) == pytest.approx(angle + np.degrees(still.turn), abs=0.1)
    assert moved.side / still.side == pytest.approx(scale / 200, rel=1e-3)


def test_a_watched_face_is_not_turned():
    assert upright.around(face(30), *upright.DRIVING).turn == 0


def test_pixels_of_the_square_lie_where_it_lies():
    square = Square(100.0, 80.0, 40.0, np.radians(90))
    matrix = square.to_picture(20)
    assert matrix @ [10, 10, 1] == pytest.approx([100, 80])
    assert matrix @ [20, 10, 1] == pytest.approx([100, 100])  # its right side points down


def test_what_is_cut_and_put_back_is_the_picture():
    rows, columns = np.mgrid[:400, :500]
    picture = np.stack([rows / 2, columns / 2, (rows + columns) / 4], -1).astype(np.uint8)
    square = Square(250.0, 200.0, 220.0, 0.4)
    changed = picture.copy()
    upright.put_back(upright.cut(picture, square), square, changed)
    assert np.abs(changed.astype(int) - picture).max() <= 2
    upright.put_back(np.full((512, 512, 3), 255, np.uint8), square, changed)
    assert changed[200, 250].tolist() == [255, 255, 255]
    far = np.hypot(rows - 200, columns - 250) > 220 / 2**0.5 + 2
    assert np.array_equal(changed[far], picture[far])


def test_a_square_outside_changes_nothing():
    picture = np.zeros((20, 20, 3), np.uint8)
    upright.put_back(np.full((8, 8, 3), 9, np.uint8), Square(100.0, 100.0, 10.0, 0.0), picture)
    assert not picture.any()


def test_the_feather_is_full_inside_and_gone_at_the_border():
    weight = upright.feather(512)
    assert weight[256, 256] == 1
    assert weight[16:-16, 16:-16].min() == 1
    assert weight[0].max() < 0.05
    assert np.array_equal(weight, weight.T)
    assert np.array_equal(weight, weight[::-1])


def test_openings_do_not_depend_on_size_or_place():
    near, far = upright.openings(face(scale=100)), upright.openings(face(scale=300, middle=(0, 0)))
    assert near == pytest.approx(far, rel=1e-4)
    opened = face()
    opened[14, 1] += 30
    assert upright.openings(opened)[2] > upright.openings(face())[2] + 0.1


@given(
    x=st.floats(-50, 150),
    y=st.floats(-50, 150),
    side=st.floats(1, 300),
    turn=st.floats(-3, 3),
    width=st.integers(20, 100),
    height=st.integers(20, 100),
)
def test_a_square_within_a_picture_has_its_corners_there(x, y, side, turn, width, height):
    square = upright.within(Square(x, y, side, turn), width, height)
    along = np.array([np.cos(turn), np.sin(turn)]) * square.side / 2
    across = np.array([-along[1], along[0]])
    corners = [(square.x, square.y) + a * along + b * across for a in (-1, 1) for b in (-1, 1)]
    assert np.min(corners) > -1e-6
    assert np.all(np.max(corners, 0) < np.array([width, height]) + 1e-6)
    assert square.side <= side


def test_a_square_that_is_within_stays_as_it_is():
    square = Square(50.0, 40.0, 60.0, 0.2)
    assert upright.within(square, 100, 90) == square
