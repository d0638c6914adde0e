"""Speech with exactly known phones, made by free synthesisers: endless labelled training material.

espeak-ng (many languages, dozens of voices) runs in process and reports the sample at which each phone starts;
flite (four natural English voices) runs as a command and prints when each phone ends. Neither is needed to use
the trained encoder: ``pip install espeakng-loader`` or an installed libespeak-ng, and ``flite`` on the path.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import wave
from ctypes.util import find_library
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int16, UInt8
from scipy.signal import resample_poly

from vivavoce.errors import InputError
from vivavoce.speech import phones, texts
from vivavoce.speech.mel import SAMPLE_RATE, STEP

VARIANTS = (
    *("", "", "Alex", "Alicia", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Gene", "Gene2", "Henrique", "Hugo"),
    *("Jacky", "Lee", "Marco", "Mario", "Michael", "Mike", "Nguyen", "Reed", "RicishayMax", "RicishayMax3", "Storm"),
    *("adam", "anika", "announcer", "antonio", "belinda", "benjamin", "boris", "caleb", "david", "ed", "edward"),
    *("f1", "f2", "f3", "f4", "grandma", "grandpa", "gustave", "ian", "iven", "iven3", "john", "klatt", "klatt2"),
    *("klatt3", "klatt4", "linda", "m1", "m2", "m3", "m4", "m6", "m7", "m8", "max", "michel", "miguel", "mike2"),
    *("norbert", "pablo", "paul", "quincy", "rob", "robert", "sandro", "shelby", "steph", "steph2", "travis", "zac"),
)
UNSEEN_VARIANTS = ("victor", "f5", "m5", "aunty", "pedro", "marcelo", "kaukovalta", "iven2", "steph3")
ENGLISH = ("en-us", "en-us", "en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-029")
FLITE_PITCH = {"slt": 170.0, "rms": 100.0, "awb": 130.0, "kal16": 110.0}  # Hz, each voice's own mean


@dataclass(frozen=True, slots=True)
class Utterance:
    """Synthesised speech at 16 kHz and the phone class of every 10 ms (rows as in :mod:`vivavoce.speech.mel`)."""

    sound: Int16[np.ndarray, " samples"]
    classes: UInt8[np.ndarray, " rows"]
    voice: str


class _Event(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("text", ctypes.c_char * 8),
    ]


_END, _PHONE = 0, 7
_SYNCHRONOUS, _PHONE_EVENTS, _IPA = 2, 1, 2
_UTF8, _INLINE_PHONEMES = 1, 0x100
_RATE, _PITCH, _RANGE = 1, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(slots=True)
class Espeak:
    """The espeak-ng library of this process (it keeps global state: one at a time, one thread)."""

    library: ctypes.CDLL
    rate: int  # samples per second it produces
    _pieces: list[np.ndarray] = field(default_factory=list)
    _events: list[tuple[int, str]] = field(default_factory=list)
    _callback: object = None

    def __post_init__(self) -> None:
        self._callback = _CALLBACK(self._receive)
        self.library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: object, count: int, events: object) -> int:
        if samples and count:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())  # type: ignore[arg-type]
        index = 0
        while events[index].kind != _END:  # type: ignore[index]
            event = events[index]  # type: ignore[index]
            if event.kind == _PHONE:
                self._events.append((event.sample, event.text.decode("utf-8", "ignore")))
            index += 1
        return 0

    def phones(
        self, text: str, voice: str, *, words_per_minute: int = 170, pitch: int = 50, pitch_range: int = 50
    ) -> tuple[np.ndarray, list[tuple[int, str]]]:
        """Speak: int16 samples at ``rate`` and (first sample, IPA phone; "" in a pause) for each phone.

        Raises :class:`vivavoce.errors.InputError` for a voice espeak-ng does not have.
        """
        self._pieces, self._events = [], []
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise InputError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, pitch_range)):
            self.library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        self.library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8 | _INLINE_PHONEMES, None, None)
        self.library.espeak_Synchronize()
        sound = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
        return sound, self._events


@cache
def espeak() -> Espeak:
    """Load espeak-ng: from the ``espeakng-loader`` package, else from the system.

    Raises :class:`vivavoce.errors.InputError` when neither is there.
    """
    try:
        import espeakng_loader  # pyright: ignore[reportMissingImports]  only who trains installs it

        file, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path().encode()
    except ImportError:
        file, data = find_library("espeak-ng"), None
    if file is None:
        raise InputError("synthesising speech needs espeak-ng: install the Python package espeakng-loader")
    library = ctypes.CDLL(file)
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
        ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    rate = library.espeak_Initialize(_SYNCHRONOUS, 100, data, _PHONE_EVENTS | _IPA)
    if rate <= 0:
        raise InputError("espeak-ng was found but its voice data was not")
    return Espeak(library, rate)


def rows_of(segments: list[tuple[float, float, tuple[str, ...]]], samples: int) -> UInt8[np.ndarray, " rows"]:
    """Class of every 10 ms row from segments (start s, end s, classes spoken one after the other in it)."""
    rows = np.zeros(samples // STEP, np.uint8)
    centres = (np.arange(len(rows)) + 0.5) * STEP / SAMPLE_RATE
    for start, end, classes in segments:
        edges = np.linspace(start, end, len(classes) + 1)
        for name, low, high in zip(classes, edges[:-1], edges[1:], strict=True):
            rows[(centres >= low) & (centres < high)] = phones.INDEX[name]
    return rows


def segments_of(events: list[tuple[int, str]], samples: int, rate: int) -> list[tuple[float, float, tuple[str, ...]]]:
    """Segments from espeak-ng's phone starts; a modifier on its own lengthens the phone before it."""
    segments: list[tuple[float, float, tuple[str, ...]]] = []
    for (start, phone), (end, _) in zip(events, [*events[1:], (samples, "")], strict=True):
        classes = phones.from_ipa(phone) if phone else ("sil",)
        if end <= start:
            continue
        if classes:
            segments.append((start / rate, end / rate, classes))
        elif segments:
            segments[-1] = (segments[-1][0], end / rate, segments[-1][2])
    return segments


