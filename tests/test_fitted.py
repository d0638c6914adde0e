"""Frames with fitted faces: written, read, mirrored, and made into what a painter learns from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vivavoce.data import crops, fitted
from vivavoce.data.crops import Crops
from vivavoce.errors import InputError
from vivavoce.face import upright
from vivavoce.face.morphable import Morphable
from vivavoce.face.track import FaceTracker
from vivavoce.media.read import read_image
from vivavoce.recipes import fitted as learned
from vivavoce.recipes.fitted import Pair, _parts, batch, some
from vivavoce.render.textured import render

ASSETS = Path(__file__).parents[1] / "assets"
SIDE = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clip of a face that moves aside, fitted, beside one without a face."""
    out = tmp_path_factory.mktemp("fitted")
    picture = np.ascontiguousarray(read_image(ASSETS / "demo_portrait.jpg")[0].permute(1, 2, 0).numpy())
    square = upright.around(FaceTracker().faces(picture)[0].landmarks.astype(np.float64), 2.0, -0.1, False)
    frames = [
        upright.cut(picture, upright.Square(square.x + 4 * n, square.y, square.side, 0.0), SIDE) for n in range(6)
    ]
    _write(out / "somebody.npz", frames)
    _write(out / "nobody.npz", [np.zeros((SIDE, SIDE, 3), np.uint8)] * 6)
    files = [out / "somebody.npz", out / "nobody.npz"]
    fitted.fit_all(files, out / "faces", Morphable.pretrained(), frames=5)
    return out


