"""The generator's part of the streaming contract, on a toy flow that hears, remembers and drifts."""

import itertools
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.motion.conditions import Conditions
from vivavoce.motion.generate import FlowGenerator, Gate, Lips, hush
from vivavoce.motion.space import FACE_MESH
from vivavoce.system import Features, Portrait
from vivavoce.timeline import Span

DIM = FACE_MESH.dim


class ToyFlow:
    space = FACE_MESH
    audio_dim = 2
    emotions = 8
    device = torch.device("cpu")

    def prepared(self, conditions: Conditions):
        return lambda x, t: self.velocity(x, t, conditions)

    def velocity(self, x, t, conditions: Conditions):
        lead = conditions.past.shape[1]
        heard = conditions.audio[:, lead : lead + x.shape[1]].mean(-1, keepdim=True)
        heard = torch.where(conditions.present[:, :1, None], heard, -1.0)
        asked = torch.where(conditions.present[:, 3:, None], conditions.emotion.argmax(1)[:, None, None].float(), 0.0)
        return 0.5 * conditions.past[:, -1:] + heard + asked - 0.3 * x

    def centre(self, conditions: Conditions, count: int):
        return torch.zeros(1, count, DIM)

    def enter(self, rows, reference):
        return rows - reference

    def leave(self, rows, reference):
        return rows + reference


PORTRAIT = Portrait(
    torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.randn(1, DIM, generator=torch.Generator().manual_seed(1)), {}
)
GENERATOR = FlowGenerator(ToyFlow(), hop=8, past=10, lookahead=3, blend=3)


def audio(frames, seed=2):
    return torch.rand(frames, 2, generator=torch.Generator().manual_seed(seed))


def stream(rows, sizes):
    start = 0
    for size in sizes:
        yield Features(Span(start, start + size), rows[start : start + size])
        start += size


def generate(generator, rows, sizes=None, seed=5):
    drives = list(generator.drives(PORTRAIT, stream(rows, sizes or [len(rows)]), seed=seed))
    spans = [d.motion.span for d in drives]
    assert [s.start for s in spans[1:]] == [s.stop for s in spans[:-1]]
    assert torch.equal(torch.cat([d.audio for d in drives]), rows)
    return torch.cat([d.motion.rows for d in drives])


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60), st.randoms(use_true_random=False))
def test_any_chunking_gives_the_same_rows(frames, rng: random.Random):
    rows, sizes = audio(frames), []
    while sum(sizes) < frames:
        sizes.append(min(rng.randint(1, 13), frames - sum(sizes)))
    whole = generate(GENERATOR, rows)
    assert whole.shape == (frames, DIM)
    assert torch.equal(generate(GENERATOR, rows, sizes), whole)


def test_the_seed_matters():
    assert not torch.equal(generate(GENERATOR, audio(20), seed=1), generate(GENERATOR, audio(20), seed=2))


def test_latency_is_hop_plus_lookahead_and_the_future_beyond_is_not_used():
    pulled = 0

    def drip():
        nonlocal pulled
        for part in stream(audio(60), [1] * 60):
            pulled += 1
            yield part

    first = next(iter(GENERATOR.drives(PORTRAIT, drip(), seed=0)))
    assert len(first.motion.span) == GENERATOR.hop
    assert pulled == GENERATOR.hop + GENERATOR.lookahead
    rows = audio(60)
    changed = torch.cat([rows[:40], rows[40:] + 1])
    a, b = generate(GENERATOR, rows), generate(GENERATOR, changed)
    horizon = 40 - GENERATOR.hop - GENERATOR.lookahead
    assert torch.equal(a[:horizon], b[:horizon])
    assert not torch.allclose(a[40:], b[40:])


def test_windows_fade_into_each_other():
    window = itertools.count()
    counting = replace(GENERATOR, sampler=lambda _v, x, _times: torch.full_like(x, next(window)))
    level = generate(counting, audio(20))[:, 0] - PORTRAIT.reference[0, 0]
    torch.testing.assert_close(level[:8], torch.zeros(8))
    torch.testing.assert_close(level[8:11], torch.tensor([0.25, 0.5, 0.75]))
    torch.testing.assert_close(level[11:16], torch.ones(5))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"blend": 4}, "cannot blend 4 rows"),
        ({"gate": Gate(0, torch.eye(DIM), rise=4)}, "the gate looks 4 frames ahead"),
        ({"times": (0.0,)}, "at least two times"),
    ],
)
def test_contradicting_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(GENERATOR, **wrong)


def test_emotion_and_guidance_reach_the_model():
    plain = generate(GENERATOR, audio(20))
    sad = replace(GENERATOR, emotion=torch.nn.functional.one_hot(torch.tensor(6), 8).float())
    assert (generate(sad, audio(20)) > plain).all()
    same = replace(GENERATOR, guidance=(("audio", 1.0), ("emotion", 3.0)))  # no emotion given: nothing to push along
    torch.testing.assert_close(generate(same, audio(20)), plain)
    lips = torch.zeros(DIM)
    lips[FACE_MESH.slice("expression")] = 1
    pushed = generate(replace(GENERATOR, guidance=(("audio", 2.0),), guide=lips), audio(8))
    assert (pushed[:, FACE_MESH.slice("expression")] > plain[:8, FACE_MESH.slice("expression")]).all()
    torch.testing.assert_close(pushed[:, :6], plain[:8, :6])


