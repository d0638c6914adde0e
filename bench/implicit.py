"""Time of one picture through LIA's networks, against the published implementation on the same weights.

Needs a checkout of the published code (https://github.com/wyhsirius/LIA), made by whoever runs this:

    python bench/implicit.py CHECKOUT [--rounds 3] [--threads 2] [--sizes 256 512]

Weights are random: the published networks get them first, ours import what those would save.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vivavoce.evaluate.speed import machine
from vivavoce.importing.lia import mapped
from vivavoce.nets.lia import Lia, Refine
from vivavoce.nets.lia_quick import prepared, quicken

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from golden import lia as golden  # noqa: E402

Work = Callable[[], Tensor]
REFINES = (("as published", 512, 1), ("folded 4 x 4, 128 wide", 128, 4), ("folded 8 x 8, 128 wide", 128, 8))


@dataclass(frozen=True)
class Timing:
    """Medians over the rounds, in seconds."""

    wall: float
    cpu: float


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "implicit.md")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.set_grad_enabled(False)
    rows = [row for size in given.sizes for row in _measured(given.checkout, size, given.rounds)]
    text = _report(rows, given.threads, given.rounds)
    print(text)
    given.out.write_text(text)


def _published(checkout: Path, size: int) -> Any:
    """The published networks with random weights; what they send to a GPU stays here."""
    sys.path.insert(0, str(checkout))
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    torch.qr = torch.linalg.qr  # type: ignore[assignment]  (the old name is gone from newer versions)
    from networks.generator import Generator

    network = Generator(size).eval()
    layout = json.loads((ROOT / "tests" / "golden" / "lia_layout.json").read_text())[str(size)]
    network.load_state_dict(golden.published(layout))
    return network


def _measured(checkout: Path, size: int, rounds: int) -> list[str]:
    """Rows of the table."""
    theirs = _published(checkout, size)
    config, tensors = mapped(theirs.state_dict(), "the published networks")
    plain = Lia(config)
    plain.load_state_dict(tensors)
    plain.eval().requires_grad_(False)
    quick = quicken(copy.deepcopy(plain))
    source, driving = golden.picture("source", size), golden.picture("driving", size)
    latent, codes, maps = theirs.enc(source, driving)
    appearance = plain.seen(source)[0]
    ready = prepared(quick, appearance)
    decoders: dict[str, Work] = {
        "published": lambda: theirs.dec(latent, codes, maps),
        "ours, plain": lambda: plain(appearance, codes[0]).picture,
        "ours, quick": lambda: quick(ready, codes[0]).picture,
    }
    encoders: dict[str, Work] = {
        "published": lambda: theirs.enc.enc_motion(driving),
        "ours, plain": lambda: plain.seen(driving)[1],
        "ours, quick": lambda: quick.seen(driving)[1],
    }
    return [
        *_rows(f"{size}, a frame drawn", decoders, rounds, 127.5),
        *_rows(f"{size}, a driving frame read", encoders, rounds, None),
    ]


def _rows(what: str, contenders: dict[str, Work], rounds: int, shades: float | None) -> list[str]:
    results = {name: work() for name, work in contenders.items()}  # the first call also compiles
    with FlopCounterMode(display=False) as counter:
        contenders["published"]()
    timings = _timed(contenders, rounds)
    first, reference = timings["published"], results["published"]
    rows = []
    for name, timing in timings.items():
        away = results[name] - reference
        apart = (
            f"{away.abs().mean() * shades:.2g} of 255" if shades else f"{away.norm() / reference.norm():.2g} relative"
        )
        rows.append(
            f"| {what}: {name} | {counter.get_total_flops() / 1e9:.1f} | {timing.wall:.2f} | {timing.cpu:.2f} | "
            f"{first.wall / timing.wall:.2f} | {first.cpu / timing.cpu:.2f} | {apart} |"
        )
    return rows


def _timed(contenders: dict[str, Work], rounds: int) -> dict[str, Timing]:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: Timing(*(statistics.median(column) for column in zip(*t, strict=True))) for name, t in times.items()}


def _refining() -> list[str]:
    """Operations of the refine block at 512, as published and as ours may be; counted, not timed."""
    rows = []
    for name, hidden, fold in REFINES:
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            Refine(hidden, fold)(torch.empty(1, 3, 512, 512))
        rows.append(f"| {name} | {counter.get_total_flops() / 1e9:,.1f} |")
    return rows


def _report(rows: list[str], threads: int, rounds: int) -> str:
    facts, instructions = machine(), torch.backends.cpu.get_cpu_capability()
    lines = [
        "# Implicit motion to frame",
        "",
        "The networks of LIA, batch 1. Same random weights, same inputs, one process, "
        f"{threads} threads, medians of {rounds}",
        "alternating rounds. The machine was not idle, so compare within the table; CPU time says what the work costs.",
        "Operations are those of the published form. Plain is what trains and exports; quick is for CPUs.",
        "",
        f"Processor: {facts['cpu']}, {facts['cores']} cores; PyTorch {torch.__version__}, {instructions}.",
        "",
        "| | GFLOP | wall, s | CPU, s | faster (wall) | faster (CPU) | mean difference |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "The refine block on a 512 x 512 picture:",
        "",
        "| | GFLOP |",
        "|---|---|",
        *_refining(),
        "",
        "`python bench/implicit.py CHECKOUT` makes this file.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
