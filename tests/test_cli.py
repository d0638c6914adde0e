"""The command line on the fake system: what is typed reaches the system, what is made is reported."""

import io
import json
import os
import subprocess
import sys

import av
import numpy as np
import pytest
import torch
from media_files import film, picture, sine, wav
from rich.console import Console

from vivavoce.cli import arguments, produce, progress
from vivavoce.errors import InputError


@pytest.fixture
def portrait(tmp_path):
    return picture(tmp_path / "face.png", 80, 64)


@pytest.fixture
def speech(tmp_path):
    return wav(tmp_path / "speech.wav", np.tile(sine(220, 1.3, 44_100), (2, 1)), 44_100)


def lengths(path):
    with av.open(str(path)) as box:
        frames = sum(1 for _ in box.decode(video=0))
        return frames, [float(stream.duration * stream.time_base) for stream in box.streams]


def test_animate_makes_a_video_as_long_as_the_sound(vivavoce_cli, portrait, speech, tmp_path):
    outcome = vivavoce_cli("animate", portrait, speech, "-o", tmp_path / "out.mp4")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"{tmp_path / 'out.mp4'}: 1.32 s, 33 frames of 80x64")
    assert outcome.out.count("\n") == 1
    frames, seconds = lengths(tmp_path / "out.mp4")
    assert frames == 33
    assert seconds == pytest.approx([1.32, 1.32], abs=0.001)
    with av.open(str(tmp_path / "out.mp4")) as box:  # the listener gets the sound as it was recorded
        assert (box.streams.audio[0].sample_rate, box.streams.audio[0].channels) == (44_100, 2)


def test_json_is_one_object_and_nothing_else(vivavoce_cli, portrait, speech, tmp_path):
    outcome = vivavoce_cli("animate", portrait, speech, "-o", tmp_path / "out.mp4", "--json", "--seed", "4")
    figures = json.loads(outcome.out)
    assert outcome.err == ""
    assert (figures["frames"], figures["seed"], figures["width"], figures["warnings"]) == (33, 4, 80, [])
    assert figures["real_time_factor"] == pytest.approx(figures["compute_seconds"] / figures["seconds"], rel=0.01)
    assert 0 < figures["first_frame_seconds"] <= figures["compute_seconds"]
    wrong = vivavoce_cli("animate", portrait, tmp_path / "no.wav", "-o", tmp_path / "out2.mp4", "--json")
    assert wrong.code == 2
    assert "no.wav" in json.loads(wrong.out)["error"]


def test_the_same_seed_gives_the_same_file(vivavoce_cli, portrait, speech, tmp_path):
    for name, seed in (("a.mp4", 3), ("b.mp4", 3)):
        assert vivavoce_cli("animate", portrait, speech, "-o", tmp_path / name, "--seed", seed).code == 0
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_options_reach_the_system(vivavoce_cli, portrait, speech, tmp_path, monkeypatch):
    asked = {}

    def load(name, **options):
        asked.update(options, name=name)
        raise InputError("seen enough")

    monkeypatch.setattr(produce, "load", load)
    words = (
        "--size 256 --crop --face left --emotion happy --device cpu --backend torch --blink-rate 20 --mouth-gain 1.5"
    )
    assert (
        vivavoce_cli(
            *("animate", portrait, speech, "-o", tmp_path / "o.mp4", "--teeth", portrait, "--gaze", "-0.1,0.2"),
            *("--freeze-head", *words.split()),
        ).code
        == 2
    )
    edit, teeth = asked.pop("edit"), asked.pop("teeth")
    assert (edit.pose_scale, edit.mouth_gain, edit.blink_rate, edit.gaze) == (0.0, 1.5, 20.0, (-0.1, 0.2))
    assert teeth.shape == (1, 3, 64, 80)
    assert asked == {
        "name": "moda",
        "size": 256,
        "crop": True,
        "face": "left",
        "emotion": "happy",
        "device": "cpu",
        "backend": "torch",
    }
    asked.clear()
    vivavoce_cli("animate", portrait, speech, "-o", tmp_path / "o.mp4")
    assert asked == {"name": "moda"}  # what was not typed is the system's to choose


def test_reenact_keeps_sound_and_lasts_as_long_as_the_driving_video(vivavoce_cli, portrait, tmp_path):
    driving = film(tmp_path / "drive.mkv", frames=50, sound_at=[(0.0, 1.0)])
    assert vivavoce_cli("reenact", portrait, driving, "-o", tmp_path / "out.mp4").code == 0
    frames, seconds = lengths(tmp_path / "out.mp4")
    assert frames == 50
    assert seconds == pytest.approx([2.0, 2.0], abs=0.001)
    silent = film(tmp_path / "drive.mp4", frames=30)
    assert vivavoce_cli("reenact", portrait, silent, "-o", tmp_path / "out.mp4").code == 0
    assert lengths(tmp_path / "out.mp4")[0] == 30


