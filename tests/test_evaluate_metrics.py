"""Picture metrics against values known in closed form."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.evaluate import metrics
from vivavoce.evaluate.metrics import Box, Mouth, change, closeness, inside_lips, psnr, regions, sharpness, ssim_map
from vivavoce.face.mesh import INNER_LIPS, Pose, rotation_matrix
from vivavoce.face.model import FaceModel


def noise(seed=0, shape=(48, 64, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def face(opening=0.0, *, scale=200.0, roll=0.0, at=(256.0, 256.0)):
    """Landmarks of the mean face with lips parted by ``opening`` face widths."""
    shape = FaceModel.pretrained().mean.copy()
    lower = [14, 87, 317, 88, 178, 402, 318, 95, 324]
    shape[lower, 1] += opening
    return Pose(scale, rotation_matrix(np.array([0.0, 0.0, roll])), np.array([*at, 0.0])).apply(shape)


@given(st.integers(1, 60), st.integers(0, 5))
@settings(deadline=None, max_examples=20)
def test_psnr_of_a_constant_offset(offset, seed):
    true = noise(seed) // 2
    assert psnr(true + np.uint8(offset), true) == pytest.approx(20 * math.log10(255 / offset))


def test_psnr_of_equal_pictures_is_the_limit():
    assert psnr(noise(), noise()) == metrics.LIMIT


def test_ssim_is_one_for_equal_pictures_and_symmetric():
    a, b = noise(0), noise(1)
    np.testing.assert_allclose(ssim_map(a, a), 1)
    np.testing.assert_allclose(ssim_map(a, b), ssim_map(b, a))


@given(st.integers(0, 255), st.integers(0, 255))
@settings(deadline=None, max_examples=20)
def test_ssim_of_flat_pictures_is_its_luminance_term(x, y):
    a, b = np.full((20, 20, 3), x, np.uint8), np.full((20, 20, 3), y, np.uint8)
    c1 = (0.01 * 255) ** 2
    np.testing.assert_allclose(ssim_map(a, b), (2 * x * y + c1) / (x * x + y * y + c1), rtol=1e-5)


def test_ssim_is_the_weighted_formula_at_a_pixel():
    a, b = noise(2), noise(3)
    grey = [p.astype(float) @ [0.299, 0.587, 0.114] for p in (a, b)]
    x = np.arange(-5, 6)
    weight = np.exp(-(x**2) / (2 * 1.5**2))
    weight = np.outer(weight, weight) / weight.sum() ** 2
    p, q = (g[20 - 5 : 20 + 6, 30 - 5 : 30 + 6] for g in grey)
    mean_p, mean_q = (weight * p).sum(), (weight * q).sum()
    var_p, var_q = (weight * (p - mean_p) ** 2).sum(), (weight * (q - mean_q) ** 2).sum()
    both = (weight * (p - mean_p) * (q - mean_q)).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    wanted = (2 * mean_p * mean_q + c1) * (2 * both + c2) / ((mean_p**2 + mean_q**2 + c1) * (var_p + var_q + c2))
    assert ssim_map(a, b)[20, 30] == pytest.approx(wanted, rel=1e-6)


def test_regions_lie_where_the_face_is():
    boxes = regions(face(), 512, 512)
    assert boxes["frame"] == Box(0, 0, 512, 512)
    assert boxes["mouth"].right - boxes["mouth"].left == pytest.approx(2 * 0.26 * 200, abs=6)
    assert boxes["eyes"].bottom < boxes["mouth"].bottom
    assert boxes["face"].top < boxes["eyes"].top
    assert boxes["face"].bottom >= boxes["mouth"].bottom - 10


def test_regions_are_cut_off_at_the_border_and_empty_ones_left_out():
    boxes = regions(face(at=(0.0, 0.0)), 100, 80)
    assert all(0 <= b.left <= b.right <= 100 and 0 <= b.top <= b.bottom <= 80 for b in boxes.values())
    far = regions(face(at=(9000.0, 9000.0)), 64, 48)
    assert set(closeness(noise(), noise(1), far)) == {"frame"}


def test_only_differences_inside_a_box_count():
    true, shown = noise(), noise()
    shown[:24] = 0
    found = closeness(shown, true, {"all": Box(0, 0, 64, 48), "below": Box(0, 24, 64, 48)})
    assert found["below"][0] == metrics.LIMIT
    assert found["all"][0] < 20
    assert found["all"][1] < found["below"][1] < 1  # SSIM looks 5 pixels over the border


def test_the_inside_of_the_lips_is_measured_when_it_is_open():
    assert inside_lips(face(0.0), 512, 512) is None
    mask = inside_lips(face(0.1), 512, 512)
    ring = face(0.1)[list(INNER_LIPS), :2].astype(np.float32)
    assert mask is not None
    rows, columns = np.nonzero(mask)
    assert 0.5 < mask.sum() / cv2.contourArea(ring) < 1
    assert all(
        cv2.pointPolygonTest(ring, (float(x), float(y)), measureDist=False) > 0
        for x, y in zip(columns, rows, strict=True)
    )


def test_sharpness_of_known_patterns():
    mask = np.zeros((48, 64), bool)
    mask[8:40, 8:56] = True
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None], 48, 0).repeat(3, 2)
    assert sharpness(ramp, mask) == pytest.approx(0, abs=1e-9)
    checks = ((np.indices((48, 64)).sum(0) % 2) * 10).astype(np.uint8)[..., None].repeat(3, 2)
    assert sharpness(checks, mask) == pytest.approx(40)
    blurred = cv2.GaussianBlur(noise(), (5, 5), 1.5)
    assert sharpness(blurred, mask) < 0.3 * sharpness(noise(), mask)


def test_head_movement_is_no_change_inside_the_lips():
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (512, 512, 3), dtype=np.uint8), (0, 0), 6)
    matrix = cv2.getRotationMatrix2D((256.0, 256.0), -15, 1.1)
    moved = cv2.warpAffine(texture, matrix, (512, 512), flags=cv2.INTER_CUBIC)
    there = metrics.stabilised(texture, face(0.12))
    landmarks = face(0.12)
    landmarks[:, :2] = landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    here = metrics.stabilised(moved, landmarks)
    stays, differs = change(there, here), change(there, metrics.stabilised(texture[::-1].copy(), face(0.12)))
    assert stays is not None
    assert differs is not None
    assert stays < 0.05 * differs


def test_change_is_the_mean_difference_where_both_are_open():
    inside = np.zeros(metrics.PATCH, bool)
    inside[10:20, 10:20] = True
    dark, light = np.zeros(metrics.PATCH), np.zeros(metrics.PATCH)
    light[10:20, 10:15] = 8
    light[30:] = 100  # outside
    assert change(Mouth(dark, inside), Mouth(light, inside)) == pytest.approx(4)
    assert change(None, Mouth(light, inside)) is None
    assert change(Mouth(dark, ~inside), Mouth(light, inside)) is None
    assert metrics.stabilised(noise(shape=(512, 512, 3)), face(0.0)) is None
