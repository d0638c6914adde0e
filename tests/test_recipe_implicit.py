import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vivavoce.data.pairs import Pairs, beside
from vivavoce.errors import InputError
from vivavoce.nets.lia import Lia, LiaConfig
from vivavoce.nets.lia_start import start_as_source
from vivavoce.recipes import implicit
from vivavoce.recipes.ablation import with_new_flows
from vivavoce.train import loop
from vivavoce.train.loop import fit, load, run
from vivavoce.train.state import read_checkpoint


class StopError(Exception):
    pass


def short(steps):
    return replace(load("toy-if-mdm-renderer"), steps=steps, warm_up=1, judge_every=0, keep="", save_minutes=0.0)


def test_a_short_run_stops_and_resumes_to_the_same_weights(tmp_path):
    def report(step, figures):
        assert {"reconstruction", "perceptual", "adversarial", "guidance", "telling", "range"} <= figures.keys()
        if step == 3:
            raise StopError

    with pytest.raises(StopError):
        fit(short(6), out=tmp_path, report=report)
    assert read_checkpoint(tmp_path / loop.CHECKPOINT)[0].step == 3
    resumed = fit(short(6), out=tmp_path, resume=True).lia.state_dict()
    whole = fit(short(6)).lia.state_dict()
    assert all(torch.equal(value, whole[key]) for key, value in resumed.items())


@pytest.mark.timeout(300)
def test_training_brings_pictures_nearer_to_what_they_should_be():
    recipe = replace(load("toy-if-mdm-renderer"), steps=120, judge_every=0, keep="", ema=0.0)
    before = recipe.task().judge()
    after = fit(recipe).judge()
    assert after["psnr"] > before["psnr"] + 2
    assert after["mouth_gain"] > 0.2  # over the source picture, which is what it begins with


def test_new_flows_take_over_everything_else_of_a_run(tmp_path):
    made = fit(short(1), out=tmp_path)
    plain = load("toy-if-mdm-renderer").task()
    assert isinstance(plain, implicit.ImplicitTask)
    other = implicit.ImplicitTask(replace(plain.lia.config, groups=1), plain.critic.config, plain.losses, plain.judged)
    anew = with_new_flows(other, tmp_path / loop.CHECKPOINT).players()["renderer"].state_dict()
    held = read_checkpoint(tmp_path / loop.CHECKPOINT)[1]
    flows = [key for key in anew if ".flow.tell." in key]
    assert flows
    assert not any(".flow.local." in key for key in anew)
    assert all(torch.equal(anew[key], held[f"average/renderer/{key}"]) for key in anew if key not in flows)
    assert made.lia.config.groups == 2
    wide = implicit.ImplicitTask(
        replace(plain.lia.config, multiplier=0.125), plain.critic.config, plain.losses, plain.judged
    )
    with pytest.raises(InputError, match="of another size"):
        with_new_flows(wide, tmp_path / loop.CHECKPOINT)


def test_codes_are_learned_before_anything_is_painted():
    task = load("toy-if-mdm-renderer").task()
    assert isinstance(task, implicit.ImplicitTask)
    pairs = replace(implicit.pretend(4, np.random.default_rng(0)), painted=0)
    objectives = list(task.objectives(pairs, torch.Generator()))
    assert [one.name for one in objectives] == ["renderer"]
    assert set(objectives[0].notes or {}) == {"telling", "range"}
    objectives[0].loss.backward()
    assert task.lia.encoder.leave.weight.grad is not None
    assert task.lia.synthesis.start.grad is None


def test_the_run_writes_weights_that_paint(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "load", lambda _address: short(2))
    run("toy-if-mdm-renderer", tmp_path)
    assert set(json.loads((tmp_path / "card.json").read_text())["kept_out"]) == {
        "psnr",
        "gain",
        "mouth",
        "mouth_gain",
        "opening",
    }
    lia = Lia.load(tmp_path / "if-mdm-renderer.safetensors")
    assert not lia.config.normalised
    appearance, code = lia.seen(torch.rand(1, 3, 32, 32) * 2 - 1)
    assert code.abs().max() < 1
    assert lia(appearance, code).picture.shape == (1, 3, 32, 32)
    with pytest.raises(InputError, match="no networks of this kind"):
        Lia.load("phones")


