"""Parts of shipped networks against their alternatives, trained alike; results in bench/results/ablation.md.

MoDA's coarse to fine: the shipped generator's recipe, halved, with the same number of parameters. `vivavoce train
moda-coarse-to-fine --out DIR`, `... moda-one-stream ...` and `... moda-cross ...`. IF-MDM's local flows: a renderer
trained before, whose folder ``VIVAVOCE_RENDERER`` names (default ``runs/renderer``), learns to tell flows once more.
`... if-mdm-local-flows ...` and `... if-mdm-one-flow ...`. Each card tells the
figures on speakers kept out of training.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vivavoce.data.pairs import Pairs, paired
from vivavoce.errors import InputError
from vivavoce.nets.critic import CriticConfig
from vivavoce.recipes.implicit import JUDGED, SMALL, ImplicitTask, Losses, faces, renderer
from vivavoce.recipes.moda import moda
from vivavoce.train.loop import CHECKPOINT, Recipe
from vivavoce.train.state import read_checkpoint

STEPS = 1300
TRAINED = "VIVAVOCE_RENDERER"
FLOW_STEPS, PAIRS = 400, 3
FLOWS = (".flow.tell.", ".flow.local.")  # in the names of weights


def coarse_to_fine() -> Recipe:
    """One block of four streams, one of two, two of one: what ships."""
    return moda("moda-coarse-to-fine", STEPS)


def one_stream() -> Recipe:
    """All tokens share all weights from the first block on."""
    return moda("moda-one-stream", STEPS, four=0, two=0, one=10)


def cross() -> Recipe:
    """Motion looks at conditions that no block changes."""
    return moda("moda-cross", STEPS, four=0, two=0, one=0, cross=5)


def local_flows() -> Recipe:
    """Four flows, blended place by place: what ships."""
    return _anew("if-mdm-local-flows", SMALL.groups)


def one_flow() -> Recipe:
    """LIA's single flow."""
    return _anew("if-mdm-one-flow", 1)


def _anew(name: str, groups: int) -> Recipe:
    """What flows learn in a renderer that knows everything else: from nothing, that is hidden by all it lacks."""
    config = dataclasses.replace(SMALL, groups=groups)

    def task() -> ImplicitTask:
        judged = paired(faces()[1], JUDGED, np.random.default_rng(0))
        made = ImplicitTask(config, CriticConfig(scales=1, first=16), Losses(), lambda: judged)
        folder = Path(os.environ.get(TRAINED, "runs/renderer"))
        return with_new_flows(made, folder / CHECKPOINT)

    def data(seed: int) -> Callable[[int], Pairs]:
        learned = faces()[0]
        return lambda step: paired(learned, PAIRS, np.random.default_rng((seed, step)), views=1)

    return dataclasses.replace(
        renderer(name, config, steps=FLOW_STEPS),
        task=task,
        data=data,
        lr={"renderer": 8e-4, "critic": 2e-4},
        warm_up=20,
        ema=0.98,
        judge_every=100,
    )


@torch.no_grad()
def with_new_flows(task: ImplicitTask, checkpoint: Path) -> ImplicitTask:
    """``task`` with the averaged weights of a run of the renderer, all but what tells flows.

    Raises:
        InputError: ``checkpoint`` is none, or of other sizes.
    """
    _, held = read_checkpoint(checkpoint)
    for name, player in task.players().items():
        for key, value in player.state_dict().items():
            if any(part in key for part in FLOWS):
                continue
            known = held.get(f"average/{name}/{key}")
            if known is None or known.shape != value.shape:
                raise InputError(
                    f"{checkpoint} is not of a run of if-mdm-renderer: {key} is missing or of another size"
                )
            value.copy_(known)
    return task
