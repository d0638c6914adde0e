"""What a face painter starts from: pictures carried by the mesh, and faces put into others."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from vivavoce.face import upright
from vivavoce.face.fitting import fit
from vivavoce.face.mesh import OVAL
from vivavoce.face.morphable import Morphable, recombine, swapped
from vivavoce.face.track import FaceTracker
from vivavoce.media.read import read_image
from vivavoce.nets.tgdm import coefficients, shown, source_of
from vivavoce.render.pivot import coloured, exchanged, field, fringed, inside, outlined, reenacted, stretched, uncovered
from vivavoce.render.textured import render

ASSETS = Path(__file__).parents[1] / "assets"
SIDE = 192


@cache
def sitter():
    """A square with a face in it, and the face."""
    picture = np.ascontiguousarray(read_image(ASSETS / "demo_portrait.jpg")[0].permute(1, 2, 0).numpy())
    points = FaceTracker().faces(picture)[0].landmarks.astype(np.float64)
    square = replace(upright.around(points, 2.0, -0.1, False), turn=0.0)
    cut = upright.cut(picture, square, SIDE)
    there = (points - [square.x, square.y, 0]) * (SIDE / square.side) + [SIDE / 2, SIDE / 2, 0]
    return cut, fit(cut, there, Morphable.pretrained())


def test_a_face_that_does_the_same_leaves_the_picture_as_it_is():
    picture, face = sitter()
    pivot = reenacted(picture, face, face, Morphable.pretrained())
    assert np.abs(pivot.known.astype(int) - picture).mean() < 0.3
    assert pivot.kept.max() == 0


def test_a_moved_face_is_carried_and_the_border_stays():
    _, face = sitter()
    bases, move = Morphable.pretrained(), np.array([6.0, -4.0])
    moved = replace(face, translation=face.translation + move)
    where = field(bases.landmarks(face), bases.landmarks(moved), SIDE)
    x, y = np.rint(moved.translation).astype(int)
    np.testing.assert_allclose(where[y, x], [x - move[0], y - move[1]], atol=0.05)
    still = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), 2)
    off = np.abs(where - still).max(2)
    assert max(off[0].max(), off[-1].max(), off[:, 0].max(), off[:, -1].max()) < 0.1
    assert off.max() < 7


def test_the_mouth_opens_and_the_eyes_stay():
    picture, face = sitter()
    bases = Morphable.pretrained()
    opening = bases.expression[:, 14, 1] - bases.expression[:, 13, 1]
    wanted = replace(face, expression=face.expression + 3 * opening / np.linalg.norm(opening))
    before, after = bases.landmarks(face), bases.landmarks(wanted)
    assert after[14, 1] - after[13, 1] > before[14, 1] - before[13, 1] + 2
    change = np.abs(reenacted(picture, face, wanted, bases).known.astype(int) - picture).mean(2)
    mouth = before[[13, 14, 61, 291], :2].mean(0).astype(int)
    brow = before[[105, 334], :2].mean(0).astype(int)
    around = (slice(mouth[1] - 8, mouth[1] + 9), slice(mouth[0] - 8, mouth[0] + 9))
    above = (slice(brow[1] - 8, brow[1] + 1), slice(brow[0] - 8, brow[0] + 9))
    assert change[around].mean() > 4 * change[above].mean()


def test_stretch_is_the_logarithm_of_areas_in_the_source():
    still = np.stack(np.meshgrid(np.arange(32.0), np.arange(32.0)), 2).astype(np.float32)
    assert np.abs(stretched(still + 3)).max() == 0
    np.testing.assert_allclose(stretched(still * np.array([0.5, 1], np.float32)), -0.25, atol=1e-5)  # half the area
    np.testing.assert_allclose(stretched(still[::-1] * 2), 0.5, atol=1e-5)  # 4 times the area, seen in a mirror
    assert (stretched(0 * still) == -1).all()  # one point everywhere
    picture, face = sitter()
    bases = Morphable.pretrained()
    assert np.abs(reenacted(picture, face, face, bases).stretch).max() < 0.01
    same = exchanged(picture, face, picture, swapped(face, face), bases)
    assert np.abs(same.stretch).max() < 0.01


def test_a_swapped_face_changes_nothing_beside_itself():
    picture, face = sitter()
    bases = Morphable.pretrained()
    other = np.ascontiguousarray(255 - picture[:, ::-1])
    theirs = replace(face, translation=np.array([SIDE - 1 - face.translation[0], face.translation[1]]))
    pivot = exchanged(picture, face, other, swapped(face, theirs), bases)
    outside = pivot.kept == 1
    assert np.array_equal(pivot.known[outside], other[outside])
    assert outside.mean() > 0.5
    assert np.abs(pivot.known.astype(int) - other)[pivot.kept < 0.1].mean() > 20


def test_the_targets_light_is_taken_over_unless_it_is_not_wanted():
    picture, face = sitter()
    bases = Morphable.pretrained()
    dark = replace(face, light=face.light * 0.6)
    grey = np.full_like(picture, 128)
    lit, plain = (exchanged(picture, face, grey, swapped(face, dark), bases, relit=one) for one in (True, False))
    face_only = lit.kept < 0.05
    ratio = lit.known[face_only].mean() / plain.known[face_only].mean()
    assert ratio == pytest.approx(0.6, abs=0.06)
    same = exchanged(picture, face, grey, swapped(face, face), bases)
    assert np.abs(same.known.astype(int) - plain.known)[face_only].mean() < 1


def test_a_faces_mask_has_no_holes_and_leaves_the_hair():
    _, face = sitter()
    bases = Morphable.pretrained()
    drawn = render(face, bases, SIDE)
    share = inside(drawn, face.scale)
    points = bases.landmarks(face)[:, :2].astype(int)
    for inner in (1, 4, 98, 327, 13, 50, 280):  # nose, its sides, lips, cheeks
        assert share[points[inner][1], points[inner][0]] > 0.99
    assert share[points[10][1] + 1, points[10][0]] < 0.1  # below the hair
    assert share[~drawn.mask].max() <= 1
    assert share[0].max() == 0


def test_the_targets_outline_is_bent_and_what_is_far_from_it_stays():
    picture, face = sitter()
    bases = Morphable.pretrained()
    wider = replace(face, identity=face.identity + 3 * np.eye(len(face.identity))[0])
    wanted = swapped(wider, face)
    assert np.array_equal(outlined(picture, face, face, bases), picture)
    made = outlined(picture, face, wanted, bases)
    changed = (made != picture).any(2)
    points = bases.landmarks(face)[list(OVAL), :2]
    radius = np.linalg.norm(points - points.mean(0), axis=1).max()
    rows, columns = np.nonzero(changed)
    away = np.hypot(columns - points.mean(0)[0], rows - points.mean(0)[1])
    assert changed.mean() > 0.05
    assert away.max() < 1.7 * radius
    before, moved = (FaceTracker().faces(one)[0].landmarks.astype(np.float64) for one in (picture, made))
    due = (bases.landmarks(wanted) - bases.landmarks(face))[list(OVAL), :2]
    done = (moved - before)[list(OVAL), :2]
    assert (due * done).sum() > 0.3 * np.square(due).sum()


def test_hair_on_a_brow_is_not_carried_along_but_brows_are():
    picture, face = sitter()
    bases = Morphable.pretrained()
    drawn = render(face, bases, SIDE)
    points = bases.landmarks(face)[:, :2].astype(int)
    plain = uncovered(picture, drawn, face.scale)
    assert plain[drawn.mask].mean() > 0.97
    hidden, (x, y) = picture.copy(), points[105]
    hidden[y - 12 : y + 9, x - 16 : x + 17] = 8
    share = uncovered(hidden, drawn, face.scale)
    assert share[y, x] < 0.3
    assert share[points[334][1], points[334][0]] == pytest.approx(plain[points[334][1], points[334][0]], abs=0.1)
    assert share[points[13][1], points[13][0]] == 1


def test_a_fringe_stays_behind_with_the_brows_under_it_and_wrinkles_are_none():
    picture, face = sitter()
    bases = Morphable.pretrained()
    assert fringed(picture, face, bases) < 0.1
    drawn = render(face, bases, SIDE)
    forehead = (drawn.at[..., 1] < 0.2) & drawn.mask
    waves = 200 + 40 * np.sin(2 * np.pi * np.arange(SIDE) / (0.05 * face.scale))
    for pattern, sure in ((np.tile(waves, (SIDE, 1)), 1.0), (np.tile(waves[:, None], (1, SIDE)), 0.0)):
        hairy = np.where(forehead[..., None], pattern[..., None], picture).astype(np.uint8)
        assert fringed(hairy, face, bases) == sure
    there = np.full_like(picture, 90)
    made, kept = (
        exchanged(picture, face, there, face, bases, fringe=sure).known[forehead] == 90 for sure in (0.0, 1.0)
    )
    assert made.mean() < 0.5
    assert kept.all()
    assert not np.array_equal(exchanged(picture, face, there, face, bases, fringe=1.0).known, there)


def test_carried_colours_become_those_around_them():
    rng = np.random.default_rng(0)
    carried = rng.uniform(60, 120, (32, 32, 3)).astype(np.float32)
    share = np.zeros((32, 32), np.float32)
    share[8:24, 8:24] = 1
    under = np.full((32, 32, 3), (120, 90, 60), np.uint8)
    made = coloured(carried, under, share)
    np.testing.assert_allclose(np.median(made[share > 0], 0), (120, 90, 60), atol=1.5)
    assert np.array_equal(coloured(carried, under, 0 * share), carried)


def test_planes_are_in_range_and_say_where_the_face_is():
    picture, face = sitter()
    bases = Morphable.pretrained()
    pivot = reenacted(picture, face, recombine(face, face), bases)
    planes, seen = shown(pivot), source_of(picture, pivot.drawn)
    assert planes.shape == (9, SIDE, SIDE)
    assert seen.shape == (6, SIDE, SIDE)
    assert planes.abs().max() <= 1
    assert seen.abs().max() <= 1
    mask = pivot.drawn.mask
    assert bool((planes[5].numpy() == mask).all())
    assert planes[3:5, ~mask].abs().max() == 0
    left, right = (
        planes[3][mask & (np.arange(SIDE)[None] * np.ones((SIDE, 1)) == x)].median()
        for x in (round(face.translation[0]) - 20, round(face.translation[0]) + 20)
    )
    assert left < right
    numbers = coefficients(replace(face, expression=face.expression + 100), SIDE)
    assert numbers.abs().max() == 5
