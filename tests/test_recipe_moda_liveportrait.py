from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from keypoint_weights import toy_networks

from vivavoce.data import keypoints as data
from vivavoce.data.clips import Recording
from vivavoce.errors import InputError
from vivavoce.media.read import read_image
from vivavoce.media.write import write_video
from vivavoce.motion.space import KEYPOINT
from vivavoce.motion.windows import LIP_NUMBERS, SCALE, WINDOW, load
from vivavoce.nets.sync import SyncConfig, SyncExpert
from vivavoce.recipes import moda_liveportrait as recipes
from vivavoce.render.keypoint import KeypointRenderer
from vivavoce.system import Clip
from vivavoce.timeline import Clock, Span
from vivavoce.train import loop
from vivavoce.train.loop import fit

PORTRAIT = Path(__file__).parents[1] / "assets" / "demo_portrait.jpg"


class StopError(Exception):
    pass


def test_it_trains_stops_and_resumes_to_the_same_weights(tmp_path):
    recipe = replace(loop.load("toy-moda-liveportrait"), steps=6, judge_every=3, save_minutes=0.0)
    whole = fit(recipe).flow.state_dict()

    def stop(step, _figures):
        if step == 3:
            raise StopError

    with pytest.raises(StopError):
        fit(recipe, out=tmp_path, report=stop)
    resumed = fit(recipe, out=tmp_path, resume=True).flow.state_dict()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_it_learns_and_what_it_writes_is_what_the_system_reads(tmp_path):
    recipe = replace(loop.load("toy-moda-liveportrait"), steps=60, judge_every=0, ema=0.0, lr={"flow": 1e-2})
    batch = recipe.data(7)(0)

    def loss(task):
        with torch.no_grad():
            return float(next(task.objectives(batch, torch.Generator().manual_seed(0))).loss)

    task = fit(recipe)
    assert loss(task) < 0.9 * loss(recipe.task())
    with torch.no_grad():
        task.export(tmp_path)
    flow = load(tmp_path / "moda.safetensors")
    assert all(torch.equal(v, flow.state_dict()[k]) for k, v in task.flow.state_dict().items())


def task(**losses):
    takes = recipes.pretend(3, 0)
    config = recipes.toy().task().flow.net.config
    return recipes.KeypointTask(config, takes, (), recipes.Losses(**losses))


def test_dead_numbers_are_not_learned_and_lips_count_more():
    weight = task().weight
    assert weight[SCALE.stop + 2] == 0
    assert weight[LIP_NUMBERS[0]] > weight[0] > 0
    pose = weight[63:].clone()
    assert pose[pose > 0].min() == pytest.approx(1 / 6)  # depth does not count


def test_conditions_are_hidden_each_by_its_own_probability():
    batch = recipes.batches(lambda: recipes.pretend(3, 0), 200)(0)(0)
    given = recipes.dropped(batch.conditions, {"audio": 1.0, "emotion": 0.0}, torch.Generator().manual_seed(0))
    assert not given.present[:, 0].any()
    assert given.present[:, 1:3].all()
    assert torch.equal(given.present[:, 3], batch.conditions.present[:, 3])


def test_windows_show_the_row_before_and_end_with_the_clip():
    takes = recipes.pretend(1, 0)
    batch = recipes.batches(lambda: takes, 50)(0)(0)
    assert batch.rows.shape == (50, WINDOW, KEYPOINT.dim)
    rows = torch.from_numpy(takes[0].rows)
    for window, shown, valid in zip(batch.rows, batch.conditions.past[:, 0], batch.valid, strict=True):
        start = int((rows == window[0]).all(1).nonzero()[0])
        if start:
            assert torch.equal(shown, rows[start - 1])
        assert int(valid.sum()) == min(WINDOW, len(rows) - start)


def test_a_head_of_any_size_is_learned_as_an_average_one():
    small = recipes.pretend(1, 0)[0]
    twice = np.ones(KEYPOINT.dim, np.float32)
    twice[SCALE.start : SCALE.stop + 3] = 2
    large = replace(small, rows=small.rows * twice)
    flow = task().flow
    recipes.measure(flow, [small, large])
    alone = task().flow
    recipes.measure(alone, [small])
    torch.testing.assert_close(flow.std[SCALE] / flow.mean[SCALE], alone.std[SCALE] / alone.mean[SCALE])


def test_an_expert_adds_its_loss():
    expert = SyncExpert(SyncConfig(audio=4, lips=len(LIP_NUMBERS), width=8)).eval().requires_grad_(False)
    with torch.no_grad():
        expert.hear[-1].bias.fill_(1.0)
        expert.see[-1].bias.fill_(1.0)
    plain = task()
    batch = recipes.batches(lambda: recipes.pretend(3, 0), 4)(0)(0)
    taught = recipes.KeypointTask(plain.flow.net.config, recipes.pretend(3, 0), (), recipes.Losses(), expert=expert)
    rng = torch.Generator()
    assert "sync loss" in next(taught.objectives(batch, rng)).notes
    assert "sync loss" not in next(plain.objectives(batch, rng)).notes


class Sized(recipes.KeypointTask):
    """A task that only remembers how large it was to be."""

    def __init__(self, config, *_):
        self.config = config


def test_the_sizes(monkeypatch):
    asked = []
    monkeypatch.setattr(recipes, "takes", lambda speech: asked.append(speech) or (recipes.pretend(2, 0), ()))
    monkeypatch.setattr(recipes, "KeypointTask", Sized)
    monkeypatch.setenv(recipes.SPEECH_MODEL, "hubert")
    paper, small = recipes.paper().task().config, recipes.small().task().config
    assert (paper.width, paper.four, paper.two, paper.one) == (768, 3, 6, 12)
    assert (small.width, small.four, small.two, small.one) == (256, 1, 2, 4)
    assert asked == ["hubert", "phones"]


def test_a_recording_is_measured_and_read_back(tmp_path):
    frames = read_image(PORTRAIT).expand(16, -1, -1, -1)
    write_video(tmp_path / "film.mp4", [Clip(Span(0, 16), frames, torch.zeros(16 * 640))], Clock())
    recording = Recording(tmp_path / "film.mp4", "talking", "train", "somebody", "happiness", 0)
    renderer = KeypointRenderer(toy_networks())
    data.prepare([recording], renderer, tmp_path / "out", lambda _line: None)
    clip = data.load(tmp_path / "out" / "film.npz")
    assert clip.rows.shape == (16, KEYPOINT.dim)
    assert clip.canonical.shape == (21, 3)
    assert (clip.speaker, clip.emotion) == ("somebody", "happiness")
    assert len(clip.audio) == 16 * 640
    (tmp_path / "broken.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a prepared clip"):
        data.load(tmp_path / "broken.npz")


def test_a_folder_without_clips_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(recipes.FOLDER, str(tmp_path))
    recipes.takes.cache_clear()
    with pytest.raises(InputError, match="prepared keypoint motion"):
        recipes.takes("phones")
