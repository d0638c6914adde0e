from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from test_interior import SKIN, face, picture

from vivavoce.face.interior import basis, luminance, mouth_opening
from vivavoce.face.mesh import INNER_LIPS, align, rotation_matrix
from vivavoce.face.model import FaceModel
from vivavoce.render.mouth import Mouth, draw_layer, paint_mouth, prepare_mouth
from vivavoce.render.mouth_kernel import OPACITY
from vivavoce.render.mouth_light import blur_of, grain_of, mouth_colours, relighting
from vivavoce.render.mouth_place import arch_table, locate
from vivavoce.render.mouth_state import HIGHEST, LOWEST, State, features, state_of
from vivavoce.render.teeth import CROWN, GUM, LOWER_ARCH, MARGIN, UPPER_ARCH, draw_row

ZERO = np.zeros(6)
LIP = (170, 90, 90)


def portrait(opening: float = 0.0, colour: tuple[int, int, int] = LIP):
    landmarks = face(opening).astype(np.float64)
    shape = align(FaceModel.pretrained().mean, landmarks).undo(landmarks)
    return picture(landmarks, colour), landmarks, shape, align(shape, landmarks)


def painted(mouth, opening: float, interior=ZERO, turn=(0.0, 0.0, 0.0), shift=0.0):
    image, _, shape, pose = portrait(opening)
    offset = np.array([shift, shift, 0])
    turned = type(pose)(pose.scale, rotation_matrix(np.array(turn, float)) @ pose.rotation, pose.translation + offset)
    target = turned.apply(shape)
    before = image.copy()
    paint_mouth(image, mouth, target, turned, np.asarray(interior, float))
    return image, before, target


@pytest.fixture(scope="module")
def mouth():
    return prepare_mouth(*portrait())


def test_closed_lips_stay_as_they_are(mouth):
    image, before, _ = painted(mouth, 0.0)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("turn", [(0, 0, 0), (18, 0, 0), (-18, 8, 12), (0, -12, -15)])
def test_only_the_inside_of_the_lips_changes(mouth, turn):
    image, before, target = painted(mouth, 0.12, turn=turn)
    inside = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(inside, [np.rint(target[list(INNER_LIPS), :2]).astype(np.int32)], 1)
    near = cv2.dilate(inside, np.ones((5, 5), np.uint8))
    changed = (image != before).any(-1)
    assert not (changed & (near == 0)).any()
    core = cv2.erode(inside, np.ones((7, 7), np.uint8)) > 0
    assert changed[core].mean() > 0.98


def test_a_frame_depends_on_itself_alone(mouth):
    first, _, _ = painted(mouth, 0.1)
    painted(mouth, 0.2, interior=np.ones(6))
    again, _, _ = painted(mouth, 0.1)
    assert np.array_equal(first, again)


def test_opening_slowly_never_pops(mouth):
    frames = [painted(mouth, o)[0].astype(float) for o in np.linspace(0.0, 0.15, 61)]
    steps = [np.abs(b - a).mean((0, 1)).max() for a, b in pairwise(frames)]
    assert max(steps) < 4 * np.mean(steps)


def test_channels_move_smoothly(mouth):
    along = np.linspace(-2, 2, 41)
    frames = [painted(mouth, 0.1, interior=[a, 0, -a, 0, a, 0])[0].astype(float) for a in along]
    steps = [np.abs(b - a).max() for a, b in pairwise(frames)]
    assert max(steps) < 60


def test_upper_teeth_stay_with_the_skull(mouth):
    held = Mouth(**{name: value.numpy() for name, value in mouth.items()})
    edges = []
    for opening in (0.09, 0.15):
        _, landmarks, _, pose = portrait(opening)
        lowered = landmarks.copy()
        place = locate(held.origin, lowered, pose, (320, 300))
        table = arch_table(UPPER_ARCH, np.zeros(1), place.towards, 0.012, 1.0)
        edges.append(float(np.interp(0.012, [0, 1], [0, 1]) + table[0, 1]))
    assert edges[0] == pytest.approx(edges[1], abs=1e-3)


