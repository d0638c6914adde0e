"""Parity with the published DiffTalk on random weights, and import of its checkpoints.

``golden/difftalk.safetensors`` holds every n-th number and the norm of what DiffTalk's own networks and sampler (commit
b49a607, with the quantiser of taming-transformers) gave for the weights and inputs of ``golden/weights.py``;
``difftalk_layout.json`` names and shapes of its checkpoint. "full" is the published size on small pictures, "toy" the
whole way from a checkpoint to a painted picture.
"""

import json
from pathlib import Path

import pytest
import torch
from golden import weights as golden
from safetensors.torch import load_file

from vivavoce.nets.talk_conditions import TalkConditions
from vivavoce.nets.unet import UNet
from vivavoce.nets.vae import FirstStage, FirstStageConfig

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
