from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce import weights
from vivavoce.errors import InputError
from vivavoce.face.atlas import POINTS, RIMS, atlas, doubled
from vivavoce.face.fitting import fit, painted, posed, smoothed, who
from vivavoce.face.illumination import WHITE, harmonics, lit, shading
from vivavoce.face.mesh import LEFT_EYE, LEFT_IRIS, RIGHT_EYE, RIGHT_IRIS
from vivavoce.face.model import FaceModel
from vivavoce.face.morphable import (
    REENACTED,
    Coefficients,
    Morphable,
    driven,
    load,
    recombine,
    save,
    swapped,
    thorough,
)
from vivavoce.motion.space import FACE_MESH
from vivavoce.recipes import morphable as recipe
from vivavoce.render.textured import paint, placed, render, seen


@pytest.fixture(scope="module")
def bases() -> Morphable:
    """A small 3D face of nobody's: two identities, two textures, smooth in space."""
    model, rng, side = FaceModel.pretrained(), np.random.default_rng(0), 48
    identity = np.zeros((2, 478, 3))
    identity[0, :, 1] = 0.03 * model.mean[:, 1]
    identity[1, :, 2] = 0.05 * np.cos(3 * model.mean[:, 0])
    identity[:, [*LEFT_IRIS, *RIGHT_IRIS]] = 0
    y, x = np.mgrid[:side, :side] / side
    mean = np.stack([0.5 + 0.2 * x, 0.4 + 0.2 * y, np.full_like(x, 0.35)], axis=2)
    texture = 0.05 * np.stack([np.sin(7 * x + c) * np.cos(5 * y) for c in range(6)]).reshape(2, 3, side, side)
    rows = identity.reshape(2, -1)
    return Morphable(
        mean=model.mean,
        identity=identity,
        expression=model.expression,
        lids=model.lids,
        bend=1e-3 * rng.standard_normal((5, 478, 3)),
        reader=np.linalg.solve(rows @ rows.T, rows),
        steady=0.9 * np.linalg.solve(rows @ rows.T, rows),
        texture_mean=mean,
        texture=texture.transpose(0, 2, 3, 1),
    )


def a_face(seed: int = 0, turned: float = 10.0, side: int = 128) -> Coefficients:
    rng = np.random.default_rng(seed)
    light = WHITE + 0.08 * rng.standard_normal((9, 1)) + 0.02 * rng.standard_normal((9, 3))
    return Coefficients(
        identity=rng.standard_normal(2),
        expression=0.7 * rng.standard_normal(32),
        eyelids=np.array([0.1, 0.2]),
        rotation=np.array([turned, -turned / 2, 5.0]),
        translation=np.array([0.5, 0.5]) * side,
        scale=0.5 * side,
        gaze=np.array([[0.05, 0.0], [0.06, 0.01]]),
        light=light,
        texture=rng.standard_normal(2),
    )


