"""Face geometry and the face model, against what must hold exactly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.face.mesh import RIGID, Pose, align, eye_openings, head_angles, lip_opening, rotation_matrix
from vivavoce.face.model import FaceModel, from_tensors
from vivavoce.motion.space import FACE_MESH
from vivavoce.motion.track import NOISE, calibrate, reference, rows, smooth

ANGLE = st.floats(-60, 60)


@given(ANGLE, ANGLE, ANGLE)
@settings(deadline=None, max_examples=50)
def test_angles_and_matrices_are_inverse(yaw, pitch, roll):
    angles = np.array([yaw, pitch, roll])
    np.testing.assert_allclose(head_angles(rotation_matrix(angles)), angles, atol=1e-8)


def test_signs_are_those_of_the_picture():
    nose = np.array([0.0, 0.0, -1.0])  # towards the camera
    assert (rotation_matrix(np.array([20.0, 0, 0])) @ nose)[0] > 0.3  # to the right
    assert (rotation_matrix(np.array([0, 20.0, 0])) @ nose)[1] > 0.3  # down
    right = rotation_matrix(np.array([0, 0, 20.0])) @ np.array([1.0, 0, 0])
    assert right[1] > 0.3  # clockwise


@given(ANGLE, ANGLE, ANGLE, st.floats(20, 800), st.floats(-500, 500))
@settings(deadline=None, max_examples=30)
def test_alignment_recovers_a_known_pose(yaw, pitch, roll, scale, shift):
    mean = FaceModel.pretrained().mean
    true = Pose(scale, rotation_matrix(np.array([yaw, pitch, roll])), np.array([shift, -shift, 1.0]))
    found = align(mean, true.apply(mean))
    assert found.scale == pytest.approx(scale, rel=1e-6)
    np.testing.assert_allclose(found.rotation, true.rotation, atol=1e-6)
    np.testing.assert_allclose(found.undo(true.apply(mean)), mean, atol=1e-6)


def test_the_model_is_canonical_and_symmetric():
    model = FaceModel.pretrained()
    assert np.linalg.norm(model.mean[234] - model.mean[454]) == pytest.approx(1, abs=0.01)
    assert np.abs(model.mean[list(RIGID)].mean(0)).max() < 0.02
    assert lip_opening(model.mean) < 0.01
    assert (model.mirrored_points[model.mirrored_points] == np.arange(478)).all()
    np.testing.assert_allclose(model.mirror @ model.mirror, np.eye(32), atol=1e-4)


def test_saved_and_read_back_it_is_the_same():
    model = FaceModel.pretrained()
    again = from_tensors(model.tensors())
    assert all(np.array_equal(getattr(model, name), getattr(again, name)) for name in model.tensors())


def test_coefficients_survive_the_round_trip_through_a_shape():
    model = FaceModel.pretrained()
    wanted = np.random.default_rng(0).normal(size=32)
    shape = model.mean + model.displacement(wanted, np.zeros(2))
    np.testing.assert_allclose(model.read(shape, model.mean), wanted, atol=0.02)


def test_closing_lids_close_the_eyes_and_nothing_else():
    model = FaceModel.pretrained()
    closed = model.mean + model.displacement(np.zeros(32), np.array([0.8, 0.8]))
    assert (eye_openings(closed) < 0.5 * eye_openings(model.mean)).all()
    assert lip_opening(closed) == pytest.approx(lip_opening(model.mean), abs=1e-3)


def acted(coefficients: np.ndarray, yaw: np.ndarray, closing: np.ndarray) -> np.ndarray:
    """Landmarks of the mean person doing known things, 300 px wide."""
    model = FaceModel.pretrained()
    frames = []
    for e, angle, shut in zip(coefficients, yaw, closing, strict=True):
        shape = model.mean + model.displacement(e, np.array([shut, shut]))
        frames.append(Pose(300.0, rotation_matrix(np.array([angle, 0, 0])), np.array([256.0, 256.0, 0])).apply(shape))
    return np.stack(frames)


def test_tracking_reads_back_what_was_acted():
    t = np.arange(60)
    coefficients = np.zeros((60, 32))
    coefficients[:, 0] = np.where(t < 30, 0, 1.5 * (1 - np.cos((t - 30) / 4)))
    yaw, closing = 12 * np.sin(t / 9), np.where((t > 10) & (t < 14), 1.0, 0.0)
    landmarks = acted(coefficients, yaw, closing)
    model = FaceModel.pretrained()
    person = calibrate(landmarks, model)
    measured = torch.from_numpy(rows(landmarks, np.zeros((60, 6)), person, model))
    got = {name: values.numpy() for name, values in FACE_MESH.unpack(measured).items()}
    assert np.abs(got["rotation"][:, 0] - yaw).max() < 0.6
    assert np.corrcoef(got["expression"][30:, 0], coefficients[30:, 0])[0, 1] > 0.99
    assert got["eyelids"][12].max() < 0.5 < got["eyelids"][20].min()


def test_one_photo_is_enough_for_a_reference():
    landmarks = acted(np.zeros((1, 32)), np.array([8.0]), np.zeros(1))
    row = reference(landmarks, FaceModel.pretrained())
    assert row.shape == (1, FACE_MESH.dim)
    assert row[0, 0] == pytest.approx(8, abs=0.5)
    assert np.abs(row[0, FACE_MESH.slice("expression")]).max() < 0.3


def test_smoothing_keeps_a_closure_and_removes_noise():
    rng = np.random.default_rng(1)
    clean = np.zeros((80, FACE_MESH.dim), np.float32)
    at = FACE_MESH.slice("expression")
    clean[40:42, at] = 3  # two frames long
    noise = rng.normal(scale=NOISE["expression"] / 3, size=clean.shape).astype(np.float32)
    out = smooth(clean + noise)
    assert np.abs(out[40:42, at] - 3).max() < 0.2
    assert np.abs(out[39, at]).max() < 0.2
    assert out[:30, at].std() < 0.75 * noise[:30, at].std()
