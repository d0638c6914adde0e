"""The denoiser by itself; parity with the published one is in test_importing_difftalk.py."""

import pytest
import torch

from vivavoce.nets.unet import LookAround, UNet, UNetConfig

SMALL = UNetConfig(width=32, multiples=(1, 2), blocks=1, attention=(1,), context=12)


def made(config):
    """A network whose last layers are not zero, as after some training."""
    torch.manual_seed(0)
    net = UNet(config).eval()
    for value in net.parameters():
        if not value.any():
            torch.nn.init.normal_(value, std=0.1)
    return net


def inputs(side=16, batch=2, tokens=1):
    torch.manual_seed(1)
    x, given = torch.randn(batch, 3, side, side), torch.randn(batch, 6, side, side)
    return x, torch.full((batch,), 300.0), given, torch.randn(batch, tokens, 12)


@torch.inference_mode()
def test_one_token_of_context_needs_no_queries():
    """The short way for a single token gives what attention to it gives."""
    look = LookAround(64, 12, 32)
    x, context = torch.randn(2, 9, 64), torch.randn(2, 1, 12)
    torch.testing.assert_close(look.single(context).expand(-1, 9, -1), look(x, context))


@torch.inference_mode()
def test_a_repeated_token_is_one_token():
    net = made(SMALL)
    x, t, given, context = inputs()
    torch.testing.assert_close(
        net(x, t, given, context.repeat(1, 3, 1)), net(x, t, given, context), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("patch", [1, 2, 4])
@torch.inference_mode()
def test_every_input_matters_and_the_shape_stays(patch):
    config = UNetConfig(width=32, multiples=(1, 2), blocks=1, attention=(1,), context=12, patch=patch)
    net = made(config)
    x, t, given, context = inputs(side=2 * config.multiple)
    out = net(x, t, given, context)
    assert out.shape == x.shape
    assert config.multiple == 2 * patch
    for changed in ((x + 1, t, given, context), (x, t + 50, given, context), (x, t, given, context + 1)):
        assert (net(*changed) - out).abs().mean() > 1e-3
    for channels in (slice(0, 3), slice(3, 6)):  # the masked latent, the reference
        other = given.clone()
        other[:, channels] += 1
        assert (net(x, t, other, context) - out).abs().mean() > 1e-3


@torch.inference_mode()
def test_pictures_of_a_batch_do_not_meet():
    net = made(SMALL)
    x, t, given, context = inputs()
    t = torch.tensor([300.0, 7.0])
    alone = [net(x[n : n + 1], t[n : n + 1], given[n : n + 1], context[n : n + 1]) for n in range(2)]
    torch.testing.assert_close(net(x, t, given, context), torch.cat(alone), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_memory_layout_changes_nothing():
    net = made(SMALL)
    x, t, given, context = inputs()
    before = net(x, t, given, context)
    for value in net.parameters():
        if value.ndim == 4:
            value.data = value.data.contiguous(memory_format=torch.channels_last)
    last = [part.to(memory_format=torch.channels_last) for part in (x, given)]
    torch.testing.assert_close(net(last[0], t, last[1], context), before, rtol=1e-4, atol=1e-5)


def test_a_new_network_predicts_zero_and_learns():
    net = UNet(SMALL)
    x, t, given, context = inputs()
    out = net(x, t, given, context)
    assert not out.any()
    (out - torch.randn_like(out)).square().sum().backward()
    assert net.state_dict(keep_vars=True)["out.2.weight"].grad.any()
