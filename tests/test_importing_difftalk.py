"""Parity with the published DiffTalk on random weights, and import of its checkpoints.

``golden/difftalk.safetensors`` holds every n-th number and the norm of what DiffTalk's own networks and sampler (commit
b49a607, with the quantiser of taming-transformers) gave for the weights and inputs of ``golden/weights.py``;
``difftalk_layout.json`` names and shapes of its checkpoint. "full" is the published size on small pictures, "toy" the
whole way from a checkpoint to a painted picture.
"""

import json
import sys
import types
from pathlib import Path

import pytest
import torch
from golden import weights as golden
from safetensors.torch import load_file

from vivavoce import weights
from vivavoce.cli import main
from vivavoce.errors import InputError
from vivavoce.importing import difftalk
from vivavoce.nets.difftalk import DiffTalk, DiffTalkConfig, first_stage
from vivavoce.nets.talk_conditions import TalkConditions
from vivavoce.nets.unet import UNet, UNetConfig
from vivavoce.nets.vae import FirstStage, FirstStageConfig
from vivavoce.sampling.ddim import Kept, ddim, latent_diffusion, published_steps

HERE = Path(__file__).parent / "golden"
LAYOUT = {
    part: {k: tuple(s) for k, s in keys.items()}
    for part, keys in json.loads((HERE / "difftalk_layout.json").read_text()).items()
}
RECORDED = load_file(HERE / "difftalk.safetensors")
SEED = 7
UNET, VQ = "model.diffusion_model", "first_stage_model"
PARTS = {  # published name: ours, within the conditions
    "cond_stage_model_for_audio": "audio",
    "cond_stage_model_for_audio_smooth": "smooth",
    "cond_stage_model_for_ldm": "landmarks",
}
COUNTS = {UNET: 530_152_963, VQ: 55_322_782, **dict(zip(PARTS, (32_800, 2_149, 22_528), strict=True))}


def filled(network, prefix):
    """The network with the random weights of its published names."""
    network = network.to_empty(device="cpu") if next(network.parameters()).is_meta else network
    with torch.no_grad():
        for key, value in network.state_dict().items():
            value.copy_(golden.weight(SEED, f"{prefix}.{key}", tuple(value.shape)))
    return network.eval().requires_grad_(False)


def meta(kind, *arguments):
    with torch.device("meta"):
        return kind(*arguments)


