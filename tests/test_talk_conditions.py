"""Conditions by themselves; parity with the published ones is in test_importing_difftalk.py."""

import pytest
import torch

from vivavoce.nets.talk_conditions import AudioAttention, TalkConditions, TalkConfig, reach, windowed


def given(config, batch=2):
    torch.manual_seed(0)
    speech = torch.randn(batch, config.frames, config.window, config.features)
    return speech, 256 * torch.rand(batch, config.landmarks, 2) if config.landmarks else None


@pytest.mark.parametrize("window", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("landmarks", [0, 39])
@torch.inference_mode()
def test_any_window_of_any_features_becomes_one_token(window, landmarks):
    config = TalkConfig(features=40, window=window, landmarks=landmarks, centre=128.0, unit=128.0)
    for batch in (1, 3):
        speech, places = given(config, batch)
        assert TalkConditions(config)(speech, places).shape == (batch, 1, config.context)
    assert config.context == (128 if landmarks else 64)


def test_other_windows_are_refused():
    with pytest.raises(ValueError, match="1, 2, 4, 8 or 16"):
        TalkConditions(TalkConfig(window=12))
    with pytest.raises(ValueError, match="1, 2, 4, 8 or 16"):
        TalkConditions(TalkConfig(window=32))


@torch.inference_mode()
def test_the_attention_is_a_weighted_mean_seen_by_the_first_channels():
    look = AudioAttention(TalkConfig())
    codes = torch.randn(2, 8, 64)
    equal = codes[:, :1].expand(-1, 8, -1)
    torch.testing.assert_close(look(equal), codes[:, 0])
    other = codes.clone()
    other[..., 32:] *= 2  # channels that carry sound but are not looked at: the weights stay
    torch.testing.assert_close(look(other)[:, 32:], 2 * look(codes)[:, 32:])
    torch.testing.assert_close(look(other)[:, :32], look(codes)[:, :32])


@torch.inference_mode()
def test_without_attention_only_the_frame_itself_is_heard():
    config = TalkConfig(smooth=False)
    net = TalkConditions(config)
    speech, places = given(config)
    other = torch.randn_like(speech)
    other[:, 4] = speech[:, 4]
    assert torch.equal(net(other, places), net(speech, places))
    assert not torch.equal(net(speech.roll(1, 1), places), net(speech, places))


@torch.inference_mode()
def test_landmarks_are_centred_before_the_first_layer():
    plain, centred = TalkConditions(TalkConfig()), TalkConditions(TalkConfig(centre=128.0, unit=64.0))
    centred.load_state_dict(plain.state_dict())
    speech, places = given(TalkConfig())
    assert places is not None
    torch.testing.assert_close(centred(speech, places), plain(speech, (places - 128) / 64))


def test_landmarks_must_be_given_exactly_where_they_are_used():
    speech, places = given(TalkConfig())
    with pytest.raises(ValueError, match="39 landmarks"):
        TalkConditions()(speech)
    with pytest.raises(ValueError, match="0 landmarks"):
        TalkConditions(TalkConfig(landmarks=0))(speech, places)


@pytest.mark.parametrize(("window", "frames"), [(8, 8), (1, 8), (4, 2), (16, 1)])
def test_windows_around_a_frame_overlap_and_its_own_row_is_in_the_middle(window, frames):
    config = TalkConfig(features=2, window=window, frames=frames)
    before, after = reach(config)
    rows = torch.arange(-before, after + 1.0)[None, :, None].expand(3, -1, 2)
    found = windowed(rows, config)
    assert found.shape == (3, frames, window, 2)
    assert torch.equal(found[0, frames // 2, window // 2], torch.zeros(2))
    assert (found[0, 0, 0, 0], found[0, -1, -1, 0]) == (-before, after)
    assert torch.equal(found.diff(dim=1), torch.ones_like(found[:, 1:]))


@torch.inference_mode()
def test_a_token_is_what_was_heard_and_the_landmarks():
    config = TalkConfig(features=4, window=2, frames=2, seen=8, landmarks=3)
    conditions = TalkConditions(config)
    speech, places = given(config)
    heard = conditions.heard(speech)
    assert torch.equal(conditions.token(heard, places), conditions(speech, places))
    other = heard.clone()
    other[:, 0] += 1
    off = conditions.token(other, places) - conditions(speech, places)
    assert torch.equal(off.abs().sum((0, 1)) > 0, torch.arange(128) == 0)
