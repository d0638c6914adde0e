"""Motion figures on motion whose figures are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.evaluate import baselines, lipsync
from vivavoce.face.model import FaceModel
from vivavoce.motion import lips as readings
from vivavoce.motion.space import FACE_MESH

OPENING = readings.opening(FaceModel.pretrained()).numpy().astype(np.float64)


def rows(frames=100):
    out = np.zeros((frames, 48))
    out[:, FACE_MESH.slice("scale")] = 1
    out[:, FACE_MESH.slice("eyelids")] = 1
    return out


def opened(track):
    """Rows whose lips open by ``track`` face widths."""
    out = rows(len(track))
    out[:, FACE_MESH.slice("expression")] = np.asarray(track)[:, None] * OPENING / (OPENING @ OPENING)
    return out


def wave(frames=200, period=9.0, shift=0.0):
    return 0.05 * (
        1 + np.sin(2 * np.pi * (np.arange(frames) - shift) / period) * np.cos((np.arange(frames) - shift) / 31)
    )


def test_lips_are_read_as_they_were_set():
    track = np.array([0.0, 0.03, 0.12, -0.02])
    np.testing.assert_allclose(lipsync.lips(opened(track)).opening, [0, 0.03, 0.12, 0], atol=1e-9)


def test_the_reading_is_the_models_geometry():
    model, rng = FaceModel.pretrained(), np.random.default_rng(0)
    coefficients = np.abs(rng.normal(size=32)) * np.sign(OPENING)
    shape = model.mean + model.displacement(coefficients, np.zeros(2))
    row = rows(1)
    row[0, FACE_MESH.slice("expression")] = coefficients
    found = lipsync.lips(row)
    gap = (shape[[87, 14, 317], 1] - shape[[82, 13, 312], 1]).mean()
    rest = (model.mean[[87, 14, 317], 1] - model.mean[[82, 13, 312], 1]).mean()
    assert found.opening[0] == pytest.approx(gap - rest)
    wide = (shape[291] - shape[61])[0] - (model.mean[291] - model.mean[61])[0]
    assert found.width[0] == pytest.approx(wide)
    np.testing.assert_allclose(lipsync.seen_opening(shape[None] * 300 + 40), [gap], atol=0.004)  # pose is estimated


@given(st.integers(-6, 6))
@settings(deadline=None, max_examples=13)
def test_the_lag_is_found(late):
    curve = lipsync.lag_curve(wave(shift=late), wave())
    assert lipsync.lag(curve) == late
    assert curve.max() == pytest.approx(1)


def test_correlation_with_what_does_not_move_is_zero():
    assert lipsync.correlation(np.ones(50), wave(50)) == 0
    assert lipsync.correlation(wave(50), -3 * wave(50) + 1) == pytest.approx(-1)


def talking():
    """Lips open at 0.1, closed in frames 20-22 and 40-42, a pause from 60 to 80."""
    track = np.full(100, 0.1)
    track[20:23] = track[40:43] = track[60:80] = 0.0
    return track


def test_closures_are_short_and_between_open_lips():
    everywhere = np.ones(100, bool)
    assert lipsync.closures(talking(), everywhere) == [(20, 23), (40, 43)]
    heard = np.zeros(100)
    heard[41] = 0.9
    assert lipsync.closures(talking(), everywhere, heard) == [(40, 43)]
    silent = everywhere.copy()
    silent[15:30] = False
    assert lipsync.closures(talking(), silent) == [(40, 43)]


def test_hits_may_be_a_frame_off_but_not_two():
    stretches = [(20, 23), (40, 43)]
    made = np.full(100, 0.1)
    assert lipsync.closed_in(made, stretches, 0.1) == 0
    made[23] = made[44] = 0.01
    assert lipsync.closed_in(made, stretches, 0.1) == 1
    assert lipsync.closed_in(0 * made, stretches, 0.1) == 2
    assert lipsync.wrongly_closed(0 * made, talking()) == (74, 74)
    assert lipsync.wrongly_closed(talking(), talking()) == (74, 0)


def test_silence_is_where_no_sound_is():
    sound = np.random.default_rng(0).normal(size=100 * 640) * 0.1
    sound[40 * 640 : 70 * 640] *= 1e-3
    sound[80 * 640 : 83 * 640] *= 1e-3  # the closure of a consonant
    speech = lipsync.speaking(lipsync.loudness(sound, 100))
    np.testing.assert_array_equal(np.flatnonzero(~speech), np.arange(40, 70))
    np.testing.assert_array_equal(np.flatnonzero(lipsync.quiet(speech)), np.arange(46, 64))


def test_loudness_is_in_decibels():
    tone = np.tile([0.5, -0.5], 640)
    np.testing.assert_allclose(lipsync.loudness(tone, 3), [20 * np.log10(0.5)] * 2 + [-100], atol=1e-6)


def test_blinks_are_counted_once_and_closed_eyes_are_none():
    moving = rows(200)
    lids = FACE_MESH.slice("eyelids")
    moving[30:34, lids] = 0.1
    moving[90:93, lids] = 0.3
    moving[120:180, lids] = 0.0  # asleep
    assert lipsync.blinks(moving) == 2


@given(st.floats(-30, 30), st.floats(-30, 30), st.floats(0.01, 20))
@settings(deadline=None, max_examples=20)
def test_turning_is_the_angle_between_frames(yaw, pitch, step):
    moving = rows(3)
    moving[:, FACE_MESH.slice("rotation")] = [[yaw, pitch, 0], [yaw + step, pitch, 0], [yaw + step, pitch, 0]]
    np.testing.assert_allclose(lipsync.turning(moving), [25 * step, 0], atol=1e-4)  # yaw is the outermost turn


def test_moving_and_lip_speed_are_per_second():
    moving = rows(3)
    moving[1:, FACE_MESH.slice("translation")] = [0.03, 0.04]
    np.testing.assert_allclose(lipsync.moving(moving), [1.25, 0])
    ring = np.zeros((3, 40, 2))
    ring[1:, :, 1] = 0.02
    np.testing.assert_allclose(lipsync.lip_speed(ring), [0.5, 0])


def test_lip_error_is_zero_for_the_truth_only():
    one, two = lipsync.lips(opened(wave(20))), lipsync.lips(opened(wave(20) + 0.02))
    assert lipsync.lip_error(one, one) == 0
    assert lipsync.lip_error(one, two) > 0.001


def test_the_jaw_follows_loudness_and_nothing_else():
    rng = np.random.default_rng(0)
    envelope = np.repeat(rng.uniform(0.02, 0.5, 20), 10)
    sound = rng.normal(size=200 * 640) * np.repeat(envelope, 640)
    reference = rows(1)[0]
    reference[0] = 12.0
    jaw = baselines.loudness_jaw(sound, reference, 200)
    assert (jaw[:, 0] == 12).all()
    assert lipsync.correlation(lipsync.lips(jaw.astype(np.float64)).opening, envelope) > 0.6
    still = baselines.mean_face(reference, 5)
    mouth = lipsync.lips(still.astype(np.float64))
    np.testing.assert_allclose(mouth.opening, baselines.MEAN_OPENING, atol=1e-6)
    np.testing.assert_allclose(mouth.width, baselines.MEAN_WIDTH, atol=1e-6)


def test_the_fit_of_the_baselines_recovers_its_own_jaw():
    from vivavoce.data.prepare import Prepared

    rng = np.random.default_rng(1)
    sound = (rng.normal(size=300 * 640) * np.repeat(rng.uniform(0, 0.5, 300), 640)).astype(np.float32)
    made = baselines.loudness_jaw(sound.astype(np.float64), rows(1)[0], 300)
    clip = Prepared(
        "a", "a", "train", "talking", "none", np.zeros((300, 478, 3), np.float32), made, np.ones(300, bool), sound
    )
    found = baselines.fit([clip])
    np.testing.assert_allclose(found["PER_AMPLITUDE"], baselines.PER_AMPLITUDE, atol=1e-3)
    assert found["MEAN_OPENING"] == pytest.approx(float(lipsync.lips(made.astype(np.float64)).opening.mean()), abs=1e-4)
