"""Labelled speech on disk, as log-mel rows with the phone class of every row, and the making of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16, Int16, UInt8
from safetensors.numpy import load_file, save_file

from vivavoce.errors import InputError
from vivavoce.speech.mel import AFTER, BEFORE, SAMPLE_RATE, log_mel
from vivavoce.speech.synthesis import Utterance, random_utterance

UNKNOWN = 255  # class of a row nobody knows; it is heard but not scored
SHORTEST, LONGEST = 1.0, 14.0  # seconds of an utterance that is kept
ROWS_PER_MINUTE = 6000


@dataclass(frozen=True, slots=True)
class Corpus:
    """Utterances one after the other; ``starts`` has the first row of each and, last, the number of rows."""

    rows: Float16[np.ndarray, "n 64"]  # log-mel, see vivavoce.speech.mel
    classes: UInt8[np.ndarray, " n"]
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(self.starts[index], self.starts[index + 1])
        return self.rows[part], self.classes[part]

    @property
    def minutes(self) -> float:
        """Length of all utterances together."""
        return len(self.rows) / ROWS_PER_MINUTE

    @staticmethod
    def of(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Corpus:
        """Corpus of (int16 or float sound at 16 kHz, class of every 10 ms row) pairs."""
        rows, classes = [], []
        for sound, labels in pairs:
            mel = rows_of_sound(sound)[: len(labels)]
            rows.append(mel.astype(np.float16))
            classes.append(labels[: len(mel)])
        return Corpus(np.concatenate(rows), np.concatenate(classes), np.cumsum([0, *map(len, rows)]))

    @staticmethod
    def joined(corpora: Iterable[Corpus]) -> Corpus:
        """All utterances of several corpora."""
        held = list(corpora)
        lengths = np.concatenate([np.diff(corpus.starts) for corpus in held])
        return Corpus(
            np.concatenate([corpus.rows for corpus in held]),
            np.concatenate([corpus.classes for corpus in held]),
            np.cumsum([0, *lengths]),
        )

    def save(self, file: Path) -> None:
        """Write as safetensors."""
        save_file({"rows": self.rows, "classes": self.classes, "starts": np.asarray(self.starts)}, file)

    @staticmethod
    def load(file: Path) -> Corpus:
        """Inverse of :meth:`save`. Raises :class:`vivavoce.errors.InputError` when the file is not there."""
        if not file.is_file():
            raise InputError(f"there is no labelled speech at {file}; make it first (see vivavoce.recipes.phones)")
        return Corpus(**load_file(file))


def rows_of_sound(sound: Int16[np.ndarray, " s"] | Float[np.ndarray, " s"]) -> Float[np.ndarray, "n 64"]:
    """Log-mel rows of a whole recording (int16, or float in [-1, 1]), with silence before and after it."""
    scale = 32768 if sound.dtype == np.int16 else 1
    padded = np.pad(sound.astype(np.float32) / scale, (BEFORE, AFTER))
    return log_mel(torch.from_numpy(padded)).numpy()


def synthesise(minutes: float, *, seed: int, unseen: bool = False, natural: bool = False) -> Corpus:
    """Random synthetic speech of the given total length; arguments as in ``synthesis.random_utterance``."""
    rng = np.random.default_rng(seed)
    return Corpus.of(_until(minutes, lambda: random_utterance(rng, unseen=unseen, natural=natural)))


def _until(minutes: float, speak: Callable[[], Utterance]) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    seconds = 0.0
    while seconds < 60 * minutes:
        made = speak()
        length = len(made.sound) / SAMPLE_RATE
        if SHORTEST <= length <= LONGEST:
            seconds += length
            yield made.sound, made.classes
