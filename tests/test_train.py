import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from vivavoce.errors import InputError
from vivavoce.recipes import RECIPES
from vivavoce.train import loop
from vivavoce.train.loop import ClosedForm, Recipe, fit, load, rate, run
from vivavoce.train.state import read_checkpoint


class StopError(Exception):
    pass


def stop_after(step):
    def report(done, _figures):
        if done == step:
            raise StopError

    return report


def weights(task):
    return {f"{name}/{k}": v for name, net in task.players().items() for k, v in net.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_flow_matching_learns():
    seen = []
    task = fit(load("toy-motion"), report=lambda _step, figures: seen.append(figures["flow"]))
    assert sum(seen[-20:]) < 0.5 * sum(seen[:20])
    assert task.judge()["nearness"] > -0.5


def test_two_players_one_loop():
    task = fit(load("toy-duel"))
    assert abs(float(task.painter(torch.zeros(1, 2)).detach()) - 3) < 1.5


@pytest.mark.parametrize("name", ["toy-motion", "toy-duel"])
def test_a_resumed_run_ends_at_the_same_weights(name, tmp_path):
    recipe = replace(load(name), steps=60, save_minutes=0.0, judge_every=0, keep="")
    whole = weights(fit(recipe))
    with pytest.raises(StopError):
        fit(recipe, out=tmp_path, report=stop_after(23))  # after the step, before its checkpoint
    assert read_checkpoint(tmp_path / loop.CHECKPOINT)[0].step == 23
    assert same(weights(fit(recipe, out=tmp_path, resume=True)), whole)
    other = weights(fit(replace(recipe, seed=1)))
    assert not same(other, whole)


def test_the_best_averaged_weights_are_kept_across_a_stop(tmp_path):
    recipe = replace(load("toy-motion"), steps=120, judge_every=10, save_minutes=0.0)
    figures = {}
    whole = fit(recipe, report=lambda step, f: figures.update({step: f["nearness"]} if "nearness" in f else {}))
    assert whole.judge()["nearness"] == pytest.approx(max(figures.values()))
    with pytest.raises(StopError):
        fit(recipe, out=tmp_path, report=stop_after(75))
    assert same(weights(fit(recipe, out=tmp_path, resume=True)), weights(whole))


def test_run_writes_weights_card_and_a_log_without_gaps(tmp_path, monkeypatch):
    short = replace(load("toy-motion"), steps=12, judge_every=4, save_minutes=0.0)
    monkeypatch.setattr(loop, "load", lambda _address: short)
    run("toy-motion", tmp_path / "a")
    with pytest.raises(InputError, match="already holds a training run"):
        run("toy-motion", tmp_path / "a")
    with (tmp_path / "a" / "log.jsonl").open("a") as log:
        log.write('{"step": 12, "fl')  # what a crash leaves
    run("toy-motion", tmp_path / "a", resume=True)
    lines = [json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(12))
    card = json.loads((tmp_path / "a" / "card.json").read_text())
    assert card["steps"] == 12
    assert card["exported_step"] in (3, 7, 11)
    assert load_file(tmp_path / "a" / "toy.safetensors")["0.weight"].shape == (16, 2)


def test_the_average_is_what_is_exported():
    recipe = replace(load("toy-motion"), steps=30, judge_every=0, keep="")
    plain, averaged = weights(fit(replace(recipe, ema=0.0))), weights(fit(replace(recipe, ema=0.99)))
    assert not same(plain, averaged)
    live = {}
    task = recipe.task
    held = {}

    def remember(step, _figures):
        live[step] = held["task"].flow[0].weight.detach().clone()

    def made():
        held["task"] = task()
        return held["task"]

    # One step: decay is min(0.99, 1/10), so the average moves nine tenths of the way to the new weights.
    torch.manual_seed(recipe.seed)
    start = task().flow[0].weight.detach().clone()
    out = fit(replace(recipe, task=made, steps=1, ema=0.99), report=remember)
    torch.testing.assert_close(out.flow[0].weight.detach(), torch.lerp(start, live[0], 0.9))


def test_rate_warms_up_and_ends_at_the_floor():
    recipe = replace(load("toy-motion"), steps=110, warm_up=10, lr_floor=0.1)
    assert rate(recipe, 0) == pytest.approx(0.1)
    assert rate(recipe, 9) == pytest.approx(1.0)
    assert rate(recipe, 60) == pytest.approx(0.55)
    assert rate(recipe, 110) == pytest.approx(0.1)


def test_a_misspelt_recipe_says_what_there_is():
    with pytest.raises(InputError, match="toy-motion, toy-duel"):
        load("mota")
    with pytest.raises(InputError, match=r"has no recipe 'duell'; it has .*duel, motion"):
        load("vivavoce.recipes.toy:duell")
    with pytest.raises(InputError, match="cannot be found"):
        load("vivavoce.recipes.toi:duel")
    with pytest.raises(InputError, match="is not a recipe"):
        load("vivavoce.recipes.toy:LineTask")


def test_a_loss_that_is_not_finite_ends_the_run_before_it_spoils_the_weights(tmp_path):
    def nan_at_five(seed):
        batch = load("toy-motion").data(seed)
        return lambda step: batch(step) * (math.nan if step == 5 else 1)

    recipe = replace(load("toy-motion"), data=nan_at_five, save_minutes=0.0)
    with pytest.raises(FloatingPointError, match="at step 5"):
        fit(recipe, out=tmp_path)
    progress, tensors = read_checkpoint(tmp_path / loop.CHECKPOINT)
    assert progress.step == 5
    assert all(torch.isfinite(v).all() for v in tensors.values())


def test_other_files_are_refused_as_checkpoints(tmp_path):
    (tmp_path / loop.CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="is not a checkpoint"):
        fit(load("toy-motion"), out=tmp_path, resume=True)
    fit(replace(load("toy-duel"), steps=2), out=tmp_path)
    with pytest.raises(InputError, match="belongs to recipe 'toy-duel'"):
        fit(load("toy-motion"), out=tmp_path, resume=True)


def test_every_named_recipe_builds():
    for name in RECIPES:
        recipe = load(name)
        assert isinstance(recipe, Recipe | ClosedForm)
        assert recipe.name
