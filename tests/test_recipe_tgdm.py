"""TGDM's recipe at toy size: it stops, resumes to the same numbers, learns both tasks, and writes what can be read."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from vivavoce.face.morphable import Morphable
from vivavoce.nets.tgdm import KEPT, MASK, SEEN, STRETCH, Tgdm, TgdmConfig, sketched
from vivavoce.nets.vae import FirstStage
from vivavoce.recipes import RECIPES, tgdm, tgdm_compared, tgdm_toy
from vivavoce.recipes.tgdm import TgdmTask, psnr
from vivavoce.recipes.tgdm_compared import ComparedTask, variants
from vivavoce.train import loop
from vivavoce.train.loop import fit, load, run
from vivavoce.train.state import read_checkpoint

DRAWN = TgdmConfig(tgdm_toy.PAINTER, tgdm_toy.STAGE, tgdm_toy.SIDE, "clean", begins="drawn")


class StopError(Exception):
    pass


def short(steps: int):
    return replace(tgdm_toy.toy(), steps=steps, warm_up=1, judge_every=0, save_minutes=0.0)


def test_a_short_run_stops_and_resumes_to_the_same_weights(tmp_path):
    def report(step, figures):
        assert figures["of_known"] > 0
        if step == 2:
            raise StopError

    with pytest.raises(StopError):
        fit(short(4), out=tmp_path, report=report)
    assert read_checkpoint(tmp_path / loop.CHECKPOINT)[0].step == 2
    resumed, whole = (
        task.players()["painter"].state_dict() for task in (fit(short(4), out=tmp_path, resume=True), fit(short(4)))
    )
    assert all(torch.equal(value, whole[key]) for key, value in resumed.items())


def test_it_begins_with_what_is_known_and_learns_both_tasks():
    recipe = replace(tgdm_toy.toy(), steps=60, judge_every=0, ema=0.0)
    before = recipe.task().judge()
    assert before["gain"] == pytest.approx(0, abs=1e-4)
    assert before["swapped_gain"] == pytest.approx(0, abs=1e-4)
    after = fit(recipe).judge()
    assert after["gain"] > 0.3
    assert after["swapped_gain"] > 0.3


def test_weights_are_written_with_their_figures_and_read(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "load", lambda _: short(2))
    run("toy-tgdm", tmp_path)
    found = Tgdm.load(tmp_path)
    assert found.config == TgdmConfig(tgdm_toy.PAINTER, tgdm_toy.STAGE, tgdm_toy.SIDE, "clean")
    card = json.loads((tmp_path / "card.json").read_text())
    assert set(card["kept_out"]) == {"psnr", "gain", "swapped_psnr", "swapped_gain"}
    assert card["parameters"] == sum(p.numel() for p in found.painter.parameters())


def test_painters_that_tell_noise_are_trained_too():
    painter = replace(tgdm_toy.PAINTER, fold=1, patch=2)
    task = TgdmTask(TgdmConfig(painter, None, tgdm_toy.SIDE, "noise"), None, lambda: tgdm_toy.pretend(2, rng()))
    (objective,) = task.objectives(tgdm_toy.pretend(4, rng()), torch.Generator().manual_seed(0))
    assert float(objective.loss.detach()) == pytest.approx(1, abs=0.1)  # nothing is told yet, and noise has variance 1
    objective.loss.backward()
    gradient = task.net.painter.last.weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0
    assert set(task.judge()) == {"psnr", "gain", "swapped_psnr", "swapped_gain"}


def test_a_painter_is_not_told_who_it_paints_if_it_is_not_to_be():
    batch = tgdm_toy.pretend(2, rng())
    for unnamed, told in (((0, 0), [1, 1, 1]), ((1, 0), [0, 1, 1]), ((1, 2), [0, 0, 0])):
        net = Tgdm(TgdmConfig(tgdm_toy.PAINTER, tgdm_toy.STAGE, tgdm_toy.SIDE, "clean", unnamed=unnamed))
        sight = net.sight(batch.known, batch.drawn, batch.face, [])
        torch.testing.assert_close(sight.face, batch.face * torch.tensor(told).float())
    bases = Morphable.pretrained()
    assert (len(bases.identity), len(bases.texture)) == tgdm.UNNAMED


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_drawn_pairs_are_pairs():
    batch = tgdm_toy.pretend(6, rng())
    assert batch.drawn.shape == (6, SEEN, 32, 32)
    kept = batch.drawn[:, SEEN - 1].amax((1, 2))
    assert kept.tolist() == [1, 1, 1, 0, 0, 0]
    beside = (batch.drawn[:3, SEEN - 1] == 1)[:, None].expand(-1, 3, -1, -1)
    assert torch.equal(batch.known[:3][beside], batch.truth[:3][beside])
    assert psnr(batch.truth, batch, torch.ones(6, dtype=torch.bool)) > 70
    assert psnr(batch.truth, batch, torch.zeros(6, dtype=torch.bool)) == 0
    assert len(fields(batch)) == 6


def test_painters_can_begin_with_the_drawn_face_alone():
    batch = tgdm_toy.pretend(4, rng())
    known, planes = sketched(batch.known, batch.drawn)
    face, kept = batch.drawn[:, [MASK]] == 1, batch.drawn[:, [KEPT]] == 1
    three = (-1, 3, -1, -1)
    assert torch.equal(known[kept.expand(three)], batch.truth[kept.expand(three)])
    assert torch.equal(known[face.expand(three)], batch.drawn[:, :3][face.expand(three)])
    assert (known[~(face | kept).expand(three)] == -1).all()
    assert torch.equal(planes[:, :STRETCH], batch.drawn[:, :STRETCH])
    other = sketched(torch.where(kept, batch.known, torch.zeros(())), batch.drawn)[0]
    assert torch.equal(other, known)  # nothing of what is carried is seen


def test_painters_of_drawn_faces_learn_them_and_are_read_again(tmp_path):
    task = TgdmTask(DRAWN, FirstStage(tgdm_toy.STAGE), lambda: tgdm_toy.pretend(8, np.random.default_rng(7)))
    recipe = replace(tgdm_toy.toy(), task=lambda: task, steps=24, judge_every=0, ema=0.0)
    before = task.judge()
    assert before["gain"] < 0  # what is carried is better than a grey face before black
    assert fit(recipe).judge()["psnr"] > before["psnr"] + 1
    task.export(tmp_path)
    assert Tgdm.load(tmp_path).config == DRAWN


def test_painters_compared_see_the_same_and_begin_alike(tmp_path):
    def task() -> ComparedTask:
        made = dict[str, TgdmTask]()
        for name, painter in variants(tgdm_toy.PAINTER).items():
            torch.manual_seed(0)
            config, stage = replace(DRAWN, painter=painter), FirstStage(tgdm_toy.STAGE)
            made[name] = TgdmTask(config, stage, lambda: tgdm_toy.pretend(2, rng()))
        return ComparedTask(made)

    first, *others = (list(net.state_dict().values()) for net in task().players().values())
    assert all(torch.equal(*pair) for one in others for pair in zip(first, one, strict=True))
    told = dict[int, dict[str, float]]()
    names = list(task().players())
    recipe = replace(tgdm_toy.toy(), task=task, lr=dict.fromkeys(names, 3e-3), steps=12, warm_up=1, judge_every=0)
    trained = fit(recipe, report=lambda step, figures: told.update({step: dict(figures)}))
    assert len({told[0][name] for name in names}) == 1
    assert len({told[11][name] for name in names}) == 3
    assert set(trained.judge()) >= {f"{name}_swapped_psnr" for name in names}
    trained.export(tmp_path)
    whole, plain, untold = (Tgdm.load(tmp_path / name).painter.state_dict() for name in names)
    looks, told_of = "look.out.weight", "coefficients.0.weight"
    assert whole[looks].any()
    assert not plain[looks].any()  # begins as 0, never learned
    assert torch.equal(untold[told_of], first[list(whole).index(told_of)].half())
    assert not torch.equal(untold[told_of], whole[told_of])


def test_the_variants_differ_in_what_they_say():
    found = {name: load(name).name for name in RECIPES if "tgdm" in name}
    assert all(name == own for name, own in found.items())
    assert set(found) == {"tgdm", "tgdm-drawn", "tgdm-compared", "tgdm-drawn-compared", "tgdm-paper", "toy-tgdm"}
    assert tgdm.drawn().steps == tgdm_compared.drawn().steps == tgdm_compared.carried().steps
    for recipe in (tgdm_compared.drawn(), tgdm_compared.carried()):
        assert list(recipe.lr) == ["whole", "no-texture", "untold"]
    with torch.device("meta"):
        task = tgdm.paper().task()
    assert isinstance(task, TgdmTask)
    assert task.net.config.predicts == "noise"
