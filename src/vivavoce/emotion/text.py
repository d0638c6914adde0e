"""Emotions in the user's words: "bitter smile", "slightly annoyed", "not sad" -> a mixture of emotions and a strength.

A small grammar finds words of feeling, how much of them is asked for and what is negated. What a word means is told by
a reader: a table over the letters of words that ships with the package (``recipes/words.py``), or CLIP's text encoder
from a folder of the user's (:mod:`vivavoce.emotion.clip`).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vivavoce import weights
from vivavoce.emotion.labels import EMOTIONS, LABELS, probabilities
from vivavoce.emotion.words import ORDINARY, entries
from vivavoce.errors import InputError

WEIGHTS = "words"
WEAKEST, STRONGEST = 0.1, 2.0  # strength of a feeling, whatever was said
OPPOSITE = {"happiness": "sadness", "sadness": "happiness"}  # of the others: neutral
NEGATED = 0.5  # strength of the opposite that a negation means, where it is all that is said
_NEUTRAL = EMOTIONS.index("neutral")
PHRASE = 4  # words of the longest phrase
LIKE = 0.6  # share of its letters in a row that an unknown word must have in common with a known one
LEAST = 0.2  # amount of an emotion below which a word tells nothing
_LENGTHS = (3, 4, 5)  # letters that are looked at together
_START = 2.0  # weight of the letters that a word starts with: stems tell more than endings

AMOUNTS = {
    "very": 1.5, "really": 1.4, "so": 1.3, "extremely": 1.9, "incredibly": 1.8, "utterly": 1.8, "absolutely": 1.7,
    "totally": 1.6, "completely": 1.6, "deeply": 1.5, "highly": 1.4, "super": 1.6, "quite": 1.2, "truly": 1.3,
    "terribly": 1.6, "awfully": 1.5, "intensely": 1.8, "intense": 1.8, "extreme": 1.9, "strongly": 1.5, "strong": 1.5,
    "great": 1.4, "deep": 1.4, "much": 1.3, "more": 1.2, "most": 1.5, "too": 1.4, "over": 1.2, "insanely": 1.9,
    "wildly": 1.7, "full": 1.4, "pure": 1.5, "big": 1.4, "broad": 1.4, "wide": 1.4, "overwhelming": 1.8,
    "slightly": 0.45, "slight": 0.45, "a bit": 0.5, "a little": 0.5, "a little bit": 0.45, "a touch": 0.45,
    "a hint of": 0.4, "hint of": 0.4, "a trace of": 0.35, "somewhat": 0.6, "kind of": 0.6, "kinda": 0.6,
    "sort of": 0.6, "rather": 1.1, "fairly": 0.9, "pretty": 1.2, "moderately": 0.75, "mildly": 0.5, "mild": 0.5,
    "faintly": 0.35, "faint": 0.35, "barely": 0.25, "subtly": 0.4, "subtle": 0.4, "half": 0.5, "almost": 0.7,
    "vaguely": 0.4, "less": 0.6, "lightly": 0.5, "softly": 0.6, "gently": 0.6, "weak": 0.5, "weakly": 0.5,
    "not very much": 0.4, "least": 0.3, "much less": 0.4, "far less": 0.4, "a lot less": 0.4, "even less": 0.45,
    "a little less": 0.8, "a bit less": 0.8, "slightly less": 0.8, "somewhat less": 0.75, "no less": 1.0,
    "not less": 1.0, "a little more": 1.1, "a bit more": 1.1, "slightly more": 1.1, "somewhat more": 1.15,
    "not so": 0.6, "not so very": 0.65, "not quite so": 0.7, "not as": 0.6, "not quite as": 0.7, "not that": 0.6,
    "not too": 0.6, "not nearly as": 0.35, "not nearly so": 0.35,
}  # fmt: skip
NEGATIONS = frozenset(
    """not,no,never,without,cannot,neither,nor,hardly,nothing,lacking,lacks,non,anything but,no longer,far from,free of,
