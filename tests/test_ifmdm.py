from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vivavoce import weights
from vivavoce.cli import main
from vivavoce.data import codes
from vivavoce.data.clips import Recording
from vivavoce.data.prepare import Prepared
from vivavoce.errors import InputError
from vivavoce.media.read import read_source
from vivavoce.motion.chunks import LiveControl, MotionControl
from vivavoce.motion.codes import CodeModel, save
from vivavoce.motion.edit import Edit
from vivavoce.nets.dit import Config
from vivavoce.nets.lia import Lia, LiaConfig
from vivavoce.registry import load
from vivavoce.speech.encoder import PhoneEncoder
from vivavoce.systems import ifmdm

ASSETS = Path(__file__).parents[1] / "assets"


def write(folder, audio):
    torch.manual_seed(0)
    lia = Lia(LiaConfig(size=64, multiplier=0.0625, bounded=True, groups=2)).plain()
    weights.write(folder / f"{ifmdm.RENDERER}.safetensors", lia.state_dict(), config=asdict(lia.config))
    model = CodeModel(Config(audio=audio, tokens=1, length=12, width=32, heads=2, depth=1))
    model.audio_std.fill_(1.0)
    for parameter in model.net.parameters():  # networks begin by saying nothing
        torch.nn.init.normal_(parameter, std=0.1)
    save(model, folder / f"{ifmdm.NAME}.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("weights")
    write(made, PhoneEncoder.pretrained().dim)
    return made


def speak(folder, **options):
    system = load("if-mdm", weights=folder, crop=True, **options)
    source = read_source(ASSETS / "demo_portrait.jpg")
    rng = torch.Generator().manual_seed(1)
    clips = system.stream(source, [0.1 * torch.randn(640 * 30, generator=rng)], seed=3)
    return torch.cat([clip.rgb for clip in clips])


def test_statistics_change_what_is_spoken(folder):
    usual = speak(folder)
    assert usual.shape == (30, 3, 64, 64)
    assert not torch.equal(usual, speak(folder, motion_std=0.3))
    assert not torch.equal(usual, speak(folder, motion_mean="none"))
    assert torch.equal(usual, speak(folder, control=LiveControl(MotionControl("portrait"))))


def test_lips_move_further_where_the_renderer_paints_too_little(folder, tmp_path):
    def gain(folder, **options):
        return load("if-mdm", weights=folder, **options).generator.mouth_gain

    assert gain(folder) == 1
    assert gain(folder, edit=Edit(mouth_gain=0.5)) == 0.5
    assert load("if-mdm", weights=folder, edit=Edit(mouth_gain=0.5)).edit.mouth_gain == 1  # not a second time
    write(tmp_path, PhoneEncoder.pretrained().dim)
    for painted, expected in ((0.5, 2.0), (0.01, ifmdm.MOST_GAIN), (1.2, 1.0)):
        lia = Lia.load(folder / f"{ifmdm.RENDERER}.safetensors")
        facts = {"config": asdict(lia.config), "opening": painted}
        weights.write(tmp_path / f"{ifmdm.RENDERER}.safetensors", lia.state_dict(), **facts)
        assert gain(tmp_path) == pytest.approx(expected)
        assert gain(tmp_path, edit=Edit(mouth_gain=0.5)) == pytest.approx(expected / 2)


def test_the_command_line_takes_them(folder, tmp_path):
    out = tmp_path / "out.mp4"
    line = ["animate", str(ASSETS / "demo_portrait.jpg"), str(ASSETS / "demo_speech.wav"), "-o", str(out), "--json"]
    mine = [*line, "--system", "if-mdm", "--weights", str(folder), "--motion-mean", "last", "--motion-std", "0.2"]
    assert main([*mine, "--steps", "2", "--crop", "--size", "128"]) == 0
    assert out.stat().st_size > 1000
    assert main([*mine[:-1], "7"]) == 2
    assert main([*line, "--motion-std", "0.2"]) == 2  # the default system has none


def test_weights_that_do_not_fit_are_refused(folder, tmp_path):
    write(tmp_path, 5)
    with pytest.raises(InputError, match="the weights do not fit"):
        load("if-mdm", weights=tmp_path)
    with pytest.raises(InputError, match="there are no weights"):
        load("if-mdm", weights=tmp_path / "nowhere")
    with pytest.raises(InputError, match="guidance of audio"):
        load("if-mdm", weights=folder, guidance_audio=9.0)
    with pytest.raises(InputError, match="1 to 1000 steps"):
        load("if-mdm", weights=folder, steps=0)


def test_prepare_reads_the_codes_of_prepared_clips(folder, tmp_path, monkeypatch, capsys):
    frames = torch.randint(0, 255, (5, 3, 200, 200), dtype=torch.uint8)
    landmarks = np.random.default_rng(0).uniform(60, 140, (5, 478, 3)).astype(np.float32)
    rows, valid = np.zeros((5, 48), np.float32), np.ones(5, bool)
    clip = Prepared("c", "s", "train", "driving", "none", landmarks, rows, valid, np.zeros(0, np.float32))
    recording = Recording(tmp_path / "c.mp4", "driving", "train", "s", "none", 0)
    stranger = replace(recording, path=tmp_path / "d.mp4")  # never prepared
    monkeypatch.setattr("vivavoce.data.clips.recordings", lambda *_a, **_k: [recording, stranger])
    monkeypatch.setattr("vivavoce.recipes.moda.clips", lambda: (clip,))
    monkeypatch.setattr(codes, "read_video", lambda *_a: iter(frames))
    assert main(["prepare", str(tmp_path), "--weights", str(folder), "--out", str(tmp_path / "codes")]) == 0
    assert [file.name for file in (tmp_path / "codes").iterdir()] == ["c.npz"]
    assert codes.load(tmp_path / "codes" / "c.npz").codes.shape == (5, 20)
    assert "c: 5 frames" in capsys.readouterr().err
