from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from test_recipe_phones import SMALL, tones

from vivavoce import weights
from vivavoce.recipes import lips as recipe
from vivavoce.recipes import phones
from vivavoce.speech.network import PhoneNetwork
from vivavoce.train import loop

LIPS = 3
SPEAKERS = 4


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def follow(speaker):
    """A clip whose lips open while the highest of three tones is heard."""
    speech = tones()
    classes = np.concatenate([speech[n][1] for n in range(len(speech))])
    opened = (classes == 21)[::4].astype(np.float32)
    lips = np.stack([opened, 1 - opened, 0.5 * opened], 1)
    return recipe.Spoken(f"speaker {speaker}", speech.rows, (lips - lips.mean(0)).astype(np.float32))


def clips():
    return recipe.evened([follow(n) for n in range(SPEAKERS)])


def toy(steps=12, start=None):
    speech = partial(phones.batches, sources=lambda: [(tones(), 1.0)], size=4, count=200)

    def task():
        return recipe.LipTask(phones.PhoneTask(SMALL, tones), [follow(9)], lips=LIPS, start=start)

    data = recipe.batches(clips, speech, size=4, frames=50)
    return replace(recipe.main(), name="toy", task=task, data=data, steps=steps, warm_up=2, judge_every=6)


def test_lips_of_strangers_are_learned_beside_the_phones():
    task = loop.fit(replace(toy(60), lr={"listener": 2e-2}, ema=0.0, judge_every=0))
    figures = task.judge()
    assert figures["lip opening"] > 0.6
    assert figures["class, clean"] > 0.6


def test_a_resumed_run_ends_at_the_same_numbers(tmp_path):
    whole = loop.fit(toy()).listener.state_dict()

    class Stopped(Exception):
        pass

    def stop(step, _figures):
        if step == 7:
            raise Stopped

    eager = replace(toy(), save_minutes=0.0)
    with pytest.raises(Stopped):
        loop.fit(eager, out=tmp_path, report=stop)
    resumed = loop.fit(eager, out=tmp_path, resume=True).listener.state_dict()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_it_goes_on_from_an_encoder_and_exports_one(tmp_path):
    first = PhoneNetwork(SMALL)
    weights.write(tmp_path / "first.safetensors", first.state_dict(), config={})
    task = toy(0, start=tmp_path / "first.safetensors").task()
    assert all(torch.equal(value, task.listener.network.state_dict()[key]) for key, value in first.state_dict().items())
    task.listener.eval()
    assert "lip opening" in task.export(tmp_path)["kept out"]
    weights.load_into(PhoneNetwork(SMALL), tmp_path / "phones.safetensors")


def test_every_mouth_opens_about_as_far_and_about_its_own_mean():
    one = follow(0)
    mumbler = recipe.Spoken("mumbler", one.rows, 0.5 * one.lips)
    silent = recipe.Spoken("silent", one.rows, 0.001 * one.lips)
    whole, half, still = recipe.evened([one, mumbler, silent])
    np.testing.assert_allclose(whole.lips, half.lips, rtol=1e-4, atol=1e-5)
    assert still.lips.std() < 0.1 * whole.lips.std()


def test_a_guess_is_read_from_the_frames_own_sound():
    listener = recipe.Listener(SMALL, LIPS).eval()
    with torch.no_grad():
        listener.read.weight.zero_()
        listener.read.weight[0, 0, recipe.BACK] = 1.0
        rows = torch.randn(1, 80, 64)
        _, hidden, _ = listener.network(rows, listener.network.start(1))
        guess = listener(rows)[0, :, 0] - listener.read.bias[0]
    there = hidden.shape[1] // 2
    torch.testing.assert_close(guess[:there], hidden[0, 0 : 2 * there : 2, 0])
