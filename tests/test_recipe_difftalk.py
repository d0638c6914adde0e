"""DiffTalk's two recipes at toy size: they stop, resume to the same numbers, and learn."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vivavoce.nets.critic import CriticConfig
from vivavoce.nets.difftalk import DiffTalk, first_stage
from vivavoce.nets.vae import FirstStage
from vivavoce.recipes import difftalk
from vivavoce.recipes import first_stage as stages
from vivavoce.train import loop
from vivavoce.train.loop import fit, load, run
from vivavoce.train.state import read_checkpoint

NAMES = ("toy-difftalk-first-stage", "toy-difftalk")


class StopError(Exception):
    pass


def short(name: str, steps: int):
    recipe = replace(load(name), steps=steps, warm_up=1, judge_every=0, keep="", save_minutes=0.0)
    if name == "toy-difftalk":  # with pictures from the first step on
        recipe = replace(recipe, data=lambda seed: lambda step: load(name).data(seed)(step + 100))
    return recipe


@pytest.mark.parametrize("name", NAMES)
def test_a_short_run_stops_and_resumes_to_the_same_weights(name, tmp_path):
    def report(step, figures):
        assert figures.keys() & {"picture", "paint"}
        if step == 2:
            raise StopError

    with pytest.raises(StopError):
        fit(short(name, 4), out=tmp_path, report=report)
    assert read_checkpoint(tmp_path / loop.CHECKPOINT)[0].step == 2
    resumed, whole = (
        {key: value for net in task.players().values() for key, value in net.state_dict().items()}
        for task in (fit(short(name, 4), out=tmp_path, resume=True), fit(short(name, 4)))
    )
    assert all(torch.equal(value, whole[key]) for key, value in resumed.items())


def test_the_first_stage_begins_by_enlarging_and_learns_more():
    recipe = replace(load("toy-difftalk-first-stage"), steps=40, judge_every=0, ema=0.0)
    before = recipe.task().judge()
    after = fit(recipe).judge()
    assert after["psnr"] > before["psnr"] + 0.1
    assert after["mouth"] > before["mouth"] + 0.1


def test_the_first_stage_is_written_with_standard_latents(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "load", lambda _: short("toy-difftalk-first-stage", 2))
    run("toy-difftalk-first-stage", tmp_path)
    found = first_stage(tmp_path)
    pictures = stages.pretend(8, np.random.default_rng(7)).pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    latent = found.encode(pictures)
    assert latent.mean((0, 2, 3)).abs().max() < 0.01
    assert (latent.std((0, 2, 3)) - 1).abs().max() < 0.01
    kept_out = json.loads((tmp_path / "card.json").read_text())["kept_out"]
    assert set(kept_out) == {"psnr", "mouth", "edge"}
    off = (found.decode(latent).clamp(-1, 1) - pictures).square().mean((1, 2, 3))
    assert stages.decibels(off) == pytest.approx(kept_out["psnr"], abs=0.1)


def test_a_critic_plays_along_where_there_is_one():
    losses = stages.Losses(likeness=1.0, deceit=0.1)
    config = replace(stages.SMALL, width=8, groups=4, kind="vq", direct=False, codes=16)
    judged = stages.pretend(2, np.random.default_rng(0), 64)
    critic = CriticConfig(scales=1, first=8)
    task = stages.FirstStageTask(FirstStage(config), losses, lambda: judged, critic=critic)
    found = list(task.objectives(stages.pretend(2, np.random.default_rng(0), 64), torch.Generator()))
    assert [one.name for one in found] == ["critic", "stage"]
    assert set(found[1].notes or {}) == {"picture", "edges", "likeness", "deceit", "book"}
    found[1].loss.backward()
    assert task.stage.quantize.embedding.weight.grad is not None
    assert task.stage.encoder.conv_in.weight.grad is not None


def test_the_way_back_learns_on_while_latents_stay():
    stage = FirstStage(replace(stages.SMALL, width=8, groups=4))
    judged = stages.pretend(4, np.random.default_rng(0))
    task = stages.FirstStageTask(stage, stages.Losses(), lambda: judged, keeps_latents=True)
    recipe = replace(load("toy-difftalk-first-stage"), task=lambda: task, steps=5, judge_every=0)
    pictures = judged.pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    latent, drawn = stage.encode(pictures), stage.decode(stage.encode(pictures))
    fit(recipe)
    assert torch.equal(stage.encode(pictures), latent)
    assert not torch.equal(stage.decode(latent), drawn)


@pytest.mark.timeout(300)
def test_painting_follows_what_is_said():
    recipe = replace(load("toy-difftalk"), steps=150, judge_every=0, ema=0.0)
    before = recipe.task().judge()
    task = fit(recipe)
    after = task.judge()
    assert after["psnr"] > before["psnr"] + 1
    assert after["gain"] > 0.5  # over the reference, with which it begins
    assert after["foretold"] > 0.9
    assert isinstance(task, difftalk.DiffTalkTask)
    judged = task.judged()
    task.judged = lambda: replace(judged, talk=replace(judged.talk, speech=judged.talk.speech.roll(1, 0)))
    assert task.judge()["psnr"] < after["psnr"] - 0.5  # with another's speech


def test_references_are_worn_finely_and_coarsely():
    latent = torch.zeros(64, 3, 40, 48)
    noise = difftalk.worn(latent, 0.4, torch.Generator().manual_seed(0))
    coarse = torch.nn.functional.avg_pool2d(noise, 8)
    assert noise.std((1, 2, 3)).max() < 0.7
    assert 0.1 < float(noise.std()) < 0.4
    assert float(coarse.std()) > 0.08  # of fine noise alone an eighth would be left
    assert torch.equal(difftalk.worn(latent, 0.0, torch.Generator()), latent)


def test_hearing_is_learned_without_pictures():
    task = load("toy-difftalk").task()
    whole = load("toy-difftalk").data(0)
    heard, seen = (next(iter(task.objectives(whole(step), torch.Generator()))) for step in (0, 100))
    assert set(heard.notes or {}) == {"lips"}
    assert set(seen.notes or {}) == {"lips", "paint"}


def test_the_run_writes_networks_that_load(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "load", lambda _: short("toy-difftalk", 1))
    run("toy-difftalk", tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    assert set(card["kept_out"]) == {"psnr", "gain", "below", "foretold"}
    net = DiffTalk.load(tmp_path)
    assert net.config.painting.predicts == "clean"
    assert first_stage(tmp_path).config == net.config.first_stage


@pytest.mark.parametrize("predicts", ["noise", "clean"])
def test_both_kinds_of_denoisers_are_trained(predicts):
    recipe = load("toy-difftalk")
    task = recipe.task()
    assert isinstance(task, difftalk.DiffTalkTask)
    config = replace(task.net.config, painting=replace(task.net.config.painting, predicts=predicts))
    other = difftalk.DiffTalkTask(config, task.net.first_stage, difftalk.Losses(known=0.5), task.judged)
    objective = next(iter(other.objectives(recipe.data(0)(100), torch.Generator())))
    objective.loss.backward()
    assert other.net.unet.out[2].weight.grad.abs().max() > 0
    assert other.net.conditions.audio.encoder_fc1[0].weight.grad.abs().max() > 0
    assert all(p.grad is None for p in other.net.first_stage.parameters())
