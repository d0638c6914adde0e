"""The difftalk system on small random weights: the stream's promises, films, options as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from difftalk_weights import written

from vivavoce.cli import main
from vivavoce.errors import InputError
from vivavoce.media.read import read_image, read_source, read_video
from vivavoce.media.write import write_video
from vivavoce.registry import load
from vivavoce.system import Clip
from vivavoce.timeline import Clock, Span

ASSETS = Path(__file__).parents[1] / "assets"
FRAME = 640


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return written(tmp_path_factory.mktemp("weights"))


def sound(frames: int) -> torch.Tensor:
    return 0.1 * torch.randn(FRAME * frames, generator=torch.Generator().manual_seed(1))


def speak(folder, pieces, seed=3, **options) -> torch.Tensor:
    system = load("difftalk", weights=folder, crop=True, size=128, steps=1, **options)
    source = read_source(ASSETS / "demo_portrait.jpg")
    return torch.cat([clip.rgb for clip in system.stream(source, pieces, seed=seed)])


def test_any_chunking_gives_the_same_frames_and_latency_is_what_is_declared(folder):
    whole = speak(folder, [sound(16)])
    assert whole.shape == (16, 3, 128, 128)
    given = 0

    def drip():
        nonlocal given
        for piece in sound(40).split(FRAME):
            given += 1
            yield piece

    system = load("difftalk", weights=folder, crop=True, size=128, steps=1)
    clips = system.stream(read_source(ASSETS / "demo_portrait.jpg"), drip(), seed=3)
    first = next(clips)
    assert given == system.latency
    assert torch.equal(first.rgb, speak(folder, [sound(40)])[: len(first.rgb)])
    assert torch.equal(speak(folder, sound(16).split(1700)), whole)


def test_seed_sound_and_options_count(folder):
    whole = speak(folder, [sound(8)])
    assert not torch.equal(whole, speak(folder, [sound(8)], seed=4))
    assert not torch.equal(whole, speak(folder, [sound(8).flip(0)]))
    assert not torch.equal(whole, speak(folder, [sound(8)], progressive=True))
    assert not torch.equal(whole, speak(folder, [sound(8)], lips="heard"))


def test_a_film_is_dubbed_from_the_command_line(folder, tmp_path):
    photo = read_image(ASSETS / "demo_portrait.jpg", long_side=320)
    photo = photo[:, :, : photo.shape[2] // 2 * 2, : photo.shape[3] // 2 * 2]
    film, out = tmp_path / "film.mp4", tmp_path / "out.mp4"
    sway = torch.cat([photo.roll(n, 3) for n in range(10)])
    write_video(film, [Clip(Span(0, 10), sway, torch.zeros(FRAME * 10))], Clock())
    line = ["dub", str(film), str(ASSETS / "demo_speech.wav"), "-o", str(out), "--length", "video", "--json"]
    mine = [*line, "--system", "difftalk", "--weights", str(folder), "--steps", "2", "--anchor", "5"]
    assert main([*mine, "--progressive", "--reference", str(ASSETS / "demo_portrait.jpg")]) == 0
    before, after = (torch.stack(list(read_video(path, 25))) for path in (film, out))
    assert after.shape == before.shape
    off = (before.float() - after.float()).abs().mean((0, 1))
    assert off[: len(off) // 4].max() < off.max() / 3  # above the face only coding differs
    assert main([*line, "--anchor", "5"]) == 2  # the default system paints nothing
    assert main([*mine, "--steps", "0"]) == 2


def test_an_anchor_needs_something_to_hold(folder):
    with pytest.raises(InputError, match="is for --progressive"):
        load("difftalk", weights=folder, anchor=5)
    assert load("difftalk", weights=folder, anchor=5, progressive=True).renderer.anchor == 5


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
