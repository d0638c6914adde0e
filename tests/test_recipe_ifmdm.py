import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vivavoce.data.codes import Codes
from vivavoce.errors import InputError
from vivavoce.motion.chunks import ChunkGenerator
from vivavoce.motion.codes import USUAL, load
from vivavoce.motion.space import IMPLICIT
from vivavoce.nets.dit import NAMES
from vivavoce.recipes import ifmdm, spoken
from vivavoce.train import loop
from vivavoce.train.loop import fit


class StopError(Exception):
    pass


def weights(task):
    return task.model.state_dict()


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def test_the_generator_trains_stops_and_resumes_to_the_same_weights(tmp_path):
    recipe = replace(loop.load("toy-if-mdm"), steps=6, judge_every=4, save_minutes=0.0)
    whole = weights(fit(recipe))

    def stop(step, _figures):
        if step == 3:
            raise StopError

    with pytest.raises(StopError):
        fit(recipe, out=tmp_path, report=stop)
    assert same(weights(fit(recipe, out=tmp_path, resume=True)), whole)
    assert not same(weights(fit(replace(recipe, seed=1))), whole)


@pytest.mark.parametrize(
    "layout", [{}, {"goes_on": False}, {"prediction": "flow"}, {"statistics": False, "framewise": False}]
)
def test_training_learns_what_it_should(layout):
    recipe = replace(ifmdm.toy(**layout), steps=40, judge_every=0, keep="", ema=0.0)
    batch = spoken.fed(lambda: spoken.pretend(6, 0), 12, 64)(7)(0)

    def loss(task):
        with torch.no_grad():
            return float(next(task.objectives(batch, torch.Generator().manual_seed(0))).loss)

    assert loss(fit(recipe)) < 0.9 * loss(recipe.task())


def test_a_run_leaves_weights_that_load_and_a_card(tmp_path, monkeypatch):
    short = replace(ifmdm.toy(prediction="flow"), steps=4, judge_every=2)
    monkeypatch.setattr(loop, "load", lambda _address: short)
    loop.run("toy-if-mdm", tmp_path)
    told = json.loads((tmp_path / "card.json").read_text())
    assert {"correlation", "shuffled", "readable", "amplitude", "liveliness"} == told["kept_out"].keys()
    model = load(tmp_path / "if-mdm.safetensors")
    one = ifmdm.pretend(1, 3)[0]
    made = ifmdm.generated(ChunkGenerator(model), torch.from_numpy(one.take.rows[0]), one.take.audio)
    assert made.shape == (90, IMPLICIT.dim)
    assert torch.isfinite(made).all()


def test_the_lips_are_read_off_codes_that_follow_them():
    task = ifmdm.toy().task()
    one = ifmdm.pretend(1, 9)[0]
    read = torch.from_numpy(one.take.rows) @ task.model.reading
    assert ifmdm.correlation(read, torch.from_numpy(one.opening)) > 0.9
    assert float(task.model.reading @ task.model.pattern) == pytest.approx(1.0, abs=1e-4)


def test_a_usual_deviation_is_that_of_the_clips():
    task = ifmdm.toy().task()
    length = task.model.config.length + 1
    found = np.mean(
        [
            one.take.rows[at : at + length].std(0, ddof=1)
            for one in ifmdm.pretend(6, 0)
            for at in range(0, len(one.take.rows) - length + 1, length)
        ],
        axis=0,
    )
    assert torch.allclose(USUAL * task.model.spread, torch.from_numpy(found).float(), rtol=1e-4)


def test_a_draft_foretells_what_the_sound_does():
    task = ifmdm.toy().task()
    one = ifmdm.pretend(1, 9)[0]
    audio = torch.nn.functional.pad(torch.from_numpy(one.take.audio), (0, 0, 6, 3))
    drafted = task.model.leave(task.model.drafted(audio[None])[0])
    assert ifmdm.correlation(drafted @ task.model.reading, torch.from_numpy(one.opening)) > 0.5


def test_what_is_told_is_dropped_as_often_as_said_and_silence_hides_both_ways():
    losses = ifmdm.Losses(silent=0.2, drop={"heard": 0.1, "mean": 0.4})
    audible = torch.arange(8000) % 2 == 0
    shown = ifmdm.shown_at_random(audible, losses, torch.Generator().manual_seed(0)).float()
    assert not shown[~audible, :2].any()
    share = dict(zip(NAMES, shown[audible].mean(0).tolist(), strict=True))
    assert share == pytest.approx({"heard": 0.72, "said": 0.8, "hint": 1.0, "mean": 0.6, "std": 1.0}, abs=0.03)
    both = (shown[audible, :2] == 0).all(1).float().mean()
    assert float(both) == pytest.approx(0.2, abs=0.03)


def test_some_first_frames_are_known_some_stand_still_and_none_of_them_are_learned():
    task = ifmdm.toy().task()
    assert isinstance(task, ifmdm.CodeTask)
    rows, hint = torch.randn(4000, 12, 20), torch.randn(4000, 20)
    draft = torch.randn(4000, 12, 20)
    task.losses = replace(task.losses, hint_noise=0.0)
    begun, known = task._begun(rows, hint, draft, torch.Generator().manual_seed(0))
    many = known.there.sum(1)
    assert torch.equal(known.there, torch.arange(12) < many[:, None])
    assert (many > 0).float().mean() == pytest.approx(0.7, abs=0.03)
    assert set(many.unique().tolist()) == set(range(12))  # something is always left to learn
    still = (begun != hint).any(1)
    assert (still.sum() / (many > 0).sum()) == pytest.approx(0.15, abs=0.02)
    last = rows[torch.arange(4000), (many - 1).clamp(min=0)]
    at = still.nonzero()[0, 0]
    torch.testing.assert_close(begun[at], last[at])
    torch.testing.assert_close(task.model.enter(last[at]).expand(12, -1) - draft[at], known.rows[at])
    moving = ((many > 0) & ~still).nonzero()[0, 0]
    torch.testing.assert_close(task.model.enter(rows[moving]) - draft[moving], known.rows[moving])


def test_the_published_form_sees_codes_as_they_are():
    task = ifmdm.CodeTask(
        ifmdm.toy().task().model.config, ifmdm.pretend(2, 0), ifmdm.pretend(1, 1), ifmdm.PUBLISHED, normalised=False
    )
    rows = torch.randn(3, IMPLICIT.dim)
    assert torch.equal(task.model.enter(rows), rows)
    assert torch.equal(task.model.spread, torch.ones(IMPLICIT.dim))
    assert loop.load("if-mdm-paper").seed == 903


def test_missing_codes_are_an_input_error_that_says_where_they_were_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv(spoken.FOLDER, str(tmp_path))
    with pytest.raises(InputError, match=spoken.FOLDER):
        spoken.coded()
    np.savez(
        tmp_path / "one.npz",
        name="one",
        speaker="nobody",
        codes=np.zeros((3, 20), np.float32),
        valid=np.ones(3, bool),
    )
    found = spoken.coded()
    assert list(found) == ["one"]
    assert isinstance(found["one"], Codes)
