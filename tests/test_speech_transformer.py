"""Speech models of transformers, streamed; tests/golden/moda_speech.safetensors was recorded from MoDA's release."""

from itertools import pairwise
from pathlib import Path

import pytest
import speech_models
import torch
from golden import weights as golden
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from vivavoce.errors import InputError
from vivavoce.speech.pretrained import load
from vivavoce.speech.transformer import CLOCK, Loudness, TransformerEncoder, added, spread
from vivavoce.timeline import Clock

pytest.importorskip("transformers")
RECORDED = load_file(Path(__file__).parent / "golden" / "moda_speech.safetensors")["rows"]  # [40, layers, width]
SOUND = golden.normal(8, "sound", (40 * 640,), 0.1)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return load(speech_models.folder(tmp_path_factory.mktemp("models") / "hubert"))


def rows(encoder, *pieces):
    with torch.inference_mode():
        heard = list(encoder.features(CLOCK, pieces))
    starts = [one.span.start for one in heard]
    assert starts == [0, *[one.span.stop for one in heard[:-1]]]
    assert all(len(one.span) == len(one.rows) <= encoder.hop for one in heard)
    return torch.cat([one.rows for one in heard])


def difference(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("hop", [64, 25, 10])
def test_sound_that_fits_the_window_is_heard_as_the_release_hears_it(network, hop):
    encoder = TransformerEncoder(network, hop=hop, after=64 - hop)
    assert encoder.dim == RECORDED[0].numel() == 96
    assert difference(rows(encoder, SOUND), RECORDED.flatten(1)) < 2e-6


def test_the_release_is_not_matched_by_accident(network):
    assert difference(rows(TransformerEncoder(network, emphasis=0.97), SOUND), RECORDED.flatten(1)) > 0.05
    assert difference(rows(TransformerEncoder(network), SOUND.flip(0)), RECORDED.flatten(1)) > 0.5


@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(1, 70_000), max_size=6), last=st.integers(1, 70_000))
def test_any_chunking_gives_the_same_rows(network, cuts, last):
    sound = golden.normal(9, "long", (last,), 0.1)
    encoder = TransformerEncoder(network, hop=20, before=15, after=5, emphasis=0.97)
    at = [0, *sorted({cut for cut in cuts if cut < last}), last]
    whole = rows(encoder, sound)
    assert len(whole) == -(-last // 640)
    assert torch.equal(rows(encoder, *(sound[a:b] for a, b in pairwise(at))), whole)


@pytest.mark.parametrize("large", [False, True])
def test_nothing_beyond_the_lookahead_is_heard(network, tmp_path, large):
    model = load(speech_models.folder(tmp_path / "large", "wav2vec2", large=True)) if large else network
    encoder = TransformerEncoder(model, hop=10, before=10, after=3)
    sound = golden.normal(9, "long", (60 * 640,), 0.1)
    changed = sound.clone()
    changed[34 * 640 :] = 0
    a, b = rows(encoder, sound), rows(encoder, changed)
    assert encoder.lookahead == 4
    assert torch.equal(a[:30], b[:30])
    assert not torch.equal(a[30:31], b[30:31])
    given, taken = iter(sound.split(640)), 0

    def drip():
        nonlocal taken
        for frame in given:
            taken += 1
            yield frame

    next(encoder.features(CLOCK, drip()))
    assert taken == encoder.hop + encoder.lookahead


def test_more_context_comes_closer_to_the_whole(network):
    sound = golden.normal(9, "long", (500 * 640,), 0.1)
    whole = rows(TransformerEncoder(network, hop=500), sound)
    errors = [
        difference(rows(TransformerEncoder(network, hop=50, before=context, after=context // 2), sound), whole)
        for context in (0, 50, 400)
    ]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("large", [False, True])
def test_gain_and_offset_are_not_heard_but_a_still_room_stays_still(network, tmp_path, large):
    model = load(speech_models.folder(tmp_path / "large", "wav2vec2", large=True)) if large else network
    encoder = TransformerEncoder(model, hop=20)
    reference = rows(encoder, SOUND)
    assert difference(rows(encoder, 2 * SOUND), reference) < 1e-3
    assert difference(rows(encoder, 0.1 * SOUND + 0.2), reference) < 1e-3
    quiet = [difference(rows(encoder, level * SOUND), rows(encoder, 0 * SOUND)) for level in (1e-3, 1e-5)]
    assert quiet[1] < 0.1 * difference(reference, rows(encoder, 0 * SOUND))
    assert quiet[1] < quiet[0]


@pytest.mark.parametrize(
    ("kind", "large"), [("hubert", False), ("hubert", True), ("wav2vec2", False), ("wav2vec2", True)]
)
def test_layers_are_those_of_the_library(tmp_path, kind, large):
    network = load(speech_models.folder(tmp_path, kind, large=large))
    with torch.inference_mode():
        sound = golden.normal(3, "sound", (640 * 20 + 80,))
        sound = (sound - sound.mean()) / sound.std()
        given = network.model(sound[None], output_hidden_states=True)
        # Releases differ in whether the last hidden state of large models is normalised; the last output always is.
        theirs = [*given.hidden_states[1:-1], given.last_hidden_state]
        features = network.model.feature_extractor(sound[None])[0].T
        ours = network.hidden(features)
    assert ours.shape == (40, network.dim)
    assert difference(ours, torch.cat([layer[0] for layer in theirs], 1)) < 1e-6


def test_sound_that_is_no_sound_is_silence_or_clipped(network):
    encoder = TransformerEncoder(network, hop=20)
    broken = SOUND.clone()
    broken[[5, 700, 9000]] = torch.tensor([float("nan"), float("inf"), 7.0])
    mended = SOUND.clone()
    mended[[5, 700, 9000]] = torch.tensor([0.0, 0.0, 1.0])
    assert torch.equal(rows(encoder, broken), rows(encoder, mended))
    assert torch.isfinite(rows(encoder, torch.zeros(640 * 50))).all()
    assert list(encoder.features(CLOCK, [])) == []


def test_loudness_is_that_of_everything_heard_until_it_fades():
    data = golden.normal(4, "data", (2, 700), 3.0) + 5
    moments = Loudness.start(2).channels
    for piece in data.split(100, 1):
        moments = added(moments, piece, most=10_000)
    mean, variance = spread(moments)
    torch.testing.assert_close(mean.float(), data.mean(1))
    torch.testing.assert_close(variance.float(), data.var(1, correction=0))
    for piece in (0 * data[:, :300]).split(100, 1):
        moments = added(moments, piece, most=100)
    assert torch.equal(moments[0], torch.full((2,), 100.0, dtype=torch.float64))
    assert not spread(moments)[0].any()


@pytest.mark.parametrize(
    ("change", "words"),
    [({"hop": 0}, "at least 1"), ({"before": -1}, "none below 0"), ({"emphasis": 1.0}, "less than 1")],
)
def test_impossible_windows_are_refused(network, change, words):
    with pytest.raises(InputError, match=words):
        TransformerEncoder(network, **change)


def test_another_clock_is_refused(network):
    with pytest.raises(InputError, match="8000 Hz"):
        next(TransformerEncoder(network).features(Clock(sample_rate=8000), [SOUND]))
