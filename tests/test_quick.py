import pytest
import torch
from torch import nn
from torch.nn import functional

from vivavoce.nets import volume
from vivavoce.nets.convolution import ConvNorm, EnlargedConv, fold
from vivavoce.nets.quick import FourierConv, QuickEnlargedConv, WinogradConv, quicken


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def close(one, other, within=2e-5):
    return float((one - other).norm() / other.norm()) < within


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 37), (34, 35), (64, 36)])
def test_winograd_is_the_same_convolution_whatever_the_size(height, width):
    conv = nn.Conv2d(6, 5, 3, padding=1)
    x = torch.randn(2, 6, height, width)
    assert close(WinogradConv(conv)(x), conv(x))


def test_winograd_convolves_volumes_and_needs_no_bias():
    conv = nn.Conv3d(3, 4, 3, padding=1, bias=False)
    x = torch.randn(1, 3, 5, 34, 32)
    assert close(WinogradConv(conv)(x), conv(x))


def test_winograd_leaves_small_pictures_to_the_ordinary_convolution():
    conv = nn.Conv2d(3, 4, 3, padding=1)
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(WinogradConv(conv)(x), conv(x))


@pytest.mark.parametrize("shape", [(3, 22, 22), (2, 23, 50), (9, 64, 64)])
def test_fourier_is_the_same_convolution(shape):
    conv = nn.Conv3d(3, 2, 7, padding=3)
    x = torch.randn(2, 3, *shape)
    assert close(FourierConv(conv)(x), conv(x))


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("quick", [False, True])
def test_an_enlarged_convolution_is_enlarging_then_convolving(factor, dims, quick):
    plain = (nn.Conv2d if dims == 2 else nn.Conv3d)(3, 5, 3, padding=1)
    conv = EnlargedConv.of(plain, factor)
    x = torch.randn(2, 3, *(4,) * (dims - 2), 6, 7)
    scale = (1.0,) * (dims - 2) + (float(factor),) * 2
    expected = plain(functional.interpolate(x, scale_factor=scale))
    assert close((QuickEnlargedConv(conv) if quick else conv)(x), expected)
    assert torch.equal(conv.plain().weight, plain.weight)


def test_quicken_replaces_what_pays_and_nothing_else():
    network = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1), nn.Conv2d(3, 128, 3, padding=1), nn.Conv2d(128, 128, 1))
    x = torch.randn(1, 3, 32, 32)
    network = nn.Sequential(network[1], network[0], network[2])
    expected = network(x)
    quicken(network)
    assert [type(module) for module in network] == [nn.Conv2d, WinogradConv, nn.Conv2d]
    assert close(network(x), expected)


def test_folding_norms_changes_no_output():
    network = nn.Sequential(ConvNorm(3, 4), nn.ReLU(), ConvNorm(4, 2))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.normal_(1, 0.2)
    network.eval()
    x = torch.randn(1, 3, 9, 9)
    expected = network(x)
    assert close(fold(network)(x), expected)
    assert not [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def test_gathered_samples_are_those_of_torch_inside_and_outside():
    values, at = torch.randn(2, 3, 4, 6, 5), 3 * torch.rand(2, 3, 7, 2, 3) - 1.5
    expected = functional.grid_sample(values, at, align_corners=False)
    assert expected.abs().min() == 0  # some lie outside
    assert (volume.sample_by_gathering(values, at) - expected).abs().max() < 1e-6
    assert torch.equal(volume.sample(values, at), expected)


def test_shifts_are_samples_of_the_moved_grid():
    values, by = torch.randn(2, 3, 4, 6, 5), 0.5 * torch.randn(2, 4, 3)
    grid = volume.grid(4, 6, 5, values)
    moved = [functional.grid_sample(values, grid + by[:, k, None, None, None], align_corners=False) for k in range(4)]
    assert (volume.shifted(values, by) - torch.stack(moved, 1)).abs().max() < 1e-5


def test_bumps_are_gaussians_of_the_distance():
    middles = torch.randn(2, 4, 3)
    away = volume.grid(4, 6, 5, middles) - middles[:, :, None, None, None]
    expected = torch.exp(-away.square().sum(-1) / (2 * 0.05))
    assert torch.allclose(volume.bumps((4, 6, 5), middles, 0.05), expected, atol=1e-6)


def test_kernels_leave_the_number_of_threads_as_it_is():
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            WinogradConv(nn.Conv2d(1, 1, 3, padding=1))(torch.zeros(1, 1, 32, 32))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
