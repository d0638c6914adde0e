"""The sampler by closed forms; parity with the published one is in test_importing_difftalk.py."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.errors import InputError
from vivavoce.sampling.ddim import Kept, ddim, latent_diffusion, published_steps, spread_steps

TABLE = latent_diffusion()


def test_the_table_has_the_published_ends():
    assert TABLE.betas[[0, -1]] == pytest.approx([0.0015, 0.0195])
    assert TABLE.alpha_bars[0] == pytest.approx(0.9985)
    assert TABLE.alpha_bars[-1] == pytest.approx(1.3e-4, rel=0.5)


def test_published_steps():
    steps = published_steps(1000, 200)
    assert steps[:2] == [996, 991]
    assert steps[-3:] == [6, 1, 0]
    assert len(steps) == 201
    assert len(published_steps(1000, 300)) == 335  # 1000 // 300 = 3


@given(st.integers(1, 500))
def test_steps_fall_to_zero(count):
    for steps in (published_steps(1000, count), spread_steps(1000, count)):
        assert steps[-1] == 0
        assert steps[0] < 1000
        assert all(now > then for now, then in pairwise(steps))
    assert len(spread_steps(1000, count)) == count + 1
    assert spread_steps(1000, count)[0] == 999


@pytest.mark.parametrize("count", [0, -3, 501, 1000])
def test_impossible_numbers_of_steps_are_refused(count):
    with pytest.raises(InputError, match="1 to 500 steps"):
        published_steps(1000, count)
    if count != 501:
        with pytest.raises(InputError, match="1 to 999 steps"):
            spread_steps(1000, count)


def exact(data):
    """The noise that is truly in ``x`` when the only possible data are ``data``."""

    def predict(x, t):
        share = float(TABLE.alpha_bars[int(t)])
        return (x - math.sqrt(share) * data) / math.sqrt(1 - share)

    return predict


@pytest.mark.parametrize("steps", [published_steps(1000, 5), spread_steps(1000, 3), [999, 0]])
def test_a_perfect_network_is_followed_exactly(steps):
    torch.manual_seed(0)
    data, noise = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 3, 4, 4).double()
    first, last = float(TABLE.alpha_bars[steps[0]]), float(TABLE.alpha_bars[0])
    x = math.sqrt(first) * data + math.sqrt(1 - first) * noise
    end = ddim(exact(data), x, TABLE, steps)
    torch.testing.assert_close(end, math.sqrt(last) * data + math.sqrt(1 - last) * noise)


def test_what_is_kept_is_there_before_every_step():
    torch.manual_seed(0)
    data, mine = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    where = torch.zeros(1, 1, 4, 4)
    where[..., :2, :] = 1
    asked = []

    def noise(step):
        asked.append(step)
        return torch.full((1, 3, 4, 4), float(step))

    seen = []

    def predict(x, t):
        seen.append((x, int(t)))
        return exact(mine)(x, t)

    steps = published_steps(1000, 4)
    start = torch.randn(1, 3, 4, 4)
    end = ddim(predict, start, TABLE, steps, Kept(data, where, noise))
    assert asked == steps[:-1]
    for x, t in seen:
        share = float(TABLE.alpha_bars[t])
        expected = math.sqrt(share) * data + math.sqrt(1 - share) * t
        torch.testing.assert_close(x[..., :2, :], expected[..., :2, :])
    free = ddim(exact(mine), start, TABLE, steps)
    torch.testing.assert_close(end[..., 2:, :], free[..., 2:, :])
