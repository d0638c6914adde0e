import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.motion import priors
from vivavoce.nets.critic import Critic, CriticConfig, deceit, hinge, unlikeness

TOY = CriticConfig(first=4, halvings=2)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_keypoints_that_follow_the_picture_are_equivariant(seed):
    crumple = priors.Crumple.random(2, torch.Generator().manual_seed(seed))
    crumpled = torch.rand(2, 21, 3, generator=torch.Generator().manual_seed(seed + 1)) - 0.5
    points = torch.cat([crumple.points(crumpled[..., :2]), crumpled[..., 2:]], -1)
    assert priors.equivariance(points, crumpled, crumple) < 1e-6
    torch.testing.assert_close(priors.equivariance(points + 0.1, crumpled, crumple), torch.tensor(0.1))


def test_the_crumpled_picture_shows_at_a_place_what_was_where_it_comes_from():
    crumple = priors.Crumple.random(1, torch.Generator().manual_seed(0))
    across = torch.linspace(-1 + 1 / 64, 1 - 1 / 64, 64)
    picture = torch.stack(torch.meshgrid(across, across, indexing="xy"))[None]  # every pixel holds its own place
    shown = crumple.picture(picture)
    pixels = torch.tensor([[20, 30], [40, 33]])  # x, y
    places = across[pixels][None]
    values = torch.stack([shown[0, :, y, x] for x, y in pixels.tolist()])
    torch.testing.assert_close(values, crumple.points(places)[0], rtol=1e-3, atol=1e-3)


def test_spread_asks_for_distance_and_depth_only():
    far = torch.zeros(1, 3, 3)
    far[0, :, 0] = torch.tensor([-1.0, 0.0, 1.0])
    far[..., 2] = priors.DEPTH
    assert priors.spread(far) == 0
    one_place = torch.full((1, 3, 3), priors.DEPTH)
    torch.testing.assert_close(priors.spread(one_place), torch.tensor(3 * priors.APART))


def test_pose_and_deformation_are_means_in_their_units():
    torch.testing.assert_close(
        priors.pose(torch.tensor([[90.0, 0.0, 0.0]]), torch.zeros(1, 3)), torch.tensor(math.pi / 6)
    )
    assert priors.deformation(torch.full((1, 2, 3), -0.5)) == 0.5


def test_the_wing_is_continuous_round_inside_and_straight_outside():
    def at(off):
        return float(priors.guidance(torch.full((1, 1, 2), off), torch.zeros(1, 1, 2)))

    assert at(0.0) == 0
    assert abs(at(priors.WING + 1e-5) - at(priors.WING - 1e-5)) < 1e-4
    assert abs((at(0.4) - at(0.3)) - 0.1) < 1e-5
    assert at(0.01) / 0.01 > 2


def test_a_critic_learns_to_tell_and_measures_likeness():
    torch.manual_seed(0)
    critic = Critic(TOY)
    real, drawn = torch.rand(4, 3, 32, 32), torch.full((4, 3, 32, 32), 0.5)
    assert unlikeness(critic(real), critic(real)) < 1e-3  # spectral norms are still being estimated
    assert unlikeness(critic(real), critic(drawn)) > 10 * unlikeness(critic(real), critic(real))
    optimiser = torch.optim.Adam(critic.parameters(), 1e-2, betas=(0.5, 0.9))
    before = hinge(critic(real), critic(drawn)).detach()
    for _ in range(40):
        optimiser.zero_grad()
        hinge(critic(real), critic(drawn)).backward()
        optimiser.step()
    assert hinge(critic(real), critic(drawn)) < 0.7 * before
    assert deceit(critic(real)) < deceit(critic(drawn))
    assert len(critic(real)) == TOY.scales
    assert critic(real)[0].real.shape == (4, 1, 8, 8)
