"""CLIP's text encoder as a reader of words of feeling: any such model in a local folder, and a small linear map.

Radford et al. 2021 (arXiv 2103.00020). The map from its embeddings to amounts of emotions is ridge regression on our
own words (:mod:`vivavoce.emotion.words`), solved when the model is loaded; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from vivavoce.emotion.labels import EMOTIONS
from vivavoce.emotion.text import Reader
from vivavoce.emotion.words import ORDINARY, entries
from vivavoce.errors import InputError

PROMPT = "a person who looks {}"  # words alone are not what the model learned from
RIDGE = 0.1  # of the mean square of what embeddings have beyond their mean
AT_ONCE = 64  # prompts
SHOWN = 0.3  # amount of an emotion from which a word tells of it


@dataclass(frozen=True)
class ClipReader:
    """Words -> amounts of emotions, through CLIP."""

    tokenizer: Any
    model: Any  # transformers' CLIPTextModelWithProjection, frozen
    mean: Float[np.ndarray, " n"]  # embedding of all our words together
    weight: Float[np.ndarray, "n 8"]  # of what an embedding has beyond it

    def phrases(self) -> frozenset[str]:
        """See :class:`vivavoce.emotion.text.Reader`."""
        return frozenset(word for word in entries() if " " in word)

    def meaning(self, word: str) -> Float[np.ndarray, "8"] | None:
        """See :class:`vivavoce.emotion.text.Reader`. Ordinary words tell nothing, whatever the model makes of them."""
        if word in ORDINARY:
            return None
        told = np.maximum(((embedded([word], self.tokenizer, self.model) - self.mean) @ self.weight)[0], 0)
        if told.max() < SHOWN:
            return None
        return np.where(told < 0.25 * told.max(), 0, told)


def reader(folder: Path | None) -> Reader | None:
    """The reader in ``folder``; ``None`` without one.

    Raises :class:`vivavoce.errors.InputError` when transformers is missing or the folder holds no CLIP text encoder.
    """
    if folder is None:
        return None
    tokenizer, model = _loaded(Path(folder))
    meant, words = entries(), [*entries(), *ORDINARY]
    wanted = np.zeros((len(words), len(EMOTIONS)))
    for row, (mix, strength) in zip(wanted, meant.values(), strict=False):
        for label, share in mix.items():
            row[EMOTIONS.index(label)] = share * strength
    given = embedded(words, tokenizer, model)
    mean = given.mean(0)  # embeddings point much the same way; what differs between words is small beside it
    given = given - mean
    gram = given.T @ given
    gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return ClipReader(tokenizer, model, mean, np.linalg.solve(gram, given.T @ wanted))


def embedded(words: Sequence[str], tokenizer: Any, model: Any) -> Float[np.ndarray, "w n"]:
    """Embeddings of length 1 of what CLIP is told of the words."""
    rows = []
    with torch.inference_mode():
        for first in range(0, len(words), AT_ONCE):
            prompts = [PROMPT.format(word) for word in words[first : first + AT_ONCE]]
            tokens = tokenizer(prompts, padding=True, truncation=True, return_tensors="pt")
            rows.append(torch.nn.functional.normalize(model(**tokens).text_embeds.double(), dim=1))
    return torch.cat(rows).numpy()


def _loaded(folder: Path) -> tuple[Any, Any]:
    try:
        from transformers import AutoTokenizer, CLIPTextModelWithProjection
    except ImportError as error:
        raise InputError(
            "reading emotions with CLIP needs the package transformers: pip install 'vivavoce[speech]'"
        ) from error
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is not the folder of a CLIP model: it has no config.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = CLIPTextModelWithProjection.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder} cannot be used as a CLIP text encoder: {error}") from error
    return tokenizer, model.eval().requires_grad_(False)
