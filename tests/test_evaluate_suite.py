"""The parts that put the figures together, on systems and clips whose figures are known."""

import json
import math
from dataclasses import replace
from pathlib import Path

import fake_system
import numpy as np
import pytest
import torch

from vivavoce.data.clips import Recording
from vivavoce.data.prepare import Prepared
from vivavoce.evaluate import reenactment, suite, talking
from vivavoce.evaluate.reenactment import Tally, View, view
from vivavoce.evaluate.report import Bar, markdown, table
from vivavoce.evaluate.seen import Seen, compared, truth_correlation
from vivavoce.face.model import FaceModel
from vivavoce.face.track import Face
from vivavoce.media.write import write_video
from vivavoce.motion import lips as readings
from vivavoce.motion.space import FACE_MESH, Motion
from vivavoce.render.mesh import MeshRenderer
from vivavoce.system import Clip, Drive, Frames, Portrait, System
from vivavoce.timeline import Clock, Span

OPENING = readings.opening(FaceModel.pretrained()).numpy().astype(np.float64)


def syllables(frames=100, seed=0):
    """How far the lips are open: short syllables with closures between."""
    rng = np.random.default_rng(seed)
    track = np.zeros(frames)
    at = 3
    while at < frames - 8:
        length = int(rng.integers(4, 8))
        track[at : at + length] = 0.1
        at += length + int(rng.integers(2, 4))
    return track


def speaker(name="ann", seed=0, frames=100):
    track = syllables(frames, seed)
    rows = np.zeros((frames, 48), np.float32)
    rows[:, FACE_MESH.slice("eyelids")] = 1
    rows[:, FACE_MESH.slice("scale")] = 1
    rows[:, FACE_MESH.slice("expression")] = track[:, None] * OPENING / (OPENING @ OPENING)
    rows[:, 0] = np.cumsum(np.random.default_rng(seed).normal(size=frames))
    sound = np.random.default_rng(seed).normal(size=frames * 640) * np.repeat(0.01 + track, 640)
    marks = np.zeros((frames, 478, 3), np.float32)
    return Prepared(
        name, name, "heldout", "talking", "none", marks, rows, np.ones(frames, bool), sound.astype(np.float32)
    )


def test_the_truth_scores_perfectly_against_itself():
    true = talking.truth(speaker(), None)
    assert len(true.closures) > 5
    found = talking.pooled([talking.score(true.rows, true)])
    assert found["opening"] == pytest.approx(1)
    assert found["lag"] == 0
    assert found["lip_error"] == 0
    assert found["closure"] == 1
    assert found["wrongly_closed"] == 0
    assert found["amplitude"] == pytest.approx(1)
    ratios = talking.compared(found, found)
    assert ratios == {"turning_ratio": 1, "moving_ratio": 0, "lip_speed_ratio": 1}


def test_late_wide_and_closed_motion_is_found_out():
    true = talking.truth(speaker(), None)
    late = talking.pooled([talking.score(np.roll(true.rows, 3, 0), true)])
    assert late["lag"] == 3
    assert late["opening"] < 0.6
    closed = talking.pooled([talking.score(np.zeros_like(true.rows), true)])
    assert (closed["closure"], closed["wrongly_closed"], closed["opening"]) == (1, 1, 0)
    never = true.rows.copy()
    never[:, FACE_MESH.slice("expression")] += 0.05 * OPENING / (OPENING @ OPENING)
    assert talking.pooled([talking.score(never, true)])["closure"] == 0


def test_scores_are_pooled_by_frames():
    long, short = talking.truth(speaker(frames=150), None), talking.truth(speaker(frames=50), None)
    scores = [talking.score(long.rows, long), talking.score(np.zeros_like(short.rows), short)]
    assert talking.pooled(scores)["opening"] == pytest.approx(0.75)


def test_motion_is_what_the_renderer_would_get():
    system = fake_system.assemble()
    still = Portrait(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.zeros(1, 48), {})
    sound = np.repeat(np.linspace(0, 1, 30), 640).astype(np.float32)
    rows = talking.motion(system, still, sound, seed=3)
    assert rows.shape == (30, 48)
    assert (np.diff(rows[:, 0]) > 0).all()
    assert np.array_equal(rows, talking.motion(system, still, sound, seed=3))
    assert not np.array_equal(rows, talking.motion(system, still, sound, seed=4))
    edited = replace(system, edit=_Doubled())
    np.testing.assert_allclose(talking.motion(edited, still, sound, seed=3), 2 * rows, rtol=1e-6)


