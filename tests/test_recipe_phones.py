from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from vivavoce import weights
from vivavoce.errors import InputError
from vivavoce.recipes import phones as recipe
from vivavoce.speech import labelling, mixing, phones, synthesis
from vivavoce.speech.corpus import Corpus
from vivavoce.speech.network import PhoneConfig, PhoneNetwork
from vivavoce.train import loop

SMALL = PhoneConfig(width=16, hidden=8, blocks=((1, 2, 2), (2, 3, 0)))


def tones():
    """Three "phones" that differ in frequency, 200 ms each, in random order."""
    rng, pairs = np.random.default_rng(0), []
    for _ in range(6):
        order = rng.integers(0, 3, 12)
        time = np.arange(3200) / 16_000
        parts = [0.1 * np.sin(2 * np.pi * (300, 1200, 4000)[n] * time) for n in order]
        pairs.append((np.concatenate(parts).astype(np.float32), np.repeat([1, 5, 21], 1)[order].repeat(20)))
    return Corpus.of((sound, classes.astype(np.uint8)) for sound, classes in pairs)


def toy(steps=12):
    data = partial(recipe.batches, sources=lambda: [(tones(), 1.0)], size=4, count=200)
    task = partial(recipe.PhoneTask, SMALL, tones)
    return replace(recipe.main(), name="toy", task=task, data=data, steps=steps, warm_up=2, judge_every=6)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_it_learns():
    task = loop.fit(replace(toy(30), lr={"phones": 2e-2}, ema=0.0, judge_every=0))
    assert task.judge()["class, clean"] > 0.6


def test_a_resumed_run_ends_at_the_same_numbers(tmp_path):
    whole = loop.fit(toy()).network.state_dict()

    class Stopped(Exception):
        pass

    def stop(step, _figures):
        if step == 7:
            raise Stopped

    eager = replace(toy(), save_minutes=0.0)
    with pytest.raises(Stopped):
        loop.fit(eager, out=tmp_path, report=stop)
    resumed = loop.fit(eager, out=tmp_path, resume=True).network.state_dict()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_the_export_loads_into_the_encoder(tmp_path):
    task = recipe.PhoneTask(SMALL, tones)
    task.network.eval()
    card = task.export(tmp_path)
    assert set(card["unseen voices"]) >= {"class, clean", "silence, 0 dB", "mean"}
    config = weights.metadata(tmp_path / "phones.safetensors")["config"]
    assert config["blocks"] == [[1, 2, 2], [2, 3, 0]]
    weights.load_into(PhoneNetwork(SMALL), tmp_path / "phones.safetensors")


def test_a_batch_is_a_function_of_seed_and_step():
    data = partial(recipe.batches, sources=lambda: [(tones(), 1.0)], size=2, count=200)
    again, other = data(0)(3), data(0)(4)
    assert torch.equal(data(0)(3).rows, again.rows)
    assert not torch.equal(again.rows, other.rows)
    assert again.rows.isfinite().all()


def test_noise_is_mixed_at_the_asked_level():
    speech, noise = np.full((50, 64), -8.0, np.float32), np.full((50, 64), -3.0, np.float32)
    mixed = mixing.add(speech, noise, 10.0)
    assert np.allclose(np.exp(mixed) / np.exp(speech), 1.1, rtol=1e-3)


def test_a_room_only_adds_what_comes_after():
    rows = np.full((100, 64), np.log(1e-9), np.float32)
    rows[40] = -5.0
    wet = mixing.room(np.random.default_rng(0), rows)
    assert np.allclose(wet[:40], rows[:40] + np.log(2), atol=0.2)  # the floor is added twice
    assert (np.diff(wet[41:60], axis=0) <= 1e-4).all()
    assert (wet[41] > -14).all()


def test_segments_become_rows_and_diphthongs_are_split():
    rows = synthesis.rows_of([(0.0, 0.1, ("sil",)), (0.1, 0.3, ("a", "u"))], 4800)
    assert rows.tolist() == [0] * 10 + [phones.INDEX["a"]] * 10 + [phones.INDEX["u"]] * 10


def test_a_modifier_lengthens_the_phone_before_it():
    segments = synthesis.segments_of([(0, "t"), (100, "ʲ"), (200, "a"), (200, "p"), (300, "")], 400, 100)
    assert segments == [(0.0, 2.0, ("t",)), (2.0, 3.0, ("p",)), (3.0, 4.0, ("sil",))]


def test_grid_names_spell_their_sentence():
    assert labelling.spoken_words("grid_s1_bbaf2n") == "bin blue at f two now"
    assert labelling.spoken_words("lrs3_shG0ezBeeJc") is None


def test_a_corpus_keeps_its_parts_apart(tmp_path):
    corpus = tones()
    corpus.save(tmp_path / "tones.safetensors")
    loaded = Corpus.load(tmp_path / "tones.safetensors")
    both = Corpus.joined([corpus, loaded])
    assert len(both) == 12
    assert all(np.array_equal(a, b) for a, b in zip(both[8], corpus[2], strict=True))
    with pytest.raises(InputError, match="no labelled speech"):
        Corpus.load(tmp_path / "nothing.safetensors")
