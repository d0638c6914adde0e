"""Bent pictures: points go where they are told to go, in any pose and in a mirror, and lips part as far as is said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.face import bend, lower
from vivavoce.face.mesh import Pose, rotation_matrix
from vivavoce.face.model import FaceModel
from vivavoce.motion import lips

MODEL = FaceModel.pretrained()
WHOLE = (slice(0, 256), slice(0, 256))
MEAN = MODEL.mean[list(lower.POINTS)]
READERS = lips.readings(MODEL, 8).double().numpy()
WIDER = np.linalg.lstsq(READERS, lips.opening(MODEL).double().numpy(), rcond=None)[0]
WIDER /= np.linalg.norm(WIDER)  # the readings that part the lips
angles = st.tuples(st.integers(-40, 40), st.integers(-20, 20), st.integers(-30, 30))


def place(turned=(0, 0, 0)) -> lower.Place:
    pose = Pose(170.0, rotation_matrix(np.array(turned, np.float64)), np.array([260.0, 220.0, 0.0]))
    return lower.place(pose.apply(MODEL.mean), MODEL)


@settings(max_examples=20, deadline=None)
@given(angles)
def test_the_camera_sees_points_where_the_landmarks_are(turned):
    at = place(turned)
    seen = bend.seen(MEAN, bend.camera(at))
    assert np.allclose(seen, lower.places68(at.pose.apply(MODEL.mean), at))
    assert np.allclose(bend.solid(seen, bend.camera(at)), MEAN)
    moved = seen + np.random.default_rng(0).normal(0, 5, seen.shape)
    assert np.allclose(bend.seen(bend.solid(moved, bend.camera(at)), bend.camera(at)), moved)


def test_a_mirror_shows_the_mirrored_shape():
    camera = bend.camera(place((20, -10, 15)))
    flipped = MEAN[list(lower.MIRRORED)] * [-1, 1, 1]
    seen = bend.seen(MEAN, camera)[list(lower.MIRRORED)]
    assert np.allclose(bend.seen(flipped, bend.mirrored(camera)), np.column_stack([256 - seen[:, 0], seen[:, 1]]))


def test_shapes_change_as_readings_say():
    change = np.array([0.4, -0.3, 0.2, 0, 0.1, 0, 0, 0.5])
    coefficients = np.random.default_rng(1).normal(size=32)
    coefficients += np.linalg.pinv(READERS.T) @ (change - coefficients @ READERS)
    assert np.allclose(coefficients @ READERS, change)
    assert np.allclose(np.linalg.pinv(READERS.T) @ change @ READERS, change)
    least = np.tensordot(np.linalg.pinv(READERS.T) @ change, MODEL.expression[:, list(lower.POINTS)], 1)
    assert np.allclose(np.tensordot(change, bend.moves(8), 1), least)


@pytest.mark.parametrize("far", [-6.0, -1.0, 0.0, 2.0])
def test_lips_part_but_never_cross(far):
    made = bend.moved(MEAN, far * WIDER)
    above, below = made[[61, 62, 63], 1], made[[67, 66, 65], 1]
    own = MEAN[[67, 66, 65], 1] - MEAN[[61, 62, 63], 1]
    assert np.all(below > above)
    if far > 0:
        assert np.mean(below - above) > own.mean() + 0.02 * far
    if far < -1:
        assert np.allclose(below - above, 0.004)


def test_pictures_that_need_no_bending_stay():
    picture = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    places = bend.seen(MEAN, bend.camera(place()))
    assert np.array_equal(bend.bent(picture, places, places, WHOLE), picture)
    part = (slice(96, 256), slice(32, 224))
    assert np.array_equal(bend.bent(picture, places, places, part), picture[part])


@pytest.mark.parametrize("side", [256, 512])
def test_what_is_at_a_point_goes_where_it_goes(side):
    was = bend.seen(MEAN, bend.camera(place()))
    now = bend.seen(bend.moved(MEAN, 2 * WIDER), bend.camera(place((8, 5, -4))))
    scale = side / 256
    for point in (48, 54, 57, 8):  # corners of the mouth, lower lip, chin
        picture = np.zeros((side, side, 3), np.uint8)
        x, y = np.floor(was[point] * scale).astype(int)
        picture[y - 3 : y + 4, x - 3 : x + 4] = 255
        found = np.argwhere(bend.bent(picture, was, now, WHOLE if side == 256 else (slice(0, 512),) * 2)[..., 0] > 127)
        assert np.linalg.norm(found.mean(0)[::-1] + 0.5 - now[point] * scale) < 2.5 * scale


def test_lips_are_drawn_where_they_are_and_nowhere_else():
    now = bend.seen(bend.moved(MEAN, 3 * WIDER), bend.camera(place()))
    picture = np.zeros((160, 192, 3), np.uint8)
    bend.sketched(picture, now, 256, (32, 96))
    rows, columns = np.nonzero(picture[..., 0])
    around = now[48:60] - [32, 96]
    assert abs(columns.min() - around[:, 0].min()) < 2
    assert abs(rows.max() + 1 - around[:, 1].max()) < 2
    middle = now[60:68].mean(0) - [32, 96]
    assert picture[int(middle[1]), int(middle[0]), 0] == 255
    assert set(np.unique(picture[..., 0])) >= {0, 96, 255}


@pytest.mark.parametrize(("turned", "off"), [((6, 0, 0), 1.0), ((0, -12, 0), 4.0), ((0, 0, 20), 0.0)])
def test_heads_are_unlike_by_how_far_they_turn_but_not_lean(turned, off):
    cameras = [bend.camera(place(angles)) for angles in ((0, 0, 0), turned)]
    assert bend.unlike(np.zeros((1, 8)), cameras[0][None], cameras[1]) == pytest.approx(off, rel=0.05, abs=0.02)


def test_lips_are_unlike_by_how_far_they_move_and_more_so_where_they_hide_what_is_to_be_seen():
    camera, change = bend.camera(place()), WIDER * 0.7
    off = bend.unlike(np.stack([change, 2 * change, 0 * change, -change]), np.stack([camera] * 4), camera)
    moved = np.tensordot(change, bend.moves(8), 1)[48:, :2]
    by_moves = np.square(moved).sum(1).mean() / 0.01**2
    parted = (moved[[19, 18, 17], 1] - moved[[13, 14, 15], 1]).mean()
    assert parted > 0.005
    assert off == pytest.approx(np.array([1, 4, 0, 1 + (parted / 0.005) ** 2 / by_moves]) * by_moves)
