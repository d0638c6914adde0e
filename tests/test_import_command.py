"""``vivavoce import`` from end to end, on checkpoints of random numbers in the published layouts."""

import json
import pickle

import pytest
import torch
from media_files import sine, wav
from speech_models import folder as speech_folder
from test_importing_moda import published

from vivavoce.cli import main
from vivavoce.motion.windows import load
from vivavoce.speech.pretrained import load as load_speech


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "pretrained"
    (folder / "moda").mkdir(parents=True)
    torch.save({f"talking_head_dit.{k}": v for k, v in published("toy").items()}, folder / "moda" / "net-200.pth")
    return folder


def test_a_moda_folder_brings_its_speech_model_along(checkpoint, tmp_path, capsys):
    speech_folder(checkpoint / "audio" / "chinese-hubert-base")
    assert main(["import", "moda", str(checkpoint), "--out", str(tmp_path / "w"), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["written"]
    assert [name.rpartition("/")[2] for name in written] == ["moda.safetensors", "model.safetensors"]
    assert load(tmp_path / "w" / "moda.safetensors").net.config.width == 128
    before = load_speech(checkpoint / "audio" / "chinese-hubert-base").model.state_dict()
    after = load_speech(tmp_path / "w" / "speech").model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert sorted(p.name for p in (tmp_path / "w").rglob("*") if "partial" in p.name) == []


class Code:
    def __reduce__(self):
        return (open, ("ran", "w"))


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net-200.pth").write_bytes(pickle.dumps({"weights": Code()}))
    assert main(["import", "moda", str(tmp_path / "net-200.pth"), "--out", str(tmp_path / "w")]) == 2
    assert "net-200.pth" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("kind", ["moda", "liveportrait"])
def test_an_empty_folder_is_refused(kind, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["import", kind, str(tmp_path / "empty"), "--out", str(tmp_path / "w")]) == 2
    assert str(tmp_path / "empty") in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_the_wrong_system_is_refused_by_name(checkpoint, tmp_path, capsys):
    assert main(["import", "moda", str(checkpoint), "--out", str(tmp_path / "w")]) == 0
    arguments = ["reenact", "a.jpg", "b.mp4", "-o", str(tmp_path / "o.mp4"), "--system", "liveportrait"]
    assert main([*arguments, "--weights", str(tmp_path / "w")]) == 2
    capsys.readouterr()
    (tmp_path / "w" / "liveportrait.safetensors").write_bytes((tmp_path / "w" / "moda.safetensors").read_bytes())
    from vivavoce.errors import InputError
    from vivavoce.nets.liveportrait import Networks

    with pytest.raises(InputError, match="not of 'liveportrait'"):
        Networks.load(tmp_path / "w")


def test_a_system_without_the_weights_it_needs_says_so(tmp_path, capsys):
    sound = tmp_path / "a.wav"
    wav(sound, sine(200, 0.2, 16_000)[None], 16_000)
    arguments = ["animate", "a.jpg", str(sound), "-o", str(tmp_path / "o.mp4"), "--system", "moda-liveportrait"]
    assert main(arguments) == 2
    assert "needs weights to be given (--weights)" in capsys.readouterr().err
