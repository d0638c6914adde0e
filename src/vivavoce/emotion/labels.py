"""The emotions a generator can be asked for."""

from __future__ import annotations

import re

import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce.errors import InputError

EMOTIONS = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")  # MoDA's order
NONE = "none"  # nothing asked for: the generator is free
LABELS = (*EMOTIONS, NONE)

# Words that recordings are named with. "sad" must start a word: it hides in too many others.
_WORDS = {
    "anger": r"angry|anger|furious",
    "contempt": r"contempt",
    "disgust": r"disgust",
    "fear": r"(?<![a-z])fear|afraid",
    "happiness": r"happy|happiness|smiling",
    "neutral": r"neutral",
    "sadness": r"(?<![a-z])sad",
    "surprise": r"surpris",
}


def probabilities(label: str | None) -> Float[Tensor, " 8"] | None:
    """Class probabilities of one emotion; ``None`` when nothing is asked for (``None`` or ``"none"``).

    Raises :class:`vivavoce.errors.InputError` for a label that does not exist, saying which do.
    """
    if label is None or label.lower() == NONE:
        return None
    if label.lower() not in EMOTIONS:
        raise InputError(f"there is no emotion {label!r}; there are {', '.join(LABELS)}")
    return torch.nn.functional.one_hot(torch.tensor(EMOTIONS.index(label.lower())), len(EMOTIONS)).float()


def label_in(text: str) -> str | None:
    """The emotion that a file name or note mentions first; ``None`` when it mentions none."""
    found = {m.start(): label for label, words in _WORDS.items() if (m := re.search(words, text.lower()))}
    return found[min(found)] if found else None
