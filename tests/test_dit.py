from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.nets.dit import NAMES, Config, DiT, Given, Known, compact

SMALL = Config(motion=5, audio=3, tokens=2, length=6, width=24, heads=2, depth=2)


def network(config=SMALL, seed=0):
    """One whose zeroed layers have been given something to do."""
    torch.manual_seed(seed)
    net = DiT(config).eval()
    with torch.no_grad():
        for value in net.parameters():
            if value.ndim == 2 and not value.any():
                value.normal_(0, 0.3)
    return net


def conditions(config=SMALL, count=2, seed=1, hidden=()):
    rng = torch.Generator().manual_seed(seed)
    numbers = [torch.randn(count, config.motion, generator=rng) for _ in range(3)]
    audio = torch.randn(count, config.length, config.audio * config.tokens, generator=rng)
    return Given(audio, *numbers, torch.ones(count, len(NAMES), dtype=torch.bool)).hide(*hidden)


def noisy(config=SMALL, count=2, seed=2):
    return torch.randn(count, config.length, config.motion, generator=torch.Generator().manual_seed(seed))


AT = torch.tensor([3.0, 500.0])


def test_the_published_size_is_that_of_dit_a0_and_has_67_tokens():
    with torch.device("meta"):
        net = DiT(Config())
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(31.8e6, rel=0.01)
    assert net.positions.shape == (67, 512)
    assert Config().outputs == 40
    seen = []
    net = network()
    net.blocks[0].register_forward_pre_hook(lambda _module, args: seen.append((args[0].shape, args[1])))
    assert net(noisy(), AT, conditions()).shape == (2, 6, 10)
    shape, c = seen[0]
    assert shape == (2, 6 + 3, 24)
    assert not c[:, 6:].any()  # hint, mean and deviation are told neither the sound nor the time
    assert c[:, :6].any()


def test_small_ones_are_small():
    with torch.device("meta"):
        assert sum(p.numel() for p in DiT(compact(audio=130)).parameters()) < 8e6


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 5), st.integers(0, 1))
def test_the_sound_of_a_frame_reaches_its_own_token_and_condition_only(frame, token):
    net, known = network(), conditions()
    audio = known.audio.clone()
    audio[:, frame, 3 * token] += 1
    before, after = net.embed(known), net.embed(replace(known, audio=audio))
    for name in ("frames", "heard"):
        changed = (getattr(before, name) != getattr(after, name)).any(-1)
        assert changed[:, frame].all()
        assert changed.sum() == 2
    assert torch.equal(before.extra, after.extra)


def test_tokens_of_a_frame_count_alike_for_its_condition_and_have_their_own_place_beside_the_code():
    net, known = network(), conditions()
    swapped = torch.cat([known.audio[..., 3:], known.audio[..., :3]], dim=-1)
    before, after = net.embed(known), net.embed(replace(known, audio=swapped))
    assert torch.allclose(before.frames, after.frames, atol=1e-6)
    assert torch.allclose(before.heard[..., :6], after.heard[..., 6:], atol=1e-6)


@pytest.mark.parametrize(("name", "field"), [("hint", "hint"), ("mean", "mean"), ("std", "std"), ("audio", "audio")])
def test_what_is_hidden_changes_nothing_and_what_is_shown_does(name, field):
    net, known = network(), conditions()
    other = replace(known, **{field: torch.zeros_like(getattr(known, field))})
    assert not torch.allclose(net(noisy(), AT, known), net(noisy(), AT, other))
    hidden, both = known.hide(name), other.hide(name)
    assert torch.equal(net(noisy(), AT, hidden), net(noisy(), AT, both))
    # Nothing known is not the same as a zero: a deviation of 0 is a face that does not move.
    assert not torch.allclose(net(noisy(), AT, hidden), net(noisy(), AT, other))


