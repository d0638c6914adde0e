"""Timing that adds up, memory that is the child's own, and a sound of any length."""

import json
import time
from dataclasses import replace
from pathlib import Path

import fake_system
import pytest
import torch

from vivavoce.errors import InputError
from vivavoce.evaluate import speed
from vivavoce.timeline import Clock


def test_a_stage_is_charged_for_its_own_time_only(monkeypatch):
    now = 0.0

    def tick(seconds):
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    watch = speed.Stopwatch()

    def source():
        for n in range(3):
            tick(1)
            yield n

    def double(items):
        for n in items:
            tick(10)
            yield n
            tick(100)

    for _ in watch.watch("slow", double(watch.watch("fast", source()))):
        tick(1000)  # the reader's own time is nobody's
    assert dict(watch.spent) == {"fast": 3, "slow": 330}


def test_watching_changes_nothing(monkeypatch):
    system = fake_system.assemble()
    portrait = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    sound = list(speed.voice(1.5, Clock()))
    watch = speed.Stopwatch()
    plain = list(system.stream(portrait, sound))
    timed = list(speed.watched(system, watch).stream(portrait, sound))
    assert speed.watched(system, watch).latency == system.latency
    assert all(torch.equal(a.rgb, b.rgb) for a, b in zip(plain, timed, strict=True))
    assert {"speech", "motion", "rendering"} <= set(watch.spent)


def test_the_voice_has_any_length_and_is_always_the_same():
    for seconds in (0.05, 1.0, 3.333):
        sound = torch.cat(list(speed.voice(seconds, Clock())))
        assert len(sound) == round(seconds * 16_000)
    whole = torch.cat(list(speed.voice(3.0, Clock())))
    assert torch.equal(whole[:16_000], torch.cat(list(speed.voice(1.0, Clock()))))
    assert 0.1 < whole.abs().max() < 1
    assert whole[int(2.45 * 16_000) : int(2.95 * 16_000)].abs().max() == 0  # a pause
    late = list(speed.voice(61.0, Clock()))[-25:]
    assert torch.allclose(late[0], late[0].clamp(-1, 1))


def test_measuring_a_system_gives_the_promised_figures(monkeypatch):
    made = []
    monkeypatch.setattr(speed, "load", lambda name, **options: fake_system.assemble())
    monkeypatch.setattr(speed, "peak_memory", lambda task: made.append(task.seconds) or 100.0 + task.seconds)
    task = speed.Task(speed.demo_portrait(), "fake", 64, 2.0)
    found = speed.report(speed.measure(task))
    promised = {"real_time_factor", "frames_per_second", "first_frame_seconds", "peak_memory_mb", "stages"}
    assert promised <= found.keys()
    assert set(found["stages"]) == {"speech", "motion", "rendering", "encoding"}
    assert all(value >= 0 for value in found["stages"].values())
    assert found["frames"] == 50
    assert found["real_time_factor"] == pytest.approx(25 / found["frames_per_second"], rel=0.01)
    assert found["latency_frames"] == fake_system.assemble().latency
    assert (found["peak_memory_mb"], found["peak_memory_longer_mb"]) == (102.0, 120.0)
    assert made == [2.0, 20.0]
    json.dumps(found)
    text = speed.lines(speed.measure(task))
    assert "120 MiB for 20 s" in text


def test_weights_reach_the_system_here_and_in_the_child(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(speed, "load", lambda name, **options: asked.append(options) or fake_system.assemble())
    task = speed.Task(speed.demo_portrait(), "fake", 64, 1.0, weights=Path("folder"))
    monkeypatch.setattr(speed.subprocess, "run", lambda line, **_: asked.append(line[-1]) or Ended())
    assert speed.peak_memory(task) == 7.0
    speed._child(asked.pop())
    assert float(capsys.readouterr().out) > 0
    task.load()
    assert [options["weights"] for options in asked] == [Path("folder"), Path("folder")]


class Ended:
    returncode, stdout, stderr = 0, "7.0\n", ""


def test_memory_is_the_peak_of_the_process_itself():
    before = speed.peak_here()
    held = torch.ones(512 << 18)  # 512 MiB, more than anything before has let go of
    assert speed.peak_here() >= max(before, 512)
    assert held[-1] == 1
    del held
    assert speed.peak_here() >= 512


def test_a_child_that_fails_says_why():
    task = speed.Task(speed.demo_portrait(), "nonsense", 64, 1.0)
    with pytest.raises(RuntimeError, match="no system called 'nonsense'"):
        speed.peak_memory(task)


def test_without_a_demo_portrait_one_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speed, "__file__", str(tmp_path / "a" / "b" / "c" / "speed.py"))
    with pytest.raises(InputError, match="--portrait"):
        speed.demo_portrait()


def test_the_machine_is_described():
    facts = speed.machine()
    assert facts["cores"] >= 1
    assert facts["cpu"]
    assert replace(speed.Task(speed.demo_portrait()), seconds=1.0).size == 512