def test_a_sheet_is_written_beside_the_video(vivavoce_cli, portrait, speech, tmp_path):
    outcome = vivavoce_cli("animate", portrait, speech, "-o", tmp_path / "o.mp4", "--sheet", tmp_path / "sheet.png")
    assert outcome.code == 0
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert "sheet.png: contact sheet" in outcome.out


def test_warnings_are_said_once_in_one_line_each(vivavoce_cli, tmp_path):
    small = picture(tmp_path / "small.png", 36, 36)
    broken = sine(220, 1.0, 16_000)[None].copy()
    broken[0, ::100] = np.nan
    sound = wav(tmp_path / "nan.wav", broken, 16_000, codec="pcm_f32le")
    outcome = vivavoce_cli("animate", small, sound, "-o", tmp_path / "o.mp4")
    assert outcome.code == 0
    lines = outcome.err.splitlines()
    assert len(lines) == 2  # the sound is read twice, for the model and for the listener
    assert lines[0] == "vivavoce: warning: the fake face is small"
    assert "160 samples were not numbers" in lines[1]


def test_our_own_bugs_are_told_from_the_users(vivavoce_cli, portrait, speech, tmp_path, monkeypatch):
    monkeypatch.setattr(produce, "write_video", lambda *_, **__: [][1])
    outcome = vivavoce_cli("animate", portrait, speech, "-o", tmp_path / "o.mp4")
    assert outcome.code == 1
    assert outcome.err == (
        "vivavoce: this is a bug in Vivavoce: IndexError: list index out of range (set VIVAVOCE_DEBUG=1 to see where)\n"
    )
    monkeypatch.setenv("VIVAVOCE_DEBUG", "1")
    with pytest.raises(IndexError):
        vivavoce_cli("animate", portrait, speech, "-o", tmp_path / "o.mp4")


def test_help_and_version(vivavoce_cli):
    assert vivavoce_cli("--help").code == 0
    assert "animate" in vivavoce_cli("--help").out
    for command in ("animate", "reenact", "bench", "doctor", "train", "evaluate"):
        assert vivavoce_cli(command, "--help").code == 0
    assert vivavoce_cli("--version").out.startswith("vivavoce ")


def test_the_module_runs_and_help_needs_nothing_heavy():
    code = (
        "import sys; sys.argv = ['vivavoce', '--help']\n"
        "try:\n    import runpy; runpy.run_module('vivavoce', run_name='__main__')\n"
        "except SystemExit as done: assert done.code == 0\n"
        "print([m for m in ('torch', 'av', 'numba') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (arguments.number(0.0, 3.0), "1.5", 1.5),
        (arguments.whole(0, 9), "7", 7),
        (arguments.even(2, 8), "8", 8),
        (arguments.pair(-1.0, 1.0), "-1,.5", (-1.0, 0.5)),
        (arguments.face, "12", "12"),
    ],
)
def test_values_are_understood(parse, text, value):
    assert parse(text) == value


def test_a_terminal_gets_a_bar_with_speed_and_time_left(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=screen, force_terminal=True, width=100))
    with progress.progress("o.mp4", 50, quiet=False) as tell:
        for done in range(1, 51):
            tell(done)
    assert "50/50" in screen.getvalue()
    assert "fps" in screen.getvalue()


def test_elsewhere_there_is_a_line_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with progress.progress("o.mp4", 50, quiet=False) as tell:
        tell(1)
        tell(10)
    first, later = capsys.readouterr().err.splitlines()
    assert first == "vivavoce: 1 frames of 50 (0.0 fps)"
    assert later.startswith("vivavoce: 10 frames of 50, ")
    assert " s left (" in later
    with progress.progress("o.mp4", 50, quiet=True) as tell:
        tell(10)
    assert capsys.readouterr().err == ""


def test_doctor_finds_what_is_there_and_what_is_not(vivavoce_cli, monkeypatch):
    outcome = vivavoce_cli("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(outcome.out)["checks"]}
    assert checks["video encoder"]["state"] == "ok"
    assert torch.__version__.split("+")[0] in checks["torch"]["found"]  # the wheel's metadata may not name its build
    monkeypatch.setitem(sys.modules, "scipy", None)
    outcome = vivavoce_cli("doctor")
    assert outcome.code == 2
    assert any(line.startswith("missing  scipy") and "pip install scipy" in line for line in outcome.out.splitlines())


def test_train_reaches_the_recipe(vivavoce_cli, tmp_path):
    outcome = vivavoce_cli("train", "vivavoce.recipes.no_such:recipe", "--out", tmp_path / "run")
    assert outcome.code == 2
    assert "no_such" in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_reader_that_leaves_early_is_no_error(vivavoce_cli, portrait, speech, tmp_path, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        outcome = vivavoce_cli("animate", portrait, speech, "-o", tmp_path / "o.mp4")
    assert (outcome.code, outcome.err) == (0, "")
    assert (tmp_path / "o.mp4").exists()
