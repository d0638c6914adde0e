"""Speech model folders, good and bad."""

import json
from pathlib import Path

import pytest
import speech_models
import torch
from golden import weights as golden
from safetensors.torch import save_file

from vivavoce.errors import InputError
from vivavoce.speech import pretrained
from vivavoce.speech.pretrained import load

pytest.importorskip("transformers")
ROWS = golden.normal(2, "rows", (9, speech_models.CHANNELS))


def hidden(network):
    with torch.inference_mode():
        return network.hidden(ROWS)


@pytest.fixture
def good(tmp_path):
    return speech_models.folder(tmp_path / "good")


def rewritten(folder: Path, change) -> Path:
    tensors = speech_models.tensors()
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_names_of_every_release_give_the_same_network(good, tmp_path):
    reference = hidden(load(good))
    assert torch.equal(hidden(load(speech_models.folder(tmp_path / "pickled", pickled=True))), reference)

    def whole_recogniser(tensors):
        tensors["lm_head.weight"], tensors["lm_head.bias"] = torch.zeros(5, 32), torch.zeros(5)

    def plain(tensors):
        for key in list(tensors):
            tensors[key.removeprefix("hubert.")] = tensors.pop(key)

    def newer(tensors):
        at = "hubert.encoder.pos_conv_embed.conv"
        for n, old in enumerate(("weight_g", "weight_v")):
            tensors[f"{at}.parametrizations.weight.original{n}"] = tensors.pop(f"{at}.{old}")

    def half(tensors):
        for key in tensors:
            tensors[key] = tensors[key].half()

    for change in (whole_recogniser, plain, newer):
        assert torch.equal(hidden(load(rewritten(good, change))), reference)
    network = load(rewritten(good, half))
    torch.testing.assert_close(hidden(network), reference, atol=0.05, rtol=0.05)
    assert all(value.dtype == torch.float32 and not value.requires_grad for value in network.parameters())


def test_parameters_are_those_of_the_base_models():
    """94,371,712 with the unused masking vector (hubert-base, wav2vec2-base)."""
    network = pretrained.built({"model_type": "hubert"}, Path())
    assert sum(value.numel() for value in network.parameters()) == 94_371_712
    assert sum(value.numel() for key, value in network.named_parameters() if key != pretrained.UNUSED) == 94_370_944


def lacking(tensors):
    del tensors["hubert.encoder.layers.1.layer_norm.bias"]


def misshapen(tensors):
    tensors["hubert.feature_projection.projection.bias"] = torch.zeros(3)


def stray(tensors):
    tensors["hubert.encoder.layers.9.layer_norm.bias"] = torch.zeros(32)


def broken(tensors):
    tensors["hubert.encoder.layer_norm.bias"][3] = torch.nan


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lacking, "missing: encoder.layers.1.layer_norm.bias"),
        (misshapen, r"hubert.feature_projection.projection.bias is \[3\] but must be \[32\]"),
        (stray, "unknown: hubert.encoder.layers.9.layer_norm.bias"),
        (broken, "not finite numbers: hubert.encoder.layer_norm.bias"),
    ],
)
def test_weights_that_do_not_fit_are_named(good, change, words):
    with pytest.raises(InputError, match=words):
        load(rewritten(good, change))


def test_folders_that_are_none_are_refused(tmp_path, good):
    with pytest.raises(InputError, match="no speech model folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no speech model folder"):
        load("somebody/hubert")  # a name of the Hub is not tried unless it is said to be one
    (good / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights"):
        load(good)
    (good / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as a configuration"):
        load(good)
    (good / "config.json").write_text("[]")
    with pytest.raises(InputError, match="holds no names"):
        load(good)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "whisper"}, "type 'whisper'"),
        ({"conv_stride": [4, 2, 2, 2, 2, 2, 2]}, "every 256"),
        ({"num_attention_heads": 5}, "does not describe"),
        ({"num_hidden_layers": 4}, "missing: encoder.layers.3"),
    ],
)
def test_other_models_are_refused(tmp_path, change, words):
    with pytest.raises(InputError, match=words):
        load(speech_models.folder(tmp_path / "other", **change))


def test_other_sample_rates_are_refused(good):
    (good / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 8000}))
    with pytest.raises(InputError, match="8000 Hz"):
        load(good)


def test_code_in_weights_is_refused_unrun(good, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    (good / "model.safetensors").unlink()
    torch.save({"weight": Bomb()}, good / "pytorch_model.bin")
    with pytest.raises(InputError, match="nothing of it was run"):
        load(good)
    assert not (tmp_path / "ran").exists()


def test_only_a_name_of_the_hub_asks_the_hub(good, monkeypatch):
    import huggingface_hub

    asked = []

    def snapshot(name, allow_patterns):
        asked.append((name, allow_patterns))
        if name == "no/where":
            raise OSError("unreachable\nand more")
        return str(good)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert torch.equal(hidden(load("hub:some/hubert-base")), hidden(load(good)))
    assert [name for name, _ in asked] == ["some/hubert-base"]
    assert not any("*" in pattern for pattern in asked[0][1])
    with pytest.raises(InputError, match=r"no/where cannot be had from the Hub: unreachable$"):
        load("hub:no/where")
    with pytest.raises(InputError, match="OWNER/NAME"):
        load("hub:nonsense")