def agree(name, value, within=1e-4):
    flat = value.double().flatten()
    found = flat[:: max(1, flat.numel() // 3000) | 1].float()
    assert float((found - RECORDED[name]).norm() / RECORDED[name].norm()) < within, name
    assert float(flat.norm()) == pytest.approx(float(RECORDED[f"{name}.norm"]), rel=within), name


def published_parts():
    conditions = meta(TalkConditions)
    return {UNET: meta(UNet), VQ: meta(FirstStage)} | {key: getattr(conditions, ours) for key, ours in PARTS.items()}


def test_names_shapes_and_numbers_of_parameters_are_the_published_ones():
    for part, network in published_parts().items():
        assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == LAYOUT[part]
        assert sum(p.numel() for p in network.parameters()) == COUNTS[part]


def inputs():
    speech = golden.normal(SEED, "speech", (2, 8, 16, 29))
    return speech, golden.uniform(SEED, "places", (2, 39, 2), 0, 256)


@torch.inference_mode()
def test_the_published_first_stage():
    stage = filled(meta(FirstStage), VQ)
    latent = stage.encode(golden.uniform(SEED, "picture", (1, 3, 64, 64), -1, 1))
    agree("full.latent", latent)
    snapped = stage.snap(latent)
    assert torch.equal(snapped.codes.flatten().float(), RECORDED["full.codes"])
    agree("full.snapped", snapped.latent)
    agree("full.picture", stage.decode(latent))


def conditions():
    made = TalkConditions()
    for published, ours in PARTS.items():
        filled(getattr(made, ours), published)
    return made.eval()


@torch.inference_mode()
def test_the_published_conditions():
    made, (speech, places) = conditions(), inputs()
    codes = made.audio(speech.flatten(0, 1))
    agree("full.audio", codes)
    agree("full.smooth", made.smooth(codes.unflatten(0, (2, 8))))
    agree("full.landmarks", made.landmarks(places))


@pytest.mark.timeout(300)
@torch.inference_mode()
def test_the_published_denoiser():
    context = conditions()(*inputs())
    x, masked, reference = (golden.normal(SEED, name, (2, 3, 16, 16)) for name in ("x", "masked", "reference"))
    unet = filled(meta(UNet), UNET)
    agree("full.unet", unet(x, torch.tensor([321.0, 876.0]), torch.cat([masked, reference], 1), context))


@torch.inference_mode()
def test_the_gaussian_first_stage():
    stage = filled(FirstStage(FirstStageConfig("kl", width=32, blocks=1).large()), VQ)
    picture = golden.uniform(SEED, "picture", (1, 3, 64, 64), -1, 1)
    said = stage.distribution(picture)
    agree("kl.mean", said.mean)
    agree("kl.logvar", said.log_variance)
    agree("kl.divergence", said.divergence())
    agree("kl.picture", stage.decode(stage.encode(picture)))


TOY = DiffTalkConfig(
    FirstStageConfig(codes=64, width=32, blocks=1), UNetConfig(width=32, multiples=(1, 2), blocks=1, attention=(1,))
)


@pytest.fixture
def published():
    """A checkpoint of a training run in the published layout, at toy size: the denoiser's averages are what counts."""
    toy = meta(DiffTalk, TOY)
    parts = {UNET: toy.unet, VQ: toy.first_stage}
    parts |= {name: getattr(toy.conditions, ours) for name, ours in PARTS.items()}
    shapes = {f"{part}.{key}": tuple(v.shape) for part, net in parts.items() for key, v in net.state_dict().items()}
    tensors = golden.weights(SEED, shapes)
    averages = {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith(UNET)}
    for key in averages:
        tensors[f"model.{key}"] = tensors[f"model.{key}"] + 1
    tensors |= {f"model_ema.{key.replace('.', '')}": value for key, value in averages.items()}
    tensors |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7, dtype=torch.int32)}
    tensors["betas"] = torch.from_numpy(latent_diffusion().betas).float()
    assert set(LAYOUT[""]) == {"betas", *difftalk.DERIVED}
    return tensors | {key: torch.ones(1000) for key in difftalk.DERIVED}


