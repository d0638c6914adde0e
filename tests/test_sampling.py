"""Numerics against closed forms, not against themselves."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.motion.conditions import Conditions
from vivavoce.sampling.guidance import guided
from vivavoce.sampling.paths import along, arrival, noise
from vivavoce.sampling.samplers import euler, heun, shifted, uniform


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2)])
@pytest.mark.parametrize("grid", [uniform, lambda steps: shifted(steps, 2.0)])
def test_order_of_convergence(sampler, order, grid):
    """dx/dt = -2 t x, x(0) = 1 has x(1) = 1/e."""

    def error(steps):
        x = sampler(lambda x, t: -2 * t * x, torch.ones(1, 1, 1, dtype=torch.float64), grid(steps))
        return abs(float(x) - math.exp(-1))

    measured = math.log2(error(64) / error(128))
    assert measured == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize(("sampler", "calls"), [(euler, 6), (heun, 12)])
def test_model_calls_per_step(sampler, calls):
    seen = []
    sampler(lambda x, t: seen.append(t) or x, torch.ones(1, 1, 1), uniform(6))
    assert len(seen) == calls


@given(st.integers(1, 20), st.floats(0.1, 10))
def test_shifted_times_rise_from_noise_to_data(steps, shift):
    times = shifted(steps, shift)
    assert times[0] == 0
    assert times[-1] == pytest.approx(1)
    assert all(a < b for a, b in itertools.pairwise(times))
    assert shifted(steps, 1.0) == pytest.approx(uniform(steps))


def test_a_straight_path_arrives_at_the_data():
    start, data, t = torch.randn(3, 4, 2), torch.randn(3, 4, 2), torch.tensor([0.0, 0.3, 0.9])
    torch.testing.assert_close(arrival(along(start, data, t), data - start, t), data)
    torch.testing.assert_close(euler(lambda _x, _t: data - start, start, uniform(3)), data)


def conditions():
    one = torch.ones(1, 1)
    return Conditions(torch.ones(1, 4, 1), torch.ones(1, 2, 1), one, one, torch.ones(1, 4, dtype=torch.bool))


def powers(c):
    """Each present condition adds its power of ten: audio, past, identity, emotion."""
    return lambda x, _t: (c.present.float() @ torch.tensor([1.0, 10.0, 100.0, 1000.0]))[:, None, None].expand_as(x)


def test_guidance_identities():
    x = torch.zeros(1, 4, 1)
    assert guided(powers, conditions())(x, 0.0)[0, 0, 0] == 1111
    assert guided(powers, conditions(), [("audio", 1.0)])(x, 0.0)[0, 0, 0] == 1111
    assert guided(powers, conditions(), [("audio", 0.0)])(x, 0.0)[0, 0, 0] == 1110
    both = guided(powers, conditions(), [("audio", 2.0), ("emotion", 3.0)])
    assert both(x, 0.0)[0, 0, 0] == 110 + 2 * 1 + 3 * 1000
    with pytest.raises(ValueError, match="no condition called"):
        conditions().hide("adio")


def test_equal_scales_side_by_side_cost_one_branch():
    branches = []

    def counted(c):
        branches.append(len(c.present))
        return powers(c)

    out = guided(counted, conditions(), [("audio", 2.0), ("emotion", 2.0)])(torch.zeros(1, 4, 1), 0.0)
    assert out[0, 0, 0] == 110 + 2 * 1001
    assert branches == [2]


def test_guidance_only_where_asked():
    out = guided(powers, conditions(), [("audio", 5.0)], torch.tensor([1.0, 0.0]))(torch.zeros(1, 4, 2), 0.0)
    assert out[0, 0].tolist() == [1110 + 5, 1111]


def test_noise_is_a_function_of_seed_and_window():
    assert torch.equal(noise(7, 3, (2, 2)), noise(7, 3, (2, 2)))
    assert not torch.equal(noise(7, 3, (2, 2)), noise(7, 4, (2, 2)))
    assert not torch.equal(noise(7, 3, (2, 2)), noise(8, 3, (2, 2)))
    many = noise(0, 0, (200, 500))
    assert abs(float(many.mean())) < 0.02
    assert float(many.std()) == pytest.approx(1, abs=0.02)