def test_turning_shifts_far_teeth_against_near_ones():
    x = np.linspace(-0.15, 0.15, 31)
    front, turned = (arch_table(UPPER_ARCH, x, np.array([tan, 0.0]), 0.0, 1.0) for tan in (0.0, 0.3))
    assert front[15, 0] == pytest.approx(0, abs=1e-3)
    assert front[:, 0] == pytest.approx(-front[::-1, 0], abs=1e-4)
    assert np.all(np.diff(turned[:, 0]) >= 0)
    stretch = np.diff(turned[:, 0]) / np.diff(front[:, 0])
    assert stretch[2] != pytest.approx(stretch[-3], rel=0.1)


def test_more_light_in_the_channels_gives_a_brighter_mouth(mouth):
    direction = basis().rows[:, 0].sum((1, 2))
    direction = 1.5 * direction / np.linalg.norm(direction)
    dark, bright = (painted(mouth, 0.12, interior=sign * direction) for sign in (-1, 1))
    changed = (dark[0] != dark[1]).any(-1)
    assert luminance(bright[0][changed].astype(float)).mean() > 1.25 * luminance(dark[0][changed].astype(float)).mean()


def test_relighting_reaches_the_look_where_it_may():
    skin = np.array([180, 140, 120], np.float32)
    interior = np.array([1.5, -1, 0.5, 0.5, 0.0, 0.5])
    wanted = np.maximum(basis().look(interior, 0.1)[0], 0.04) * float(luminance(skin))
    drawn = np.stack([1.2 * wanted, np.zeros_like(wanted), np.ones_like(wanted)]).astype(np.float32)
    factor = relighting(drawn, skin, basis(), interior, 0.1)[0]
    assert (factor * drawn[0])[1:-1, 1:-1] == pytest.approx(wanted[1:-1, 1:-1], rel=0.15)
    assert relighting(drawn, skin, basis(), ZERO, 0.1)[0] == pytest.approx(1.0)


def test_grey_pictures_get_grey_mouths():
    image, landmarks, shape, pose = portrait()
    grey = np.repeat(luminance(image.astype(np.float64)).round().astype(np.uint8)[..., None], 3, axis=2)
    mouth = prepare_mouth(grey, landmarks, shape, pose)
    assert np.ptp(mouth["colours"].numpy(), axis=1).max() < 1e-3


def test_colours_follow_exposure():
    image, landmarks, _, _ = portrait()
    full, half = (mouth_colours((image * gain).astype(np.uint8), landmarks) for gain in (1.0, 0.5))
    assert luminance(half[1]) / luminance(full[1]) == pytest.approx(0.5, abs=0.02)
    assert luminance(full[0]) > luminance(full[2]) > luminance(full[1])


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_blur_is_seen(sigma):
    _, landmarks, _, _ = portrait()
    rng = np.random.default_rng(0)  # equal contrast in every octave, as in photos
    octaves = [s * cv2.GaussianBlur(rng.standard_normal((320, 300, 3)), (0, 0), s) for s in (0.5, 1, 2, 4, 8, 16)]
    noise = 128 + 25 * np.sum(octaves, axis=0)
    sharp, soft = (np.clip(x, 0, 255).astype(np.uint8) for x in (noise, cv2.GaussianBlur(noise, (0, 0), sigma)))
    assert blur_of(soft, landmarks) > blur_of(sharp, landmarks) + 0.2 * sigma


def test_grain_is_measured():
    image, landmarks, _, _ = portrait()
    flat = np.full_like(image, 128)
    noisy = np.clip(flat + np.random.default_rng(1).normal(0, 8, (*image.shape[:2], 1)), 0, 255).astype(np.uint8)
    assert grain_of(flat, landmarks) == 0
    assert grain_of(noisy, landmarks) == pytest.approx(8, rel=0.15)


