from dataclasses import replace

import pytest
import torch

from vivavoce.errors import InputError
from vivavoce.motion import flow as flows
from vivavoce.motion.generate import FlowGenerator
from vivavoce.motion.space import FACE_MESH
from vivavoce.recipes import moda as recipes
from vivavoce.train import loop
from vivavoce.train.loop import fit, load, run


class StopError(Exception):
    pass


def weights(task):
    return task.flow.state_dict()


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def test_the_generator_trains_stops_and_resumes_to_the_same_weights(tmp_path):
    recipe = replace(load("toy-moda"), steps=12, judge_every=5, save_minutes=0.0)
    seen = []
    whole = weights(fit(recipe, report=lambda _step, figures: seen.append(figures["flow"])))

    def stop(step, _figures):
        if step == 7:
            raise StopError

    with pytest.raises(StopError):
        fit(recipe, out=tmp_path, report=stop)
    assert same(weights(fit(recipe, out=tmp_path, resume=True)), whole)
    assert not same(weights(fit(replace(recipe, seed=1))), whole)


def test_training_learns_and_the_exported_weights_load_as_they_were(tmp_path, monkeypatch):
    recipe = load("toy-moda")
    batch = recipe.data(7)(0)

    def loss(task):
        with torch.no_grad():
            return float(next(task.objectives(batch, torch.Generator().manual_seed(0))).loss)

    assert loss(fit(recipe)) < 0.9 * loss(recipe.task())
    monkeypatch.setattr(loop, "load", lambda _address: replace(recipes.moda_toy(), steps=4, judge_every=2))
    run("toy-moda", tmp_path)
    flow = flows.load(tmp_path / "moda.safetensors")
    assert flow.audio_dim == 4
    made = recipes.generated(FlowGenerator(flow), recipes.pretend(1, 3)[0])
    assert made.shape == (90, FACE_MESH.dim)
    assert torch.isfinite(made).all()


def test_entering_and_leaving_the_flow_are_inverse_and_pose_is_relative():
    flow = recipes.moda_toy().task().flow
    rows, reference = torch.randn(5, FACE_MESH.dim), torch.randn(FACE_MESH.dim)
    torch.testing.assert_close(flow.leave(flow.enter(rows, reference), reference), rows, rtol=1e-4, atol=1e-4)
    turned = reference.clone()
    turned[0] += 10
    torch.testing.assert_close(flow.enter(rows + (turned - reference), turned), flow.enter(rows, reference))
    lips = reference.clone()
    lips[10] += 10
    torch.testing.assert_close(flow.enter(rows, lips), flow.enter(rows, reference))


def test_other_weights_are_refused_by_name():
    with pytest.raises(InputError, match="'face-mesh' are not those of a motion generator"):
        flows.load("face-mesh")


def test_missing_clips_say_where_they_were_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv(recipes.FOLDER, str(tmp_path))
    recipes.clips.cache_clear()
    with pytest.raises(InputError, match=r"has no prepared clips.*VIVAVOCE_MOTION"):
        recipes.clips()


def test_numbers_count_by_how_far_they_move_the_face():
    weight = recipes.importance(recipes.FaceModel.pretrained())
    assert float(weight.mean()) == pytest.approx(1)
    assert weight[recipes.EXPRESSION].argmax() == 0
