"""The tgdm system on small random weights: the stream's promises, drives and options as they are typed."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from tgdm_weights import written

from vivavoce.cli import main
from vivavoce.errors import InputError
from vivavoce.face.illumination import WHITE
from vivavoce.face.mesh import LEFT_EYE, OUTER_LIPS, RIGHT_EYE
from vivavoce.face.morphable import Coefficients
from vivavoce.face.track import FaceTracker
from vivavoce.media.read import read_image, read_source
from vivavoce.media.write import write_video
from vivavoce.motion.edit import Edit
from vivavoce.registry import load
from vivavoce.render.texture import TextureRenderer, features, near, resized, staying
from vivavoce.system import Clip
from vivavoce.systems.driven import driven
from vivavoce.timeline import Clock, Span

ASSETS = Path(__file__).parents[1] / "assets"
PHOTO = ASSETS / "demo_portrait.jpg"
FRAME = 640


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return written(tmp_path_factory.mktemp("weights"))


def sound(frames: int) -> torch.Tensor:
    return 0.1 * torch.randn(FRAME * frames, generator=torch.Generator().manual_seed(1))


def speak(folder, pieces, seed=3, **options) -> torch.Tensor:
    system = load("tgdm", weights=folder, crop=True, size=128, steps=1, **options)
    return torch.cat([clip.rgb for clip in system.stream(read_source(PHOTO), pieces, seed=seed)])


def test_any_chunking_gives_the_same_frames_and_latency_is_what_is_declared(folder):
    whole = speak(folder, [sound(12)])
    assert whole.shape == (12, 3, 128, 128)
    assert torch.equal(speak(folder, sound(12).split(1700)), whole)
    given = 0

    def drip():
        nonlocal given
        for piece in sound(40).split(FRAME):
            given += 1
            yield piece

    system = load("tgdm", weights=folder, crop=True, size=128, steps=1)
    first = next(system.stream(read_source(PHOTO), drip(), seed=3))
    assert given == system.latency
    assert torch.equal(first.rgb[0], speak(folder, [sound(40)])[0])


def test_seed_sound_and_options_count(folder):
    whole = speak(folder, [sound(6)])
    assert not torch.equal(whole, speak(folder, [sound(6)], seed=4))
    assert not torch.equal(whole, speak(folder, [sound(6)], emotion="very happy"))
    assert not torch.equal(whole, speak(folder, [sound(6)], guidance_face=3.0))
    assert not torch.equal(whole, speak(folder, [sound(6)], edit=Edit(pose_scale=0.0)))
    looking = driven(load("tgdm", weights=folder, crop=True, size=128, steps=1), PHOTO, ("pose",))
    assert not torch.equal(
        whole, torch.cat([clip.rgb for clip in looking.stream(read_source(PHOTO), [sound(6)], seed=3)])
    )


def test_beside_the_square_the_portrait_stays_as_it_is(folder):
    system = load("tgdm", weights=folder, steps=1, size=300)
    source = read_source(PHOTO)
    portrait = system.portrait(source)
    clips = torch.cat([clip.rgb for clip in islice(system.stream(portrait, [sound(3)]), 1)])
    x, y, side, _ = portrait.cache["square"].tolist()
    assert side <= 301
    still = portrait.cache["picture"]
    assert clips.shape[1:] == still.shape
    beside = torch.ones(still.shape[1:], dtype=torch.bool)
    half = side / 2 + 1
    beside[max(0, int(y - half)) : int(y + half) + 1, max(0, int(x - half)) : int(x + half) + 1] = False
    assert beside.any()
    assert bool((clips == still)[:, :, beside].all())
    assert not torch.equal(clips[0], still)


def test_reenacting_follows_the_driver(folder, tmp_path):
    photo = read_image(PHOTO, long_side=320)
    photo = photo[:, :, : photo.shape[2] // 2 * 2, : photo.shape[3] // 2 * 2]
    film = tmp_path / "film.mp4"
    sway = torch.cat([photo.roll(2 * n, 3) for n in range(8)])
    write_video(film, [Clip(Span(0, 8), sway, torch.zeros(FRAME * 8))], Clock())
    out = tmp_path / "out.mp4"
    line = ["reenact", str(PHOTO), str(film), "-o", str(out), "--crop", "--size", "128", "--json"]
    mine = [*line, "--system", "tgdm", "--weights", str(folder), "--steps", "1"]
    assert main([*mine]) == 0
    assert out.exists()
    assert main([*mine, "--steps", "0"]) == 2
    assert main([*mine, "--region", "lips"]) == 2


def test_a_portrait_that_moves_is_painted_from_its_plainest_picture(folder):
    renderer = load("tgdm", weights=folder, steps=1).renderer
    assert isinstance(renderer, TextureRenderer)
    photo = read_image(PHOTO, long_side=320)
    portrait = renderer.portrait(torch.cat([photo, photo.flip(3)]))
    assert any("video" in warning for warning in portrait.warnings)
    assert len(portrait.source) == 1
    points = portrait.cache["landmarks"].numpy()
    found = FaceTracker().faces(portrait.cache["cut"].numpy())[0].landmarks
    assert np.abs(points - found)[:, :2].mean() < 3


def test_faces_stay_in_their_square_and_small_moves_are_kept():
    rng = np.random.default_rng(0)
    fields = {"identity": 32, "expression": 32, "eyelids": 2, "rotation": 3, "translation": 2}
    own = Coefficients(
        **{n: rng.normal(size=k) for n, k in fields.items()},
        scale=80.0,
        gaze=np.zeros((2, 2)),
        light=WHITE,
        texture=np.zeros(48),
    )
    for move, lost in ((2.0, 0.1), (1000.0, 969.0)):
        there = staying(replace(own, translation=own.translation + np.array([move, -move])), own, 256)
        assert np.abs(there.translation - own.translation).max() <= 0.12 * 256 + 1e-9
        np.testing.assert_allclose(there.translation - own.translation, [move, -move], atol=lost + 0.5)


def test_changes_show_on_the_face_and_fade_around_it():
    mask = np.zeros((128, 128), np.float32)
    mask[40:90, 40:90] = 1
    share = near(mask, 100.0)[..., 0]
    assert share[40:90, 40:90].min() > 0.9
    assert share[:26].max() < 0.01
    assert (np.diff(share[65, 64:]) <= 1e-6).all()


def test_changes_show_most_on_lips_and_eyes():
    points = np.zeros((478, 3))
    for ring, (x, y) in ((OUTER_LIPS, (64, 100)), (LEFT_EYE, (44, 50)), (RIGHT_EYE, (84, 50))):
        turn = np.linspace(0, 2 * np.pi, len(ring), endpoint=False)
        points[list(ring), 0], points[list(ring), 1] = x + 10 * np.cos(turn), y + 4 * np.sin(turn)
    share = features(points, 128)
    for x, y in ((64, 100), (44, 50), (84, 50)):
        assert share[y, x] == pytest.approx(1, abs=0.05)
        assert share[y, x + 10] == pytest.approx(0.5, abs=0.1)
    assert share[5].max() < 0.01
    assert share[75, 64] < 0.05


def test_squares_are_resized_without_shifts():
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32)[None, :, None], (64, 1, 3))
    there = resized(resized(ramp, 256), 64)
    assert np.abs(there - ramp)[4:-4, 4:-4].max() < 0.01
    assert resized(ramp, 64) is ramp


def test_what_cannot_be_used_is_refused(folder, tmp_path, capsys):
    with pytest.raises(InputError, match="no tgdm weights"):
        load("tgdm", weights=tmp_path)
    with pytest.raises(InputError, match="1 to 500 steps"):
        load("tgdm", weights=folder, steps=501)
    with pytest.raises(InputError, match="guidance of the face"):
        load("tgdm", weights=folder, guidance_face=6.0)
    with pytest.raises(InputError, match="emotion"):
        load("tgdm", weights=folder, emotion="xyzzy")
    speech, out = str(ASSETS / "demo_speech.wav"), str(tmp_path / "o.mp4")
    words = ["animate", str(PHOTO), speech, "-o", out, "--system", "tgdm", "--weights", str(tmp_path), "--json"]
    assert main(words) == 2
    assert "no tgdm weights" in json.loads(capsys.readouterr().out)["error"]
