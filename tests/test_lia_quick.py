"""The quick networks draw what the ordinary ones draw, and their parts are what they are said to be."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from vivavoce.nets import lia_kernel
from vivavoce.nets.lia import Blur, Enlarge, Lia, LiaConfig, ModulatedConv, activated
from vivavoce.nets.lia_quick import QuickModulatedConv, Tiled, halving, narrow, prepared, quicken


def close(found, wanted, within=2e-5):
    assert found.shape == wanted.shape
    assert float((found - wanted).norm() / wanted.norm()) < within


@torch.inference_mode()
@pytest.mark.parametrize(("inside", "outside", "groups"), [(4, 6, 1), (8, 12, 4), (3, 3, 3)])
def test_narrow_convolutions_are_those_of_ordinary_ones(inside, outside, groups):
    x, bias, kernel = torch.randn(1, inside, 8, 12), torch.randn(outside), torch.randn(outside, inside // groups, 3, 3)
    wanted = functional.conv2d(x, kernel, bias, padding=1, groups=groups)
    close(narrow(x, kernel, bias, 1.0), wanted)
    close(narrow(x, kernel, bias, 0.2), functional.leaky_relu(wanted, 0.2))


@torch.inference_mode()
@pytest.mark.parametrize("enlarge", [False, True])
@pytest.mark.parametrize(("inside", "outside", "side"), [(3, 5, 16), (60, 50, 16), (60, 50, 4), (2, 1, 100)])
def test_what_a_latent_scales_comes_out_alike(enlarge, inside, outside, side):
    conv = ModulatedConv(inside, outside, 4, enlarge=enlarge)
    nn.init.normal_(conv.bias)
    x, latent = torch.randn(1, inside, side, side), torch.randn(1, 4)
    close(QuickModulatedConv(conv, side)(x, latent), conv(x, latent))


@torch.inference_mode()
def test_a_blur_and_a_convolution_that_halves_are_one():
    x, conv = torch.randn(1, 3, 16, 16), nn.Conv2d(3, 5, 3, stride=2)
    wanted = conv(Blur(3, 2)(x))
    close(
        functional.conv2d(functional.pixel_unshuffle(x, 2), halving(conv.weight).float(), conv.bias, padding=1), wanted
    )
    close(Tiled(halving(conv.weight), apart=2, slope=1.0, gain=1.0)(x[0], conv.bias), wanted[0])


@torch.inference_mode()
@pytest.mark.parametrize("side", [4, 8, 20])
def test_tiles_scale_activate_and_add_on_the_way(side):
    x, weight, bias = torch.randn(6, side, side), torch.randn(7, 6, 3, 3), torch.randn(7)
    style, scale, onto = torch.randn(6), torch.rand(7), torch.randn(7, side, side)
    made = functional.conv2d((x * style[:, None, None])[None], weight, padding=1)[0]
    wanted = activated(made * scale[:, None, None] + bias[:, None, None]) + onto
    close(Tiled(weight)(x, bias, style=style, scale=scale, onto=onto.clone()), wanted)


@torch.inference_mode()
def test_maps_are_enlarged_and_thinned_as_by_the_ordinary_layers():
    x = torch.randn(1, 3, 8, 16)
    out = torch.ones(3, 16, 32)
    lia_kernel.enlarge(x[0].numpy(), out.numpy())
    close(out, Enlarge(3)(x)[0] + 1)
    small = torch.empty(3, 4, 8)
    lia_kernel.thin(x[0].numpy(), small.numpy())
    close(small, Blur(3, 1, stride=2)(x)[0])


@pytest.mark.parametrize("changes", [{}, {"groups": 4, "bounded": True, "refine": 8, "fold": 4}])
@torch.inference_mode()
def test_quick_networks_draw_what_the_ordinary_ones_draw(changes):
    plain = Lia(LiaConfig(size=128, multiplier=0.125, **changes)).eval()
    quick = quicken(copy.deepcopy(plain))
    pictures = functional.interpolate(torch.rand(2, 3, 8, 8) * 2 - 1, size=(128, 128), mode="bilinear")
    appearance, codes = plain.seen(pictures)
    seen, read = quick.seen(pictures)
    close(read, codes)
    for ours, theirs in zip(seen.features, appearance.features, strict=True):
        close(ours, theirs)
    wanted = plain(appearance, codes.flip(0))
    for given in (appearance, prepared(quick, appearance)):
        drawn = quick(given, codes.flip(0))
        for ours, theirs in zip(drawn, wanted, strict=True):
            close(ours, theirs, 1e-4)


def test_nothing_is_prepared_for_ordinary_networks():
    plain = Lia(LiaConfig(size=16, multiplier=0.125)).eval()
    appearance = plain.seen(torch.zeros(1, 3, 16, 16))[0]
    assert prepared(plain, appearance) is appearance