def _write(file: Path, frames: list[np.ndarray]) -> None:
    jpeg = [cv2.imencode(".jpg", one[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].ravel() for one in frames]
    count = len(frames)
    made = Crops(
        name=file.stem,
        speaker=file.stem,
        jpeg=np.concatenate(jpeg),
        ends=np.cumsum([len(one) for one in jpeg]),
        pose=np.zeros((count, 3), np.float32),
        landmarks=np.zeros((count, 478, 2), np.float32),
        person=np.zeros((count, 32, 32), np.uint8),
    )
    np.savez(file, **{name: getattr(made, name) for name in Crops.__slots__})


def read(folder: Path, name: str) -> fitted.Fitted:
    clip = crops.load(folder / f"{name}.npz")
    return fitted.load(folder / "faces" / f"{name}.npz", clip, _parts(Morphable.pretrained()))


def test_faces_are_found_where_they_are_as_seen_and_in_a_mirror(folder):
    clip = read(folder, "somebody")
    assert clip.index.tolist() == [0, 1, 2, 4, 5]
    bases = Morphable.pretrained()
    for n in (0, 4):
        seen, turned = (clip.face(n, mirrored=one) for one in (False, True))
        assert seen.translation[0] + turned.translation[0] == pytest.approx(SIDE - 1, abs=1.0)
        assert seen.rotation[0] == pytest.approx(-turned.rotation[0], abs=1.0)
        np.testing.assert_allclose(turned.gaze[:, 0], -seen.gaze[::-1, 0], atol=0.02)
        points = FaceTracker().faces(clip.picture(n, mirrored=True))[0].landmarks
        off = np.linalg.norm(bases.landmarks(turned)[:, :2] - points[:, :2], axis=1).mean()
        assert off < 0.03 * np.linalg.norm(points[468] - points[473])
    assert np.array_equal(clip.picture(1, mirrored=True), clip.picture(1, mirrored=False)[:, ::-1])
    drift = clip.face(4, mirrored=False).translation - clip.face(0, mirrored=False).translation
    assert drift[0] < -1


def test_rows_hold_everything_and_other_bases_are_refused(folder):
    clip = read(folder, "somebody")
    face = clip.face(2, mirrored=False)
    assert fitted.shapes(face) == clip.parts
    np.testing.assert_allclose(fitted.packed(face), clip.rows[0, 2], rtol=1e-6)
    file, parts = folder / "faces" / "somebody.npz", dict(clip.parts) | {"texture": (7,)}
    with pytest.raises(InputError, match="other bases"):
        fitted.load(file, clip.frames, parts)
    with pytest.raises(InputError, match="holds no fitted faces"):
        fitted.load(folder / "somebody.npz", clip.frames, clip.parts)


def test_clips_without_a_face_are_empty_and_nothing_is_done_twice(folder):
    assert len(read(folder, "nobody")) == 0
    before = (folder / "faces" / "somebody.npz").stat().st_mtime_ns
    fitted.fit_all([folder / "somebody.npz"], folder / "faces", Morphable.pretrained(), frames=5)
    assert (folder / "faces" / "somebody.npz").stat().st_mtime_ns == before


def test_batches_swap_first_and_reenact_then(folder):
    clip = read(folder, "somebody")
    found = batch(some([clip], 4, np.random.default_rng(3)), np.random.default_rng(3))
    assert found.truth.shape == (4, 3, SIDE, SIDE)
    kept = found.drawn[:, 8].amax((1, 2))
    assert kept.tolist() == [1, 1, 0, 0]
    beside = (found.drawn[:2, 8] == 1)[:, None].expand(-1, 3, -1, -1)
    assert torch.equal(found.known[:2][beside], found.truth[:2][beside])
    torch.testing.assert_close(found.weight.mean((1, 2)), torch.ones(4))
    again = batch(some([clip], 4, np.random.default_rng(3)), np.random.default_rng(3))
    assert torch.equal(found.known, again.known)


def test_pairs_are_seen_in_other_light_and_from_nearer_and_their_faces_with_them(folder):
    clip, bases = read(folder, "somebody"), Morphable.pretrained()
    plain = Pair(clip, 0, 2)
    assert np.array_equal(plain.picture(2), clip.picture(2, mirrored=False))
    pair = replace(plain, gain=(0.5, 0.8, 1.0), zoom=1.25, shift=(0.1, 0.06))
    points = FaceTracker().faces(pair.picture(2))[0].landmarks
    off = np.linalg.norm(bases.landmarks(pair.face(2))[:, :2] - points[:, :2], axis=1).mean()
    assert off < 0.03 * np.linalg.norm(points[468] - points[473])
    drawn = render(pair.face(2), bases, SIDE)
    seen = pair.picture(2)[drawn.mask].mean(0) / 255
    np.testing.assert_allclose(drawn.picture[drawn.mask].mean(0), seen, atol=0.05)
    varied = some([clip], 12, np.random.default_rng(0))
    assert len({one.zoom for one in varied}) == len({one.gain for one in varied}) == 12
    assert {one.mirrored for one in varied} == {False, True}
    for one in varied:  # nothing beyond the square is shown but what its shift leaves open
        assert 1 <= one.zoom <= 1 / (1 - learned.ZOOM)
        assert np.abs(np.array(one.shift) - (1 - 1 / one.zoom) / 2).max() <= learned.SHIFT + 1e-9


def test_a_swapped_face_has_the_targets_colours_however_its_source_was_tinted(folder, monkeypatch):
    monkeypatch.setattr(learned, "MISJUDGED", 0.0)
    monkeypatch.setattr(learned, "TINT", 0.15)
    clip, rng, found = read(folder, "somebody"), np.random.default_rng(0), []
    pairs = some([clip], 6, rng, vary=False)
    for pair in pairs:
        pivot, source, _ = learned.swapping(pair, rng)
        face, seen = pivot.kept < 0.1, clip.picture(pair.source, mirrored=False)
        tint = (source[:3].mean() * 127.5 + 127.5) / seen.mean()
        found.append((float(tint), pivot.known[face].mean() / clip.picture(pair.target, mirrored=False)[face].mean()))
    tints, known = np.log(np.array(found)).T
    assert np.ptp(tints) > 0.15
    assert np.abs(known).max() < 0.06
    monkeypatch.setattr(learned, "MISJUDGED", 0.3)
    off = [pivot.known[pivot.kept < 0.1].mean() for pivot, _, _ in (learned.swapping(pairs[0], rng) for _ in range(4))]
    assert np.std(np.log(off)) > 0.1
