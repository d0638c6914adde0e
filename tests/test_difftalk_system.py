"""The difftalk system on small random weights: the stream's promises, films, options as they are typed."""

from __future__ import annotations

import pytest
import torch
from demo_media import PHOTO, SPEECH, film, small, sound, speak, waited
from difftalk_weights import written

from vivavoce.cli import main
from vivavoce.errors import InputError
from vivavoce.media.read import read_video
from vivavoce.registry import load


def test_any_chunking_gives_the_same_frames_and_latency_is_what_is_declared(tiny_difftalk):
    whole = speak("difftalk", tiny_difftalk, [sound(16)])
    assert whole.shape == (16, 3, 128, 128)
    given, first = waited("difftalk", tiny_difftalk)
    assert given == small("difftalk", tiny_difftalk).latency
    assert torch.equal(first, speak("difftalk", tiny_difftalk, [sound(40)])[: len(first)])
    assert torch.equal(speak("difftalk", tiny_difftalk, sound(16).split(1700)), whole)


def test_seed_sound_and_options_count(tiny_difftalk):
    whole = speak("difftalk", tiny_difftalk, [sound(8)])
    assert not torch.equal(whole, speak("difftalk", tiny_difftalk, [sound(8)], seed=4))
    assert not torch.equal(whole, speak("difftalk", tiny_difftalk, [sound(8).flip(0)]))
    assert not torch.equal(whole, speak("difftalk", tiny_difftalk, [sound(8)], progressive=True))
    assert not torch.equal(whole, speak("difftalk", tiny_difftalk, [sound(8)], lips="heard"))


def test_a_film_is_dubbed_from_the_command_line(tiny_difftalk, tmp_path):
    shot, out = film(tmp_path / "film.mp4", 10), tmp_path / "out.mp4"
    line = ["dub", str(shot), str(SPEECH), "-o", str(out), "--length", "video", "--json"]
    mine = [*line, "--system", "difftalk", "--weights", str(tiny_difftalk), "--steps", "2", "--anchor", "5"]
    assert main([*mine, "--progressive", "--reference", str(PHOTO)]) == 0
    before, after = (torch.stack(list(read_video(path, 25))) for path in (shot, out))
    assert after.shape == before.shape
    off = (before.float() - after.float()).abs().mean((0, 1))
    assert off[: len(off) // 4].max() < off.max() / 3  # above the face only coding differs
    assert main([*line, "--anchor", "5"]) == 2  # the default system paints nothing
    assert main([*mine, "--steps", "0"]) == 2


def test_an_anchor_needs_something_to_hold(tiny_difftalk):
    with pytest.raises(InputError, match="is for --progressive"):
        load("difftalk", weights=tiny_difftalk, anchor=5)
    assert load("difftalk", weights=tiny_difftalk, anchor=5, progressive=True).renderer.anchor == 5


def test_the_packaged_weights_are_the_default():
    made = load("difftalk", crop=True, size=128)
    assert made.renderer.networks.config.painting.bends
    assert made.renderer.steps == 1
    assert made.renderer.lips == "motion"


def test_weights_that_cannot_speak_are_refused(tmp_path):
    with pytest.raises(InputError, match="no difftalk weights"):
        load("difftalk", weights=tmp_path)
    with pytest.raises(InputError, match="the phone encoder gives"):
        load("difftalk", weights=written(tmp_path, features=29))