class _Doubled(type(fake_system.assemble().edit)):
    def starting(self, reference, seed):
        return lambda motion: replace(motion, rows=2 * motion.rows)


def test_shuffled_audio_is_another_persons():
    clips = [speaker("ann", 0), speaker("ann", 1), speaker("bob", 2, frames=40)]
    assert np.array_equal(talking.another_voice(clips, 0)[: 40 * 640], clips[2].audio)
    assert len(talking.another_voice(clips, 0)) == len(clips[0].audio)
    assert np.array_equal(talking.another_voice(clips, 2), clips[0].audio[: 40 * 640])
    with pytest.raises(ValueError, match="two speakers"):
        talking.another_voice(clips[:2], 0)


def test_silence_is_measured_after_the_mouth_had_time_to_close():
    opening = np.concatenate([np.full(50, 0.1), np.full(12, 0.08), np.full(63, 0.01)])
    rows = np.zeros((125, 48))
    rows[:, FACE_MESH.slice("expression")] = opening[:, None] * OPENING / (OPENING @ OPENING)
    np.testing.assert_allclose(talking.after_speech(rows, 50), 0.1)
    assert len(talking.with_silence(np.zeros(640, np.float32))) == 76 * 640


def test_the_view_stays_inside_the_picture():
    model = FaceModel.pretrained()
    for place in ((20.0, 30.0), (200.0, 150.0), (390.0, 290.0)):
        found = view(model.mean * 120 + np.array([*place, 0]), 400, 300, 512)
        assert found.left >= 0
        assert found.top >= 0
        assert found.left + found.side <= 400
        assert found.top + found.side <= 300
    marked = torch.zeros(3, 300, 400, dtype=torch.uint8)
    marked[:, 100:104, 200:204] = 255
    found = View(100, 50, 200, 400)
    points = np.zeros((478, 3))
    points[0] = [202, 102, 0]
    x, y, _ = found.points(points)[0]
    assert found.picture(marked)[int(y), int(x)].min() > 200


def test_tallies_average_over_frames_and_ignore_what_was_not_seen():
    one, two = Tally(), Tally()
    for value in (1.0, 2.0, None, 3.0):
        one.add("a", value)
    two.add("a", 10.0)
    two.add("b", 4.0)
    one.merge(two)
    assert one.means() == {"a": 4.0, "b": 4.0}


def test_bars_hold_at_their_ends_and_not_for_the_unknown():
    assert Bar("x", 0.6, at_least=0.6).met
    assert not Bar("x", 0.59, at_least=0.6).met
    assert Bar("x", 1.0, at_least=-1.0, at_most=1.0).met
    assert not Bar("x", math.nan, at_least=-1.0, at_most=1.0).met
    assert Bar("x", 0.0, at_most=0.1).wanted == "≤ 0.1"
    assert table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


class _Puppeteer:
    """A generator that says the rows of a speaker, whatever it hears."""

    space, audio_dim, hop, lookahead = FACE_MESH, 1, 5, 0

    def drives(self, portrait, features, *, seed):
        rows = torch.from_numpy(np.concatenate([speaker().rows, np.zeros((75, 48), np.float32)]))
        for heard in features:
            yield Drive(Motion(heard.span, FACE_MESH, rows[heard.span.start : heard.span.stop]), heard.rows)


class _Still(MeshRenderer):
    """A renderer of known pictures: the portrait, lighter by 10."""

    def portrait(self, source):
        return Portrait(source, torch.zeros(1, 48), {})

    def frames(self, portrait, drives):
        for drive in drives:
            yield Frames(drive.motion.span, (portrait.source + 10).expand(len(drive.motion.span), -1, -1, -1))


class _Tracker:
    """Finds the mean face everywhere."""

    def follow(self, frames):
        for _ in frames:
            yield Face((FaceModel.pretrained().mean * 24 + np.array([32, 32, 0])).astype(np.float32))