@pytest.mark.parametrize("upper", [True, False])
def test_rows_of_teeth(upper):
    row = draw_row(300.0, upper=upper, rng=np.random.default_rng(0))
    assert row.shape[2] == 4
    assert row[..., 3].min() == 0
    assert row[..., 3].max() == pytest.approx(1)
    edge = (CROWN + GUM if upper else MARGIN) * 300
    opaque = np.flatnonzero(row[:, row.shape[1] // 2 + 8, 3] > 0.5)
    assert abs((opaque.max() + 1 if upper else opaque.min()) - edge) < 4
    light = luminance(row[..., :3])[int(edge + (-10 if upper else 10))]
    assert (light < 0.8 * light.max()).sum() > 4  # the gaps between the teeth


def test_rows_differ_between_people_and_not_within():
    rows = [draw_row(200.0, upper=True, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])


def test_state_stays_within_what_a_mouth_can_show():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values = state_of(rng.normal(0, 5, 6), rng.uniform(0, 0.4)).values()
        assert np.all(values >= LOWEST)
        assert np.all(values <= HIGHEST)
    assert features(ZERO, 0.06).tolist() == [1.0] + [0.0] * 14
    assert State.of(State().values()) == State()


def striped(opening: float = 0.11):
    """A picture that shows upper teeth: bright stripes under the upper lip, dark below."""
    image, landmarks, shape, pose = portrait(opening, (40, 15, 15))
    inside = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(inside, [np.rint(landmarks[list(INNER_LIPS), :2]).astype(np.int32)], 1)
    edge = landmarks[13, 1] + 0.6 * (landmarks[14, 1] - landmarks[13, 1])
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    tooth = (inside > 0) & (rows < edge)
    image[tooth] = (190 + 25 * np.sin(columns[tooth] * 2 * np.pi / 11))[:, None] * [1, 0.98, 0.93]
    return image, landmarks, shape, pose, edge


def test_own_teeth_are_kept_where_they_are():
    image, landmarks, shape, pose, edge = striped()
    mouth = prepare_mouth(image, landmarks, shape, pose)
    held = Mouth(**{name: value.numpy() for name, value in mouth.items()})
    assert held.own_teeth
    place = locate(held.origin, landmarks, pose, image.shape[:2])
    layer, _ = draw_layer(held, place, State())
    (left, top), (right, bottom) = place.low, place.high
    shown = image[top:bottom, left:right].astype(float)
    rows = np.arange(top, bottom)[:, None]
    middle = np.abs(np.arange(left, right) - landmarks[13, 0])[None] < 18
    sure = (layer[..., OPACITY] > 0.99) & (rows < edge - 2) & middle & (rows > landmarks[13, 1] + 3)
    assert np.abs(layer[..., :3] - shown)[sure].mean() < 12
    below = (layer[..., OPACITY] > 0.99) & (rows > edge + 3) & (rows < edge + 6) & middle
    assert luminance(layer[..., :3][below]).mean() < 110


def test_no_teeth_are_found_in_an_open_dark_mouth():
    mouth = prepare_mouth(*portrait(0.11, (40, 15, 15)))
    assert not Mouth(**{name: value.numpy() for name, value in mouth.items()}).own_teeth


def test_teeth_of_another_picture_are_used():
    image, landmarks, _, _, _ = striped()
    mouth = prepare_mouth(*portrait(), teeth=(image, landmarks))
    modelled = prepare_mouth(*portrait())
    assert Mouth(**{name: value.numpy() for name, value in mouth.items()}).own_teeth
    assert not torch.equal(mouth["upper"], modelled["upper"])


def test_a_mouth_half_outside_the_picture_is_painted_inside_only(mouth):
    for shift in (-140.0, 130.0, 5000.0):
        image, before, _ = painted(mouth, 0.12, shift=shift)
        assert image.shape == before.shape


def test_lower_arch_lies_within_the_upper_one():
    upper, lower = UPPER_ARCH.points(), LOWER_ARCH.points()
    assert lower[:, 0].max() < upper[:, 0].max()
    assert np.all(np.diff(upper[:, 2]) > 0)


def test_fixture_opens_as_told():
    assert mouth_opening(face(0.12)) > mouth_opening(face(0.06)) > 0.04
    assert SKIN.dtype == np.uint8
