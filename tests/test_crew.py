import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from vivavoce.errors import InputError
from vivavoce.train.crew import Crew, crew, moved
from vivavoce.train.loop import CHECKPOINT, fit, load

pytest.importorskip("accelerate")

SCRIPT = """
import os, sys
from dataclasses import replace
from pathlib import Path
from safetensors.torch import save_file
from vivavoce.train import loop

name, steps, stop, resume, out = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1", Path(sys.argv[5])
recipe = replace(loop.load(name), steps=steps, judge_every=0, keep="", save_minutes=0.0)
loop.load = lambda _address: recipe
if stop:
    follow = loop.State.follow
    def stopping(state, decay):
        if state.progress.step == stop:
            os._exit(3)
        follow(state, decay)
    loop.State.follow = stopping
loop.run(name, out, resume)
print("wrote", sorted(p.name for p in out.iterdir()))
"""


def launched(tmp_path, name, steps, *, stop=0, resume=False, out="run"):
    """Exit statuses of two processes on the CPU, set up as launchers do."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    shared |= {"ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    options = [name, str(steps), str(stop), str(int(resume)), str(tmp_path / out)]
    both = []
    for rank in ("0", "1"):
        environment = os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank}
        both.append(subprocess.Popen([sys.executable, str(script), *options], env=environment))
    try:
        return [process.wait(timeout=50) for process in both]
    finally:
        for process in both:
            process.kill()


def weights(path):
    return {key: value for key, value in load_file(path / CHECKPOINT).items() if key.startswith(("net/", "average/"))}


@pytest.mark.parametrize("name", ["toy-motion", "toy-duel"])
def test_two_processes_are_one_that_takes_twice_the_batches(name, tmp_path):
    assert launched(tmp_path, name, 12) == [0, 0]
    alone = replace(load(name), steps=12, judge_every=0, keep="", accumulate=2)
    for name_of_run in ("alone", "half"):
        (tmp_path / name_of_run).mkdir()
    fit(alone, out=tmp_path / "alone")
    both, one = weights(tmp_path / "run"), weights(tmp_path / "alone")
    fit(replace(alone, accumulate=1), out=tmp_path / "half")
    half = weights(tmp_path / "half")
    assert both.keys() == one.keys()
    for key, value in both.items():
        torch.testing.assert_close(value, one[key], rtol=1e-4, atol=1e-5)
    assert max(float((both[key] - half[key]).abs().max()) for key in both) > 1e-3
    figures = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    wanted = [json.loads(line) for line in (tmp_path / "alone" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in figures] == list(range(12))  # one process writes
    assert figures[-1] == pytest.approx(wanted[-1], rel=1e-3)
    assert "2 processes" in json.loads((tmp_path / "run" / "card.json").read_text())["hardware"]


def test_two_processes_resume_to_the_same_weights(tmp_path):
    assert launched(tmp_path, "toy-motion", 12, out="whole") == [0, 0]
    assert launched(tmp_path, "toy-motion", 12, stop=7) == [3, 3]
    assert launched(tmp_path, "toy-motion", 12, resume=True) == [0, 0]
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "run")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_alone_nothing_is_averaged_and_every_step_has_its_batches():
    values = torch.randn(3)
    assert crew() == Crew()
    assert crew().mean(values) is values
    assert [Crew().places(step, 2) for step in (0, 3)] == [[0, 1], [6, 7]]


def test_half_precision_is_refused_and_the_missing_package_named(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(InputError, match="'fp16' cannot be trained in"):
        crew()
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="needs accelerate"):
        crew()


def test_batches_move_with_everything_in_them():
    batch = {"a": torch.zeros(2), "b": [torch.ones(1), "text"], "c": (torch.ones(3),)}
    there = moved(batch, torch.device("meta"))
    assert there["a"].device.type == there["b"][0].device.type == there["c"][0].device.type == "meta"
    assert there["b"][1] == "text"