def speak(text: str, voice: str, **manner: int) -> Utterance:
    """One espeak-ng utterance; ``manner`` as in :meth:`Espeak.phones`."""
    engine = espeak()
    sound, events = engine.phones(text, voice, **manner)
    segments = segments_of(events, len(sound), engine.rate)
    heard = _at_16k(sound.astype(np.float32) / 32768, engine.rate)
    return Utterance(_int16(heard), rows_of(segments, len(heard)), voice)


def speak_flite(text: str, voice: str, *, stretch: float = 1.0, pitch: float | None = None) -> Utterance:
    """One flite utterance in one of the voices of ``FLITE_PITCH``; ``pitch`` in hertz.

    Raises :class:`vivavoce.errors.InputError` when flite is not installed.
    """
    command = shutil.which("flite")
    if command is None:
        raise InputError("synthesising with flite needs the program flite on the path")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.wav"
        manner = ["--setf", f"duration_stretch={stretch:.3f}"]
        manner += ["--setf", f"int_f0_target_mean={pitch or FLITE_PITCH[voice]:.1f}"]
        told = subprocess.run(  # noqa: S603  (no shell, our own text)
            [command, "-voice", voice, *manner, "-psdur", "-t", text, str(file)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        with wave.open(str(file)) as opened:
            rate = opened.getframerate()
            sound = np.frombuffer(opened.readframes(opened.getnframes()), np.int16)
    segments, start = [], 0.0
    for token in told.stdout.split():
        phone, _, end = token.rpartition(":")
        if phone:
            segments.append((start, float(end), phones.from_arpabet(phone)))
            start = float(end)
    heard = _at_16k(sound.astype(np.float32) / 32768, rate)
    return Utterance(_int16(heard), rows_of(segments, len(heard)), f"flite {voice}")


def random_utterance(rng: np.random.Generator, *, unseen: bool = False, natural: bool = False) -> Utterance:
    """Something said by someone: language, voice, rate and pitch at random.

    ``unseen`` draws only from the languages and voices that are kept out of training, otherwise they never
    appear. ``natural`` uses flite (English; with ``unseen`` the one voice kept out).
    """
    if natural:
        voice = "awb" if unseen else str(rng.choice(["slt", "slt", "rms", "rms", "kal16"]))
        stretch, pitch = rng.uniform(0.75, 1.25), FLITE_PITCH[voice] * rng.uniform(0.8, 1.25)
        return speak_flite(texts.text(rng, "en"), voice, stretch=stretch, pitch=pitch)
    trained = [language for language in texts.SENTENCES if language not in (*texts.UNSEEN, "en")]
    if rng.random() < (0.3 if unseen else 0.45):
        language, name = "en", str(rng.choice(ENGLISH))
    else:
        language = name = str(rng.choice(texts.UNSEEN if unseen else trained))
    variant = str(rng.choice(UNSEEN_VARIANTS if unseen else VARIANTS))
    return speak(
        texts.text(rng, language),
        f"{name}+{variant}" if variant else name,
        words_per_minute=int(rng.integers(110, 240)),
        pitch=int(rng.integers(15, 85)),
        pitch_range=int(rng.integers(15, 95)),
    )


def _at_16k(sound: np.ndarray, rate: int) -> Float[np.ndarray, " samples"]:
    ratio = Fraction(SAMPLE_RATE, rate)
    return sound if ratio == 1 else resample_poly(sound, ratio.numerator, ratio.denominator).astype(np.float32)


def _int16(sound: np.ndarray) -> Int16[np.ndarray, " samples"]:
    return (np.clip(sound, -1, 1) * 32767).astype(np.int16)
