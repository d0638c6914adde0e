import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.face.interior import (
    CLOSED,
    COLUMNS,
    COMPONENTS,
    OPEN,
    ROWS,
    basis,
    look_inside,
    measure_interior,
    mouth_opening,
    visible,
)
from vivavoce.face.mesh import INNER_LIPS, LOWER_INNER, UPPER_INNER
from vivavoce.face.model import FaceModel
from vivavoce.recipes.interior import Looks, explained, fit

SKIN = np.array([200, 150, 120], np.uint8)
numbers = st.lists(st.floats(-3, 3, width=32), min_size=COMPONENTS, max_size=COMPONENTS)


def face(opening: float) -> np.ndarray:
    """The mean face, 200 pixels wide, lips ``opening`` face widths apart."""
    shape = FaceModel.pretrained().mean.copy()
    width = np.linalg.norm(shape[234] - shape[454])
    lift = opening * width * np.sin(np.linspace(0, np.pi, 11))
    middle = (shape[list(UPPER_INNER), 1] + shape[list(LOWER_INNER), 1]) / 2
    shape[list(UPPER_INNER), 1] = middle - lift / 2
    shape[list(LOWER_INNER), 1] = middle + lift / 2
    return (shape * 200 + [150, 130, 0]).astype(np.float32)


def picture(landmarks: np.ndarray, inside: tuple[int, int, int]) -> np.ndarray:
    image = np.tile(SKIN, (320, 300, 1))
    cv2.fillPoly(image, [np.rint(landmarks[list(INNER_LIPS), :2]).astype(np.int32)], inside)
    return image


def test_closed_lips_show_nothing():
    landmarks = face(0.0)
    assert not measure_interior(picture(landmarks, (90, 20, 20)), landmarks).any()


def test_channels_fade_in_with_the_opening():
    openings = np.linspace(0, 0.05, 60)
    shares = [visible(float(o)) for o in openings]
    assert shares[0] == 0
    assert shares[-1] == 1
    assert np.all(np.diff(shares) >= 0)
    assert np.max(np.diff(shares)) < 0.15
    assert 0 < visible((CLOSED + OPEN) / 2) < 1


@settings(max_examples=25, deadline=None)
@given(numbers, st.floats(0.0, 0.3))
def test_projection_undoes_the_look(channels, opening):
    wanted = np.array(channels, np.float32)
    found = basis().project(basis().look(wanted, opening), opening)
    assert found == pytest.approx(wanted, abs=1e-3)


def test_mirroring_flips_signs_only():
    components = basis().components
    for component in components:
        mirrored = component[..., ::-1]
        assert min(np.abs(component - mirrored).max(), np.abs(component + mirrored).max()) < 1e-4
    assert np.allclose(basis().means, basis().means[..., ::-1], atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_look_is_colour_relative_to_skin(colour):
    landmarks = face(0.12)
    look = look_inside(picture(landmarks, colour), landmarks)[:, 2:-2, 4:-4]
    skin_light = SKIN @ [0.299, 0.587, 0.114]
    red = (colour[0] - (colour[1] + colour[2]) / 2 - (SKIN[0] - (float(SKIN[1]) + SKIN[2]) / 2)) / skin_light
    assert look[0] == pytest.approx(np.clip(np.dot(colour, [0.299, 0.587, 0.114]) / skin_light, -2, 2), abs=0.02)
    assert look[1] == pytest.approx(np.clip(red, -2, 2), abs=0.02)


@pytest.mark.parametrize("gain", [0.4, 0.7])
def test_exposure_does_not_matter(gain):
    landmarks = face(0.1)
    bright = picture(landmarks, (120, 60, 60))
    bright[: int(landmarks[13, 1]) + 5][bright[: int(landmarks[13, 1]) + 5, :, 1] == 60] = 180
    dark = np.rint(bright * gain).astype(np.uint8)
    assert measure_interior(dark, landmarks) == pytest.approx(measure_interior(bright, landmarks), abs=0.1)


def test_mouth_outside_the_picture_is_harmless():
    landmarks = face(0.1)
    landmarks[:, 1] += 5000
    assert np.isfinite(measure_interior(np.zeros((64, 64, 3), np.uint8), landmarks)).all()


def test_opening_is_relative_to_the_face():
    landmarks = face(0.1)
    assert mouth_opening(landmarks * 3) == pytest.approx(mouth_opening(landmarks), rel=1e-5)
    assert mouth_opening(landmarks) == pytest.approx(0.1 * np.sin(np.arange(4, 7) * np.pi / 10).mean(), rel=0.01)


def test_fit_finds_the_directions_that_made_the_looks():
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((3, 2, ROWS, COLUMNS)).astype(np.float32)
    directions = directions + directions[..., ::-1]  # symmetric, as six symmetric components can hold
    clips = []
    for speaker in ("a", "b", "c"):
        strength = rng.standard_normal((80, 3)).astype(np.float32) * [1.0, 0.6, 0.3]
        openings = rng.uniform(0.01, 0.16, 80).astype(np.float32)
        looks = np.tensordot(strength, directions, 1) + 3 * openings[:, None, None, None]
        clips.append(Looks(speaker, looks.astype(np.float32), openings))
    learned = fit(clips)
    assert explained(learned, clips) > 0.99
    assert learned.components.shape == (COMPONENTS, 2, ROWS, COLUMNS)
    told = np.stack(
        [learned.project(look, float(o)) for c in clips for look, o in zip(c.looks, c.openings, strict=True)]
    )
    assert told[:, :3].std(0) == pytest.approx(np.ones(3), abs=0.25)
