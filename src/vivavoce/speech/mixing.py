"""Make clean labelled speech sound like the world: pauses, rooms, microphones, noise and other throats.

Everything happens on log-mel rows in the power domain, where adding sounds and smearing them over time is cheap:
powers of independent sounds add, a room spreads power backwards in time, a microphone scales bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8
from scipy.signal import lfilter

from vivavoce.speech.corpus import Corpus, rows_of_sound
from vivavoce.speech.mel import BANDS, FLOOR, SAMPLE_RATE, STEP

Rows = Float[np.ndarray, "t 64"]
Bank = Sequence[Float[np.ndarray, "_t 64"]]  # background sounds
ROW_SECONDS = STEP / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Mixed:
    """A training excerpt: log-mel rows as a microphone would give them, and the class of every row."""

    rows: Rows
    classes: UInt8[np.ndarray, " t"]


@cache
def noises(seed: int, seconds: float = 30.0) -> Bank:
    """Background sounds as log-mel rows at about -26 dBFS: hiss of many colours, hum, chords, clicks."""
    rng = np.random.default_rng(seed)
    count = int(seconds * SAMPLE_RATE)
    sounds = [_coloured(rng, count, slope) for slope in (0.0, -0.5, -1.0, -1.5, -2.0, 0.5)]
    sounds += [_hum(rng, count), _hum(rng, count), *(_chords(rng, count) for _ in range(5)), _clicks(rng, count)]
    return [rows_of_sound(0.05 * s / s.std()).astype(np.float32) for s in (x.astype(np.float32) for x in sounds)]


def _coloured(rng: np.random.Generator, count: int, slope: float) -> np.ndarray:
    """Noise whose power falls with frequency to the power ``slope``."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hertz = np.maximum(np.fft.rfftfreq(count, 1 / SAMPLE_RATE), 40.0)
    return np.fft.irfft(spectrum * hertz ** (slope / 2), count)


def _hum(rng: np.random.Generator, count: int) -> np.ndarray:
    """Mains or motor: a low tone with overtones, a little unsteady."""
    phase = 2 * np.pi * np.cumsum(rng.uniform(48, 130) + 0.5 * rng.standard_normal(count)) / SAMPLE_RATE
    return sum(rng.uniform(0.2, 1) / k * np.sin(k * phase) for k in range(1, 9)) + 0.02 * rng.standard_normal(count)