def test_hiding_is_by_row_and_one_way_of_the_sound_can_be_hidden_alone():
    net, known = network(), conditions()
    one = replace(known, present=torch.stack([known.present[0], known.hide("audio").present[1]]))
    mixed = net(noisy(), AT, one)
    assert torch.allclose(mixed[0], net(noisy(), AT, known)[0], atol=1e-6)
    assert torch.allclose(mixed[1], net(noisy(), AT, known.hide("audio"))[1], atol=1e-6)
    outputs = [net(noisy(), AT, known.hide(*names)) for names in ((), ("heard",), ("said",), ("heard", "said"))]
    for n, a in enumerate(outputs):
        assert all(not torch.allclose(a, b) for b in outputs[:n])
    with pytest.raises(ValueError, match="no condition called"):
        known.hide("emotion")


@pytest.mark.parametrize(
    ("layout", "tokens"),
    [
        ({"statistics": False}, 7),
        ({"framewise": False}, 9),
        ({"statistics": False, "framewise": False, "prediction": "flow", "tokens": 1}, 7),
    ],
)
def test_parts_can_be_left_out(layout, tokens):
    config = replace(SMALL, **layout)
    net, known = network(config), conditions(config)
    assert len(net.positions) == tokens
    made = net(noisy(config), AT, known)
    assert made.shape == (2, 6, 5 if config.prediction == "flow" else 10)
    assert all(p.requires_grad for p in net.parameters())
    made.square().sum().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None]
    assert all(name.startswith("nulls") for name in silent)
    if not config.statistics:
        assert torch.equal(made, net(noisy(config), AT, known.hide("mean", "std")))
    if not config.framewise:
        assert torch.equal(made, net(noisy(config), AT, known.hide("heard")))


def test_frames_are_told_apart_by_place_and_chunks_have_an_end():
    net, known = network(), conditions()
    same = replace(known, audio=known.audio[:, :1].expand_as(known.audio).clone())
    made = net(noisy()[:, :1].expand(-1, 6, -1).clone(), AT, same)
    assert not torch.allclose(made[:, 0], made[:, 1])
    with pytest.raises(ValueError, match="6 frames at most"):
        net(torch.zeros(2, 7, 5), AT, conditions(replace(SMALL, length=7)))


def test_an_untrained_network_says_nothing():
    torch.manual_seed(0)
    assert not DiT(SMALL)(noisy(), AT, conditions()).any()


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="does not split"):
        Config(width=100, heads=8)


@pytest.mark.parametrize("prediction", ["epsilon", "flow"])
def test_known_frames_are_seen_instead_of_the_noise_at_the_time_of_clean_data(prediction):
    config = replace(SMALL, prediction=prediction)
    net, given_, x = network(config), conditions(config), noisy(config)
    rows, there = noisy(config, seed=5), torch.tensor([[True] * 2 + [False] * 4, [False] * 6])
    out = net(x, AT, replace(given_, known=Known(rows, there)))
    other = torch.where(there[..., None], noisy(config, seed=6), x)
    assert torch.equal(out, net(other, AT, replace(given_, known=Known(rows, there))))  # its noise does not count
    changed = net(x, AT, replace(given_, known=Known(rows + 1, there)))
    assert not torch.allclose(out[0, 2:], changed[0, 2:], atol=1e-3)
    torch.testing.assert_close(out[1], net(x, AT, given_)[1])  # nothing is known of the second chunk
    clean = torch.full_like(AT, 1000.0 if prediction == "flow" else 0.0)
    every = replace(given_, known=Known(rows, torch.ones_like(there)))
    torch.testing.assert_close(net(x, AT, every), net(rows, clean, given_))


def test_known_frames_are_kept_when_conditions_are_hidden_or_stacked():
    given_ = replace(conditions(), known=Known(noisy(), torch.ones(2, SMALL.length, dtype=torch.bool)))
    both = Given.cat([given_, given_.hide("audio")])
    assert both.known is not None
    assert given_.known is not None
    assert torch.equal(both.known.rows, torch.cat([given_.known.rows] * 2))
    assert both.known.there.shape == (4, SMALL.length)
    assert Given.cat([conditions(), conditions()]).known is None
