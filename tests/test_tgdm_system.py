"""The tgdm system on small random weights: the stream's promises, drives and options as they are typed."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from demo_media import PHOTO, SPEECH, film, photo, small, sound, speak, waited
from tgdm_weights import TINY, tiny

from vivavoce.cli import main
from vivavoce.errors import InputError
from vivavoce.face.fitting import fit
from vivavoce.face.illumination import WHITE
from vivavoce.face.mesh import LEFT_EYE, OUTER_LIPS, RIGHT_EYE
from vivavoce.face.morphable import Coefficients, Morphable
from vivavoce.face.track import FaceTracker
from vivavoce.media.read import read_source
from vivavoce.motion.edit import Edit
from vivavoce.registry import load
from vivavoce.render.texture import Brush, TextureRenderer, features, near, resized, staying
from vivavoce.render.textured import render
from vivavoce.systems.driven import driven


def test_any_chunking_gives_the_same_frames_and_latency_is_what_is_declared(tiny_tgdm):
    whole = speak("tgdm", tiny_tgdm, [sound(12)])
    assert whole.shape == (12, 3, 128, 128)
    assert torch.equal(speak("tgdm", tiny_tgdm, sound(12).split(1700)), whole)
    given, first = waited("tgdm", tiny_tgdm)
    assert given == small("tgdm", tiny_tgdm).latency
    assert torch.equal(first[0], speak("tgdm", tiny_tgdm, [sound(40)])[0])


def test_seed_sound_and_options_count(tiny_tgdm):
    whole = speak("tgdm", tiny_tgdm, [sound(6)])
    assert not torch.equal(whole, speak("tgdm", tiny_tgdm, [sound(6)], seed=4))
    assert not torch.equal(whole, speak("tgdm", tiny_tgdm, [sound(6)], emotion="very happy"))
    assert not torch.equal(whole, speak("tgdm", tiny_tgdm, [sound(6)], guidance_face=3.0))
    assert not torch.equal(whole, speak("tgdm", tiny_tgdm, [sound(6)], edit=Edit(pose_scale=0.0)))
    looking = driven(small("tgdm", tiny_tgdm), PHOTO, ("pose",))
    assert not torch.equal(
        whole, torch.cat([clip.rgb for clip in looking.stream(read_source(PHOTO), [sound(6)], seed=3)])
    )


def test_beside_the_square_the_portrait_stays_as_it_is(tiny_tgdm):
    system = load("tgdm", weights=tiny_tgdm, steps=1, size=300)
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


def test_reenacting_follows_the_driver(tiny_tgdm, tmp_path):
    driver = film(tmp_path / "film.mp4", 8, step=2)
    out = tmp_path / "out.mp4"
    line = ["reenact", str(PHOTO), str(driver), "-o", str(out), "--crop", "--size", "128", "--json"]
    mine = [*line, "--system", "tgdm", "--weights", str(tiny_tgdm), "--steps", "1"]
    assert main([*mine]) == 0
    assert out.exists()
    assert main([*mine, "--steps", "0"]) == 2
    assert main([*mine, "--region", "lips"]) == 2


def test_a_portrait_that_moves_is_painted_from_its_plainest_picture(tiny_tgdm):
    renderer = load("tgdm", weights=tiny_tgdm, steps=1).renderer
    assert isinstance(renderer, TextureRenderer)
    portrait = renderer.portrait(torch.stack([photo(), photo().flip(2)]))
    assert any("video" in warning for warning in portrait.warnings)
    assert len(portrait.source) == 1
    points = portrait.cache["landmarks"].numpy()
    found = FaceTracker().faces(portrait.cache["cut"].numpy())[0].landmarks
    assert np.abs(points - found)[:, :2].mean() < 3


@pytest.mark.parametrize("begins", ["carried", "drawn"])
def test_an_idle_painter_leaves_what_it_begins_with(begins):
    """Around the mouth: the carried picture, or the drawn face as latents tell it, whatever is carried."""
    net = tiny(replace(TINY, begins=begins))
    for numbers in net.painter.last.parameters():
        numbers.zero_()
    bases, rgb = (
        Morphable.pretrained(),
        resized(np.ascontiguousarray(photo().permute(1, 2, 0).numpy())[:256, :256], 256),
    )
    face = fit(rgb, FaceTracker().faces(rgb)[0].landmarks.astype(np.float64), bases)
    made = Brush(net, rgb, face).reenacted(face)
    drawn = render(face, bases, 256).picture
    sketch = torch.from_numpy(drawn.transpose(2, 0, 1) * 2 - 1).float()[None]
    latents = 127.5 + 127.5 * net.decode(net.encode(sketch))[0].permute(1, 2, 0).numpy()
    wanted = rgb if begins == "carried" else np.clip(latents, 0, 255)
    x, y = bases.landmarks(face)[[0, 17, 61, 291], :2].mean(0).astype(int)
    assert np.abs(made.astype(float) - wanted)[y - 6 : y + 7, x - 6 : x + 7].mean() < 2


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


def test_what_cannot_be_used_is_refused(tiny_tgdm, tmp_path, capsys):
    with pytest.raises(InputError, match="no tgdm weights"):
        load("tgdm", weights=tmp_path)
    with pytest.raises(InputError, match="1 to 500 steps"):
        load("tgdm", weights=tiny_tgdm, steps=501)
    with pytest.raises(InputError, match="guidance of the face"):
        load("tgdm", weights=tiny_tgdm, guidance_face=6.0)
    with pytest.raises(InputError, match="emotion"):
        load("tgdm", weights=tiny_tgdm, emotion="xyzzy")
    words = [
        "animate",
        str(PHOTO),
        str(SPEECH),
        "-o",
        str(tmp_path / "o.mp4"),
        "--system",
        "tgdm",
        "--weights",
        str(tmp_path),
        "--json",
    ]
    assert main(words) == 2
    assert "no tgdm weights" in json.loads(capsys.readouterr().out)["error"]
