import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vivavoce.data import crops
from vivavoce.data.prepare import Prepared
from vivavoce.errors import InputError
from vivavoce.motion import keypoints
from vivavoce.nets.liveportrait import Networks
from vivavoce.recipes import keypoint
from vivavoce.train import loop
from vivavoce.train.loop import fit, load, run
from vivavoce.train.state import read_checkpoint


class StopError(Exception):
    pass


def short(steps):
    return replace(load("toy-liveportrait"), steps=steps, warm_up=1, judge_every=0, keep="", save_minutes=0.0)


def test_a_short_run_improves_stops_and_resumes_to_the_same_weights(tmp_path):
    told = []

    def report(step, figures):
        told.append(figures)
        if step == 4:
            raise StopError

    with pytest.raises(StopError):
        fit(short(8), out=tmp_path, report=report)
    assert read_checkpoint(tmp_path / loop.CHECKPOINT)[0].step == 4
    resumed = fit(short(8), out=tmp_path, resume=True, report=lambda _step, figures: told.append(figures))
    whole = fit(short(8)).networks.state_dict()
    assert all(torch.equal(value, whole[key]) for key, value in resumed.networks.state_dict().items())
    assert told[-1]["renderer"] < told[0]["renderer"]
    assert told[-1]["spread"] < told[0]["spread"]
    assert {"perceptual", "adversarial", "reconstruction", "equivariance", "pose"} <= told[0].keys()


def test_the_run_writes_a_weight_folder_that_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "load", lambda _address: short(1))
    run("toy-liveportrait", tmp_path)
    networks = Networks.load(tmp_path)
    assert set(json.loads((tmp_path / "card.json").read_text())["kept_out"]) == {"psnr", "gain"}
    points = torch.rand(1, 21, 3) - 0.5
    with torch.no_grad():
        volume = networks.appearance(torch.rand(1, 3, 32, 32))
        assert networks.decoder(networks.warping(volume, points, points).features).shape == (1, 3, 64, 64)
        change = networks.stitching(torch.cat([points, points + 0.1], 1).flatten(1))
    assert not change.any()  # the second stage is not trained, so it changes nothing


def test_the_paper_size_is_the_published_one():
    with torch.device("meta"):
        networks = Networks(keypoint.NetworksConfig())
    counts = [sum(p.numel() for p in part.parameters()) for part in (networks.warping, networks.decoder)]
    assert counts == [45_529_829, 55_365_388]
    assert load("liveportrait-paper").lr.keys() == {"renderer", "critic"}


def test_crops_keep_pictures_poses_and_landmarks(tmp_path):
    rng = np.random.default_rng(0)
    pairs = keypoint.pretend(1, rng, side=200)
    picture = pairs.pictures[0, 0].numpy().transpose(1, 2, 0).copy()
    landmarks = rng.uniform(60, 140, (478, 3)).astype(np.float32)
    rows = np.zeros((4, 48), np.float32)
    rows[:, :3] = [[10, 0, 0], [0, 10, 0], [0, 0, 10], [0, 0, 0]]
    valid = np.array([True, False, True, True])
    clip = Prepared("c", "s", "train", "driving", "none", np.stack([landmarks] * 4), rows, valid, np.zeros(0, "f4"))
    shown = [(picture, landmarks)] * 3
    crops.cut_all([(clip, shown)], tmp_path, side=64, frames=8)
    cut = crops.load(tmp_path / "c.npz")
    assert cut.speaker == "s"
    np.testing.assert_allclose(cut.pose, [[0, -10, 0], [0, 0, 10], [0, 0, 0]], atol=1e-4)
    place = (cut.guides[0] + 1) * 32  # pixels of the crop
    square = crops.upright.around(landmarks, *crops.upright.SOURCE[:2], False)
    back = place @ square.to_picture(64)[:, :2].T + square.to_picture(64)[:, 2]
    np.testing.assert_allclose(back, landmarks[list(crops.GUIDES.values()), :2], atol=1e-2)
    wanted = crops.upright.cut(picture, square, 64).transpose(2, 0, 1)
    assert np.abs(cut.picture(2).astype(int) - wanted).mean() < 6
    picture[:] = 200
    large: dict[str, Any] = {"side": 64, "frames": 8, "square": (4.0, 0.0)}
    for inside in (False, True):
        crops.cut_all([(clip, shown)], tmp_path / str(inside), **large, inside=inside)
    assert crops.load(tmp_path / "False/c.npz").picture(0).min() < 50  # black beyond the picture
    assert crops.load(tmp_path / "True/c.npz").picture(0).min() > 150
    two = keypoint.paired((tmp_path / "c.npz",), 3, np.random.default_rng(1))
    assert two.pictures.shape == (3, 2, 3, 64, 64)
    assert set(crops.GUIDES) <= set(keypoints.EYES) | set(keypoints.LIPS)


def test_other_files_are_refused_and_missing_people_named(tmp_path, monkeypatch):
    (tmp_path / "x.npz").write_bytes(b"no")
    with pytest.raises(InputError, match="holds no frames"):
        crops.load(tmp_path / "x.npz")
    monkeypatch.setenv(keypoint.FOLDER, str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "complete").touch()
    keypoint.clips.cache_clear()
    with pytest.raises(InputError, match="needs clips of people"):
        keypoint.clips()


def test_drawn_faces_lie_where_their_keypoints_say():
    pairs = keypoint.pretend(8, np.random.default_rng(3))
    assert pairs.guides.abs().max() < 1
    assert pairs.pose.abs().max() <= 20
    for pictures, guides in zip(pairs.pictures, pairs.guides, strict=True):
        eyes = (
            ((guides[:, :2] + 1) * 32).long().clamp(0, 63)
        )  # the first two are the eyes: of one colour in both frames
        colours = torch.stack([pictures[n, :, y, x] for n in range(2) for x, y in eyes[n].tolist()]).float()
        assert (colours - colours[0]).abs().max() <= 12
