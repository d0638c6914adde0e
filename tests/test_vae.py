"""The first stage by itself; parity with the published one is in test_importing_difftalk.py."""

import pytest
import torch
from torch.nn import functional

from vivavoce.nets.vae import Doubling, FirstStage, FirstStageConfig, Gaussian, Halving

SMALL = FirstStageConfig(codes=16, width=32, blocks=1)


@torch.inference_mode()
def test_pictures_twice_as_wide_give_latents_of_the_same_size():
    """So 512 costs the denoiser, which sees latents only, what 256 costs."""
    published = FirstStageConfig()
    assert (published.factor, published.large().factor) == (4, 8)
    assert published.large().multiples == (1, 2, 2, 4)
    small = FirstStageConfig(width=32, blocks=1, attention=False)
    for config, side in ((small, 64), (small.large(), 128)):
        stage = FirstStage(config)
        latent = stage.encode(torch.zeros(1, 3, side, side))
        assert latent.shape == (1, 3, 16, 16)
        assert stage.draw(latent).shape == (1, 3, side, side)


def test_the_codebook_gives_the_nearest_entry():
    stage = FirstStage(SMALL)
    table = torch.nn.init.normal_(stage.quantize.embedding.weight.data)
    latent = torch.randn(2, 3, 5, 4)
    snapped = stage.snap(latent)
    apart = (latent.movedim(1, -1)[..., None, :] - table).norm(dim=-1)
    assert torch.equal(snapped.codes, apart.argmin(-1))
    torch.testing.assert_close(snapped.latent, table[snapped.codes].movedim(-1, 1))
    again = stage.snap(snapped.latent)
    assert torch.equal(again.codes, snapped.codes)


def test_gradients_pass_the_codebook_unchanged():
    stage = FirstStage(SMALL)
    latent = torch.randn(1, 3, 4, 4, requires_grad=True)
    weigh = torch.randn(1, 3, 4, 4)
    (gradient,) = torch.autograd.grad((stage.snap(latent).latent * weigh).sum(), latent)
    assert torch.equal(gradient, weigh)


def test_decoding_snaps_first():
    stage = FirstStage(SMALL).eval()
    latent = torch.randn(1, 3, 4, 4)
    with torch.inference_mode():
        assert torch.equal(stage.decode(latent), stage.draw(stage.snap(latent).latent))
        assert not torch.equal(stage.decode(latent), stage.draw(latent))


def test_the_gaussian_first_stage_is_the_mean_and_its_divergence_that_of_torch():
    stage = FirstStage(FirstStageConfig("kl", width=32, blocks=1)).eval()
    picture = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.inference_mode():
        said = stage.distribution(picture)
        assert torch.equal(stage.encode(picture), said.mean)
        noise = torch.randn_like(said.mean)
        spread = (said.sample(noise) - said.mean) / noise
    torch.testing.assert_close(spread, (said.log_variance / 2).exp(), rtol=1e-3, atol=1e-3)
    one = torch.distributions.Normal(said.mean, (said.log_variance / 2).exp())
    normal = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    expected = torch.distributions.kl_divergence(one, normal).flatten(1).sum(1)
    torch.testing.assert_close(said.divergence(), expected)
    assert Gaussian(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)).divergence().item() == 0


def test_each_kind_refuses_what_only_the_other_has():
    with pytest.raises(TypeError, match="no codebook"):
        FirstStage(FirstStageConfig("kl", width=32, blocks=1)).snap(torch.zeros(1, 3, 4, 4))
    with pytest.raises(TypeError, match="one latent"):
        FirstStage(SMALL).distribution(torch.zeros(1, 3, 16, 16))


def test_maps_are_doubled_by_repetition_and_halved_from_the_top_left():
    x = torch.randn(1, 64, 6, 5)
    with torch.inference_mode():
        doubling, halving = Doubling(64), Halving(64)
        expected = doubling.conv.plain()(functional.interpolate(x, scale_factor=2, mode="nearest"))
        torch.testing.assert_close(doubling(x), expected, rtol=1e-4, atol=1e-5)
        moved = torch.randn(1, 64, 8, 8)
        before = halving(moved)
        moved[:, :, :2, :2] = 0  # what the first output sees, and its neighbours to the right and below
        changed = (halving(moved) != before).any(1)[0]
    assert changed[0, 0]
    assert not changed[1:, 1:].any()


def test_attention_can_be_left_out():
    assert any("attn" in key for key in FirstStage(SMALL).state_dict())
    assert not any("attn" in key for key in FirstStage(FirstStageConfig(width=32, attention=False)).state_dict())


DIRECT = FirstStageConfig("kl", width=16, multiples=(1,), blocks=1, attention=False, groups=4, fold=4, direct=True)


def test_folded_pictures_pass_at_the_latents_size():
    stage = FirstStage(DIRECT)
    sizes = []
    for module in stage.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _, __, out: sizes.append(out.shape[-1]))
    latent = stage.encode(torch.zeros(1, 3, 32, 48))
    assert DIRECT.factor == 4
    assert latent.shape == (1, 3, 8, 12)
    assert stage.decode(latent).shape == (1, 3, 32, 48)
    assert set(sizes) == {12}


@torch.inference_mode()
def test_direct_latents_begin_as_the_small_picture_and_are_made_large():
    stage = FirstStage(DIRECT)
    picture = torch.nn.functional.avg_pool2d(torch.rand(2, 3, 36, 36), 5, 1, 2)[..., :32, :32] * 2 - 1
    torch.testing.assert_close(stage.encode(picture), functional.avg_pool2d(picture, 4))
    flat = torch.full((1, 3, 32, 32), 0.3)
    torch.testing.assert_close(stage.decode(stage.encode(flat)), flat)
    with pytest.raises(ValueError, match="begin as the small picture"):
        FirstStageConfig(direct=True)


@torch.inference_mode()
def test_latents_are_made_standard_and_pictures_stay():
    torch.manual_seed(0)
    stage = FirstStage(DIRECT)
    for last in (stage.encoder.conv_out, stage.decoder.conv_out):
        torch.nn.init.normal_(last.weight, std=0.05)
    pictures = torch.rand(4, 3, 32, 32) * 2 - 1
    latent, drawn = stage.encode(pictures), stage.decode(stage.encode(pictures))
    spread = stage.distribution(pictures).log_variance
    mean, std = latent.mean((0, 2, 3)), latent.std((0, 2, 3))
    stage.normalise(mean, std)
    torch.testing.assert_close(stage.encode(pictures), (latent - mean[:, None, None]) / std[:, None, None])
    torch.testing.assert_close(stage.decode(stage.encode(pictures)), drawn, rtol=1e-4, atol=1e-5)
    now = stage.distribution(pictures).log_variance
    torch.testing.assert_close(now, spread - 2 * std.log()[:, None, None])
    with pytest.raises(TypeError, match="codebook"):
        FirstStage(SMALL).normalise(mean, std)