def _chords(rng: np.random.Generator, count: int) -> np.ndarray:
    """Music of a kind: chords of decaying overtones, a new one every half second or so."""
    sound, at = np.zeros(count), 0
    while at < count:
        length = min(int(rng.uniform(0.25, 1.2) * SAMPLE_RATE), count - at)
        seconds = np.arange(length) / SAMPLE_RATE
        envelope = np.exp(-seconds * rng.uniform(0.5, 5)) * np.minimum(1, seconds / 0.02)
        for tone in 110 * 2 ** (rng.integers(0, 36, int(rng.integers(1, 5))) / 12):
            for k in range(1, int(min(10, 7000 // tone)) + 1):
                sound[at : at + length] += envelope * np.sin(2 * np.pi * k * tone * seconds) / k ** rng.uniform(0.8, 2)
        at += length
    return sound + 1e-3 * rng.standard_normal(count)


def _clicks(rng: np.random.Generator, count: int) -> np.ndarray:
    """Typing, cutlery, footsteps: short bursts of coloured noise."""
    sound = 1e-3 * rng.standard_normal(count)
    for at in rng.integers(0, count - 4000, int(count / SAMPLE_RATE * 5)):
        length = int(rng.integers(60, 4000))
        burst = rng.standard_normal(length) * np.exp(-6 * np.arange(length) / length)
        sound[at : at + length] += rng.uniform(0.2, 2) * np.convolve(burst, [1, rng.uniform(-1, 1)], "same")
    return sound


def excerpt(rng: np.random.Generator, speech: Corpus, count: int, *, talk: float = 0.75) -> Mixed:
    """``count`` rows of one voice after the other with pauses between; about ``talk`` of it is speech."""
    rows = np.full((count, BANDS), np.log(FLOOR), np.float32)
    classes = np.zeros(count, np.uint8)
    at = 0 if rng.random() < 0.5 else int(rng.integers(0, 120))
    while at < count:
        said, labels = speech[int(rng.integers(len(speech)))]
        said, labels = _faster(said, labels, rng.uniform(0.85, 1.2))
        first = int(rng.integers(0, max(1, len(said) - 60)))
        length = min(len(said) - first, count - at)
        rows[at : at + length] = said[first : first + length]
        classes[at : at + length] = labels[first : first + length]
        at += length + int(rng.exponential(2 * (1 - talk)) / ROW_SECONDS) * int(rng.random() < 2 * (1 - talk))
    return Mixed(rows, classes)


def _faster(rows: np.ndarray, classes: np.ndarray, factor: float) -> tuple[Rows, np.ndarray]:
    """Change the tempo, not the pitch."""
    at = np.arange(0, len(rows) - 1, factor)
    low = at.astype(int)
    part = (at - low)[:, None].astype(np.float32)
    return rows[low] * (1 - part) + rows[low + 1] * part, classes[np.rint(at).astype(int)]


def throat(rng: np.random.Generator, rows: Rows) -> Rows:
    """Longer or shorter vocal tract: stretch the mel axis by up to 14%."""
    at = np.clip(np.arange(BANDS) * rng.uniform(0.86, 1.14), 0, BANDS - 1)
    low = np.minimum(at.astype(int), BANDS - 2)
    part = (at - low).astype(np.float32)
    return rows[:, low] * (1 - part) + rows[:, low + 1] * part


def room(rng: np.random.Generator, rows: Rows) -> Rows:
    """Reverberation: exponentially decaying power (0.15 to 0.8 s to -60 dB), faster at high frequencies."""
    decay = 60 / (rng.uniform(0.15, 0.8) * 4.343) * ROW_SECONDS * np.linspace(0.8, rng.uniform(1.2, 2.0), BANDS)
    wet = 10 ** rng.uniform(-2.0, -0.6)
    power = np.exp(rows)
    for start in range(0, BANDS, 8):
        keep = float(np.exp(-decay[start : start + 8].mean()))
        tail = lfilter([0.0, wet], [1.0, -keep], power[:, start : start + 8], axis=0)
        power[:, start : start + 8] += tail
    return np.log(power + FLOOR).astype(np.float32)


def microphone(rng: np.random.Generator, rows: Rows) -> Rows:
    """Tilt and ripple of the response, and one time in six the band of a telephone or a poor codec."""
    band = np.linspace(-1, 1, BANDS)
    response = rng.normal(0, 0.6) * band + rng.normal(0, 0.4) * np.cos(np.pi * band * rng.uniform(1, 5))
    if rng.random() < 1 / 6:
        low, high = int(rng.integers(0, 10)), int(rng.integers(40, 60))
        response[:low] -= 6.0
        response[high:] -= 8.0
    return (rows + response).astype(np.float32)


def add(rows: Rows, noise: Rows, decibels: float) -> Rows:
    """Mix ``noise`` under ``rows`` so that the loud part of the speech is ``decibels`` above its mean."""
    power, other = np.exp(rows), np.exp(noise)
    loud = np.quantile(power.sum(1), 0.8)
    gain = loud / max(float(other.sum(1).mean()), 1e-12) / 10 ** (decibels / 10)
    return np.log(power + gain * other + FLOOR).astype(np.float32)


def noise_bed(rng: np.random.Generator, bank: Bank, speech: Corpus, count: int) -> Rows:
    """One background: a piece of the bank, or the babble of five or more people."""
    if rng.random() < 0.2:
        voices = [np.exp(excerpt(rng, speech, count, talk=0.95).rows) for _ in range(int(rng.integers(5, 9)))]
        return np.log(sum(voices) + FLOOR).astype(np.float32)
    chosen = bank[int(rng.integers(len(bank)))]
    at = int(rng.integers(0, len(chosen) - count))
    colour = np.linspace(-1, 1, BANDS) * rng.normal(0, 0.5)
    knots = np.arange(0, count + 100, 100)
    swell = np.interp(np.arange(count), knots, rng.normal(0, 0.4, len(knots)))
    return (chosen[at : at + count] + colour + swell[:, None]).astype(np.float32)


def heard(rng: np.random.Generator, speech: Corpus, bank: Bank, count: int) -> Mixed:
    """One augmented excerpt: voice, throat, room, microphone, noise, level."""
    nothing_said = rng.random() < 0.05
    said = excerpt(rng, speech, count)
    rows, classes = said.rows, said.classes
    if rng.random() < 0.7:
        rows = throat(rng, rows)
    if rng.random() < 0.4:
        rows = room(rng, rows)
    if rng.random() < 0.6:
        decibels = rng.uniform(-2, 30)
        rows = add(rows, noise_bed(rng, bank, speech, count), decibels)
    if nothing_said:
        rows, classes = noise_bed(rng, bank, speech, count), np.zeros(count, np.uint8)  # babble is nobody speaking
    if rng.random() < 0.7:
        rows = microphone(rng, rows)
    rows = rows + rng.normal(0, 0.15, rows.shape) + rng.uniform(-6.0, 1.5)  # -26 to +6.5 dB
    hiss = rng.uniform(-19.5, -14.5)  # the recording chain's own noise, never louder than a quiet room
    return Mixed(np.log(np.exp(rows) + np.exp(hiss) * float(rng.random() < 0.9) + FLOOR).astype(np.float32), classes)


def masked(rng: np.random.Generator, rows: Rows) -> Rows:
    """Hide two bands and a short time of normalised rows, so that no single cue is relied on."""
    rows = rows.copy()
    for _ in range(2):
        width = int(rng.integers(1, 8))
        low = int(rng.integers(0, BANDS - width))
        rows[:, low : low + width] = 0
    if rng.random() < 0.4:
        width = int(rng.integers(4, 20))
        at = int(rng.integers(0, len(rows) - width))
        rows[at : at + width] = 0
    return rows
