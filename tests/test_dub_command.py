"""``vivavoce dub`` and the controls as they are typed: lengths, bad input, and what reaches the system."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import pytest
import torch
from fake_system import Lamp, assemble
from media_files import film, sine, wav

from vivavoce.errors import InputError
from vivavoce.system import Drive, Film, Frames, Portrait, System


@dataclass(frozen=True, slots=True)
class Stamp(Lamp):
    """Shows the film with a mark in the corner."""

    def filmed(self, film: Film) -> Portrait:
        first = next(film.pictures())
        return Portrait(first[None], torch.zeros(1, self.space.dim), {}, (), film)

    def frames(self, portrait: Portrait, drives: Iterable[Drive]) -> Iterator[Frames]:
        if portrait.film is None:
            raise AssertionError("a film was to be dubbed")
        pictures = portrait.film.pictures()
        for drive in drives:
            shown = torch.stack([next(pictures) for _ in range(len(drive.motion.span))])
            shown[:, :, :8, :8] = 255
            yield Frames(drive.motion.span, shown)


def assemble_stamp(**options) -> System:
    return replace(assemble(**options), renderer=Stamp(64, False))


@pytest.fixture
def dubber(monkeypatch, vivavoce_cli):
    from vivavoce import registry

    monkeypatch.setitem(registry.BUILT_IN, "moda", "test_dub_command:assemble_stamp")
    return vivavoce_cli


@pytest.fixture
def movie(place) -> Path:
    """One second."""
    return film(place / "in" / "film.mov", frames=25, sound_at=[(0.0, 1.0)])


def length(path: Path) -> tuple[int, float]:
    with av.open(str(path)) as box:
        frames = sum(1 for _ in box.decode(video=0))
        sound = box.streams.audio[0]
        return frames, float((sound.duration or 0) * (sound.time_base or 0))


@pytest.mark.parametrize(
    ("seconds", "how", "frames"), [(0.4, "audio", 10), (0.4, "video", 25), (2.2, "audio", 55), (2.2, "video", 25)]
)
def test_the_result_is_as_long_as_asked(dubber, movie, place, seconds, how, frames):
    speech = wav(place / "in" / "s.wav", sine(220, seconds, 16_000)[None], 16_000)
    out = place / "out" / "o.mp4"
    made = dubber("dub", movie, speech, "-o", out, "--length", how, "--json")
    assert made.code == 0, made.err
    assert json.loads(made.out)["frames"] == frames
    shown, heard = length(out)
    assert shown == frames
    assert heard == pytest.approx(frames / 25, abs=0.05)


def test_the_old_sound_is_gone(dubber, movie, place):
    silent = wav(place / "in" / "s.wav", torch.zeros(1, 16_000).numpy(), 16_000)
    assert dubber("dub", movie, silent, "-o", place / "out" / "o.mp4").code == 0
    with av.open(str(place / "out" / "o.mp4")) as box:
        assert all(abs(f.to_ndarray()).max() < 1e-3 for f in box.decode(audio=0))


def test_what_cannot_be_dubbed_is_refused_in_one_line(dubber, vivavoce_cli, movie, speech, portrait, place):
    out = place / "out" / "o.mp4"
    wrong = {
        "no picture in it": (speech, speech),
        "cannot be read": (portrait, speech),
        "there is no file": (place / "in" / "none.mp4", speech),
        "no sound in it": (movie, film(place / "in" / "mute.mp4", frames=5)),
    }
    for message, (video, audio) in wrong.items():
        made = dubber("dub", video, audio, "-o", out)
        assert made.code == 2, message
        assert message in made.err
        assert made.err.count("\n") == 1
        assert not out.exists()
    for words, message in (
        (("--system", "reenact"), "it cannot dub"),
        (("--length", "both"), "invalid choice: 'both'"),
        (("--mouth-gain", "9"), "0 to 2"),
        (("--crop",), "--crop"),
    ):
        made = dubber("dub", movie, speech, "-o", out, *words)
        assert made.code == 2
        assert message in made.err


def test_a_system_that_cannot_dub_says_so():
    class Anything:
        def pictures(self):
            yield from ()

    with pytest.raises(InputError, match="draws portraits only"):
        next(assemble().stream(Anything(), [torch.zeros(16_000)]))


def test_controls_reach_the_system(vivavoce_cli, portrait, speech, place, monkeypatch):
    from vivavoce.cli import produce

    asked = {}

    def load(name, **options):
        asked.update(options, name=name)
        raise InputError("seen enough")

    monkeypatch.setattr(produce, "load", load)
    words = "--emotion happiness --emotion-strength 2 --guidance audio=1.5,emotion=2.5 --pose -10,5,0 --pose-scale 0.5"
    assert vivavoce_cli("animate", portrait, speech, "-o", place / "out" / "o.mp4", *words.split()).code == 2
    assert asked["edit"].pose == (-10.0, 5.0, 0.0)
    assert asked["edit"].pose_scale == 0.5
    assert (asked["emotion"], asked["emotion_strength"]) == ("happiness", 2.0)
    assert (asked["guidance_audio"], asked["guidance_emotion"]) == (1.5, 2.5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--emotion-strength 2", "give --emotion too"),
        ("--emotion happiness --emotion-strength 5", "0 to 3"),
        ("--guidance loud=2", "audio=X or emotion=X"),
        ("--guidance audio", "audio=X or emotion=X"),
        ("--guidance audio=9", "0 to 5"),
        ("--guidance audio=1,audio=2", "given twice"),
        ("--pose 10,20", "three angles"),
        ("--pose 10,20,90", "-45 to 45"),
        ("--drive-parts pose", "give --drive FILE too"),
        ("--drive {speech}", "has no picture in it"),
        ("--drive {missing}", "there is no file"),
        ("--drive {portrait} --drive-parts ears", "'ears' cannot be driven"),
        ("--drive {portrait} --drive-parts ,", "nothing to drive"),
        ("--drive {portrait}", "cannot follow a driving video"),
    ],
)
def test_controls_that_make_no_sense_are_refused(vivavoce_cli, portrait, speech, place, words, message):
    filled = words.format(speech=speech, portrait=portrait, missing=place / "in" / "none.mp4")
    out = place / "out" / "o.mp4"
    made = vivavoce_cli("animate", portrait, speech, "-o", out, *filled.split())
    assert made.code == 2
    assert message in made.err
    assert made.err.count("\n") == 1
    assert not out.exists()
