"""Sound in: any rate, width and container gives the same samples at the same place."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_files import film, heard, sine, wav

from vivavoce.errors import InputError, InputWarning
from vivavoce.media import sound as sound_module
from vivavoce.media.read import contents, read_audio, read_soundtrack, read_video


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_width_gives_the_same_sound(tmp_path, rate, channels):
    path = wav(tmp_path / "a.wav", np.tile(sine(440, 0.5, rate), (channels, 1)), rate)
    pcm = heard(path)
    assert abs(len(pcm) - 8000) <= 2
    assert pcm.dtype == torch.float32
    truth = torch.from_numpy(sine(440, 0.5, 16_000))[: len(pcm)]
    assert (pcm[: len(truth)] - truth)[200:-200].abs().max() < 0.02


def test_sound_keeps_its_place_when_resampled(tmp_path):
    click = np.zeros((1, 44_100), np.float32)
    click[0, 22_050] = 0.9
    assert heard(wav(tmp_path / "a.wav", click, 44_100)).argmax() == pytest.approx(8000, abs=1)


@pytest.mark.parametrize("kind", [("mp3", "libmp3lame"), ("flac", "flac"), ("ogg", "libopus"), ("m4a", "aac")])
def test_compressed_sound(tmp_path, kind):
    suffix, codec = kind
    path = wav(tmp_path / f"a.{suffix}", np.tile(sine(300, 1.0, 48_000), (2, 1)), 48_000, codec=codec)
    pcm = heard(path)
    assert abs(len(pcm) - 16_000) < 1_300  # lossy formats pad to whole packets
    truth = sine(300, 1.0, 16_000)
    shared = min(len(pcm), 15_000)
    lag = np.correlate(pcm.numpy()[2000:shared], truth[2100 : shared - 100], "valid").argmax() - 100
    assert abs((lag + 26) % 53 - 26) < 10  # in step within a fifth of a period


@given(
    st.integers(640, 3000),
    st.sampled_from([8_000, 11_025, 16_000, 44_100]),
    st.sampled_from([1, 2, 6]),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_wav_is_read_in_bounds_and_whole(tmp_path, length, rate, channels):
    samples = np.random.default_rng(length).uniform(-1, 1, (channels, length))
    pcm = heard(wav(tmp_path / "a.wav", samples, rate))
    assert abs(len(pcm) - length * 16_000 / rate) <= 3
    assert pcm.abs().max() <= 1


def test_pieces_are_bounded(tmp_path):
    path = wav(tmp_path / "a.wav", np.zeros((1, 200_000), np.float32), 16_000)
    sizes = [len(piece) for piece in read_audio(path)]
    assert sum(sizes) == 200_000
    assert max(sizes) <= sound_module.PIECE


def test_loud_stereo_is_mixed_without_clipping(tmp_path):
    loud = np.full((2, 1600), 0.9, np.float32)
    assert heard(wav(tmp_path / "a.wav", loud, 16_000)).max() == pytest.approx(0.9, abs=0.001)


def test_speech_in_the_centre_of_surround_sound_is_heard_and_the_bass_is_not(tmp_path):
    surround = np.zeros((6, 1600), np.float32)
    surround[2], surround[3] = 0.5, 0.9  # FL FR FC LFE BL BR
    pcm = heard(wav(tmp_path / "a.wav", surround, 16_000))
    assert 0.1 < pcm.mean() < 0.25


def test_samples_that_are_no_numbers_become_silence(tmp_path):
    broken = sine(440, 0.2, 16_000)[None].copy()
    broken[0, 100], broken[0, 200], broken[0, 300] = np.nan, np.inf, -np.inf
    path = wav(tmp_path / "a.wav", broken, 16_000, codec="pcm_f32le")
    with pytest.warns(InputWarning, match="3 samples were not numbers"):
        pcm = heard(path)
    assert pcm.isfinite().all()
    assert pcm[[100, 200, 300]].tolist() == [0, 0, 0]
    assert pcm[150] == pytest.approx(float(broken[0, 150]), abs=1e-6)


def test_sound_far_beyond_full_scale_is_clipped_and_told(tmp_path):
    path = wav(tmp_path / "a.wav", 5 * sine(440, 0.2, 16_000)[None], 16_000, codec="pcm_f32le")
    with pytest.warns(InputWarning, match="beyond full scale"):
        assert heard(path).abs().max() == 1


def test_a_gap_in_a_recording_is_filled_with_silence(tmp_path):
    path = film(tmp_path / "a.mkv", frames=75, sound_at=[(0.0, 0.5), (2.0, 0.5)])
    pcm = heard(path)
    assert abs(len(pcm) - 2.5 * 16_000) < 1_200
    assert pcm[10_000:30_000].abs().max() < 0.05
    assert pcm[33_500:38_000].abs().max() > 0.2


def test_sound_that_starts_late_in_a_film_stays_late(tmp_path):
    path = film(tmp_path / "a.mkv", frames=50, sound_at=[(1.0, 0.5)])
    pcm = heard(path)
    assert abs(len(pcm) - 1.5 * 16_000) < 1_200
    assert pcm[:15_000].abs().max() < 0.05
    track = torch.cat(list(read_soundtrack(path).blocks), 1)
    assert abs(track.shape[1] / read_soundtrack(path).sample_rate - 1.5) < 0.08


def test_a_cover_picture_is_not_a_film(tmp_path):
    path = wav(tmp_path / "a.wav", sine(440, 0.2, 16_000)[None], 16_000)
    assert not contents(path).picture
    with pytest.raises(InputError, match="only sound"):
        read_video(path)


@pytest.mark.parametrize(
    ("rate", "channels", "kept"), [(8_000, 1, (16_000, 1)), (44_100, 2, (44_100, 2)), (96_000, 6, (48_000, 2))]
)
def test_the_soundtrack_keeps_rate_and_width_where_players_can(tmp_path, rate, channels, kept):
    path = wav(tmp_path / "a.wav", np.tile(sine(440, 0.3, rate), (channels, 1)), rate)
    track = read_soundtrack(path)
    assert (track.sample_rate, track.channels) == kept
    blocks = torch.cat(list(track.blocks), 1)
    assert blocks.shape[0] == kept[1]
    assert abs(blocks.shape[1] / kept[0] - 0.3) < 0.001