@pytest.fixture
def puppet(monkeypatch, tmp_path):
    """A system that repeats the truth and draws the first frame 10 levels lighter, and two recordings of it."""
    parts = fake_system.assemble()
    system = System("puppet", Clock(), parts.audio_encoder, _Puppeteer(), _Still(size=64))
    photo = torch.full((1, 3, 64, 64), 100, dtype=torch.uint8)
    recordings = []
    for name in ("ann", "bob"):
        path = tmp_path / f"{name}.mp4"
        write_video(path, [Clip(Span(0, 100), photo.expand(100, -1, -1, -1), torch.zeros(64_000))], Clock())
        recordings.append(Recording(path, "talking", "heldout", name, "none", 0))
    (tmp_path / "out" / "clips").mkdir(parents=True)
    marks = np.repeat((FaceModel.pretrained().mean * 24 + np.array([32, 32, 0]))[None], 100, 0).astype(np.float32)
    for recording in recordings:
        from vivavoce.data.prepare import save

        save(replace(speaker(recording.name), landmarks=marks), tmp_path / "out" / "clips" / f"{recording.name}.npz")
    monkeypatch.setattr(suite, "recordings", lambda *_, **__: recordings)
    monkeypatch.setattr(suite, "load_system", lambda *_, **__: system)
    monkeypatch.setattr(suite, "MeshRenderer", _Still)
    monkeypatch.setattr(talking, "bilabials", lambda sound, frames: np.ones(frames))
    monkeypatch.setattr(suite, "SIZE", 64)
    monkeypatch.setattr(suite, "FaceTracker", _Tracker)
    return tmp_path / "out"


def test_the_suite_writes_what_it_found(puppet):
    said = []
    results = suite.run(Path("data"), "heldout", puppet, report=said.append)
    assert results.talking["one sample"]["opening"] == pytest.approx(1)
    assert results.talking["mean face"]["opening"] == 0
    assert results.talking["one sample"]["opening_in_silence"] == 0
    assert results.talking["real people"]["closure"] == 1
    offset = results.reenactment["vivavoce/face/psnr"]
    assert offset == pytest.approx(20 * math.log10(255 / 10), abs=0.5)  # the video codec rounds
    assert results.reenactment["first frame/face/psnr"] > 45
    assert results.reenactment["plain warp/frame/psnr"] == pytest.approx(results.reenactment["vivavoce/frame/psnr"])
    written = json.loads((puppet / "results.json").read_text())
    assert written["talking"]["one sample"]["lag"] == 0
    assert written["clips"] == ["ann", "bob"]
    page = (puppet / "results.md").read_text()
    assert page == markdown(results)
    met = {bar["what"]: bar["value"] for bar in written["bars"]}
    assert met["lip opening, correlation with the truth"] == pytest.approx(1)
    assert "| lip opening, correlation with the truth | 1 | ≥ 0.6 | yes |" in page
    assert "**no**" in page  # the face is darker than copying would be
    assert len(said) == 6
    assert results.seen["face_found"] == 1
    assert results.seen["correlation"] == 0  # the drawn face never moves


def test_weights_reach_what_speaks_and_what_follows(puppet, monkeypatch):
    system, asked = suite.load_system(), []
    monkeypatch.setattr(suite, "load_system", lambda name, **options: asked.append((name, options)) or system)
    suite.run(Path("data"), "heldout", puppet, system="moda-liveportrait", weights=Path("w"), report=lambda _: None)
    assert {name for name, _ in asked} == {"moda-liveportrait", "liveportrait"}
    assert all(options["weights"] == Path("w") for _, options in asked)


def test_what_is_seen_is_compared_with_what_was_meant():
    meant = syllables()
    piece = Seen(meant, 0.5 * np.roll(meant, 2) + 0.01, np.arange(100) > 0)
    found = compared([piece])
    assert found["lag"] == 2
    assert found["face_found"] == pytest.approx(0.99)
    straight = Seen(meant, 0.5 * meant + 0.01, np.ones(100, bool))
    assert compared([straight])["gain"] == pytest.approx(0.5)
    assert truth_correlation([straight], [meant[:80]]) == pytest.approx(1)


def test_frames_of_a_shorter_video_end_the_comparison(puppet, tmp_path):
    recording = suite.recordings()[0]
    long = speaker("ann", frames=120)
    marks = np.repeat((FaceModel.pretrained().mean * 24 + np.array([32, 32, 0]))[None], 120, 0).astype(np.float32)
    system = suite.load_system()
    tally = reenactment.compare(
        recording, replace(long, landmarks=marks), system, _Still(size=64), size=64, tracker=suite.FaceTracker()
    )
    assert tally.counts["vivavoce/frame/psnr"] == 12  # frames 8, 16 ... 96 of 100
