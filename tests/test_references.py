"""References: spread over what a person does, near ones count most, and shares change without jumps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.face import bend, lower
from vivavoce.face.mesh import Pose, rotation_matrix
from vivavoce.face.model import FaceModel
from vivavoce.render.references import Held, mixed, restored, spread, tensors

MODEL = FaceModel.pretrained()
MEAN = MODEL.mean[list(lower.POINTS)]
WINDOW = (slice(96, 256), slice(32, 224))
READINGS = 8


def place(yaw: float = 0.0) -> lower.Place:
    pose = Pose(170.0, rotation_matrix(np.array([yaw, 0.0, 0.0])), np.array([260.0, 220.0, 0.0]))
    return lower.place(pose.apply(MODEL.mean), MODEL)


def held(first: float, yaw: float = 0.0, grey: int = 0) -> Held:
    readings = np.eye(READINGS)[0] * first
    square = np.full((256, 256, 3), grey, np.uint8)
    return Held(square, bend.camera(place(yaw)), bend.moved(MEAN, readings), readings)


def shares(found: list[Held], first: float, yaw: float = 0.0) -> dict[int, float]:
    parts = mixed(found, np.eye(READINGS)[0] * first, bend.camera(place(yaw))).parts
    return {[one is part for one in found].index(True): share for share, part in parts}


def test_the_reference_that_is_like_what_is_asked_for_counts_most():
    found = [held(-2.0), held(0.0), held(2.0), held(0.0, 25.0)]
    assert max(shares(found, 1.9).items(), key=lambda one: one[1])[0] == 2
    assert max(shares(found, -1.5).items(), key=lambda one: one[1])[0] == 0
    assert max(shares(found, 0.1, 24.0).items(), key=lambda one: one[1])[0] == 3
    assert shares(found, 2.0)[2] > 0.99
    assert shares([found[2]], -2.0) == {0: 1.0}  # a photo is all there is


@settings(max_examples=30, deadline=None)
@given(st.floats(-2, 2), st.floats(-20, 20), st.integers(0, 50))
def test_shares_sum_to_one_and_do_not_jump(first, yaw, seed):
    rng = np.random.default_rng(seed)
    found = [held(float(a), float(b)) for a, b in zip(rng.normal(0, 1, 6), rng.normal(0, 8, 6), strict=True)]
    here, there = shares(found, first, yaw), shares(found, first + 1e-5, yaw)
    assert sum(here.values()) == pytest.approx(1)
    assert len(here) <= 3
    for n in range(len(found)):
        assert here.get(n, 0.0) == pytest.approx(there.get(n, 0.0), abs=0.02)


def test_the_mean_of_references_shows_each_as_much_as_it_counts():
    found, at = [held(0.0, grey=40), held(0.0, grey=200)], place()
    asked = np.zeros(READINGS)
    mean = mixed(found, asked, bend.camera(at))
    wanted = mean.bent(found[0].square, at, asked)
    assert np.all(mean.like(wanted, WINDOW) == 120)
    assert np.allclose(wanted.shape, found[0].shape)
    alone = mixed(found[1:], asked, bend.camera(at))
    assert np.all(alone.like(alone.bent(found[0].square, at, asked), WINDOW) == 200)


def test_references_are_unlike_each_other_and_none_is_there_twice():
    found = [held(0.0), held(0.01), held(2.0), held(0.0, 30.0), held(2.0), held(1.0)]
    assert spread(found, 1, 3)[0] is found[1]
    assert {id(one) for one in spread(found, 0, 3)} == {id(found[n]) for n in (0, 2, 3)}
    assert len(spread(found, 0, 6)) == 5  # the fifth is the third again
    assert spread(found[:1], 0) == found[:1]


def test_what_is_kept_comes_back():
    found = [held(0.5, 3.0, 7), held(-1.0, -4.0, 9)]
    kept = tensors(found, "reference.")
    for was, now in zip(found, restored({**kept, "other": kept["reference.square"]}, "reference."), strict=True):
        for name in ("square", "camera", "shape", "readings"):
            assert np.array_equal(getattr(was, name), getattr(now, name))