def test_no_noise_where_none_is_spread():
    still = torch.diag(torch.arange(DIM) < 6).float()  # noise for the pose only
    one, two = (generate(replace(GENERATOR, spread=still), audio(20), seed=s) for s in (1, 2))
    torch.testing.assert_close(one[:, 6:], two[:, 6:])
    assert not torch.allclose(one[:, :6], two[:, :6])


def test_the_gate_closes_the_mouth_in_silence_and_opens_before_the_next_word():
    rows = torch.zeros(60, 2)
    rows[20:25, 0] = 1  # someone speaks for a fifth of a second
    closed = torch.eye(DIM)
    closed[FACE_MESH.slice("expression"), :] = 0
    gated = generate(replace(GENERATOR, gate=Gate(0, closed)), rows)
    free = generate(GENERATOR, rows)
    mouth = FACE_MESH.slice("expression")
    assert gated[:17, mouth].abs().max() == 0  # before anyone has spoken
    assert (gated[19, mouth].abs() > 0).all()  # already opening
    torch.testing.assert_close(gated[20, mouth] != 0, torch.ones(32, dtype=torch.bool))
    assert gated[36:, mouth].abs().max() == 0
    assert free[36:, mouth].abs().min() > 0
    assert gated[40:, :6].abs().min() > 0  # the rest lives on


def test_hush_ramps():
    speaking = torch.zeros(30, dtype=torch.bool)
    speaking[12] = True
    amount = hush(speaking, wait=2, fall=4, rise=3)
    assert amount[:9].eq(1).all()
    torch.testing.assert_close(amount[9:13], torch.tensor([1.0, 2 / 3, 1 / 3, 0.0]))
    torch.testing.assert_close(amount[13:20], torch.tensor([0, 0, 0.25, 0.5, 0.75, 1, 1]))


def test_lips_do_not_pass_through_each_other():
    opening = torch.zeros(DIM)
    opening[6:8] = torch.tensor([0.5, 0.1])
    rows = torch.randn(20, DIM)
    apart = Lips(opening, give=0.1).settled(rows, audio(20))
    before, after = rows @ opening, apart @ opening
    torch.testing.assert_close(after, torch.where(before < 0, 0.1 * before, before))
    assert torch.equal(apart[:, 8:], rows[:, 8:])
    shut = replace(GENERATOR, lips=Lips(opening, give=0.0), sampler=lambda _v, x, _times: x - 100)
    assert (generate(shut, audio(20)) @ opening).min() > -1e-3


def test_lips_meet_where_a_closed_sound_is_heard():
    opening = torch.zeros(DIM)
    opening[6] = 1.0
    lips, heard = Lips(opening, said=(1,), parted=0.0), torch.zeros(12, 2)
    heard[5, 1] = 1.0
    rows = torch.ones(12, DIM)
    after = lips.settled(rows, heard) @ opening
    torch.testing.assert_close(after[[3, 8]], torch.ones(2))
    assert after[5] == 0
    assert (after[[4, 6]] == 0).all()  # 0.6 of a certain neighbour is enough
    wide = replace(GENERATOR, lips=lips, sampler=lambda _v, x, _times: x * 0 + 100)
    made = generate(wide, heard) @ opening
    assert made[5].abs() < 1e-3
    assert (made[[0, 2, 9, 11]] > 50).all()


def test_a_sample_is_trusted_as_far_as_it_is_said():
    class Foretelling(ToyFlow):
        def centre(self, conditions, count):
            return torch.full((1, count, DIM), 3.0)

    wild = replace(GENERATOR, flow=Foretelling(), sampler=lambda _v, x, _times: x * 0 + 13)
    made = generate(replace(wild, trust=0.2 * torch.eye(DIM)), audio(8)) - PORTRAIT.reference
    torch.testing.assert_close(made, torch.full((8, DIM), 5.0), rtol=1e-4, atol=1e-4)


def test_lids_shut_no_further_than_shut():
    made = generate(replace(GENERATOR, sampler=lambda _v, x, _times: x - 100), audio(20))
    assert (made[:, FACE_MESH.slice("eyelids")] == 0).all()
    assert (made[:, FACE_MESH.slice("gaze")] < 0).all()


def test_emphasis_enlarges_what_was_made_and_noise_is_centred_where_the_flow_says():
    doubled = generate(replace(GENERATOR, emphasis=2 * torch.eye(DIM), sampler=lambda _v, x, _t: x), audio(8))
    plain = generate(replace(GENERATOR, sampler=lambda _v, x, _t: x), audio(8))
    free = [n for n in range(DIM) if n not in range(DIM)[FACE_MESH.slice("eyelids")]]  # lids stop at shut
    torch.testing.assert_close((doubled - PORTRAIT.reference)[:, free], 2 * (plain - PORTRAIT.reference)[:, free])

    class Shifted(ToyFlow):
        def centre(self, conditions, count):
            return torch.full((1, count, DIM), 7.0)

    shifted = generate(replace(GENERATOR, flow=Shifted(), sampler=lambda _v, x, _t: x), audio(8))
    torch.testing.assert_close(shifted[:, free], plain[:, free] + 7, rtol=1e-4, atol=1e-4)


def test_the_pull_keeps_a_drifting_head_near_the_portrait():
    drifting = replace(GENERATOR, sampler=lambda _v, x, _times: x + 100)
    free = generate(drifting, audio(40)) - PORTRAIT.reference
    held = generate(replace(drifting, pull=torch.full((DIM,), 0.5)), audio(40)) - PORTRAIT.reference
    torch.testing.assert_close(held, free / 2, rtol=1e-4, atol=1e-4)  # far above shut: lids are free here
