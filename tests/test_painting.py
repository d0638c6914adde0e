"""From noise to a painted latent: what denoisers that know the answer end at."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from difftalk_weights import TINY, tiny

from vivavoce.errors import InputError
from vivavoce.nets.difftalk import DiffTalk, DiffTalkConfig, Painting
from vivavoce.nets.talk_conditions import TalkConfig
from vivavoce.sampling.ddim import Kept
from vivavoce.sampling.painting import clean, paint

SHAPE = (2, 3, 8, 8)


def drawn(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_an_untrained_denoiser_paints_the_reference(steps):
    net = DiffTalk(TINY).eval()  # its last layer is 0
    with torch.inference_mode():
        found = paint(net, drawn(0), drawn(1), drawn(2), torch.zeros(2, 1, 128), steps=steps)
    torch.testing.assert_close(found, drawn(2), rtol=1e-5, atol=1e-5)


def test_one_step_is_what_pure_noise_is_taken_for():
    net = tiny()
    context = torch.randn(2, 1, 128, generator=torch.Generator().manual_seed(3))
    one = paint(net, drawn(0), drawn(1), drawn(2), context, steps=1)
    torch.testing.assert_close(one, clean(net, drawn(0), torch.zeros(2), drawn(1), drawn(2), context))
    assert not torch.equal(one, paint(net, drawn(0), drawn(1), drawn(2), context, steps=4))
    assert not torch.equal(one, paint(net, drawn(0), drawn(1), drawn(2), context + 1, steps=1))


@pytest.mark.parametrize(("sees", "matter"), [((), ()), (("reference",), (2,)), (("masked",), (1,))])
def test_what_a_denoiser_does_not_see_does_not_matter(sees, matter):
    net = tiny(replace(TINY, painting=replace(TINY.painting, sees=sees)))
    base = paint(net, drawn(0), drawn(1), drawn(2), torch.ones(2, 1, 128), steps=2)
    for place in (1, 2):
        given = [drawn(0), drawn(1), drawn(2)]
        given[place] = drawn(9)
        same = torch.equal(base, paint(net, *given, torch.ones(2, 1, 128), steps=2))
        assert same == (place not in matter)


def test_noise_is_taken_off_as_published_and_what_is_kept_stays():
    talk = TalkConfig(features=4, landmarks=39)
    config = DiffTalkConfig(TINY.first_stage, replace(TINY.unet, patch=1), talk, painting=Painting())
    net = tiny(config)
    where = torch.zeros(2, 1, 8, 8)
    where[..., :4, :] = 1
    kept = Kept(drawn(5), where, lambda _: drawn(0))
    context = torch.zeros(2, 1, 128)
    for published in (False, True):
        free = paint(net, drawn(0), drawn(1), drawn(2), context, steps=20, published=published)
        held = paint(net, drawn(0), drawn(1), drawn(2), context, steps=20, kept=kept, published=published)
        off, on = ((one - drawn(5))[..., :4, :].abs().mean() for one in (free, held))
        assert on < off / 2


@pytest.mark.parametrize("steps", [0, 501])
def test_numbers_of_steps_that_cannot_be_taken_are_refused(steps):
    with pytest.raises(InputError, match="1 to 500 steps"):
        paint(tiny(), drawn(0), drawn(1), drawn(2), torch.zeros(2, 1, 128), steps=steps)


def test_configurations_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="landmarks are told"):
        DiffTalk(replace(TINY, painting=Painting()))
    with pytest.raises(ValueError, match="no landmarks called"):
        Painting(told="all")
    with pytest.raises(ValueError, match="no denoiser predicts"):
        Painting(predicts="flow")
