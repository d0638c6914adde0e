"""Chunks of codes: a network whose motion is known stands in for a trained one."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce import weights
from vivavoce.errors import InputError
from vivavoce.motion.chunks import ChunkGenerator, Hush, LiveControl, MotionControl, suited, times
from vivavoce.motion.codes import USUAL, CodeModel, all_present, load, save, statistics
from vivavoce.motion.space import IMPLICIT
from vivavoce.nets.dit import NAMES, Config
from vivavoce.system import Features, MotionGenerator, Portrait
from vivavoce.timeline import Span

AUDIO, LENGTH = 3, 12
OWN = torch.linspace(-0.4, 0.4, IMPLICIT.dim)
PORTRAIT = Portrait(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), OWN[None], {})


class Obedient(torch.nn.Module):
    """Goes straight to hint, mean, sound and noise, each as far as it is told; deviates as it is asked to."""

    def __init__(self, config):
        super().__init__()
        self.config = config

    def embed(self, known):
        return known

    def predicted(self, x, at, known):
        there = dict(zip(NAMES, known.present[..., None].unbind(1), strict=True))
        still = torch.where(there["mean"], known.mean, 0.5 * known.hint)[:, None]
        wide = torch.where(there["std"], known.std, 0.1)[:, None]
        heard = torch.where(there["said"], known.audio.mean(-1), 0.0)[..., None]
        t = (at / 1000)[:, None, None]
        noise = (x - t * (still + 0.3 * heard)) / (1 - t * (1 - wide))  # straight paths to still + heard + wide noise
        return still + 0.3 * heard - (1 - wide) * noise


def model(*, draft=False, goes_on=False):
    torch.manual_seed(0)
    layout = {"tokens": 1, "length": LENGTH, "width": 16, "heads": 2, "depth": 1, "goes_on": goes_on}
    config = Config(audio=AUDIO, prediction="flow", **layout)
    made = CodeModel(config, draft=draft)
    made.net = Obedient(config)
    made.low.fill_(-9)
    made.high.fill_(9)
    if draft:
        made.foretelling.copy_(0.05 * torch.randn(made.foretelling.shape))
    return made.eval()


def generated(generator, audio, cuts=(), seed=0, change=None):
    edges = [0, *sorted({min(c, len(audio)) for c in cuts}), len(audio)]

    def pieces():
        for a, b in pairwise(edges):
            if b > a:
                if change:
                    change(a)
                yield Features(Span(a, b), audio[a:b])

    drives = list(generator.drives(PORTRAIT, pieces(), seed=seed))
    assert [d.motion.span.start for d in drives] == [0, *(d.motion.span.stop for d in drives)][:-1]
    assert all(len(d.audio) == len(d.motion.span) == len(d.motion.rows) for d in drives)
    assert torch.equal(torch.cat([d.audio for d in drives]), audio)
    return torch.cat([d.motion.rows for d in drives])


def sound(frames, seed=2):
    return torch.randn(frames, AUDIO, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


QUIET = Hush(speech=0, wait=2, fall=2, rise=2)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.lists(st.integers(1, 59), max_size=6), st.booleans())
def test_any_chunking_gives_the_same_motion_of_the_same_length(frames, cuts, rich):
    generator = ChunkGenerator(model(draft=rich), guidance=1.5 if rich else 1.0, quiet=QUIET if rich else None)
    whole = generated(generator, sound(frames))
    assert len(whole) == frames
    assert torch.equal(whole, generated(generator, sound(frames), cuts))
    assert not torch.equal(whole, generated(generator, sound(frames), seed=1))


@pytest.mark.parametrize("draft", [False, True])
def test_no_more_future_is_used_than_declared(draft):
    generator, first = ChunkGenerator(model(draft=draft)), sound(60)
    assert isinstance(generator, MotionGenerator)
    assert generator.hop + generator.fade == LENGTH
    assert generator.lookahead == 4 + 3 * draft
    changed = first.clone()
    edge = generator.hop + generator.lookahead
    changed[edge:] += 1
    same = generated(generator, first) == generated(generator, changed)
    assert same[: generator.hop].all()
    changed[edge - 1] += 1
    assert not torch.equal(generated(generator, first)[edge - generator.lookahead :], generated(generator, changed)[8:])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.lists(st.integers(1, 59), max_size=6), st.integers(1, LENGTH - 2), st.integers(0, 2))
def test_chunks_with_known_frames_are_the_same_under_any_chunking(frames, cuts, fresh, fade):
    if fade > fresh:
        return
    one = model(draft=True, goes_on=True)
    generator = ChunkGenerator(one, fresh=fresh, fade=min(fade, LENGTH - fresh), quiet=QUIET)
    whole = generated(generator, sound(frames))
    assert len(whole) == frames
    assert torch.equal(whole, generated(generator, sound(frames), cuts))


def test_known_frames_are_those_that_went_out_before():
    one, asked = model(goes_on=True), []
    embed = one.net.embed
    one.net.embed = lambda known: (asked.append(known), embed(known))[1]
    rows = generated(ChunkGenerator(one, fresh=3, fade=0), sound(18))
    history = torch.cat([OWN.expand(LENGTH, -1), rows])
    for place, known in enumerate(asked):
        start = LENGTH + 3 * place  # of the new frames, in what went out
        assert known.known.there[0].tolist() == [True] * 9 + [False] * 3
        torch.testing.assert_close(known.known.rows[0, :9], history[start - 9 : start])
        torch.testing.assert_close(known.hint[0], history[start - 10])
    assert len(asked) == 6


def test_less_sound_is_needed_for_fewer_new_frames():
    one, first = model(draft=True, goes_on=True), sound(60)
    generator = ChunkGenerator(one, fresh=4, fade=0)
    assert (generator.hop, generator.lookahead, generator.kept) == (4, 3, 8)
    changed = first.clone()
    changed[7:] += 1
    assert torch.equal(generated(generator, first)[:4], generated(generator, changed)[:4])
    changed[6] += 1
    assert not torch.equal(generated(generator, first)[:4], generated(generator, changed)[:4])


def test_settings_suit_what_was_learned():
    assert suited(model()) == {}
    assert suited(model(goes_on=True)) == {"fresh": 7, "fade": 0}
    assert suited(model(draft=True)).keys() == {"lip_noise", "lip_trust", "std_guidance"}
    with pytest.raises(ValueError, match="has not learned to go on"):
        ChunkGenerator(model(), fresh=4)
    with pytest.raises(ValueError, match="cannot give 12"):
        ChunkGenerator(model(goes_on=True), fresh=12, fade=2)


def test_a_chunk_goes_on_from_the_last_code():
    generator = ChunkGenerator(model(), MotionControl("none", std=0.01), fade=0)
    rows = generated(generator, torch.zeros(48, AUDIO))
    means = rows.unflatten(0, (4, LENGTH)).mean(1)
    # The stand-in without a mean goes half of the hint: the portrait's code at first, its own last one after that.
    assert torch.allclose(means[0], 0.5 * OWN, atol=0.02)
    for before, after in zip(rows[LENGTH - 1 :: LENGTH], means[1:], strict=False):
        assert torch.allclose(after, 0.5 * before, atol=0.02)


def test_chunks_fade_into_each_other():
    # The stand-in halves the hint at once: a step at every seam, which a fade of n frames cuts into n.
    level = torch.zeros(11, AUDIO)
    steps = []
    for fade in (0, 4):
        rows = generated(ChunkGenerator(model(), MotionControl("none", std=0.01), fade=fade), level.repeat(3, 1))
        seam = LENGTH - fade
        steps.append(rows[seam - 2 : seam + 6].diff(dim=0).abs().max())
    assert steps[1] < 0.5 * steps[0]


@pytest.mark.parametrize(("mean", "expected"), [("portrait", 1.0), ("last", 1.0), ("none", 0.5)])
def test_the_mean_is_what_was_asked_for(mean, expected):
    rows = generated(ChunkGenerator(model(), MotionControl(mean, std=0.01), fade=0), torch.zeros(LENGTH, AUDIO))
    assert torch.allclose(rows.mean(0), expected * OWN, atol=0.02)


def test_the_last_frame_drifts_and_the_portrait_holds():
    level = torch.zeros(240, AUDIO)
    held = generated(ChunkGenerator(model(), MotionControl("portrait", std=0.3)), level)
    drifting = generated(ChunkGenerator(model(), MotionControl("last", std=0.3)), level)
    assert (drifting[-8:].mean(0) - OWN).abs().mean() > 2 * (held[-8:].mean(0) - OWN).abs().mean()


def test_motion_deviates_as_was_asked_for_in_units_of_the_networks_own():
    one, level = model(), torch.zeros(96, AUDIO)
    found = [
        float(generated(ChunkGenerator(one, MotionControl("portrait", std)), level).std(0).mean())
        for std in (0.05, 0.1, 0.2, 0.3, 0.5)
    ]
    assert found == sorted(found)
    assert found[3] == pytest.approx(0.3, rel=0.2)
    one.spread.copy_(torch.linspace(0.5, 2.0, IMPLICIT.dim))
    wide = one.given(torch.zeros(1, LENGTH, AUDIO), OWN[None], OWN[None], USUAL * one.spread[None], all_present(1))
    assert torch.allclose(wide.std, torch.full_like(wide.std, USUAL))


def test_a_control_can_be_changed_while_the_stream_runs():
    live, level = LiveControl(MotionControl("portrait", 0.01)), torch.zeros(120, AUDIO)
    generator = ChunkGenerator(model(), live)

    def livelier(at):
        if at >= 48:
            live.set(MotionControl("portrait", 0.5))

    cuts = list(range(1, 120))
    calm = generated(generator, level)
    changed = generated(generator, level, cuts, change=livelier)
    assert live.now.std == 0.5
    begun = 48 // generator.hop * generator.hop
    assert torch.equal(changed[: begun - generator.hop], calm[: begun - generator.hop])
    assert changed[begun + generator.hop :].std(0).mean() > 5 * calm[begun + generator.hop :].std(0).mean()
    live.set(MotionControl("portrait", 0.01))
    assert torch.equal(generated(generator, level, cuts, change=livelier), changed)  # same values, same motion


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"mean": "middle"}, "none, portrait, last, not 'middle'"),
        ({"std": 0.0}, "0.01 to 1, not 0"),
        ({"std": float("nan")}, "0.01 to 1, not nan"),
    ],
)
def test_controls_that_mean_nothing_are_refused(value, message):
    with pytest.raises(InputError, match=message):
        MotionControl(**value)


def test_guidance_pushes_along_the_sound():
    audio = sound(60)
    plain, pushed = (generated(ChunkGenerator(model(), guidance=g), audio).mean(1) for g in (1.0, 2.0))
    heard = torch.stack([plain, audio.mean(1)])
    assert torch.corrcoef(heard)[0, 1] > 0
    cov = [((one - one.mean()) * (audio.mean(1) - audio.mean())).mean() for one in (plain, pushed)]
    assert cov[1] == pytest.approx(2 * float(cov[0]), rel=0.35)


def test_the_mouth_is_as_in_the_portrait_while_nobody_speaks():
    one = model()
    one.reading[3], one.pattern[3], one.pattern[4] = 1.0, 1.0, 0.5
    audio = sound(60)
    audio[:, 0] = 0.0
    audio[:20, 0] = 1.0
    free = generated(ChunkGenerator(one), audio)
    calm = generated(ChunkGenerator(one, quiet=QUIET), audio)
    assert torch.allclose(calm[26:, 3], OWN[3].expand(34), atol=1e-5)
    assert not torch.allclose(free[26:, 3], OWN[3].expand(34), atol=1e-2)
    assert torch.equal(calm[:8], free[:8])


def test_lips_can_be_left_to_the_draft():
    one, level = model(draft=True), torch.zeros(30, AUDIO)
    one.reading[3], one.pattern[3], one.pattern[4] = 1.0, 1.0, 0.5
    plain, calm, drafted = (
        generated(ChunkGenerator(one, MotionControl("portrait", 0.3), fade=0, **kinds), level)
        for kinds in ({}, {"lip_noise": 0.0}, {"lip_trust": 0.0})
    )
    others = [n for n in range(IMPLICIT.dim) if n != 3]
    assert torch.allclose(calm[:, others], plain[:, others], atol=1e-5)
    assert calm[:, 3].std() < 0.1 * plain[:, 3].std()
    assert torch.allclose(drafted[:LENGTH, 3], one.drafted(torch.zeros(1, LENGTH + 9, AUDIO))[0, :, 3], atol=1e-5)


def test_drafts_are_added_and_codes_stay_within_what_was_seen():
    one = model(draft=True)
    audio = sound(30)
    rows = generated(ChunkGenerator(one, MotionControl("portrait", 0.01), fade=0), audio)
    padded = torch.cat([torch.zeros(6, AUDIO), audio, torch.zeros(12, AUDIO)])
    expected = OWN + 0.3 * audio[:LENGTH].mean(1, keepdim=True) + one.drafted(padded[None, : LENGTH + 9])[0]
    assert torch.allclose(rows[:LENGTH], expected, atol=0.1)
    one.low.fill_(-0.1)
    one.high.fill_(0.1)
    held = generated(ChunkGenerator(one), audio)
    assert held.abs().max() <= 0.1 + 1e-6


def test_statistics_are_unbiased_and_over_what_counts():
    rows = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    counts = torch.ones(2, 7, dtype=torch.bool)
    counts[1, 4:] = False
    mean, std = statistics(rows, counts)
    for n, many in enumerate((7, 4)):
        assert torch.allclose(mean[n], rows[n, :many].mean(0))
        assert torch.allclose(std[n], rows[n, :many].std(0))


@pytest.mark.parametrize("prediction", ["epsilon", "flow"])
def test_weights_come_back_as_they_were(tmp_path, prediction):
    torch.manual_seed(0)
    config = Config(audio=AUDIO, tokens=2, length=8, width=16, heads=2, depth=1, prediction=prediction)
    one = CodeModel(config, draft=True).eval()
    for value in (*one.parameters(), *one.buffers()):
        value.data = value.half().float()
    save(one, tmp_path / "codes.safetensors")
    other = load(tmp_path / "codes.safetensors")
    assert other.config == config
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    audio = sound(30).repeat(1, 2)
    assert torch.equal(generated(ChunkGenerator(one), audio), generated(ChunkGenerator(other), audio))


def test_weights_of_something_else_are_refused(tmp_path):
    weights.write(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, space="face-mesh/1")
    with pytest.raises(InputError, match="not those of a generator"):
        load(tmp_path / "other.safetensors")
    weights.write(tmp_path / "odd.safetensors", {"a": torch.zeros(1)}, space=IMPLICIT.name, config={"depth": 3})
    with pytest.raises(InputError, match="what their network looks like"):
        load(tmp_path / "odd.safetensors")


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="cannot fade"):
        ChunkGenerator(model(), fade=5)
    with pytest.raises(ValueError, match="two times"):
        ChunkGenerator(model(), times=(0.0,))
    assert times(model(), 4) == (0.0, 0.25, 0.5, 0.75, 1.0)
    epsilon = replace(model().config, prediction="epsilon")
    assert len(times(CodeModel(epsilon), 10)) == 11
    with pytest.raises(InputError, match="1 to 1000"):
        times(model(), 0)


def test_a_gain_moves_lips_further_from_the_portraits_and_nothing_else():
    one, audio = model(), sound(40)
    one.reading[3], one.pattern[3], one.pattern[4] = 1.0, 1.0, 0.5
    plain, wide = (generated(ChunkGenerator(one, fade=0, mouth_gain=gain), audio) for gain in (1.0, 2.0))
    first = slice(0, LENGTH)  # later chunks go on from what was changed
    assert torch.allclose(wide[first, 3] - OWN[3], 2 * (plain[first, 3] - OWN[3]), atol=1e-5)
    assert torch.allclose(wide[first, 4] - plain[first, 4], 0.5 * (plain[first, 3] - OWN[3]), atol=1e-5)
    others = [n for n in range(IMPLICIT.dim) if n not in (3, 4)]
    assert torch.allclose(wide[first][:, others], plain[first][:, others], atol=1e-6)


def test_guidance_makes_a_deviation_that_is_asked_for_felt():
    one, audio = model(), torch.zeros(40, AUDIO)

    def deviation(**kinds):
        return float(generated(ChunkGenerator(one, fade=0, **kinds), audio)[:LENGTH].std(0).mean())

    asked = {"control": MotionControl("portrait", 0.5)}
    assert deviation(**asked, std_guidance=1.5) > 1.1 * deviation(**asked)  # it deviates by 0.1 when nothing is asked
    assert deviation(std_guidance=1.5) == deviation()
