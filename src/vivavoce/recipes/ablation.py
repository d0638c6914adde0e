"""Coarse to fine against its alternatives: the shipped generator's recipe, halved, with the same number of parameters.

`vivavoce train moda-coarse-to-fine --out DIR`, `... moda-one-stream ...` and `... moda-cross ...`; each card tells the
figures on speakers kept out of training. Results: bench/results/ablation.md.
"""

from __future__ import annotations

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
