import numpy as np
import pytest
import torch

from vivavoce.face.mesh import BROWS, lip_opening
from vivavoce.face.model import FaceModel
from vivavoce.motion import lips
from vivavoce.motion.space import FACE_MESH

MODEL = FaceModel.pretrained()


def moved(coefficients):
    return MODEL.mean + MODEL.displacement(coefficients.numpy(), np.zeros(2))


def test_opening_is_the_change_of_the_measured_lip_opening():
    e = torch.zeros(32)
    e[0] = 2.0
    measured = lip_opening(moved(e)) - lip_opening(MODEL.mean)
    assert float(e @ lips.opening(MODEL)) == pytest.approx(measured, rel=0.05)


def test_resting_closes_the_mouth_and_leaves_the_brows():
    torch.manual_seed(0)
    rest = lips.resting(MODEL)
    for e in torch.randn(5, 32):
        before, after = (moved(x) - MODEL.mean for x in (e, e @ rest))
        mouth = list(lips.LIPS)
        assert np.linalg.norm(after[mouth]) < 0.15 * np.linalg.norm(before[mouth])
        brows = list(BROWS)
        assert np.linalg.norm((after - before)[brows]) < 0.25 * np.linalg.norm(before[brows])
    assert (torch.zeros(32) @ rest).abs().max() == 0


def test_closed_rows_touch_mouth_and_interior_only():
    rows = torch.randn(3, FACE_MESH.dim)
    closed = rows @ lips.closed_rows(MODEL)
    for name in ("rotation", "translation", "scale", "eyelids", "gaze"):
        assert torch.equal(closed[:, FACE_MESH.slice(name)], rows[:, FACE_MESH.slice(name)])
    assert closed[:, FACE_MESH.slice("interior")].abs().max() == 0


def test_a_mirror_twice_is_no_mirror():
    mirror = lips.mirror_rows(MODEL)
    rows = torch.zeros(2, FACE_MESH.dim)
    rows[:, FACE_MESH.slice("rotation")] = torch.tensor([10.0, 5.0, 3.0])
    rows[:, FACE_MESH.slice("eyelids")] = torch.tensor([0.2, 0.9])
    rows[1, FACE_MESH.slice("expression").start] = 1.0
    seen = rows @ mirror
    assert seen[0, :3].tolist() == [-10.0, 5.0, -3.0]
    torch.testing.assert_close(seen[0, FACE_MESH.slice("eyelids")], torch.tensor([0.9, 0.2]))
    torch.testing.assert_close(seen @ mirror, rows, rtol=0.1, atol=0.1)  # the basis is nearly symmetric, not quite


def test_readings_of_the_lips_have_unit_energy_and_fall():
    read = lips.shape(MODEL, 10)
    assert read.shape == (32, 10)
    energy = read.square().sum(0)
    assert float(energy.sum()) == pytest.approx(1, abs=1e-5)
    assert (energy.diff() <= 1e-6).all()


def test_readings_have_unit_variance_and_tell_the_opening():
    found = lips.readings(MODEL, 8)
    torch.testing.assert_close(found.square().sum(0), torch.ones(8))  # coefficients are white over the training clips
    weights = torch.linalg.lstsq(found, lips.opening(MODEL)[:, None])
    left = found @ weights.solution - lips.opening(MODEL)[:, None]
    assert left.norm() < 0.2 * lips.opening(MODEL).norm()
