from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.data import batches
from vivavoce.data.batches import CLEAN, Cut, Take, Variant, advanced, batch_at, disturb, feed, quicken, shelve, take
from vivavoce.data.prepare import Prepared
from vivavoce.motion.space import FACE_MESH

D = FACE_MESH.dim


def counting(speaker, frames, offset, heard=True):
    """A take whose first motion number and first feature say which frame it is."""
    at = np.arange(frames, dtype=np.float32) + offset
    rows = np.zeros((frames, D), np.float32)
    rows[:, 10] = at
    audio = np.stack([at + 1000, np.ones(frames, np.float32)], axis=1).astype(np.float32)
    return Take(speaker, rows, np.zeros(D, np.float32), np.ones(frames, bool), audio if heard else None, -1)


TAKES = [counting("a", 60, 0), counting("b", 25, 100), counting("c", 40, 200, heard=False)]
CUT = Cut(past=4, length=6, size=200, muted=0.0, fresh=0.0)


def test_windows_keep_sound_and_picture_together():
    batch = batch_at(shelve(TAKES, 2), CUT, 0, 0)
    rows, audio = batch.rows[..., 10], batch.conditions.audio[:, 4:, 0]
    heard = batch.conditions.present[:, 0, None] & batch.valid
    assert heard.any()
    assert torch.equal(audio[heard], rows[heard] + 1000)
    assert (batch.conditions.audio[~batch.conditions.present[:, 0]] == 0).all()
    steps = batch.rows[..., 10].diff(dim=1)[batch.valid[:, 1:]]
    assert steps.eq(1).all()


def test_windows_reach_both_ends_and_never_cross_into_another_take():
    batch = batch_at(shelve(TAKES, 2), CUT, 0, 0)
    first = batch.rows[:, 0, 10]
    assert {0.0, 100.0, 200.0} <= set(first.tolist())
    begins = first == 0
    assert (batch.conditions.past[begins][..., 10] == 0).all()  # the first row, held
    assert (batch.conditions.audio[begins, :4] == 0).all()  # nothing heard before the stream
    assert (~batch.valid).any()
    last = torch.where(batch.valid, batch.rows[..., 10], -1).amax(1)
    assert {59.0, 124.0, 239.0} <= set(last.tolist())


@given(st.integers(0, 50), st.integers(0, 10**6))
def test_a_batch_is_a_function_of_seed_and_step(seed, step):
    data = feed(TAKES, 2, replace(CUT, size=4))
    a, b = data(seed)(step), data(seed)(step)
    assert torch.equal(a.rows, b.rows)
    assert torch.equal(a.conditions.audio, b.conditions.audio)
    assert not torch.equal(a.rows, data(seed + 1)(step).rows) or not torch.equal(a.rows, data(seed)(step + 1).rows)


def test_speakers_with_much_footage_do_not_own_the_batches():
    long, short = [counting("much", 500, 0) for _ in range(20)], [counting("little", 500, 1000)]
    first = batch_at(shelve(long + short, 2), replace(CUT, size=4000), 0, 0).rows[:, 0, 10]
    share = float((first >= 1000).float().mean())
    assert share == pytest.approx(500**0.7 / (500**0.7 + 1500**0.7), abs=0.03)


def test_mirror_mutes_and_fresh_starts():
    shelf = shelve(TAKES, 2)
    turned = batch_at(shelf, replace(CUT, mirror=-torch.eye(D), mirrored=1.0), 0, 0)
    assert torch.equal(turned.rows, -batch_at(shelf, CUT, 0, 0).rows)
    quiet = batch_at(shelf, replace(CUT, muted=1.0), 0, 0).conditions
    lost = (quiet.audio[..., 1] == 0)[quiet.present[:, 0]].float().mean()
    kept = (batch_at(shelf, CUT, 0, 0).conditions.audio[..., 1] == 0)[quiet.present[:, 0]].float().mean()
    assert lost > kept + 0.2
    fresh = batch_at(shelf, replace(CUT, fresh=1.0), 0, 0).conditions
    assert torch.equal(fresh.past, fresh.identity[:, None].expand_as(fresh.past))


@given(st.integers(2, 80), st.floats(0.8, 1.25))
def test_quickened_motion_is_the_same_motion(frames, speed):
    line = np.arange(frames, dtype=np.float32)[:, None]
    fast = quicken(line, speed)
    assert len(fast) == round(frames / speed)
    np.testing.assert_allclose(fast[:, 0], np.minimum(np.arange(len(fast)) * speed, frames - 1), atol=1e-3)


def tone(seconds=1.0, hertz=440.0):
    return np.sin(2 * np.pi * hertz * np.arange(int(16_000 * seconds)) / 16_000).astype(np.float32) * 0.3


def test_disturbances_do_what_they_say():
    rng = np.random.default_rng(0)
    clean = tone()
    assert np.array_equal(disturb(clean, CLEAN, rng), clean)
    np.testing.assert_allclose(disturb(clean, Variant(gain=-6.0206), rng), clean / 2, rtol=1e-4)
    noisy = disturb(clean, Variant(snr=10.0), rng)
    noise = noisy - clean
    assert 10 * np.log10(np.square(clean).mean() / np.square(noise).mean()) == pytest.approx(10, abs=0.1)
    fast = disturb(clean, Variant(speed=1.25), rng)
    assert len(fast) == 12_800
    assert np.abs(np.fft.rfft(fast)).argmax() * 16_000 / len(fast) == pytest.approx(550, abs=2)
    click = np.zeros(16_000, np.float32)
    click[4000] = 1
    room = disturb(click, Variant(echo=0.3), rng)
    assert np.abs(room[:3999]).max() < 1e-6
    assert np.abs(room).argmax() == 4000
    assert np.square(room[4001:]).sum() > 0.01


def prepared(frames=30):
    rows = np.random.default_rng(0).standard_normal((frames, D)).astype(np.float32)
    valid = np.ones(frames, bool)
    valid[3] = False
    sound = np.arange(frames * 640, dtype=np.float32)
    marks = np.zeros((frames, 478, 3), np.float32)
    return Prepared("n", "s", "train", "talking", "anger", marks, rows, valid, sound)


def test_a_take_is_relative_to_its_median_pose():
    clip = prepared()
    one = take(clip, np.zeros((30, 2), np.float32), 1.0, range(6))
    np.testing.assert_allclose(one.reference[:6], np.median(clip.rows[:, :6], axis=0))
    assert (one.reference[6:] == 0).all()
    assert not one.valid[3]
    assert one.valid.sum() == 29
    assert one.emotion == 0


def test_sound_moves_by_whole_frames():
    clip = prepared()
    np.testing.assert_array_equal(advanced(clip, 2).audio[: 28 * 640], clip.audio[2 * 640 :])
    np.testing.assert_array_equal(advanced(clip, -2).audio[2 * 640 :], clip.audio[: 28 * 640])
    assert len(advanced(clip, -2).audio) == len(clip.audio) == len(advanced(clip, 3).audio)


def test_speakers_are_set_apart():
    clips = [replace(prepared(), speaker=name) for name in "abca"]
    rest, chosen = batches.apart(clips, ("a",))
    assert [c.speaker for c in rest] == ["b", "c"]
    assert len(chosen) == 2