def test_networks_do_the_same_without_norms():
    torch.manual_seed(0)
    lia = Lia(replace(implicit.SMALL, size=32, multiplier=0.0625, groups=2))
    pictures = torch.rand(6, 3, 32, 32) * 2 - 1
    for _ in range(3):  # running statistics that are not the ones it began with
        lia.seen(pictures * 0.5 + 0.2)
    lia.eval()
    plain = lia.plain()
    for ours, theirs in zip(lia.seen(pictures), plain.seen(pictures), strict=True):
        for a, b in zip(torch.utils._pytree.tree_leaves(ours), torch.utils._pytree.tree_leaves(theirs), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert not any("norms" in name for name in plain.state_dict())


def test_landmarks_that_the_flow_carries_home_are_not_astray():
    rng = torch.Generator().manual_seed(0)
    here = torch.rand(2, 478, 2, generator=rng) * 0.8 - 0.4
    moved = torch.tensor([0.1, -0.05])
    axis = (torch.arange(64) + 0.5) / 32 - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).expand(2, -1, -1, -1)
    assert implicit.astray(grid - moved, here + moved, here, 10.0) < 1e-4
    torch.testing.assert_close(implicit.astray(grid, here + moved, here, 0.0), torch.tensor(0.15))
    outside = here.clone()
    outside[:, 239:] = 2.0  # what is not in the picture does not count
    torch.testing.assert_close(implicit.astray(grid, here + moved, outside, 0.0), torch.tensor(0.075))


def test_lips_that_part_count_beside_heads_that_move():
    wrong = torch.full((1, 478, 2), 0.1)
    lips = [*implicit.OUTER_LIPS, *implicit.INNER_LIPS]
    torch.testing.assert_close(implicit.off(wrong, 10.0), torch.tensor(0.2))
    for n, landmark in enumerate(lips):
        wrong[0, landmark, 1] += 0.02 * (-1) ** n
    rings = len(lips) + len(implicit.LEFT_EYE) + len(implicit.RIGHT_EYE)
    torch.testing.assert_close(implicit.off(wrong, 10.0), torch.tensor(0.2 + 10 * 0.02 * len(lips) / rings))


def test_mouth_and_person_count_more():
    landmarks = torch.linspace(0.6, 0.7, 478)[None, :, None].repeat(1, 1, 2)
    lips = list(implicit.OUTER_LIPS)
    landmarks[:, lips] = torch.linspace(-0.1, 0.1, len(lips))[None, :, None]
    person = torch.zeros(1, 32, 32)
    person[:, :, 16:] = 1
    weight = implicit.weighed(landmarks, person, implicit.Losses(), 64)
    assert weight.mean() == pytest.approx(1.0, abs=1e-5)
    assert weight[0, 32, 32] > 3 * weight[0, 5, 60]
    assert weight[0, 5, 60] > weight[0, 5, 3]


def test_people_to_judge_by_are_needed(tmp_path, monkeypatch):
    monkeypatch.setenv(implicit.FOLDER, str(tmp_path))
    (tmp_path / "complete").touch()
    implicit.faces.cache_clear()
    with pytest.raises(InputError, match="needs frames of people"):
        implicit.faces()
    implicit.faces.cache_clear()


def test_networks_begin_by_painting_the_source():
    torch.manual_seed(0)
    lia = Lia(LiaConfig(size=64, multiplier=0.125, bounded=True, groups=2, normalised=True))
    start_as_source(lia)
    for level in lia.synthesis.levels:  # nothing moves
        for conv in (level.flow.local, level.flow.tell):
            conv.weight.data.zero_()
    shown = torch.rand(2, 3, 64, 64) * 2 - 1
    appearance, code = lia.plain().seen(shown)
    painted = lia.plain()(appearance, code)
    inner = (..., slice(12, -12), slice(12, -12))  # maps are padded with zeros, so masks are lower near the border
    assert (painted.picture[inner] - shown[inner]).abs().mean() < 0.2  # half a pixel: places are counted as LIA does
    flat = torch.full((1, 3, 64, 64), 0.5)
    appearance, code = lia.plain().seen(flat)
    torch.testing.assert_close(lia.plain()(appearance, code).picture[inner], flat[inner], atol=1e-4, rtol=0)


def test_told_pairs_teach_codes_and_are_not_painted():
    task = load("toy-if-mdm-renderer").task()
    assert isinstance(task, implicit.ImplicitTask)
    task.lia.eval()  # norms over the batch would make every pair count for every other
    task.critic.eval()  # and spectral norms are nearer to the truth with every look
    painted, told = (implicit.pretend(2, np.random.default_rng(seed)) for seed in (0, 1))
    together = beside(painted, replace(told, painted=0))
    assert together.painted == 2
    assert len(together.pictures) == 4

    def notes(pairs: Pairs) -> dict[str, float]:
        return dict([one.notes or {} for one in task.objectives(pairs, torch.Generator())][-1])

    alone, both, only = notes(painted), notes(together), notes(replace(told, painted=0))
    for name in ("reconstruction", "perceptual", "guidance"):
        assert both[name] == pytest.approx(alone[name], rel=1e-4)
    assert both["telling"] == pytest.approx((alone["telling"] + only["telling"]) / 2, rel=1e-4)
