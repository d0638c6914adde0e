import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from vivavoce.motion.conditions import NAMES, Conditions
from vivavoce.nets.layers import RmsNorm, rotary, sinusoid, turn
from vivavoce.nets.mmdit import Config, MMDiT, compact, full

TINY = Config(motion=6, audio=5, identity=4, emotions=3, width=16, heads=2, four=1, two=1, one=2, mlp_ratio=2.0)
VARIANTS = [TINY, replace(TINY, past="channels", repeat="frame", audio_hidden=2), replace(TINY, heard=True)]
VARIANTS += [replace(TINY, four=0, two=0, cross=2)]


def awake(config):
    """A network whose zero-initialised layers have been given weights, as after training."""
    torch.manual_seed(0)
    net = MMDiT(config).eval()
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.3)
    return net


def given(config, batch=2, rows=7, past=3, seed=0):
    torch.manual_seed(seed)
    lead = past if config.past == "tokens" else 0
    return Conditions(
        torch.randn(batch, lead + rows, config.audio),
        torch.randn(batch, past, config.motion),
        torch.randn(batch, config.identity),
        torch.eye(config.emotions)[torch.arange(batch) % config.emotions],
        torch.ones(batch, 4, dtype=torch.bool),
    )


def inputs(config, batch=2, rows=7, seed=1):
    torch.manual_seed(seed)
    return torch.randn(batch, rows, config.motion), torch.linspace(0.1, 0.9, batch)


@pytest.mark.parametrize("config", VARIANTS)
def test_a_fresh_network_is_the_zero_velocity_and_its_blocks_the_identity(config):
    net = MMDiT(config).eval()
    assert net(*inputs(config), given(config)).abs().max() == 0
    token = torch.randn(1, 4, config.width)
    at = rotary(torch.arange(4), config.width // config.heads, config.rope_theta)
    torch.testing.assert_close(net.one[0](token, torch.randn(1, 1, config.width), at), token)


@pytest.mark.parametrize("config", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_hidden_condition_has_no_effect_and_a_present_one_has(config, name):
    net, one, other = awake(config), given(config, seed=0), given(config, seed=5)
    changed = replace(one, **{name: getattr(other, name)})
    if name == "emotion":
        changed = replace(one, emotion=one.emotion.roll(1, dims=1))
    x, t = inputs(config)
    assert torch.equal(net(x, t, one.hide(name)), net(x, t, changed.hide(name)))
    assert not torch.allclose(net(x, t, one), net(x, t, changed))
    assert not torch.allclose(net(x, t, one), net(x, t, one.hide(name)))


@pytest.mark.parametrize("config", VARIANTS)
def test_rows_of_a_batch_do_not_see_each_other(config):
    net, conditions = awake(config), given(config, batch=3)
    x, t = inputs(config, batch=3)
    whole = net(x, t, conditions)
    for i in range(3):
        alone = Conditions(*(getattr(conditions, f)[i : i + 1] for f in (*NAMES, "present")))
        torch.testing.assert_close(net(x[i : i + 1], t[i : i + 1], alone), whole[i : i + 1], rtol=1e-4, atol=1e-4)


def test_every_parameter_learns():
    net = awake(replace(TINY, heard=True)).train()
    conditions = given(TINY, batch=4)
    hidden = replace(conditions, present=torch.tensor([[True] * 4, [False] * 4, [True] * 4, [False] * 4]))
    net(*inputs(TINY, batch=4), hidden).square().mean().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


def test_the_full_size_is_the_published_one():
    with torch.device("meta"):
        net = MMDiT(full())
    # The three nulls are ours: the published release left its null audio unregistered.
    nulls = net.no_audio.numel() + net.no_identity.numel() + net.no_past.numel()
    assert sum(p.numel() for p in net.parameters()) - nulls == 372_983_878
    assert sum(p.numel() for p in net.four.parameters()) == 127_541_760
    assert sum(p.numel() for p in net.one.parameters()) == 106_271_232


def test_the_compact_size():
    net = MMDiT(compact(motion=48, audio=160, identity=48, emotions=8))
    assert 1e6 < sum(p.numel() for p in net.parameters()) < 4e6


def test_half_precision_comes_out_as_it_went_in():
    net = awake(TINY).bfloat16()
    x, t = inputs(TINY)
    low = {f: getattr(given(TINY), f).bfloat16() for f in NAMES}
    out = net(x.bfloat16(), t, Conditions(**low, present=given(TINY).present))
    assert out.dtype == torch.bfloat16
    assert torch.isfinite(out.float()).all()


def test_rotary_attention_depends_on_distance_only():
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(i, j):
        at_i, at_j = (rotary(torch.tensor([n]), 8, 256.0) for n in (i, j))
        return float((turn(q, at_i) * turn(k, at_j)).sum())

    assert score(3, 7) == pytest.approx(score(20, 24), abs=1e-4)
    assert score(3, 7) != pytest.approx(score(3, 8), abs=1e-4)
    torch.testing.assert_close(turn(q, rotary(torch.tensor([9]), 8, 256.0)).norm(), q.norm())


def test_rms_norm_matches_its_formula():
    x = torch.randn(3, 5, 16)
    torch.testing.assert_close(RmsNorm(16)(x), x / x.square().mean(-1, keepdim=True).add(1e-6).sqrt())


def test_sinusoids_at_zero_and_at_the_first_frequency():
    wave = sinusoid(torch.tensor([0.0, 2.0]), 8)
    assert wave[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert float(wave[1, 0]) == pytest.approx(math.cos(2))
    assert float(wave[1, 4]) == pytest.approx(math.sin(2))
    assert float(wave[1, 5]) == pytest.approx(math.sin(2 * 10_000**-0.25))
