"""The table from letters to emotions, in closed form: ridge regression over our own words of feeling.

``vivavoce train words --out DIR`` needs no data but :mod:`vivavoce.emotion.words`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from vivavoce import weights
from vivavoce.emotion.labels import EMOTIONS
from vivavoce.emotion.text import WEIGHTS, Table, spelled
from vivavoce.emotion.words import ORDINARY, entries
from vivavoce.train.loop import ClosedForm

SIZE = 4096  # columns to which letters in a row are hashed
RIDGE = 0.01
PARTS = 8  # of the words, each left out once to measure


def words() -> ClosedForm:
    """The recipe."""
    return ClosedForm(name="words", solve=_solve)


def _solve(out: Path) -> dict[str, Any]:
    known, amounts = lesson()
    weight = torch.from_numpy(table(known, amounts)).half()
    weights.write(out / f"{WEIGHTS}.safetensors", {"weight": weight}, config={"emotions": EMOTIONS})
    return {"words": len(entries()), "ordinary words": len(ORDINARY), **left_out(known, amounts)}


def lesson() -> tuple[list[str], Float[np.ndarray, "w 8"]]:
    """Words of feeling and ordinary ones, and the amount of every emotion in each."""
    meant = entries()
    amounts = np.zeros((len(meant) + len(ORDINARY), len(EMOTIONS)))
    for row, (mix, strength) in zip(amounts, meant.values(), strict=False):
        for label, share in mix.items():
            row[EMOTIONS.index(label)] = share * strength
    return [*meant, *ORDINARY], amounts


def table(known: Sequence[str], amounts: Float[np.ndarray, "w 8"]) -> Float[np.ndarray, "n 8"]:
    """Weights that map letters in a row (:func:`vivavoce.emotion.text.spelled`) to amounts."""
    letters = spelled(known, SIZE)
    return letters.T @ np.linalg.solve(letters @ letters.T + RIDGE * np.eye(len(letters)), amounts)


def left_out(known: Sequence[str], amounts: Float[np.ndarray, "w 8"]) -> dict[str, float]:
    """How words are understood by a table that was made without them."""
    part = np.random.default_rng(0).integers(0, PARTS, len(known))
    found, right, taken, feelings = 0, 0, 0, np.asarray(amounts != 0).max(1)
    for one in range(PARTS):
        kept = [word for word, there in zip(known, part != one, strict=True) if there]
        reader = Table.of(table(kept, amounts[part != one]), kept)
        for index in np.flatnonzero(part == one).tolist():
            meant = reader.meaning(known[index])
            if meant is not None:
                taken += not feelings[index]
                found += feelings[index]
                right += bool(feelings[index] and meant.argmax() == amounts[index].argmax())
    return {
        "left-out words understood": round(float(found / feelings.sum()), 3),
        "of those the right emotion": round(right / max(1, int(found)), 3),
        "left-out ordinary words taken for a feeling": round(float(taken / (~feelings).sum()), 3),
    }
