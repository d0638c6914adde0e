"""The inner loops against closed forms."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.render.raster import ALL, BACK, FRONT, compose, draw_triangles, paste, soften_tears

SIDE = 40
SQUARE = np.array([[0, 1, 2], [0, 2, 3]], np.int32)  # clockwise on screen
CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)


def drawn(vertices, texture, faces=ALL, depth=None, onto=None):
    nearest = np.full((SIDE, SIDE), np.inf, np.float32) if onto is None else onto[1]
    sampling = np.full((SIDE, SIDE, 3), -1, np.float32) if onto is None else onto[0]
    full = np.zeros((len(vertices), 3), np.float32)
    full[:, : texture.shape[1]] = texture
    depth = np.zeros(len(vertices), np.float32) if depth is None else np.asarray(depth, np.float32)
    draw_triangles(SQUARE, np.asarray(vertices, np.float32), depth, full, faces, nearest, sampling)
    return sampling, nearest


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.floats(-1, 1) for _ in range(4)]).filter(lambda m: abs(m[0] * m[3] - m[1] * m[2]) > 0.05),
    st.tuples(st.floats(0, 30), st.floats(0, 30)),
)
def test_affine_map_of_a_square_reproduces_coordinates(matrix, shift):
    transform, offset = np.array(matrix).reshape(2, 2), np.array(shift)
    vertices = CORNERS * (SIDE - 1)
    sampling, _ = drawn(vertices, (vertices @ transform.T + offset).astype(np.float32))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    expected = np.stack([columns, rows], -1) @ transform.T + offset
    np.testing.assert_allclose(sampling[..., :2], expected, atol=2e-3)


def test_every_pixel_inside_is_covered_and_none_outside():
    angle = np.radians(27)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    vertices = (CORNERS - 0.5) * 20 @ turn.T + SIDE / 2
    sampling, _ = drawn(vertices, CORNERS)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    local = np.abs((np.stack([columns, rows], -1) - SIDE / 2) @ turn)
    assert (sampling[..., 0] >= 0)[(local < 9.99).all(-1)].all()
    assert (sampling[..., 0] == -1)[(local > 10.01).any(-1)].all()


def test_the_nearer_of_two_surfaces_is_seen_whatever_the_order():
    vertices = CORNERS * (SIDE - 1)
    near, far = np.full((4, 3), 7, np.float32), np.full((4, 3), 3, np.float32)
    for order in ((1.0, 2.0, near, far), (2.0, 1.0, far, near)):
        first, second, one, other = order
        onto = drawn(vertices, one, FRONT, [first] * 4)
        sampling, nearest = drawn(vertices, other, FRONT, [second] * 4, onto)
        assert (sampling == 7).all()
        assert (nearest == 1).all()


def test_faces_seen_from_behind_are_drawn_by_back_only():
    flipped = CORNERS[[0, 3, 2, 1]] * (SIDE - 1)
    assert (drawn(flipped, CORNERS, FRONT)[0] == -1).all()
    assert (drawn(flipped, CORNERS, BACK)[0] >= 0).all()
    assert (drawn(CORNERS * (SIDE - 1), CORNERS, BACK)[0] == -1).all()


def identity():
    sampling = np.zeros((SIDE, SIDE, 3), np.float32)
    sampling[..., 1], sampling[..., 0] = np.mgrid[:SIDE, :SIDE]
    return sampling


def composed(rng, alpha, sampling):
    foreground = rng.integers(0, 256, (SIDE, SIDE, 4), np.uint8)
    foreground[..., 3] = alpha
    bare, plate = (rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(2))
    out = np.empty_like(plate)
    compose(foreground.view("<u4")[..., 0], bare, plate, sampling, out)
    return foreground.astype(float), bare.astype(float), plate.astype(float), out


def test_compose_lays_the_foreground_over_the_plate():
    for alpha in (0, 77, 200, 255):
        foreground, _, plate, out = composed(np.random.default_rng(alpha), alpha, identity())
        share = alpha / 255
        inner = np.s_[: SIDE - 1, : SIDE - 1]  # the last row and column are sampled a hair inside
        np.testing.assert_allclose(out[inner], (foreground[..., :3] * share + plate * (1 - share))[inner], atol=1.01)


def test_compose_interpolates_halfway():
    sampling = identity()
    sampling[..., 0] = np.minimum(sampling[..., 0] + 0.5, SIDE - 2)
    foreground, _, _, out = composed(np.random.default_rng(1), 255, sampling)
    mean = (foreground[:-1, : SIDE - 2, :3] + foreground[:-1, 1 : SIDE - 1, :3]) / 2
    np.testing.assert_allclose(out[:-1, : SIDE - 2], mean, atol=1.01)


def test_bare_skin_covers_all_or_only_the_gaps():
    inner = np.s_[: SIDE - 1, : SIDE - 1]
    sampling = identity()
    sampling[..., 2] = 1
    _, bare, _, out = composed(np.random.default_rng(2), 255, sampling)
    np.testing.assert_allclose(out[inner], bare[inner], atol=1.01)
    sampling[..., 2] = -1
    foreground, _, _, out = composed(np.random.default_rng(3), 255, sampling)
    np.testing.assert_allclose(out[inner], foreground[inner][..., :3], atol=1.01)
    _, bare, _, out = composed(np.random.default_rng(4), 0, sampling)
    np.testing.assert_allclose(out[inner], bare[inner], atol=1.01)


def test_only_tears_are_softened():
    rng = np.random.default_rng(5)
    picture = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    out = picture.copy()
    soften_tears(identity(), np.float32(4), picture, out)
    assert (out == picture).all()
    torn = identity()
    torn[:, 20:, 0] += 30
    soften_tears(torn, np.float32(4), picture, out)
    changed = (out != picture).any(-1)
    assert changed[1:-1, 19:21].mean() > 0.9
    assert not changed[:, :19].any()
    assert not changed[:, 21:].any()


def test_paste_blends_by_weight():
    rng = np.random.default_rng(6)
    frame = rng.integers(0, 256, (3, 30, 50), np.uint8)
    region = rng.integers(0, 256, (10, 12, 3), np.uint8)
    weight = rng.choice(np.array([0, 100, 255], np.uint8), (10, 12))
    before = frame.copy()
    paste(region, weight, 7, 5, frame)
    share = weight / 255.0
    expected = before.astype(float)
    inside = expected[:, 5:15, 7:19]
    expected[:, 5:15, 7:19] = inside + (region.transpose(2, 0, 1) - inside) * share
    np.testing.assert_allclose(frame, expected, atol=1.01)
    outside = np.ones(frame.shape, bool)
    outside[:, 5:15, 7:19] = False
    assert (frame == before)[outside].all()