def test_light_from_everywhere_leaves_the_texture_as_it_is():
    normals = np.random.default_rng(0).standard_normal((50, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    np.testing.assert_allclose(shading(WHITE, normals), 1)
    gram = harmonics(fibonacci(4000)).T @ harmonics(fibonacci(4000)) / 4000
    np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=2e-3)  # orthogonal over the sphere


def fibonacci(count: int) -> np.ndarray:
    k = np.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_light_is_found_again(seed):
    rng = np.random.default_rng(seed)
    normals, albedo = fibonacci(600), rng.uniform(0.3, 0.8, (600, 3))
    light = WHITE + 0.06 * rng.standard_normal((9, 1)) + 0.02 * rng.standard_normal((9, 3))
    colours = albedo * (harmonics(normals) @ light)
    found = lit(colours, albedo, normals, np.ones(600))
    assert np.abs(shading(found, normals) - shading(light, normals)).max() < 0.05
    spoiled = colours.copy()
    spoiled[:30] = 1.0  # highlights
    assert np.abs(lit(spoiled, albedo, normals, np.ones(600)) - light).mean() < 0.05


def test_pose_expression_identity_and_gaze_are_found_again(bases):
    for seed in range(4):
        told = a_face(seed)
        landmarks = bases.landmarks(told)
        found = posed(landmarks, told.identity, bases)
        error = np.linalg.norm(bases.landmarks(found)[:, :2] - landmarks[:, :2], axis=1)
        assert error.mean() < 0.004 * told.scale
        np.testing.assert_allclose(found.rotation, told.rotation, atol=1.5)
        np.testing.assert_allclose(found.gaze, told.gaze, atol=0.03)
        assert found.scale == pytest.approx(told.scale, rel=0.03)


def test_who_somebody_is_does_not_depend_on_where_the_camera_is():
    bases = Morphable.pretrained()
    rng = np.random.default_rng(0)
    told = replace(
        a_face(1, turned=0.0),
        identity=rng.standard_normal(len(bases.identity)),
        expression=np.zeros(32),
        eyelids=np.zeros(2),
        gaze=np.zeros((2, 2)),
    )
    turned = replace(told, rotation=np.array([12.0, 5.0, -8.0]), scale=90.0)
    one, other = (who(bases.landmarks(face)[None], bases) for face in (told, turned))
    size = np.linalg.norm(bases.identity.reshape(len(one), -1), axis=1)
    assert np.corrcoef(one * size, told.identity * size)[0, 1] > 0.8
    assert np.linalg.norm((one - other) * size) < 0.35 * np.linalg.norm(one * size)


def test_films_are_read_steadily_and_single_frames_for_all_they_tell(bases):
    shown = [bases.landmarks(replace(a_face(3, turned=0.0), expression=np.zeros(32), eyelids=np.zeros(2)))]
    alone, film = who(np.stack(shown), bases), who(np.stack(2 * shown), bases)
    np.testing.assert_allclose(film, 0.9 * alone)
    np.testing.assert_allclose(who(np.stack(2 * shown), thorough(bases)), alone)
    assert np.abs(alone).max() > 0.1


def test_a_steady_reader_takes_no_notice_of_what_changes_from_second_to_second(bases):
    """People drift along something that looks half like what they differ by."""
    model, rng = FaceModel.pretrained(), np.random.default_rng(0)
    face = replace(bases, bend=0 * bases.bend)
    drift = face.identity[0] / 2 + 0.01 * rng.standard_normal((478, 3))
    shots = []
    for person in range(8):
        time = np.sin(np.arange(200) / 25 + person)[:, None, None]
        shots.append(recipe.Shot(str(person), 100 * (face.mean + person * face.identity[0] / 4 + time * drift)))
    steady = recipe.steady(shots, face, model)
    wander = []
    for reader in (face.reader, steady):
        there = replace(face, steady=reader)
        told = np.stack([[who(shot.landmarks[at : at + 25], there)[0] for at in range(0, 200, 25)] for shot in shots])
        wander.append(told.std(1).mean() / told.mean(1).std())
    assert wander[1] < 0.5 * wander[0]
    with pytest.raises(InputError, match="longer than a second"):
        recipe.steady([replace(shot, landmarks=shot.landmarks[:10]) for shot in shots], face, model)


def test_gaze_moves_nothing_but_the_eyes(bases):
    face = a_face(2, turned=0.0)
    aside = replace(face, gaze=face.gaze + np.array([0.15, 0.05]))
    shape, moved = bases.shape(face), bases.shape(aside)
    still = np.setdiff1d(np.arange(POINTS), [*LEFT_IRIS, *RIGHT_IRIS])
    np.testing.assert_array_equal(shape[still], moved[still])
    one, other = render(face, bases, 128), render(aside, bases, 128)
    changed = np.abs(one.picture - other.picture).max(2) > 0
    points = face.pose.apply(shape)[:, :2]
    eyes = np.zeros_like(changed)
    for ring in (LEFT_EYE, RIGHT_EYE):
        (x0, y0), (x1, y1) = np.floor(points[list(ring)].min(0)), np.ceil(points[list(ring)].max(0))
        eyes[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1] = True
    assert changed.any()
    assert not (changed & ~eyes).any()


def test_parts_are_recombined_by_name(bases):
    source, driver = a_face(3), a_face(4)
    led = recombine(source, driver)
    for part in fields(Coefficients):
        origin = driver if part.name in REENACTED else source
        assert getattr(led, part.name) is getattr(origin, part.name)
    face = swapped(source, driver)
    assert face.identity is source.identity
    assert face.texture is source.texture
    assert face.light is driver.light
    assert face.expression is driver.expression
    with pytest.raises(InputError, match="a face has no part 'beard'"):
        recombine(source, driver, ("beard",))


def test_motion_rows_drive_a_face():
    source, reference = a_face(5), np.zeros(48)
    reference[FACE_MESH.slice("scale")] = 1
    reference[FACE_MESH.slice("eyelids")] = 1
    same = driven(source, reference, reference)
    np.testing.assert_allclose(same.vector(128.0), source.vector(128.0))
    row = reference.copy()
    row[FACE_MESH.slice("rotation")] = 5, 0, 0
    row[FACE_MESH.slice("translation")] = 0.1, 0
    row[FACE_MESH.slice("eyelids")] = 0, 1
    moved = driven(source, row, reference)
    np.testing.assert_allclose(moved.rotation - source.rotation, [5, 0, 0])
    np.testing.assert_allclose(moved.translation - source.translation, [0.1 * source.scale, 0])
    assert moved.eyelids[0] == 1
    assert moved.eyelids[1] == pytest.approx(source.eyelids[1])


def test_frames_of_a_video_are_smoothed_without_lag():
    still = [a_face(6)] * 7
    for face in smoothed(still):
        np.testing.assert_allclose(face.vector(100.0), still[0].vector(100.0))
    ramp = [replace(a_face(6), rotation=np.array([float(k), 0, 0])) for k in range(9)]
    found = [face.rotation[0] for face in smoothed(ramp)]
    assert len(found) == 9
    np.testing.assert_allclose(found[2:-2], np.arange(2, 7))


def test_a_framed_face_is_the_same_face(bases):
    face = a_face(7)
    near = face.framed(2.0, 10.0, 20.0)
    np.testing.assert_allclose(bases.landmarks(near)[:, :2], (bases.landmarks(face)[:, :2] - [10, 20]) * 2)


def test_both_ways_of_drawing_agree(bases):
    for seed in range(3):
        face = a_face(seed)
        drawn, mesh = render(face, bases, 128), placed(face, bases)
        index = seen(mesh, 128)
        assert ((index >= 0) == drawn.mask).all()
        given = (mesh.points, mesh.at, shading(face.light, mesh.normals), bases.colours(face.texture))
        picture = paint(*(torch.from_numpy(part).float() for part in given), torch.from_numpy(index)).numpy()
        difference = np.abs(picture - drawn.picture)[drawn.mask]
        # The two may take pixels on a shared edge from different sides, and cv2 rounds places to 1/32 texel.
        assert difference.mean() < 2e-3
        assert np.quantile(difference, 0.995) < 0.02


def test_gradients_find_light_and_texture(bases):
    face = a_face(0)
    mesh = placed(face, bases)
    index = torch.from_numpy(seen(mesh, 64 * 2))
    at, points, normals = (torch.from_numpy(part) for part in (mesh.at, mesh.points, mesh.normals))
    terms = torch.from_numpy(harmonics(normals.numpy()))
    shade = torch.from_numpy(shading(face.light, mesh.normals))
    wanted = paint(points, at, shade, torch.from_numpy(bases.colours(face.texture)), index)
    light = torch.from_numpy(WHITE.copy()).requires_grad_()
    texture = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([light, texture], max_iter=40, line_search_fn="strong_wolfe")
    mean, basis = torch.from_numpy(bases.texture_mean), torch.from_numpy(bases.texture)

    def loss() -> torch.Tensor:
        solver.zero_grad()
        made = paint(points, at, terms @ light, mean + torch.tensordot(texture, basis, 1), index)
        error = (made - wanted).square().mean()
        error.backward()
        return error

    before = float(loss().detach())
    solver.step(loss)
    assert float(loss().detach()) < 1e-3 * before


def test_a_picture_tells_its_own_coefficients(bases):
    face = replace(a_face(8, turned=4.0), scale=80.0, texture=np.array([1.0, -1.0]), light=WHITE * 0.9)
    drawn = render(face, bases, 128)
    picture = np.round(drawn.picture * 255).astype(np.uint8)
    found = fit(picture, bases.landmarks(face), bases)
    again = render(found, bases, 128)
    both = drawn.mask & again.mask
    assert both.sum() > 0.95 * drawn.mask.sum()
    assert np.abs(again.picture - drawn.picture)[both].mean() < 0.04
    plain = render(replace(found, texture=np.zeros(2)), bases, 128)
    assert np.abs(again.picture - drawn.picture)[both].mean() < np.abs(plain.picture - drawn.picture)[both].mean()
    assert painted([picture], [found], bases).shape == (2,)


def test_depth_is_nearest_at_the_nose(bases):
    face = replace(a_face(9, turned=0.0), expression=np.zeros(32), rotation=np.zeros(3))
    drawn, points = render(face, bases, 128), bases.landmarks(face)
    nose = np.round(points[1, :2]).astype(int)
    low = np.where(drawn.mask, drawn.depth, np.inf)
    at = np.unravel_index(np.argmin(low), low.shape)
    assert np.hypot(at[1] - nose[0], at[0] - nose[1]) < 0.12 * face.scale
    assert (drawn.picture[~drawn.mask] == 0).all()


def test_the_atlas_covers_each_texel_of_a_part_once():
    made = atlas()
    assert made.at.min() >= 0
    assert made.at.max() <= 1
    assert made.triangles.max() < POINTS + len(RIMS)
    assert doubled(np.arange(float(POINTS))[:, None])[POINTS:, 0].tolist() == list(RIMS)
    skin, tiles = made.at[:468], made.at[POINTS:]
    assert skin[:, 1].max() < tiles[:, 1].min()


def test_bases_are_saved_and_read(bases, tmp_path):
    file = tmp_path / "face.safetensors"
    save(bases, file, whole=True)
    again = load(file)
    for part in fields(Morphable):
        np.testing.assert_allclose(getattr(again, part.name), getattr(bases, part.name), rtol=2e-3, atol=1e-4)
    save(bases, file)
    np.testing.assert_array_equal(load(file).mean, FaceModel.pretrained().mean)
    tensors = {part.name: torch.from_numpy(getattr(bases, part.name)) for part in fields(Morphable)}
    weights.write(file, {name: tensor for name, tensor in tensors.items() if name != "steady"})
    assert np.array_equal(load(file).steady, load(file).reader)
    weights.write(file, tensors | {"reader": tensors["reader"][:1]})
    with pytest.raises(InputError, match=r"reader is \[1, 1434\] but must be \[2, 1434\]"):
        load(file)
    weights.write(file, {"identity": tensors["identity"]})
    with pytest.raises(InputError, match="holds no face: bend, reader, steady"):
        load(file)
