"""Where a run tells how it goes: one line now and then for people, every line as JSON for machines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

Report = Callable[[int, Mapping[str, float]], None]  # step just done, its figures


def silent(_step: int, _figures: Mapping[str, float]) -> None:
    """Report nothing."""


def journal(path: Path, steps: int, *, start: int = 0, every_seconds: float = 10.0) -> Report:
    """Append each step's figures to the JSON-lines file ``path``; write means to standard error now and then.

    Lines of ``start`` and later that an interrupted run left behind are dropped, so the file reads as one run.
    """
    kept = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in kept if _step_of(line) < start]
    path.write_text("".join(f"{line}\n" for line in kept))
    sums: dict[str, list[float]] = {}
    spoke = time.monotonic()

    def report(step: int, figures: Mapping[str, float]) -> None:
        nonlocal spoke
        with path.open("a") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")
        for name, value in figures.items():
            sums.setdefault(name, []).append(value)
        if time.monotonic() - spoke >= every_seconds or step + 1 == steps:
            means = "  ".join(f"{name} {sum(values) / len(values):.4g}" for name, values in sums.items())
            sys.stderr.write(f"step {step + 1}/{steps}  {means}\n")
            sums.clear()
            spoke = time.monotonic()

    return report


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line cut short by a crash
