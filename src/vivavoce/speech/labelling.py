"""Guess the phones of real recordings, so that the encoder also hears real voices.

The guesses come from pocketsphinx (BSD licence; its English models are in its Python package): a forced alignment
where the words are known, free phone decoding elsewhere. They are noisy, and good enough to adapt to real sound.
Only rows of training recordings are used; the recordings themselves are not kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from vivavoce.data.clips import Recording, recordings
from vivavoce.errors import InputError
from vivavoce.media.sound import read_audio
from vivavoce.speech import phones
from vivavoce.speech.corpus import Corpus
from vivavoce.speech.mel import STEP

if TYPE_CHECKING:
    from pocketsphinx import Decoder  # pyright: ignore[reportMissingImports]  only who trains installs it

# Names of GRID recordings spell their sentence: command, colour, preposition, letter, digit, adverb.
_GRID = re.compile(r"(?:^|_)([blps])([bgrw])([abiw])([a-z])([z1-9])([naps])$")
_GRID_WORDS = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {},
    {
        "z": "zero",
        "1": "one",
        "2": "two",
        "3": "three",
        "4": "four",
        "5": "five",
        "6": "six",
        "7": "seven",
        "8": "eight",
        "9": "nine",
    },
    {"n": "now", "a": "again", "p": "please", "s": "soon"},
)
PEAK = 0.5  # recordings are scaled to this before anything else
LEAST_SECONDS, LEAST_PEAK = 0.5, 2e-3  # shorter or quieter recordings are left out
PER_SPEAKER = 80  # recordings at most, so that who was recorded most does not own the corpus

Segment = tuple[str, int, int]  # ARPAbet phone, first 10 ms row, row after the last


def spoken_words(name: str) -> str | None:
    """The words of a recording whose name spells them (GRID), else nothing."""
    found = _GRID.search(name)
    if found is None:
        return None
    return " ".join(known.get(letter, letter) for known, letter in zip(_GRID_WORDS, found.groups(), strict=True))


def rows_of(segments: Iterable[Segment], count: int) -> UInt8[np.ndarray, " count"]:
    """Class of every 10 ms row; diphthongs are split in the middle."""
    rows = np.zeros(count, np.uint8)
    for phone, start, end in segments:
        classes = phones.from_arpabet(phone)
        edges = np.linspace(start, end, len(classes) + 1).round().astype(int)
        for name, low, high in zip(classes, edges[:-1], edges[1:], strict=True):
            rows[low:high] = phones.INDEX[name]
    return rows


def label(data: Path, *, seed: int = 0) -> Corpus:
    """Rows and guessed classes of the training recordings of ``data`` (see ``vivavoce.data.clips``).

    Raises :class:`vivavoce.errors.InputError` when pocketsphinx is not installed.
    """
    try:
        import pocketsphinx  # pyright: ignore[reportMissingImports]  only who trains installs it
    except ImportError:
        raise InputError("guessing the phones of real speech needs the Python package pocketsphinx") from None
    model = pocketsphinx.get_model_path()
    listen = pocketsphinx.Decoder(
        allphone=f"{model}/en-us/en-us-phone.lm.bin",
        lm=None,
        dict=None,
        lw=2.0,
        beam=1e-20,
        pbeam=1e-20,
        loglevel="FATAL",
    )
    follow = pocketsphinx.Decoder(lm=None, loglevel="FATAL")
    return Corpus.of(_labelled(_chosen(recordings(data, kinds=("talking",), split="train"), seed), listen, follow))


def _chosen(found: list[Recording], seed: int) -> list[Recording]:
    order, taken, kept = np.random.default_rng(seed).permutation(len(found)), {}, []
    for index in order:
        speaker = found[index].speaker
        taken[speaker] = taken.get(speaker, 0) + 1
        if taken[speaker] <= PER_SPEAKER:
            kept.append(found[index])
    return kept


def _labelled(found: Iterable[Recording], listen: Decoder, follow: Decoder) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for recording in found:
        sound = np.concatenate([chunk.numpy() for chunk in read_audio(recording.path)])
        peak = np.abs(sound).max(initial=0.0)
        if len(sound) < 16_000 * LEAST_SECONDS or peak < LEAST_PEAK:
            continue
        sound = (sound * (PEAK / peak)).astype(np.float32)
        segments = _aligned(follow, sound, spoken_words(recording.name)) or _decoded(listen, sound)
        yield sound, rows_of(segments, len(sound) // STEP)


def _bytes(sound: Float[np.ndarray, " s"]) -> bytes:
    return (sound * 32767).astype("<i2").tobytes()


def _decoded(decoder: Decoder, sound: Float[np.ndarray, " s"]) -> list[Segment]:
    _hear(decoder, sound)
    return [(found.word, found.start_frame, found.end_frame + 1) for found in decoder.seg()]


def _aligned(decoder: Decoder, sound: Float[np.ndarray, " s"], words: str | None) -> list[Segment]:
    if words is None:
        return []
    try:
        decoder.set_align_text(words)
        _hear(decoder, sound)
        decoder.set_alignment()  # second pass: from words to phones
        _hear(decoder, sound)
    except RuntimeError:  # the words do not fit the sound
        return []
    return [(p.name, p.start, p.start + p.duration) for word in decoder.get_alignment() for p in word]


def _hear(decoder: Decoder, sound: Float[np.ndarray, " s"]) -> None:
    decoder.start_utt()
    decoder.process_raw(_bytes(sound), full_utt=True)
    decoder.end_utt()
