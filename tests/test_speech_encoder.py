from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce import weights
from vivavoce.errors import InputError
from vivavoce.speech.encoder import CHANNELS, CLOCK, PhoneEncoder, channel
from vivavoce.speech.network import PhoneConfig, PhoneNetwork
from vivavoce.system import AudioEncoder
from vivavoce.timeline import Clock

FRAME = 640


def encoder(hop=5):
    torch.manual_seed(0)
    return PhoneEncoder(PhoneNetwork(PhoneConfig(width=24)).eval().requires_grad_(False), hop)


def sound(frames, extra=0, seed=0):
    return 0.1 * torch.randn(frames * FRAME + extra, generator=torch.Generator().manual_seed(seed))


def table(made, chunks):
    with torch.inference_mode():
        return torch.cat([features.rows for features in made.features(CLOCK, chunks)])


def test_it_is_an_audio_encoder():
    made = encoder()
    assert isinstance(made, AudioEncoder)
    assert table(made, [sound(7)]).shape == (7, made.dim)


@given(st.lists(st.integers(0, 5000), max_size=30), st.sampled_from([1, 2, 5]))
@settings(max_examples=15, deadline=None)
def test_any_chunking_gives_the_same_rows_bit_for_bit(cuts, hop):
    pcm, chunks, at = sound(23, extra=321), [], 0
    for length in cuts:
        chunks.append(pcm[at : at + length])
        at += length
    chunks.append(pcm[at:])
    assert torch.equal(table(encoder(hop), chunks), table(encoder(hop), [pcm]))


def test_spans_are_consecutive_and_the_partial_frame_has_a_row():
    with torch.inference_mode():
        spans = [features.span for features in encoder().features(CLOCK, [sound(12, extra=1)])]
    assert [(span.start, span.stop) for span in spans] == [(0, 5), (5, 10), (10, 13)]


def test_no_sound_gives_no_rows():
    assert list(encoder().features(CLOCK, [])) == []
    assert list(encoder().features(CLOCK, [torch.zeros(0)])) == []


@pytest.mark.parametrize("hop", [2, 5, 10])
def test_hop_does_not_change_the_features(hop):
    pcm = sound(30)
    assert torch.allclose(table(encoder(hop), [pcm]), table(encoder(1), [pcm]), atol=1e-4)


def test_sound_beyond_the_look_ahead_changes_nothing_and_sound_within_it_does():
    made, pcm = encoder(hop=1), sound(60)
    changed = pcm.clone()
    changed[40 * FRAME :] = sound(20, seed=9)
    rows, other = table(made, [pcm]), table(made, [changed])
    first = 40 - made.lookahead  # frame n may hear up to the end of frame n + lookahead
    assert torch.equal(rows[:first], other[:first])
    assert not torch.equal(rows[first], other[first])


@pytest.mark.parametrize("hop", [1, 5])
def test_a_row_is_out_when_hop_and_look_ahead_are_in(hop):
    made, given_frames = encoder(hop), 0

    def drip():
        nonlocal given_frames
        for chunk in sound(60).split(FRAME):
            given_frames += 1
            yield chunk

    with torch.inference_mode():
        next(iter(made.features(CLOCK, drip())))
    assert given_frames == hop + made.lookahead


@pytest.mark.parametrize(
    "pcm",
    [
        torch.zeros(16_000),
        torch.ones(16_000),
        100 * torch.randn(16_000, generator=torch.Generator().manual_seed(0)),
        torch.full((16_000,), float("nan")),
        torch.full((16_000,), float("inf")),
        1e-30 * torch.ones(16_000),
        torch.sign(torch.sin(torch.arange(16_000.0))),
    ],
    ids=["zeros", "constant", "clipped", "nan", "inf", "denormal", "square"],
)
def test_extreme_sound_gives_finite_rows(pcm):
    rows = table(encoder(), [pcm])
    assert rows.isfinite().all()
    assert rows.abs().max() < 100


def test_another_clock_is_refused_in_words():
    with pytest.raises(InputError, match="16000 Hz at 25 frames per second, not 16000 Hz at 30"):
        list(encoder().features(Clock(Fraction(30)), [sound(3)]))


def test_a_hop_of_nothing_is_refused():
    with pytest.raises(InputError, match="at least 1"):
        encoder(hop=0)


def test_a_network_that_looks_too_far_ahead_is_refused():
    with pytest.raises(ValueError, match="samples of future"):
        PhoneEncoder(PhoneNetwork(PhoneConfig(width=8, blocks=((4, 2, 2),))))


def test_features_of_known_sound():
    made, column = encoder(), CHANNELS.index
    time = torch.arange(16_000) / 16_000
    tone = sum(torch.sin(2 * torch.pi * 130 * k * time) / k for k in range(1, 8))
    rows = table(made, [0.1 * tone / tone.square().mean().sqrt()])[5:15]
    assert rows[:, column("level")].mean() == pytest.approx((-20 + 40) / 20, abs=0.05)
    assert rows[:, column("voicing")].min() > 0.9
    assert rows[:, column("pitch")].abs().max() < 0.06
    groups = [n for n, name in enumerate(CHANNELS) if name.endswith("first") and n >= column("silence first")][:14]
    assert torch.allclose(rows[:, groups].sum(1), torch.ones(len(rows)), atol=1e-5)


def test_digital_silence_is_not_speech():
    assert table(encoder(), [torch.zeros(16_000)])[:, CHANNELS.index("speech")].max() < 1e-6


@pytest.mark.skipif("phones" not in weights.names(), reason="the weights are not trained yet")
def test_packaged_weights_match_the_declared_channels():
    made = PhoneEncoder.pretrained()
    assert made.dim == len(CHANNELS) == len(set(CHANNELS))
    noise = 0.003 * torch.randn(32_000, generator=torch.Generator().manual_seed(0))
    assert table(made, [noise])[10:, channel("speech")].mean() < 0.3
