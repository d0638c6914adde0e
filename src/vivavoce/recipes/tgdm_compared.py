"""Train TGDM's painter whole, without texture attention and without coefficients, side by side on the same batches.

What each is worth is told by people kept out of training: `bench/tgdm_ablation.py`. Every step teaches the three
painters the same pictures, noise and times, so that a run that is stopped early still compares equal steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vivavoce.nets.textures import PainterConfig
from vivavoce.recipes import tgdm
from vivavoce.recipes.fitted import Faces
from vivavoce.recipes.tgdm import TgdmTask
from vivavoce.train.loop import Recipe
from vivavoce.train.tasks import Objective


class ComparedTask:
    """A player for each painter; the tasks differ in their painters alone."""

    def __init__(self, tasks: Mapping[str, TgdmTask]) -> None:
        self.tasks = tasks

    def players(self) -> Mapping[str, nn.Module]:
        """See :class:`vivavoce.train.tasks.Task`."""
        return {name: task.net.painter for name, task in self.tasks.items()}

    def objectives(self, batch: Faces, rng: torch.Generator) -> Iterator[Objective]:
        """See :class:`vivavoce.train.tasks.Task`."""
        lesson = next(iter(self.tasks.values())).lesson(batch, rng)
        for name, task in self.tasks.items():
            loss, left = task.loss(lesson)
            yield Objective(name, loss, None if left is None else {f"{name}_of_known": left})

    def judge(self) -> Mapping[str, float]:
        """See :meth:`vivavoce.recipes.tgdm.TgdmTask.judge`."""
        judged = {name: task.judge() for name, task in self.tasks.items()}
        return {f"{name}_{figure}": value for name, figures in judged.items() for figure, value in figures.items()}

    def export(self, out: Path) -> Mapping[str, Any]:
        """A folder of weights for each."""
        return {name: task.export(out / name) for name, task in self.tasks.items()}


def variants(painter: PainterConfig) -> dict[str, PainterConfig]:
    """The painter whole, and what is left out of it."""
    return {
        "whole": painter,
        "no-texture": replace(painter, textures=False),
        "untold": replace(painter, told=False),
    }


def compared(recipe: Recipe, painter: PainterConfig, begins: str) -> Recipe:
    """``recipe`` for the ``painter`` and what is left of it, which all begin with the same numbers."""

    def task() -> ComparedTask:
        made, seed = dict[str, TgdmTask](), torch.initial_seed()
        for name, config in variants(painter).items():
            torch.manual_seed(seed)
            made[name] = tgdm.task(config, begins)
        return ComparedTask(made)

    lr = dict.fromkeys(variants(painter), recipe.lr["painter"])
    return replace(recipe, name=f"{recipe.name}-compared", task=task, lr=lr)


def carried() -> Recipe:
    """Of ``tgdm``, which begins with the carried picture."""
    return compared(tgdm.small(), tgdm.PAINTER, "carried")


def drawn() -> Recipe:
    """Of ``tgdm-drawn``, which sees the drawn face alone."""
    return compared(tgdm.drawn(), tgdm.DRAWN, "drawn")
