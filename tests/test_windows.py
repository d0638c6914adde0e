"""MoDA's published sampling; tests/golden/moda_sampling.safetensors holds what the release made of the same noise."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from golden import weights as golden
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_importing_moda import published

from vivavoce import weights
from vivavoce.errors import InputError
from vivavoce.importing import moda
from vivavoce.motion.space import FACE_MESH, KEYPOINT
from vivavoce.motion.windows import Emphasis, KeypointFlow, WindowGenerator, faded, load, published_times, smoothed
from vivavoce.nets.mmdit import full
from vivavoce.sampling.paths import noise
from vivavoce.system import Features, Portrait
from vivavoce.timeline import Span

AUDIO = 3
POSE = slice(63, 70)


@pytest.fixture(scope="module")
def toy():
    net = moda.network(published("toy"), golden.normal(6, "null", (16,)), "checkpoint")
    flow = KeypointFlow(net.config)
    flow.net = net
    flow.mean.copy_(torch.tensor(moda.MEAN))
    flow.std.copy_(torch.tensor(moda.STD))
    return flow


@pytest.mark.parametrize("frames", [70, 140, 150])
def test_a_whole_clip_is_what_the_release_makes_of_it(toy, frames):
    recorded = load_file(Path(__file__).parent / "golden" / "moda_sampling.safetensors")[str(frames)]
    emotion = torch.nn.functional.one_hot(torch.tensor(3), 8).float()
    generator = WindowGenerator(toy, emotion=emotion)
    reference = golden.normal(7, "reference", (70,), 0.3) * torch.tensor(moda.STD) + torch.tensor(moda.MEAN)
    canonical = golden.normal(7, "kp", (1, 63), 0.3).view(1, 21, 3)
    portrait = Portrait(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), reference[None], {"canonical": canonical})
    sound = [Features(Span(0, frames), golden.normal(7, "sound", (150, 12, 16))[:frames].flatten(1))]
    with torch.inference_mode():
        rows = torch.cat([rows for _, rows in generator._rows(portrait, reference, sound, 11)])
    assert (rows - recorded).norm() / recorded.norm() < 1e-3


class Following(torch.nn.Module):
    """A network whose motion goes straight to a mix of the sound, the last motion and the noise."""

    def __init__(self):
        super().__init__()
        self.config = replace(full(audio=AUDIO), width=8)

    def embed(self, conditions):
        return conditions

    def velocity(self, x, _t, given):
        heard = given.audio.mean(-1, keepdim=True) * given.present[:, :1, None]
        return 0.5 * given.past[:, -1:] + heard - 0.3 * x


def following() -> WindowGenerator:
    flow = KeypointFlow(replace(full(audio=AUDIO), width=16, heads=2, four=0, two=0, one=0))
    flow.net = Following()  # pyright: ignore[reportAttributeAccessIssue]  stands in for the network
    flow.std.fill_(0.1)
    flow.mean[63] = 1.0
    return WindowGenerator(flow, times=published_times(3))


PORTRAIT = Portrait(
    torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
    KEYPOINT.pack(
        {
            "expression": 0.1 * golden.normal(1, "expression", (1, 21, 3)),
            "scale": torch.full((1, 1), 1.3),
            "translation": torch.tensor([[0.1, -0.1, 0.0]]),
            "rotation": torch.tensor([[5.0, -8.0, 2.0]]),
        }
    ),
    {"canonical": 0.3 * golden.normal(1, "canonical", (1, 21, 3))},
)


def generated(generator, audio, cuts=(), seed=0):
    edges = [0, *sorted({min(c, len(audio)) for c in cuts}), len(audio)]
    pieces = [Features(Span(a, b), audio[a:b]) for a, b in pairwise(edges) if b > a]
    drives = list(generator.drives(PORTRAIT, pieces, seed=seed))
    assert [d.motion.span.start for d in drives] == [0, *(d.motion.span.stop for d in drives)][:-1]
    return torch.cat([d.motion.rows for d in drives])


def sound(frames):
    return golden.normal(2, "heard", (400, AUDIO))[:frames]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 300), st.lists(st.integers(1, 299), max_size=6))
def test_any_chunking_gives_the_same_motion_of_the_same_length(frames, cuts):
    generator = replace(following(), emphasis=Emphasis(torch.zeros(80, AUDIO)))
    whole = generated(generator, sound(frames))
    assert len(whole) == frames
    assert torch.equal(whole, generated(generator, sound(frames), cuts))


def test_no_more_future_is_used_than_declared():
    generator, first = following(), sound(300)
    changed = first.clone()
    changed[64 + generator.lookahead :] += 1
    assert torch.equal(generated(generator, first)[:64], generated(generator, changed)[:64])
    assert not torch.equal(generated(generator, first)[64:], generated(generator, changed)[64:])


def test_windows_meet_without_a_jump():
    rows = generated(following(), torch.cumsum(0.05 * sound(400), 0))
    step = rows[:, POSE].diff(dim=0).norm(dim=1)
    seams = torch.tensor([n for n in range(len(step)) if (n + 1) % 64 == 0 or (n + 1) % 64 == 16])
    inside = torch.ones(len(step), dtype=torch.bool)
    inside[seams] = False
    assert step[seams].max() <= step[inside].quantile(0.99)


def test_the_head_keeps_its_size_and_what_is_its_shape():
    rows, own = generated(following(), sound(100)), PORTRAIT.reference[0]
    assert torch.equal(rows[:, 63], own[63].expand(100))
    assert torch.equal(rows[:, [0, 1, 2, 21, 22, 23]], own[[0, 1, 2, 21, 22, 23]].expand(100, -1))
    assert (rows[:, 66] == 0).all()
    assert rows[:, 18:21].std(0).min() > 0


def test_a_large_head_is_seen_as_an_average_one():
    flow = following().flow
    large = KEYPOINT.unpack(PORTRAIT.reference)
    twice = KEYPOINT.pack({**large, "scale": 2 * large["scale"], "translation": 2 * large["translation"]})
    seen, also = flow.enter(PORTRAIT.reference[0], PORTRAIT.reference[0]), flow.enter(twice[0], twice[0])
    torch.testing.assert_close(seen, also, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(flow.leave(also, twice[0]), twice[0], rtol=1e-4, atol=1e-5)


def test_guidance_pushes_along_what_the_sound_adds():
    plain = replace(following(), guidance=())
    pushed = replace(plain, guidance=(("audio", 3.0),))
    loud = torch.ones(64, AUDIO)
    same = generated(replace(plain, guidance=(("audio", 1.0), ("emotion", 1.0))), loud)
    assert torch.equal(same, generated(plain, loud))
    assert (generated(pushed, loud)[:, 18] > generated(plain, loud)[:, 18]).all()


def test_emphasis_moves_far_lips_further_and_only_lips():
    emphasis, rest = Emphasis(torch.zeros(80, AUDIO)), torch.zeros(70)
    rows = torch.ones(3, 70) * torch.tensor([[0.01], [0.3], [1.0]])
    out, most = emphasis.enlarged(rows, rest, torch.zeros(1))
    assert most == pytest.approx(18.0)
    gain = out[:, 18] / rows[:, 18]
    assert gain[0] < gain[1]
    assert gain[2] == pytest.approx(1 + 0.5 / (1.8 + 0.05), abs=1e-3)
    assert torch.equal(out[:, POSE], rows[:, POSE])
    assert torch.equal(out[:, :18], rows[:, :18])


def test_smoothing_and_fading():
    rows = torch.zeros(4, 70)
    rows[1] = 3
    out = smoothed(rows)
    assert out[:, 65].tolist() == [1.5, 1.0, 1.0, 0.0]
    assert torch.equal(out[:, :63], rows[:, :63])
    assert faded(torch.zeros(4, 1), torch.ones(4, 1))[:, 0].tolist() == [0, 0.25, 0.5, 0.75]


def test_the_published_times():
    times = published_times(10)
    assert len(times) == 11
    assert [round(1000 * (1 - t)) for t in times] == [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1, 0]


def test_noise_differs_from_window_to_window():
    assert not torch.equal(noise(0, 0, (80, 70)), noise(0, 1, (80, 70)))


def test_imported_weights_load_and_others_are_refused(tmp_path):
    torch.save({f"talking_head_dit.{k}": v for k, v in published("toy").items()}, tmp_path / "net-200.pth")
    flow = load(moda.convert(tmp_path, tmp_path / "out"))
    assert flow.net.config.width == 128
    with pytest.raises(InputError, match="not of 'moda-liveportrait'"):
        load(weights.path("moda"))
    with pytest.raises(InputError, match="vivavoce import moda"):
        load(tmp_path / "nowhere.safetensors")


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="cannot share"):
        replace(following(), overlap=80)
    with pytest.raises(ValueError, match="at least two times"):
        replace(following(), times=(0.0,))
    with pytest.raises(ValueError, match="70 numbers"):
        KeypointFlow(full(motion=FACE_MESH.dim))
