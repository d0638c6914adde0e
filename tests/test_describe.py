"""Published sizes are the published ones, and counts agree with closed forms."""

import json
from collections import defaultdict

import difftalk_weights
import keypoint_weights
import pytest
import speech_models
import tgdm_weights
import torch
from torch import nn

from vivavoce import weights
from vivavoce.cli import main
from vivavoce.errors import InputError
from vivavoce.evaluate import describe as described
from vivavoce.evaluate.describe import Part, describe, operations, parts_of
from vivavoce.systems import tgdm

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def published():
    return describe("moda-liveportrait")


def test_parameters_are_the_published_ones_module_by_module(published):
    found = {part.name: part.parameters for part in published.parts}
    assert found["appearance extractor"] == 836_224
    assert found["motion extractor"] == 28_118_728
    assert found["warping"] == 45_529_829
    assert found["decoder"] == 55_365_388
    assert (found["stitching"], found["lip retargeting"], found["eye retargeting"]) == (45_249, 37_311, 144_703)
    transformer = sum(count for name, count in found.items() if name.startswith("motion: "))
    assert transformer - found["motion: what is not given"] == 372_983_878
    assert found["motion: sound in"] == 8_260_608
    assert found["speech convolutions"] + found["speech transformer"] == 94_370_944
    assert published.parameters == sum(found.values())


def test_operations_are_those_of_the_published_networks(published):
    found = {part.name: part for part in published.parts}
    assert found["appearance extractor"].gflop == pytest.approx(64.114, abs=1e-3)
    assert found["motion extractor"].gflop == pytest.approx(11.637, abs=1e-3)
    assert found["warping"].gflop < 342.071  # less than published where the same is computed with less
    assert found["decoder"].gflop < 891.575
    fed = 2 * 80 * (9216 * 768 + 2 * 768 * 768) / 1e9  # three layers, once a frame of the window
    assert found["motion: sound in"].gflop == pytest.approx(fed)
    # Tokens (motion, sound, emotion, portrait) of a parallel block: in, attention, out; and the modulation once.
    block = 2 * (320 * (768 * 5376 + 3840 * 768) + 2 * 320 * 320 * 768 + 768 * 3 * 768) / 1e9
    assert found["motion: blocks of one stream"].gflop == pytest.approx(12 * block)
    assert found["motion: blocks of one stream"].often == "20 in 64 frames"
    assert published.gflop_per_frame == pytest.approx(sum(part.per_frame for part in published.parts))


def test_latency_is_that_of_the_windows(published):
    assert published.latency == 64 + 16 + 32 + 1


def test_a_part_counts_its_calls_per_frame():
    assert Part("a", 1, 6.0, 4, 8).per_frame == 3
    assert Part("a", 1, 6.0, 1, None).per_frame == 0
    assert [Part("a", 1, 6.0, 2, frames).often for frames in (1, 8, None)] == [
        "2 a frame",
        "2 in 8 frames",
        "2 a portrait",
    ]
    layer = nn.Linear(3, 5, device="meta")
    assert operations(lambda: layer(torch.empty(7, 3, device="meta"))) == pytest.approx(2 * 7 * 3 * 5 / 1e9)
    assert list(parts_of(object())) == []


def test_the_packaged_system_is_described_as_it_is_packaged():
    found = defaultdict(int)
    for part in describe("moda").parts:
        found[part.name.partition(":")[0]] += part.parameters
    kept = weights.read("moda")[0]
    assert found["motion"] == sum(value.numel() for key, value in kept.items() if key.startswith("net."))
    assert found["phone encoder"] < sum(value.numel() for value in weights.read("phones")[0].values())


def test_what_follows_a_video_looks_at_every_frame_of_it(capsys):
    assert main(["describe", "--system", "liveportrait", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    driver = next(part for part in report["parts"] if part["name"] == "motion extractor, driver")
    assert driver["gflop_per_frame"] == pytest.approx(11.637, abs=1e-3)
    assert report["parameters"] == 130_077_432  # the driver's extractor is the portrait's
    assert report["latency_frames"] == 5


def test_imported_weights_are_described_at_their_size(tmp_path):
    keypoint_weights.write_toy(tmp_path)
    found = describe("liveportrait", tmp_path)
    assert found.parameters < 10_000_000
    with pytest.raises(InputError, match=r"no weights|moda.safetensors"):
        describe("moda-liveportrait", tmp_path)


def test_the_speech_model_of_the_folder_is_counted(tmp_path):
    folder = speech_models.folder(tmp_path)
    network = described.SpeechTransformer(described.built(described.described(folder / "config.json"), folder))
    parts = list(parts_of(described.TransformerEncoder(network.eval(), hop=10, before=4, after=2)))
    counted = sum(value.numel() for value in speech_models.tensors().values()) - speech_models.WIDTH
    assert sum(part.parameters for part in parts) == counted
    assert all(part.frames == 10 for part in parts)


def test_painting_is_counted_with_what_is_painted_from(tmp_path):
    found = describe("difftalk", difftalk_weights.written(tmp_path))
    net, parts = difftalk_weights.made(), {part.name: part for part in found.parts}
    assert parts["denoiser"].parameters == sum(p.numel() for p in net.unet.parameters())
    stages = [parts[f"first stage: to {what}"] for what in ("latents", "pictures")]
    assert sum(part.parameters for part in stages) == sum(p.numel() for p in net.first_stage.parameters())
    assert stages[0].calls == 2  # what is hidden, and the reference
    assert {"phone encoder", "motion: motion out", "speech and landmarks"} <= parts.keys()
    assert all(part.gflop > 0 for part in stages)
    with pytest.raises(InputError, match="no difftalk weights"):
        describe("difftalk", tmp_path / "nothing")


def test_the_painter_of_faces_is_counted_with_its_textures_and_what_a_step_costs(tmp_path):
    folder = tgdm_weights.written(tmp_path)
    found, net = describe("tgdm", folder), tgdm_weights.tiny()
    parts = {part.name: part for part in found.parts}
    painter = parts["texture encoder"].parameters + parts["painter"].parameters
    assert painter == sum(p.numel() for p in net.painter.parameters())
    stages = [parts[f"first stage: to {what}"] for what in ("latents", "pictures")]
    assert net.first_stage is not None
    assert sum(part.parameters for part in stages) == sum(p.numel() for p in net.first_stage.parameters())
    assert [part.calls for part in stages] == [1, 2]  # what is carried; that, and what is painted
    assert parts["painter"].calls == tgdm.STEPS
    assert parts["texture encoder"].per_frame == 0
    told = list(parts_of(tgdm.assemble(weights=folder, guidance_face=2.0).renderer))
    assert told[-1].calls == 2 * tgdm.STEPS
    assert all(part.gflop > 0 for part in told)
    assert {"phone encoder", "motion: motion out"} <= parts.keys()


def test_people_read_a_table(published, monkeypatch, capsys):
    monkeypatch.setattr(described, "describe", lambda name, folder: published)
    assert main(["describe", "--system", "moda-liveportrait"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "moda-liveportrait"
    assert next(line for line in lines if line.startswith("warping")).split()[1] == "45,529,829"
    assert lines[-1] == "latency: 113 frames (4.52 s) of sound before the first frame"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--system", "nobody"], "no description of a system called 'nobody'"),
        (["--system", "moda", "--weights", "x"], "comes with its own"),
        (["--system", "liveportrait", "--weights", "nowhere"], "no liveportrait weights in nowhere"),
    ],
)
def test_what_cannot_be_described_is_refused(capsys, words, reason):
    assert main(["describe", *words]) == 2
    assert reason in capsys.readouterr().err
