import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.speech import mel
from vivavoce.speech.pitch import MARGIN, voicing


def sine(hertz, seconds=0.5, amplitude=1.0):
    return amplitude * torch.sin(2 * math.pi * hertz * torch.arange(int(seconds * mel.SAMPLE_RATE)) / mel.SAMPLE_RATE)


@pytest.mark.parametrize("hertz", [200, 500, 1000, 3000, 7000])
def test_a_pure_tone_lands_in_the_band_around_its_frequency(hertz):
    loudest = int(mel.log_mel(sine(hertz)).mean(0).argmax())
    points = mel.centres()
    assert points[loudest] < hertz < points[loudest + 2]


def test_a_tone_in_the_middle_of_a_bin_has_power_one_there():
    power = mel.power_rows(sine(1000.0))  # 1000 Hz is bin 32 of 512 at 16 kHz
    assert power[:, 32].mean() == pytest.approx(1.0, rel=1e-3)
    assert power[:, 60:].max() < 1e-4


@given(st.floats(-40, 0))
@settings(max_examples=10, deadline=None)
def test_twenty_decibels_are_a_factor_of_one_hundred(decibels):
    loud = mel.log_mel(sine(440.0))
    quiet = mel.log_mel(sine(440.0, amplitude=10 ** (decibels / 20)))
    band = int(loud.mean(0).argmax())
    assert float((loud - quiet)[:, band].mean()) == pytest.approx(-decibels / 10 * math.log(10), abs=1e-3)


def test_silence_is_the_floor():
    assert torch.allclose(mel.log_mel(torch.zeros(4000)), torch.tensor(mel.FLOOR).log())


def test_every_filter_is_a_weighted_mean():
    assert torch.allclose(mel.filterbank().sum(0), torch.ones(mel.BANDS), atol=1e-5)
    assert (mel.filterbank() >= 0).all()


def test_a_row_depends_on_its_window_only():
    sound = torch.randn(mel.WINDOW + 5 * mel.STEP, generator=torch.Generator().manual_seed(0))
    changed = sound.clone()
    changed[mel.WINDOW + 2 * mel.STEP] += 1.0
    differs = (mel.log_mel(sound) != mel.log_mel(changed)).any(1)
    assert differs.tolist() == [False, False, False, True, True, False]


def rows(count=200, seed=0, batch=1):
    return -10 + 2 * torch.randn(batch, count, mel.BANDS, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cut", [2, 10, 100, 198])
def test_the_normaliser_may_be_fed_in_pieces(cut):
    x = rows()
    whole, mean, _ = mel.normalised(x, mel.Level.start())
    first, mean_first, level = mel.normalised(x[:, :cut], mel.Level.start())
    second, mean_second, _ = mel.normalised(x[:, cut:], level)
    assert torch.equal(torch.cat([first, second], 1), whole)
    assert torch.equal(torch.cat([mean_first, mean_second], 1), mean)


def test_the_normaliser_does_not_look_ahead():
    x = rows()
    changed = x.clone()
    changed[:, 100:] += 5
    before, after = (mel.normalised(v, mel.Level.start())[0] for v in (x, changed))
    assert torch.equal(before[:, :100], after[:, :100])


def test_the_normaliser_removes_gain_and_colour():
    x, colour = rows(3000), torch.linspace(-2, 3, mel.BANDS)
    plain, coloured = (mel.normalised(v, mel.Level.start())[0][:, 2000:] for v in (x, x + colour))
    assert (plain - coloured).abs().max() < 0.01


def test_the_normaliser_keeps_its_level_through_a_pause_and_never_amplifies_silence():
    speech, pause = rows(1000), torch.full((1, 300, mel.BANDS), math.log(mel.FLOOR))
    _, mean, level = mel.normalised(torch.cat([speech, pause], 1), mel.Level.start())
    assert mean[0, 499] - mean[0, -1] < 2.0
    _, mean, _ = mel.normalised(pause.repeat(1, 50, 1), level)
    assert mean[0, -1] == pytest.approx(mel.SILENT, abs=0.1)


@pytest.mark.parametrize("hertz", [80, 130, 210, 390])
def test_voicing_finds_the_pitch_of_a_harmonic_sound(hertz):
    time = torch.arange(2 * MARGIN + 5 * 640) / 16_000
    sound = sum(torch.sin(2 * math.pi * hertz * k * time) / k for k in range(1, 6)) * 0.1
    voiced, pitch = voicing(sound)
    assert voiced.shape == (5,)
    assert voiced.min() > 0.9
    assert torch.allclose(pitch / voiced, torch.tensor(math.log2(hertz / 130)), atol=0.06)


def test_noise_and_silence_are_not_voiced():
    noise = 0.1 * torch.randn(2 * MARGIN + 50 * 640, generator=torch.Generator().manual_seed(0))
    assert voicing(noise)[0].mean() < 0.4
    assert voicing(torch.zeros(2 * MARGIN + 640))[0].item() == 0.0
