"""What is hidden of a face tells nothing of its mouth, and hides all of it."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.face import lower
from vivavoce.face.mesh import OVAL, Pose, rotation_matrix
from vivavoce.face.model import FaceModel
from vivavoce.face.upright import cut
from vivavoce.motion.space import LANDMARKS68

MODEL = FaceModel.pretrained()
SIDE = 128
FREE = sorted(set(range(478)) - set(lower.STEADY) - {lower.POINTS[n] for n in lower.UPPER})  # what a mouth may move
HIDDEN = [n for n in (*lower.OUTER, *lower.INNER, *OVAL) if MODEL.mean[n, 1] >= MODEL.mean[2, 1]]
angles = st.tuples(st.integers(-40, 40), st.integers(-20, 20), st.integers(-30, 30))


def pose(turned=(0, 0, 0)):
    return Pose(200.0, rotation_matrix(np.array(turned, np.float64)), np.array([260.0, 220.0, 0.0]))


def test_the_table_names_68_different_points_in_mirrored_pairs():
    assert len(lower.POINTS) == len(set(lower.POINTS)) == 68
    assert len(lower.PUBLISHED) == 39
    jaw_brows = [(n, 16 - n) for n in range(17)] + [(17 + n, 26 - n) for n in range(10)]
    eyes_nose = [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46), (31, 35), (32, 34)]
    lips = [(48, 54), (49, 53), (50, 52), (59, 55), (58, 56), (60, 64), (61, 63), (67, 65)]
    for left, right in jaw_brows + eyes_nose + lips:
        assert MODEL.mirrored_points[lower.POINTS[left]] == lower.POINTS[right], (left, right)
    for middle in (8, *range(27, 31), 33, 51, 57, 62, 66):
        assert MODEL.mirrored_points[lower.POINTS[middle]] == lower.POINTS[middle]


def test_the_landmarks_lie_as_the_scheme_says():
    at = lower.place(pose().apply(MODEL.mean), MODEL)
    x, y = lower.places68(pose().apply(MODEL.mean), at).T
    assert LANDMARKS68.dim == x.size + y.size
    assert min(x.min(), y.min()) > 0
    assert max(x.max(), y.max()) < lower.SPACE
    assert (np.diff(x[0:17]) > -8).all()  # the jaw, left to right
    assert y.argmax() == 8  # the chin
    assert (np.diff(x[17:27]) > 0).all()  # brows
    assert (np.diff(y[27:31]) > 0).all()  # ridge of the nose
    assert (np.diff(x[31:36]) > 0).all()  # base of the nose
    for eye in (slice(36, 42), slice(42, 48)):
        assert y[eye][1:3].mean() < y[eye][4:6].mean()
        assert x[eye].argmin() == 0
        assert x[eye].argmax() == 3
    assert y[51] < y[62] <= y[66] < y[57]  # lips, from above


@settings(max_examples=25, deadline=None)
@given(angles, st.integers(0, 2**32 - 1))
def test_what_a_mouth_moves_changes_nothing_that_is_seen(turned, seed):
    """Whatever mouth, jaw, cheeks and base of the nose do: crop, mask, and landmarks that are told stay bit for bit."""
    rng = np.random.default_rng(seed)
    before = pose(turned).apply(MODEL.mean)
    after = before.copy()
    after[FREE] += rng.normal(0, 40, (len(FREE), 3))
    places = [lower.place(points, MODEL) for points in (before, after)]
    assert places[0].square == places[1].square
    for hide in (lower.region, lower.band):
        assert np.array_equal(hide(places[0], SIDE, MODEL), hide(places[1], SIDE, MODEL))
    told = [lower.places68(points, at)[list(lower.UPPER)] for points, at in zip((before, after), places, strict=True)]
    assert np.array_equal(told[0], told[1])


def painted(points):
    """A face of flat colours: skin to the outline, lips and what is between them."""
    picture = np.full((480, 520, 3), 90, np.uint8)
    for ring, colour in ((OVAL, (200, 170, 150)), (lower.OUTER, (180, 60, 60)), (lower.INNER, (30, 0, 0))):
        cv2.fillPoly(picture, [np.round(points[list(ring), :2]).astype(np.int32)], colour)
    return picture


@pytest.mark.parametrize("turned", [(0, 0, 0), (25, 0, 0), (0, 12, 0), (-15, -10, 20)])
def test_two_faces_that_differ_in_mouth_opening_give_the_same_masked_picture(turned):
    closed, wide = MODEL.mean.copy(), MODEL.mean.copy()
    lip, chin = (MODEL.mean[n, 1] for n in (13, 152))
    moved = [n for n in (*lower.INNER[5:], *lower.OUTER[7:], *OVAL) if MODEL.mean[n, 1] > lip]
    wide[moved, 1] += 0.2 * (wide[moved, 1] - lip) / (chin - lip)  # lower lip and jaw, which hangs on its hinge
    told, seen, whole = [], [], []
    for shape in (closed, wide):
        points = pose(turned).apply(shape)
        at = lower.place(points, MODEL)
        picture = cut(painted(points), at.square, 256)
        whole.append(picture)
        seen.append([lower.masked(picture, hide(at, 256, MODEL)) for hide in (lower.region, lower.band)])
        told.append(lower.places68(points, at)[list(lower.UPPER)])
    assert not np.array_equal(whole[0], whole[1])
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(told[0], told[1])


@settings(max_examples=40, deadline=None)
@given(angles, st.integers(0, 2**32 - 1))
def test_lips_and_jaw_of_any_expression_are_hidden(turned, seed):
    expression = np.random.default_rng(seed).normal(0, 1, 32)
    points = pose(turned).apply(MODEL.mean + MODEL.displacement(expression, np.zeros(2)))
    at = lower.place(points, MODEL)
    grown = cv2.dilate(lower.region(at, 256, MODEL).astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
    x, y = np.round(at.into(points[HIDDEN], 256)).astype(int).T
    assert grown[y, x].all()
    assert not (lower.region(at, 256, MODEL) & ~lower.band(at, 256, MODEL)).any()


def test_eyes_and_the_ridge_of_the_nose_stay_in_sight():
    points = pose().apply(MODEL.mean)
    at = lower.place(points, MODEL)
    x, y = np.round(lower.places68(points, at)).astype(int)[[*range(17, 30), *range(36, 48)]].T
    assert not lower.band(at, 256, MODEL)[y, x].any()


def test_a_latent_pixel_stays_only_if_all_of_it_does():
    hidden = np.zeros((8, 8), bool)
    hidden[3, 4] = True
    assert np.array_equal(lower.stays(hidden, 4), [[1, 0], [1, 1]])
    assert np.array_equal(lower.stays(hidden, 8), [[0]])


def test_masking_blackens_what_is_hidden_and_nothing_else():
    rng = np.random.default_rng(0)
    picture = rng.integers(1, 256, (8, 8, 3), dtype=np.uint8)
    hidden = rng.random((8, 8)) > 0.5
    out = lower.masked(picture, hidden)
    assert not out[hidden].any()
    assert np.array_equal(out[~hidden], picture[~hidden])


def test_mirrored_landmarks_are_the_models_own_pairs():
    pairs = FaceModel.pretrained().mirrored_points
    assert sorted(lower.MIRRORED) == list(range(68))
    assert [pairs[lower.POINTS[n]] for n in range(68)] == [lower.POINTS[m] for m in lower.MIRRORED]


def test_the_jaw_and_a_little_beyond_is_within_and_no_collar():
    outline = np.stack([128 + 60 * np.cos(a := np.linspace(np.pi, 0, 17)), 128 + 60 * np.sin(a)], 1)
    lowered = outline + np.array([0, 20])
    one, both = lower.within([outline], 128), lower.within([outline, lowered], 128)
    assert one.shape == (128, 128)
    ys, xs = np.mgrid[:128, :128] * 2.0
    far = np.hypot(xs - 128, ys - 128)
    below = ys > 128
    assert one[below & (far < 72)].all()
    assert not one[below & (far > 82)].any()
    assert (both & ~one).any()
    assert not (one & ~both).any()
    assert not both[ys > 226].any()
