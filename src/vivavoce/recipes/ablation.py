"""Parts of shipped networks against their alternatives, trained alike; results in bench/results/ablation.md.

MoDA's coarse to fine: the shipped generator's recipe, halved, with the same number of parameters. `vivavoce train
moda-coarse-to-fine --out DIR`, `... moda-one-stream ...` and `... moda-cross ...`. IF-MDM's local flows: the shipped
renderer's recipe on pictures half as wide. `... if-mdm-local-flows ...` and `... if-mdm-one-flow ...`. Each card tells
the figures on speakers kept out of training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from vivavoce.data.pairs import Pairs, halved, paired
from vivavoce.nets.critic import CriticConfig
from vivavoce.recipes.implicit import JUDGED, SMALL, ImplicitTask, Losses, faces, renderer
from vivavoce.recipes.moda import moda
from vivavoce.train.loop import Recipe

STEPS = 1300


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
    return _half("if-mdm-local-flows", SMALL.groups)


def one_flow() -> Recipe:
    """LIA's single flow."""
    return _half("if-mdm-one-flow", 1)


def _half(name: str, groups: int) -> Recipe:
    config = dataclasses.replace(SMALL, size=SMALL.size // 2, groups=groups)
    whole = renderer(name, config, codes=1000, steps=2200)

    def task() -> ImplicitTask:
        judged = halved(paired(faces()[1], JUDGED, np.random.default_rng(0)))
        return ImplicitTask(config, CriticConfig(scales=1, first=16), Losses(), lambda: judged)

    def data(seed: int) -> Callable[[int], Pairs]:
        batch_at = whole.data(seed)
        return lambda step: halved(batch_at(step))

    return dataclasses.replace(whole, task=task, data=data)
