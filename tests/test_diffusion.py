import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.sampling.diffusion import Diffusion, losses
from vivavoce.sampling.samplers import euler, heun, multistep

TABLE = Diffusion.linear()


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_published_table():
    assert TABLE.betas[0] == pytest.approx(1e-4)
    assert TABLE.betas[-1] == pytest.approx(2e-2)
    assert len(TABLE.betas) == 1000
    assert TABLE.alpha_bars[0] == pytest.approx(1 - 1e-4)
    assert TABLE.alpha_bars[-1] == pytest.approx(4.0358e-5, rel=1e-3)
    assert np.all(np.diff(TABLE.path_times) < 0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(0, 99))
def test_noising_is_undone_and_lies_on_the_straight_path(n, seed):
    data, noise, at = normal(seed, 2, 3, 4), normal(seed + 100, 2, 3, 4), torch.tensor([n, n])
    x = TABLE.noised(data, noise, at)
    assert torch.allclose(TABLE.clean(x, noise, at), data, atol=1e-9)
    a, s = math.sqrt(TABLE.alpha_bars[n]), math.sqrt(1 - TABLE.alpha_bars[n])
    t = torch.from_numpy(TABLE.path_times)[at]
    assert torch.allclose(x / (a + s), t[0] * data + (1 - t[0]) * noise)
    assert torch.allclose(TABLE.steps_at(t), at.double(), atol=1e-6)
    # A network that tells the noise tells the velocity of that path.
    found = TABLE.velocity(lambda seen, _n: torch.where(torch.isclose(seen, x), noise, torch.nan), x / (a + s), t)
    assert torch.allclose(found, data - noise, atol=1e-8)


def test_the_clean_data_can_be_kept_within_bounds():
    x, t = normal(0, 1, 2, 3), torch.tensor([0.01], dtype=torch.float64)
    low, high = torch.full((3,), -1.0).double(), torch.ones(3).double()
    v = TABLE.velocity(lambda seen, _n: torch.zeros_like(seen), x, t, (low, high))
    assert torch.allclose(x + (1 - t) * v, x.sign())


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 999), st.integers(0, 99))
def test_the_posterior_is_that_of_two_gaussians(n, seed):
    data, x, at = normal(seed, 1, 1, 1), normal(seed + 1, 1, 1, 1), torch.tensor([n])
    mean, log_variance = TABLE.posterior(data, x, at)
    # Product of q(x_{n-1} | data) and q(x_n | x_{n-1}) as densities of x_{n-1}.
    before, beta = TABLE.alpha_bars[n - 1], TABLE.betas[n]
    precision = 1 / (1 - before) + (1 - beta) / beta
    centre = (math.sqrt(before) * data / (1 - before) + math.sqrt(1 - beta) * x / beta) / precision
    assert torch.allclose(mean, centre, atol=1e-9)
    assert float(log_variance) == pytest.approx(-math.log(precision))


def test_variances_lie_between_the_posteriors_and_the_steps():
    at = torch.tensor([0, 400])
    share = torch.tensor([-1.0, 1.0, 0.0]).double().expand(2, 1, 3)
    found = TABLE.variance(share, at)[:, 0]
    _, low = TABLE.posterior(share, share, at)
    high = torch.from_numpy(np.log(TABLE.betas))[at]
    assert torch.allclose(found[:, 0], low[:, 0, 0])
    assert torch.allclose(found[:, 1], high)
    assert torch.allclose(found[:, 2], (low[:, 0, 0] + high) / 2)


def test_losses_in_closed_form():
    data, noise = normal(0, 3, 2, 2), normal(1, 3, 2, 2)
    at = torch.tensor([0, 5, 900])
    told = torch.cat([noise, torch.full_like(noise, -1.0)], dim=-1)
    square, bound = losses(TABLE, told, data, noise, at)
    assert not square.any()
    # The true noise with the posterior's own variance leaves nothing to tell, but for the data itself at step 0.
    assert torch.allclose(bound[1:], torch.zeros_like(bound[1:]), atol=1e-9)
    _, least = TABLE.posterior(data, data, at)
    x = TABLE.noised(data, noise, at)
    mean, _ = TABLE.posterior(data, x, at)
    nats = ((data - mean).square()[0] / least[0].exp() + least[0] + math.log(2 * math.pi)) / 2
    assert torch.allclose(bound[0], nats / math.log(2))
    wide = torch.cat([noise + 0.5, torch.full_like(noise, 1.0)], dim=-1)
    square, bound = losses(TABLE, wide, data, noise, at)
    assert torch.allclose(square, torch.full_like(square, 0.25))
    guess, _ = TABLE.posterior(TABLE.clean(x, noise + 0.5, at), x, at)
    p, q = (
        torch.distributions.Normal(mean, (least / 2).exp()),
        torch.distributions.Normal(guess, torch.from_numpy(np.sqrt(TABLE.betas))[at][:, None, None]),
    )
    assert torch.allclose(bound[1:], torch.distributions.kl_divergence(p, q)[1:] / math.log(2), atol=1e-9)