def written(folder, tensors):
    """A file as the trainer leaves it, with the optimiser's state and a callback named by its class."""
    file = folder / "last.ckpt"
    optimiser = [{"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}]
    torch.save({"epoch": 3, "state_dict": tensors, "optimizer_states": optimiser, "callbacks": {}}, file)
    return file


@torch.inference_mode()
def test_a_checkpoint_paints_what_the_published_sampler_paints(published, tmp_path):
    assert main(["import", "difftalk", str(written(tmp_path, published)), "--out", str(tmp_path / "w")]) == 0
    assert sorted(f.name for f in (tmp_path / "w").iterdir()) == ["difftalk.md", "difftalk.safetensors"]
    net = DiffTalk.load(tmp_path / "w")
    assert net.config == TOY
    frame, other = (golden.uniform(SEED, name, (2, 3, 64, 64), -1, 1) for name in ("frame", "other"))
    hidden = frame.clone()
    hidden[:, :, 40:] = -1
    latent, masked, reference = (net.first_stage.encode(picture) for picture in (frame, hidden, other))
    agree("toy.latent", latent)
    context = net.conditions(*inputs())
    agree("toy.context", context)
    given = torch.cat([masked, reference], 1)

    def predict(x, t):
        return net.unet(x, torch.full((2,), t), given, context)

    where = (golden.uniform(SEED, "mask", (2, 1, 16, 16)) > 0.5).float()
    kept = Kept(latent, where, lambda step: golden.normal(SEED, f"blend.{step}", (2, 3, 16, 16)))
    start, table = golden.normal(SEED, "start", (2, 3, 16, 16)), net.config.schedule.table()
    steps = published_steps(1000, 4)
    assert steps == [751, 501, 251, 1, 0]
    agree("table", torch.from_numpy(table.alpha_bars[::7]))
    agree("table.before", torch.from_numpy(table.alpha_bars[steps[:0:-1]]))
    agree("toy.step", ddim(predict, start, table, steps[:2], kept))
    end = ddim(predict, start, table, steps, kept)
    agree("toy.end", end)
    agree("toy.picture", net.first_stage.decode(end))


def test_the_card_says_what_was_imported(published, tmp_path):
    file = difftalk.convert(written(tmp_path, published), tmp_path / "w")
    card = file.with_suffix(".md").read_text()
    assert "SHA-256" in card
    assert "averages over training (EMA)" in card
    assert weights.metadata(file)["config"]["schedule"] == {"start": 0.0015, "end": 0.0195, "steps": 1000}


def test_without_averages_the_last_weights_are_taken(published, tmp_path):
    plain = {key: value for key, value in published.items() if not key.startswith("model_ema.")}
    net = DiffTalk.load(difftalk.convert(written(tmp_path, plain), tmp_path / "w"))
    assert torch.equal(net.unet.state_dict()["out.2.weight"], published[f"{UNET}.out.2.weight"])


def test_callbacks_named_by_their_class_are_read_without_it(published, tmp_path, monkeypatch):
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    callbacks = {module.ModelCheckpoint: {"best_model_score": torch.ones(())}}  # type: ignore[attr-defined]
    torch.save({"state_dict": published, "callbacks": callbacks}, tmp_path / "last.ckpt")
    monkeypatch.undo()
    assert difftalk.convert(tmp_path / "last.ckpt", tmp_path / "w").exists()


@pytest.mark.parametrize("prefix", ["", f"{VQ}."])
def test_a_first_stage_comes_alone(published, tmp_path, prefix):
    stage = {key.removeprefix(f"{VQ}."): value for key, value in published.items() if key.startswith(VQ)}
    tensors = {f"{prefix}{key}": value for key, value in stage.items()}
    if not prefix:
        tensors["loss.discriminator.main.0.weight"] = torch.ones(2, 2)
    file = difftalk.convert(written(tmp_path, tensors), tmp_path / "w")
    assert file.name == "first-stage.safetensors"
    assert first_stage(tmp_path / "w").config == TOY.first_stage
    assert torch.equal(first_stage(file).state_dict()["quant_conv.bias"], stage["quant_conv.bias"])
    with pytest.raises(InputError, match="of 'first-stage', not of 'difftalk'"):
        DiffTalk.load(file)


def test_a_first_stage_can_be_taken_from_whole_networks(published, tmp_path):
    file = difftalk.convert(written(tmp_path, published), tmp_path / "w")
    picture = golden.uniform(SEED, "picture", (1, 3, 64, 64), -1, 1)
    with torch.inference_mode():
        assert torch.equal(first_stage(file).encode(picture), DiffTalk.load(file).first_stage.encode(picture))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({f"{UNET}.out.2.bias": None}, r"model\.diffusion_model does not fit: missing: out\.2\.bias"),
        ({f"{VQ}.extra": torch.ones(1)}, r"first_stage_model does not fit: unknown: extra"),
        ({"model_ema.diffusion_modelout2bias": None}, r"model_ema does not fit: missing: out\.2\.bias"),
        ({"model_ema.diffusion_modelout9bias": torch.ones(3)}, r"unknown: diffusion_modelout9bias"),
        ({"cond_stage_model_for_ldm.encoder_fc1.4.bias": torch.ones(9)}, r"encoder_fc1\.4\.bias is \[9\] but must be"),
        ({f"{UNET}.out.2.bias": torch.full((3,), torch.nan)}, r"not finite numbers: out\.2\.bias"),
        ({"scale_factor": torch.ones(())}, r"unknown: scale_factor"),
        ({"betas": torch.linspace(1e-4, 0.02, 1000)}, "another noise table"),
        ({"cond_stage_model_for_audio.encoder_conv.0.weight": None}, "no conditions of DiffTalk"),
        ({f"{VQ}.encoder.conv_in.weight": None}, "not a first stage"),
        ({f"{UNET}.middle_block.1.transformer_blocks.0.attn2.to_v.weight": None}, "not a denoiser"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(published, tmp_path, change, says):
    tensors = {key: value for key, value in (published | change).items() if value is not None}
    with pytest.raises(InputError, match=says):
        difftalk.convert(written(tmp_path, tensors), tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_a_folder_needs_exactly_one_checkpoint(published, tmp_path):
    with pytest.raises(InputError, match="has 0 weight files"):
        difftalk.convert(tmp_path, tmp_path / "w")
    written(tmp_path, published).rename(tmp_path / "one.ckpt")
    assert difftalk.convert(tmp_path, tmp_path / "w").exists()
    written(tmp_path, {})
    with pytest.raises(InputError, match="give the file of the DiffTalk checkpoint"):
        difftalk.convert(tmp_path, tmp_path / "v")