instead of,rather than,not at all,not even""".replace("\n", "").split(",")
)
_UNDONE = ("un", "dis", "non", "in")  # what a word starts with that is the contrary of its rest
_ENDS = frozenset(
    [*".,;:!?", "but", "yet", "though", "although", "however", "and", "just", "only", "merely", "simply", "still"]
)


@dataclass(frozen=True, slots=True)
class Feeling:
    """What is to be shown."""

    mix: tuple[float, ...]  # shares of EMOTIONS, adding up to 1
    strength: float = 1.0  # 1 as plain as the emotion's own name, in [0.1, 2]

    @property
    def probabilities(self) -> Float[Tensor, " 8"]:
        """The shares, as generators take classes."""
        return torch.tensor(self.mix)


@runtime_checkable
class Reader(Protocol):
    """Says what words mean."""

    def phrases(self) -> frozenset[str]:
        """Phrases of several words that mean something together."""
        ...

    def meaning(self, word: str) -> Float[np.ndarray, "8"] | None:
        """Amount of every emotion in a word or phrase, each >= 0; ``None`` when it tells no feeling."""
        ...


def feeling(asked: str | Feeling | None, reader: Reader | None = None) -> Feeling | None:
    """What is asked for; ``None`` when nothing is (``None`` or "none").

    A label of :data:`vivavoce.emotion.labels.LABELS` is that emotion at strength 1; other text is read by ``reader``
    (default: the table that ships).

    Raises :class:`vivavoce.errors.InputError` when no emotion is found in the text.
    """
    if asked is None or isinstance(asked, Feeling):
        return asked
    if asked.strip().lower() in LABELS:
        label = asked.strip().lower()
        one = probabilities(label)
        return None if one is None else Feeling(tuple(one.tolist()))
    found = read(asked, reader or Table.pretrained())
    if found is None:
        raise InputError(
            f"there is no emotion that is understood in {asked!r}; use English words of feeling, like 'very happy', "
            f"'bitter smile' or 'not sad', or one of {', '.join(LABELS)}"
        )
    return found


def read(text: str, reader: Reader) -> Feeling | None:
    """The feeling that ``text`` tells, ``None`` if it tells none."""
    asserted, negated = list[np.ndarray](), list[np.ndarray]()
    amount, negative = 1.0, False
    for token in _tokens(text, reader.phrases()):
        if token in NEGATIONS:
            negative, amount = True, 1.0
        elif token in AMOUNTS:
            amount *= AMOUNTS[token]
        elif token in _ENDS:
            negative, amount = False, 1.0
        elif (meant := reader.meaning(token)) is not None:
            if negative:  # who is not very happy may be happy a little: the less is denied, the more the opposite
                negated.append(meant / amount)
            else:
                asserted.append(amount * meant)
            amount = 1.0
    return _combined(asserted, negated)


def _combined(asserted: list[np.ndarray], negated: list[np.ndarray]) -> Feeling | None:
    if not asserted and not negated:
        return None
    denied = np.sum(negated, axis=0) if negated else np.zeros(len(EMOTIONS))
    if asserted:  # what is denied beside it is only taken out
        amounts, strength = np.sum(asserted, axis=0), np.sum(asserted) / len(asserted)
        amounts = amounts * (denied == 0)
    else:
        amounts, strength = np.zeros(len(EMOTIONS)), NEGATED * denied.sum() / len(negated)
        for label, much in zip(EMOTIONS, denied, strict=True):
            amounts[_contrary(label, denied)] += much
    if not amounts.any():
        amounts[_NEUTRAL] = 1.0
    mix = amounts / amounts.sum()
    return Feeling(tuple(float(share) for share in mix), float(np.clip(strength, WEAKEST, STRONGEST)))


def _contrary(label: str, denied: Float[np.ndarray, "8"]) -> int:
    """Index of what is meant by denying ``label``: its opposite, unless that is denied too."""
    opposite = EMOTIONS.index(OPPOSITE.get(label, "neutral"))
    return opposite if denied[opposite] == 0 else _NEUTRAL


def _tokens(text: str, known: frozenset[str]) -> list[str]:
    """Words, the longest phrases that mean something together, and marks between them."""
    plain = re.sub(r"n't\b", " not", text.lower().replace("\u2019", "'"))
    words = re.findall(r"[^\W\d_]+|[,.;:!?]", plain)
    out, at = list[str](), 0
    words = [part for word in words for part in _compared(word) or _undone(word)]
    while at < len(words):
        for count in range(PHRASE, 0, -1):
            phrase = " ".join(words[at : at + count])
            if count == 1 or phrase in known or phrase in AMOUNTS or phrase in NEGATIONS:
                out.append(phrase)
                at += min(count, len(words) - at)
                break
    return out


def _compared(word: str) -> list[str]:
    """A form like "angrier" or "happiest" of a word of feeling as "more" or "most" of it; of other words nothing."""
    if word in _words():
        return []
    for ending, amount in (("er", "more"), ("est", "most")):
        stem = word.removesuffix(ending)
        if stem == word or len(stem) < 2:
            continue
        changed = stem[:-1] + "y" if stem[-1] == "i" else stem[:-1] if stem[-1] == stem[-2] else stem
        for base in (stem, changed, f"{stem}e"):
            if base in entries():
                return [amount, base]
    return []


def _undone(word: str) -> list[str]:
    """An unknown word that denies a known one, taken apart; other words as they are."""
    if word not in _words():
        for start in _UNDONE:
            if word.startswith(start) and word.removeprefix(start) in _words():
                return ["not", word.removeprefix(start), ";"]
    return [word]


@lru_cache(maxsize=1)
def _words() -> frozenset[str]:
    return frozenset([*entries(), *ORDINARY])


@dataclass(frozen=True)
class Table:
    """What letters in a row tell of feelings: linear in which of them a word has."""

    weight: Float[np.ndarray, "n 8"]
    pieces: dict[str, frozenset[str]]  # letters in a row of every word the table was made from

    @staticmethod
    def pretrained() -> Table:
        """The table that ships with the package."""
        return _pretrained()

    @staticmethod
    def of(weight: Float[np.ndarray, "n 8"], words: Iterable[str]) -> Table:
        """A table that passes over words that are not like one of ``words``."""
        return Table(weight, {word: pieces(word) for word in words})

    def phrases(self) -> frozenset[str]:
        """See :class:`Reader`."""
        return frozenset(word for word in self.pieces if " " in word)

    def meaning(self, word: str) -> Float[np.ndarray, "8"] | None:
        """See :class:`Reader`."""
        if word not in self.pieces and self._likeness(word) < LIKE:
            return None
        told = (spelled([word], len(self.weight)) @ self.weight)[0]
        if told.max() < LEAST:
            return None
        return np.where(told < 0.25 * told.max(), 0, told)

    def _likeness(self, word: str) -> float:
        """Share of letters in a row that ``word`` has in common with a word the table was made from."""
        mine = pieces(word)
        return max(
            (len(mine & other) / max(1, min(len(mine), len(other))) for other in self.pieces.values()), default=0
        )


def pieces(word: str) -> frozenset[str]:
    """All letters in a row of a word, its start and its end marked."""
    whole = f"^{word}$"
    return frozenset({whole} | {whole[k : k + n] for n in _LENGTHS for k in range(len(whole) - n + 1)})


def spelled(words: Sequence[str], size: int) -> Float[np.ndarray, "w n"]:
    """Which letters in a row words have, hashed to ``size`` columns; rows of length 1."""
    out = np.zeros((len(words), size))
    for row, word in zip(out, words, strict=True):
        for piece in sorted(pieces(word)):
            row[zlib.crc32(piece.encode()) % size] += _START if piece[0] == "^" else 1.0
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


@lru_cache(maxsize=1)
def _pretrained() -> Table:
    tensors, _ = weights.read(WEIGHTS)
    return Table.of(tensors["weight"].double().numpy(), _words())