def test_the_bound_teaches_variances_only():
    told = normal(3, 2, 3, 4).requires_grad_()
    _, bound = losses(TABLE, told, normal(0, 2, 3, 2), normal(1, 2, 3, 2), torch.tensor([0, 500]))
    bound.sum().backward()
    assert not told.grad[..., :2].any()
    assert told.grad[..., 2:].all()


SPREAD, MIDDLE = 0.3, 0.8


def gaussian(x, t):
    """The true velocity where data are normal about MIDDLE with deviation SPREAD."""
    variance = t**2 * SPREAD**2 + (1 - t) ** 2
    noise = (1 - t) * (x - t * MIDDLE) / variance
    data = MIDDLE + t * SPREAD**2 * (x - t * MIDDLE) / variance
    return data - noise


def exact(x, t):
    """Where the path through ``x`` at time ``t`` ends: as many deviations from the middle as it is now."""
    return MIDDLE + SPREAD * (x - t * MIDDLE) / math.sqrt(t**2 * SPREAD**2 + (1 - t) ** 2)


def errors(sampler, begin, end):
    """Largest errors of 20, 40 and 160 equal steps from ``begin`` to ``end``."""
    x, out = normal(0, 1, 5, 1), []
    for steps in (20, 40, 160):
        times = [begin + (end - begin) * i / steps for i in range(steps + 1)]
        reached = sampler(gaussian, x, times)
        out.append(float((exact(reached, end) - exact(x, begin)).abs().max()))
    return out


def test_multistep_sampling_is_of_second_order():
    first, second = errors(euler, 0.1, 0.9), errors(multistep, 0.1, 0.9)
    assert first[1] / first[2] == pytest.approx(4, rel=0.1)
    assert second[1] / second[2] > 12


@pytest.mark.parametrize("begin", [0.0, float(TABLE.path_times[-1])])
def test_multistep_sampling_beats_euler_all_the_way_to_the_data(begin):
    both = zip(errors(euler, begin, 1.0), errors(multistep, begin, 1.0), strict=True)
    assert all(second < 0.5 * first for first, second in both)


def test_multistep_sampling_calls_the_network_once_a_step():
    calls = []
    multistep(lambda x, t: calls.append(t) or gaussian(x, t), normal(0, 1, 5, 1), [0.0, 0.3, 0.6, 1.0])
    assert calls == [0.0, 0.3, 0.6]


def test_one_step_goes_to_what_the_velocity_points_to():
    x = normal(0, 1, 5, 1)
    for sampler in (euler, multistep):
        assert torch.allclose(sampler(gaussian, x, [0.2, 1.0]), x + 0.8 * gaussian(x, 0.2))


def ddim(predict, x, chosen):
    """Song et al. 2021, eq. 12 with sigma = 0, step by step."""
    for n, after in zip(chosen, [*chosen[1:], None], strict=True):
        bar = TABLE.alpha_bars[n]
        noise = predict(x, n)
        data = (x - math.sqrt(1 - bar) * noise) / math.sqrt(bar)
        following = 1.0 if after is None else TABLE.alpha_bars[after]
        x = math.sqrt(following) * data + math.sqrt(1 - following) * noise
    return x


def test_euler_steps_on_the_straight_path_are_ddim():
    def predict(x, n):
        return 0.7 * x + 0.1 * torch.sin(3 * x) + 1e-4 * n

    start = normal(0, 1, 6, 2)
    bar = TABLE.alpha_bars[-1]
    times = TABLE.times(8)
    assert len(times) == 9

    def velocity(x, t):
        at = torch.full((1,), t, dtype=torch.float64)
        return TABLE.velocity(lambda x, n: predict(x, float(n)), x, at)

    found = euler(velocity, start / (math.sqrt(bar) + math.sqrt(1 - bar)), times)
    assert torch.allclose(found, ddim(predict, start, range(999, 0, -125)), rtol=1e-6)


@pytest.mark.parametrize("sampler", [euler, heun, multistep])
def test_few_steps_of_a_perfect_network_find_the_data(sampler):
    def predict(x, n):
        bar = torch.from_numpy(TABLE.alpha_bars)[n.round().long()][:, None, None]
        return (1 - bar).sqrt() * (x - bar.sqrt() * MIDDLE) / (bar * SPREAD**2 + 1 - bar)

    start = normal(0, 1, 400, 1)
    velocity = lambda x, t: TABLE.velocity(predict, x, torch.full((1,), t, dtype=torch.float64))  # noqa: E731
    times = TABLE.times(10)
    made = sampler(velocity, start, times if sampler is not heun else (*times[:-1], float(TABLE.path_times[0])))
    assert float((made - exact(start, times[0])).abs().mean()) < 0.12
    assert float(made.mean()) == pytest.approx(MIDDLE, abs=0.05)


def test_steps_that_cannot_be_are_refused():
    assert TABLE.times(1000)[:-1] == tuple(TABLE.path_times[::-1])
    for steps in (0, 1001):
        with pytest.raises(ValueError, match="1 to 1000"):
            TABLE.times(steps)
